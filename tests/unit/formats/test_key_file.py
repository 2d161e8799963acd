"""Everything in a file of keys is a candidate, wherever it stands and whatever stands around it."""

from __future__ import annotations

import base64
import subprocess
import warnings
from pathlib import Path

import pysequoia
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.formats.key_file import contents, problem
from smilla.model import Format
from tests.openpgp_maker import armoured
from tests.vectors.memory import KEYS, raw_key

PEM, OTHER = ((KEYS / name).read_bytes() for name in ("hugh.crt", "expired.crt"))
DER, OTHER_DER = raw_key("hugh.crt"), raw_key("expired.crt")
PIA, OLD = raw_key("pia.pgp"), raw_key("pgp-expired.pgp")
ARMOUR = armoured(PIA, "PGP PUBLIC KEY BLOCK")
BAG = b"\xef\xbb\xbfBag Attributes\n    friendlyName: x\n"
PRIVATE = b"-----BEGIN PRIVATE KEY-----\nMIIEvQ==\n-----END PRIVATE KEY-----\n"
BEGIN = b"-----BEGIN CERTIFICATE-----\n"
SHORT = [base64.b64encode(DER)[at : at + 12] for at in range(0, len(base64.b64encode(DER)), 12)]
SMIME, OPENPGP = Format.SMIME, Format.OPENPGP


@pytest.mark.parametrize(
    ("raw", "keys"),
    [
        (PEM, [(SMIME, DER)]),
        (PEM.replace(b"\n", b"\r\n"), [(SMIME, DER)]),
        (PEM.replace(b"\n", b"\r"), [(SMIME, DER)]),
        (BEGIN + b"\n".join(SHORT) + b"\n-----END CERTIFICATE-----\n" + OTHER, [(SMIME, DER), (SMIME, OTHER_DER)]),
        (OTHER + PEM, [(SMIME, OTHER_DER), (SMIME, DER)]),
        (
            b"\xef\xbb\xbfBag Attributes\n    friendlyName: x\n" + PEM + b"text\n\n" + OTHER,
            [(SMIME, DER), (SMIME, OTHER_DER)],
        ),
        (PEM.replace(b"BEGIN CERT", b"BEGIN X509 CERT").replace(b"END CERT", b"END X509 CERT"), [(SMIME, DER)]),
        (DER, [(SMIME, DER)]),
        (DER + OTHER_DER, [(SMIME, DER), (SMIME, OTHER_DER)]),
        (PIA, [(OPENPGP, PIA)]),
        (OLD + PIA, [(OPENPGP, OLD), (OPENPGP, PIA)]),
        (ARMOUR, [(OPENPGP, PIA)]),
        (b"pub   ed25519 2026-01-01\n\n" + ARMOUR + b"\n-- \nBob\n", [(OPENPGP, PIA)]),
        (armoured(OLD + PIA, "PGP PUBLIC KEY BLOCK"), [(OPENPGP, OLD), (OPENPGP, PIA)]),
        (armoured(OLD, "PGP PUBLIC KEY BLOCK") + b"\n" + ARMOUR, [(OPENPGP, OLD), (OPENPGP, PIA)]),
        (PEM + ARMOUR, [(SMIME, DER), (OPENPGP, PIA)]),
        (b"Send what begins with -----BEGIN CERTIFICATE----- to us.\n" + PEM, [(SMIME, DER)]),
        (b"# -----BEGIN PGP PUBLIC KEY BLOCK-----\n" + ARMOUR, [(OPENPGP, PIA)]),
        (ARMOUR.replace(b"\n\n", b"\n", 1), [(OPENPGP, PIA)]),
        (ARMOUR.replace(b"\n\n", b"\nKey_ID: 12\n\n", 1), [(OPENPGP, PIA)]),
        (ARMOUR.replace(b"\n\n", b"\nKey_ID: 12\n", 1).replace(b"\n", b"\r\n"), [(OPENPGP, PIA)]),
        (BEGIN + BEGIN + PEM, [(SMIME, DER)]),
        (BEGIN + b"(the old one)\n-----END CERTIFICATE-----\n" + PEM, [(SMIME, DER)]),
        (b"Paste it between -----BEGIN CERTIFICATE----- and\n-----END CERTIFICATE-----\n" + PEM, [(SMIME, DER)]),
        (b"-----BEGIN PKCS7-----\nMBEGCSqGSIb3DQEHAqAEMAKgAA==\n-----END PKCS7-----\n" + PEM, [(SMIME, DER)]),
        (PEM[:200] + b"\n" + OTHER, [(SMIME, PEM[:200] + b"\n"), (SMIME, OTHER_DER)]),
        (OTHER + PEM[:60], [(SMIME, OTHER_DER), (SMIME, PEM[:60])]),
        (OTHER + PEM[:200], [(SMIME, OTHER_DER), (SMIME, PEM[:200])]),
        (PEM[:99] + b"\n" + PRIVATE + PEM, [(SMIME, PEM[:99] + b"\n"), (SMIME, DER)]),
        (ARMOUR[:100] + b"\n" + ARMOUR, [(OPENPGP, ARMOUR[:100] + b"\n"), (OPENPGP, PIA)]),
    ],
)
def test_every_key_of_a_file_is_found(raw: bytes, keys: list[tuple[Format, bytes]]) -> None:
    for expected in Format:
        found = contents(raw, expected)
        assert list(found.keys) == keys
        assert found.has_private is (PRIVATE in raw)


