"""A key that is handed in: judged as the filter would, and written as it was judged."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509 import load_der_x509_certificate
from hypothesis import given
from hypothesis import strategies as st

from smilla.address import EmailAddress, parse
from smilla.config import Config
from smilla.config import parse as configuration
from smilla.config.options import KeysOptions
from smilla.errors import AddressError
from smilla.formats import key_file
from smilla.keys import handed_in
from smilla.keys.discovery import directory
from smilla.keys.handed_in import HandedIn
from smilla.model import Format
from tests.certificates import make_certificate, to_pem
from tests.vectors.memory import KEYS, make_ports, raw_key

SETTINGS = Config(keys=KeysOptions(sources=("directory",), directory="/keys"))
HUGH, PIA = parse("hugh@example.org"), parse("pia@example.org")
Files = dict[str, bytes | None]


def examine(who: EmailAddress, raw: bytes, files: Files | None = None, *, any_address: bool = False) -> HandedIn:
    return handed_in.examine(who, raw, make_ports(files=files), SETTINGS, any_address=any_address)


def codes(handed: HandedIn) -> list[str]:
    return [reason.code for reason in handed.against]


@pytest.mark.parametrize("form", ["DER", "PEM", "PKCS #7", "text around"])
def test_certificate_in_any_form_is_written_in_pem_alone(form: str) -> None:
    raw = raw_key("hugh.crt")
    pem = to_pem(raw)
    given = {
        "DER": raw,
        "PEM": pem,
        "PKCS #7": pkcs7.serialize_certificates([load_der_x509_certificate(raw)], Encoding.PEM),
        "text around": b"Subject: my key\n\n" + pem + b"<script>\n",
    }
    handed = examine(HUGH, given[form])
    assert codes(handed) == []
    assert handed.files == (("hugh@example.org.crt", pem),)
    assert handed.comes_first


def test_openpgp_key_is_written_armoured_and_reads_as_it_was() -> None:
    raw = raw_key("pia.pgp")
    ((name, written),) = examine(PIA, raw).files
    assert name == "pia@example.org.asc"
    assert key_file.contents(written, Format.SMIME).keys == ((Format.OPENPGP, raw),)


def test_file_with_both_formats_becomes_two_files_and_what_is_judged_is_what_is_written() -> None:
    handed = examine(HUGH, (KEYS / "hugh.crt").read_bytes() + dict(examine(PIA, raw_key("pia.pgp")).files).popitem()[1])
    assert [name for name, _ in handed.files] == ["hugh@example.org.crt", "hugh@example.org.asc"]
    judged = [a.candidate.raw for finding in handed.found.findings for a in finding.assessments]
    assert judged == [raw_key("hugh.crt"), raw_key("pia.pgp")]


@pytest.mark.parametrize(
    ("raw", "code", "forcible"),
    [
        ((KEYS / "pia.secret").read_bytes(), "secret_key", False),
        ((KEYS / "hugh.key").read_bytes(), "secret_key", False),
        ((KEYS / "hugh.key").read_bytes() + (KEYS / "hugh.crt").read_bytes(), "secret_key", False),
        ((KEYS / "hugh.crt").read_bytes() * 201, "too_many_candidates", False),
        (b"", "malformed", False),
        (b"Dear administrator", "malformed", False),
        ((KEYS / "expired.crt").read_bytes(), "expired", True),
        ((KEYS / "future.crt").read_bytes(), "not_yet_valid", True),
        ((KEYS / "weak.crt").read_bytes(), "weak_key", True),
        ((KEYS / "sign-only.crt").read_bytes(), "signing_only", True),
        (raw_key("pgp-revoked.pgp"), "revoked", True),
        (raw_key("pgp-sign-only.pgp"), "sign_only", True),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(raw: bytes, code: str, forcible: bool) -> None:
    handed = examine(HUGH, raw, any_address=True)
    assert codes(handed) == [code]
    assert handed_in.may_be_forced(handed.against) is forcible


def test_key_of_somebody_else_is_refused_unless_any_address_will_do() -> None:
    for name in ("hugh.crt", "pia.pgp"):
        handed = examine(parse("zoe@example.org"), (KEYS / name).read_bytes())
        assert codes(handed) == ["other_address"]
        assert codes(examine(parse("zoe@example.org"), (KEYS / name).read_bytes(), any_address=True)) == []


def test_key_that_names_nobody_is_taken_and_that_is_said() -> None:
    handed = examine(HUGH, (KEYS / "nobody.crt").read_bytes())
    assert codes(handed) == []
    assert handed_in.names_nobody(handed)
    assert any("names no address" in text for _, text in handed_in.remarks(handed, SETTINGS))
    assert not handed_in.names_nobody(examine(HUGH, raw_key("hugh.crt")))


def test_own_key_beside_one_of_somebody_else_is_taken() -> None:
    handed = examine(HUGH, (KEYS / "dana.crt").read_bytes() + (KEYS / "hugh.crt").read_bytes())
    assert codes(handed) == []
    assert handed.found.key is not None
    assert handed.found.key.raw == raw_key("hugh.crt")


def test_earlier_files_of_the_same_format_go_and_no_others() -> None:
    files: Files = {
        "hugh@example.org.pem": (KEYS / "hugh.crt").read_bytes(),
        "hugh@EXAMPLE.org.DER": raw_key("hugh.crt"),
        "Hugh@example.org.pem": b"another mailbox",
        "hugh@example.org.asc": raw_key("pia.pgp"),
        "hugh+tag@example.org.pem": b"another address",
    }
    handed = examine(HUGH, raw_key("hugh.crt"), files)
    assert set(handed.stale) == {"hugh@example.org.pem", "hugh@EXAMPLE.org.DER"}


def test_key_that_comes_after_another_one_of_the_folder_is_told() -> None:
    files: Files = {"pia@example.org.crt": to_pem(make_certificate(email="pia@example.org")[1])}
    handed = examine(PIA, raw_key("pia.pgp"), files)
    assert not handed.comes_first
    assert any("another key of the folder comes first" in text for _, text in handed_in.remarks(handed, SETTINGS))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[keys]\nsources = ["smimea"]\n', 'sources has no "directory"'),
        ('[keys]\nsources = ["smimea", "directory"]\ndirectory = "/"\n', "asked before the folder: smimea"),
        (f'[[rule]]\nrecipient = "*"\nkey = "{KEYS}/hugh.crt"\n', "rule 1 has a key of its own, so"),
        (f'[[rule]]\nuser = "*"\nkey = "{KEYS}/hugh.crt"\n', "for mail that it matches (user = *)"),
        ('local_domains = ["example.org"]\n', 'mode = "outbound"'),
        ('mode = "inbound"\nlocal_domains = ["x.example"]\n', 'mode = "inbound"'),
    ],
)
def test_what_keeps_the_key_from_being_used_is_told(text: str, told: str) -> None:
    handed = examine(HUGH, raw_key("hugh.crt"))
    assert any(told in remark for _, remark in handed_in.remarks(handed, configuration(text)))
    assert list(handed_in.remarks(handed, SETTINGS)) == []


LOCAL_PARTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=70)


@given(LOCAL_PARTS)
def test_file_of_any_address_is_within_the_folder_and_found_again(local: str) -> None:
    """Whatever a stranger calls themselves: no slash, no hidden file, and the file belongs to this address alone."""
    escaped = local.replace("\\", "\\\\").replace('"', '\\"')
    try:
        who = parse(f'"{escaped}"@example.org')
        stem = handed_in.stem_of(who)
    except AddressError:
        return
    assert "/" not in stem
    assert not stem.startswith(".")
    assert len(f"{stem}.crt".encode()) <= 255
    named = directory.address_of(f"{stem}.crt")
    assert named is not None
    assert (named.local_part, named.domain) == (who.local_part, "example.org")


@pytest.mark.parametrize("text", ["a/b@example.org", '"../../etc/x"@example.org', f"{'a' * 240}@example.org"])
def test_address_without_a_possible_file_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="no file can have this name"):
        handed_in.stem_of(parse(text))


@pytest.mark.parametrize(
    ("text", "stem"),
    [
        ("-rf@example.org", "-rf@example.org"),
        (".x@example.org", '".x"@example.org'),
        ('"a b"@EXAMPLE.org', "a b@example.org"),
        ("hans@b\u00fccher.example", "hans@xn--bcher-kva.example"),
        ('"a@b"@example.org', "a@b@example.org"),
        # Without quotes, these two would be files of x@example.org.
        ('"\\"x\\""@example.org', '"\\"x\\""@example.org'),
        ('"@a.example:x"@example.org', '"@a.example:x"@example.org'),
    ],
)
def test_odd_addresses_have_their_file(text: str, stem: str) -> None:
    who = parse(text)
    assert handed_in.stem_of(who) == stem
    ports = make_ports(files={f"{stem}.crt": (KEYS / "nobody.crt").read_bytes()})
    assert handed_in.look_up(who, ports, SETTINGS).key is not None
    assert handed_in.files_of(who, ports.folder) == (f"{stem}.crt",)


def test_every_address_of_the_folder_is_listed_once_with_its_files() -> None:
    files: Files = {"hugh@example.org.crt": raw_key("hugh.crt"), "hugh@example.org.asc": b"", "README": b""}
    ports = replace(make_ports(files=files))
    ((who, names, found),) = handed_in.listed(ports, SETTINGS)
    assert (str(who), set(names)) == ("hugh@example.org", {"hugh@example.org.crt", "hugh@example.org.asc"})
    assert found.key is not None
