"""A server's chain against authorities and the host's name, and OpenSSL says the same."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from smilla.errors import ParseError
from smilla.hops.pkix import Authorities
from tests.certificates import NOW, key_usage, make_certificate, to_pem
from tests.lab.programs import require

HOST = "mx.example.org"
SIGNS = [(key_usage("key_cert_sign"), True)]
NAMED = [x509.DNSName(HOST)]
ROOT = make_certificate("p256", common_name="Root", ca=True, number=941, extensions=SIGNS)
MIDDLE = make_certificate("rsa2048", common_name="Middle", ca=True, extensions=SIGNS, issuer=ROOT)
NO_CA = make_certificate("p256", common_name="No CA", ca=False, number=942, issuer=ROOT)
OTHER = make_certificate("p256", common_name="Other root", ca=True, number=943, extensions=SIGNS)


def leaf(**given: object) -> bytes:
    options = {"other_names": NAMED, "number": 944, "issuer": MIDDLE, "ca": False, **given}
    return make_certificate("p256", **options)[1]  # type: ignore[arg-type]


CASES = {
    "good": ([leaf(), MIDDLE[1]], ""),
    "with its root": ([leaf(), MIDDLE[1], ROOT[1]], ""),
    "in another order": ([leaf(), ROOT[1], MIDDLE[1]], ""),
    "wildcard": ([leaf(other_names=[x509.DNSName("*.example.org")]), MIDDLE[1]], ""),
    "common name alone": ([leaf(other_names=[], common_name=HOST), MIDDLE[1]], ""),
    "for servers": ([leaf(extended=[ExtendedKeyUsageOID.SERVER_AUTH]), MIDDLE[1]], ""),
    "for mail only": ([leaf(extended=[ExtendedKeyUsageOID.EMAIL_PROTECTION]), MIDDLE[1]], "not for TLS servers"),
    "without the one between": ([leaf()], "no valid path"),
    "another authority": ([leaf(issuer=OTHER), OTHER[1]], "no valid path"),
    "issuer that is no CA": ([leaf(issuer=NO_CA), NO_CA[1]], "no valid path"),
    "self-signed": ([leaf(issuer=None)], "self-signed"),
    "ended": ([leaf(not_after=NOW - timedelta(days=1)), MIDDLE[1]], "ended on 2026-11-19"),
    "not yet": ([leaf(not_before=NOW + timedelta(days=1)), MIDDLE[1]], "begins on 2026-11-21"),
    "another host": ([leaf(other_names=[x509.DNSName("mx.example.net")]), MIDDLE[1]], "for mx.example.net, not for"),
    "a name deeper": ([leaf(other_names=[x509.DNSName("*.org")]), MIDDLE[1]], "for *.org, not for mx.example.org"),
}


@pytest.fixture(scope="module")
def authorities() -> Authorities:
    return Authorities(b"# a comment\n" + to_pem(ROOT[1]))


@pytest.mark.parametrize("name", CASES)
def test_fault_of_a_chain(authorities: Authorities, name: str) -> None:
    chain, fault = CASES[name]
    found = authorities.fault(chain, HOST, NOW)
    assert fault in found
    assert bool(found) is bool(fault)


@pytest.mark.parametrize("name", CASES)
def test_openssl_says_the_same(tmp_path: Path, name: str) -> None:
    require("openssl")
    chain, fault = CASES[name]
    for file, raws in (("root.pem", [ROOT[1]]), ("leaf.pem", chain[:1]), ("others.pem", chain[1:] or [ROOT[1]])):
        (tmp_path / file).write_bytes(b"".join(map(to_pem, raws)))
    line = ["openssl", "verify", "-CAfile", "root.pem", "-no-CApath", "-no-CAstore", "-untrusted", "others.pem"]
    line += ["-purpose", "sslserver", "-verify_hostname", HOST, "-attime", str(int(NOW.timestamp())), "leaf.pem"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is (not fault), done.stderr


WANTED = {
    ("mx.example.org", ".example.org"): True,
    ("a.mx.example.org", ".example.org"): True,
    ("*.example.org", ".example.org"): True,
    ("MX.Example.Org", ".example.ORG"): True,
    ("example.org", ".example.org"): False,
    ("badexample.org", ".example.org"): False,
    ("example.org", "example.org"): True,
    ("mx.example.org", "example.org"): False,
    ("*.example.org", "mx.example.org"): True,
    ("*.example.org", "a.mx.example.org"): False,
}


@pytest.mark.parametrize(("name", "wanted"), WANTED)
def test_name_that_a_circle_wants_is_what_openssl_takes_for_it(
    tmp_path: Path, authorities: Authorities, name: str, wanted: str
) -> None:
    """Postfix hands the words of ``match`` to OpenSSL."""
    require("openssl")
    raw = leaf(other_names=[x509.DNSName(name)], issuer=ROOT)
    (tmp_path / "root.pem").write_bytes(to_pem(ROOT[1]))
    (tmp_path / "leaf.pem").write_bytes(to_pem(raw))
    line = ["openssl", "verify", "-CAfile", "root.pem", "-no-CApath", "-no-CAstore", "-verify_hostname", wanted]
    line += ["-attime", str(int(NOW.timestamp())), "leaf.pem"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is WANTED[name, wanted], done.stderr
    assert (not authorities.fault_among([raw], [wanted], NOW)) is WANTED[name, wanted]


def test_one_of_several_names_is_enough_and_the_fault_has_all(authorities: Authorities) -> None:
    chain = [leaf(), MIDDLE[1]]
    assert not authorities.fault_among(chain, ["example.org", ".example.org"], NOW)
    fault = authorities.fault_among(chain, ["example.net", ".example.net"], NOW)
    assert fault == "the certificate is for mx.example.org, not for example.net or .example.net"


@pytest.mark.parametrize("chain", [[], [b"no certificate"], [leaf(), b"\x30\x00"]])
def test_chain_that_cannot_be_read_is_a_fault(authorities: Authorities, chain: list[bytes]) -> None:
    assert "cannot be read" in authorities.fault(chain, HOST, NOW)


@pytest.mark.parametrize("raw", [b"", b"-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n"])
def test_file_without_authorities_is_refused(raw: bytes) -> None:
    with pytest.raises(ParseError, match="no certification authorities"):
        Authorities(raw)