def test_what_openssl_writes_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_bytes(PEM)
    (tmp_path / "b.pem").write_bytes(OTHER)

    def written(*command: str) -> bytes:
        return subprocess.run(["openssl", *command], cwd=tmp_path, capture_output=True, check=True).stdout

    bundle = written("crl2pkcs7", "-nocrl", "-certfile", "a.pem", "-certfile", "b.pem")
    (tmp_path / "both.p7b").write_bytes(bundle)
    binary = written("pkcs7", "-in", "both.p7b", "-outform", "DER")
    (tmp_path / "content").write_bytes(b"x")
    (tmp_path / "k.pem").write_bytes(written("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"))
    (tmp_path / "own.pem").write_bytes(written("req", "-x509", "-key", "k.pem", "-subj", "/CN=x"))
    sign = [
        "cms",
        "-sign",
        "-in",
        "content",
        "-signer",
        "own.pem",
        "-inkey",
        "k.pem",
        "-certfile",
        "a.pem",
        "-nodetach",
    ]
    for raw in (
        bundle,
        binary,
        bundle.replace(b"PKCS7", b"CMS"),
        written(*sign, "-outform", "DER"),
        written(*sign, "-outform", "DER", "-stream"),  # BER, of indefinite lengths
        written(*sign, "-outform", "PEM"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = contents(raw, SMIME).keys
        assert (SMIME, DER) in found, raw[:40]
        assert len(found) == 2
    cut_off = contents(binary[:-9], SMIME).keys
    assert cut_off == ((SMIME, binary[:-9]),)
    trusted = written("x509", "-in", "a.pem", "-trustout", "-addtrust", "emailProtection")
    assert contents(trusted, SMIME).keys == ((SMIME, DER),)
    assert contents(written("x509", "-in", "a.pem", "-text"), SMIME).keys == ((SMIME, DER),)


@pytest.mark.parametrize("raw", [b"", b" \n", b"hello\n", b"-----BEGIN CERTIFICATE-----\n", PEM[:200]])
def test_what_is_not_understood_is_a_candidate_and_no_absence(raw: bytes) -> None:
    assert contents(raw, SMIME).keys == ((SMIME, raw),)
    assert contents(raw, OPENPGP).keys == ((OPENPGP, raw),)


def test_key_that_is_cut_off_is_still_one() -> None:
    assert contents(PIA[:-5], OPENPGP).keys == ((OPENPGP, PIA[:-5]),)
    assert contents(DER[:-5], SMIME).keys == ((SMIME, DER[:-5]),)


def test_private_key_is_noticed_wherever_it_stands() -> None:
    secret = bytes(pysequoia.Tsk.generate("x@example.org"))
    blocks = [PRIVATE, PRIVATE.replace(b"PRIVATE", b"ENCRYPTED PRIVATE"), PRIVATE.replace(b"PRIVATE", b"RSA PRIVATE")]
    for raw in (
        *blocks,
        *(PEM + block for block in blocks),
        secret,
        PIA + secret,
        armoured(secret, "PGP PRIVATE KEY BLOCK"),
    ):
        assert contents(raw, SMIME).has_private
    assert contents(PRIVATE + PEM, SMIME).keys == ((SMIME, DER),)


@pytest.mark.parametrize(
    "command",
    [
        "pkcs12 -export -inkey k.pem -in a.pem -passout pass:x",
        "pkcs12 -export -nokeys -in a.pem -passout pass:x",
        "pkcs8 -topk8 -in k.pem -outform DER -nocrypt",
        "pkcs8 -topk8 -in k.pem -outform DER -passout pass:x",
        "pkcs8 -topk8 -in k.pem -outform DER -passout pass:x -v1 PBE-SHA1-3DES",
        "rsa -in k.pem -outform DER",
        "rsa -in k.pem -outform DER -traditional",
        "ec -in e.pem -outform DER",
    ],
)
def test_private_key_in_der_is_noticed_too(tmp_path: Path, command: str) -> None:
    def run(text: str) -> bytes:
        return subprocess.run(["openssl", *text.split()], cwd=tmp_path, capture_output=True, check=True).stdout

    run("req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out a.pem -subj /CN=x")
    run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out e.pem")
    assert contents(run(command), SMIME).has_private
    assert not contents(run("x509 -in a.pem -outform DER"), SMIME).has_private


@given(st.binary(max_size=400), st.sampled_from([b"", PEM, DER, ARMOUR, PIA]), st.binary(max_size=200))
def test_any_octets_give_at_least_one_candidate(before: bytes, key: bytes, after: bytes) -> None:
    assert contents(before + key + after, SMIME).keys


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "empty"),
        (b" \r\n", "empty"),
        (b"Dear Ann,\n", "neither PEM, DER, PKCS #7 nor OpenPGP"),
        (b"> " + PEM.replace(b"\n", b"\n> "), ""),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n", "certificate request"),
        (b"-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n", "public key"),
        (ARMOUR[: len(ARMOUR) // 2], "damaged or cut off"),
        ("-----BEGIN CERTIFICATE-----".encode("utf-16"), "UTF-16"),
        (PEM, ""),
        (DER, ""),
        (DER[:100], ""),
        (PIA, ""),
    ],
)
def test_what_is_no_key_is_told_in_words(raw: bytes, told: str) -> None:
    found = problem(raw)
    assert (told in found) if told else not found
