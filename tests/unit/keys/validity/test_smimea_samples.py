"""The certificates of RFC 9216, made by others: two CAs that certify each other, four people with one certificate for
signing and one for encryption each."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from smilla.address import parse
from smilla.keys.validity.x509 import TrustStore, assess_all, load_trust_store
from smilla.model import Assessment, DNSSECStatus, Format, SMIMEACandidate
from tests.certificates import NOW, association_data

SAMPLES = Path(__file__).parent / "data" / "rfc9216"


def pem(name: str) -> bytes:
    return (SAMPLES / f"{name}.pem").read_bytes()


def raw(name: str) -> bytes:
    return x509.load_pem_x509_certificate(pem(name)).public_bytes(Encoding.DER)


def judged(who: str, *records: tuple[int, str], trusted: TrustStore | None = None) -> list[Assessment]:
    answer = [
        SMIMEACandidate("smimea", "x", Format.SMIME, raw(name), DNSSECStatus.SECURE, usage, 0, 0)
        for usage, name in records
    ]
    return list(assess_all(answer, parse(f"{who}@smime.example"), NOW, trusted))


def codes(found: list[Assessment]) -> list[str]:
    return [",".join(reason.code for reason in one.reasons) or "usable" for one in found]


@pytest.mark.parametrize("who", ["alice", "bob"])
@pytest.mark.parametrize("usage", [1, 3])
def test_the_certificate_for_encryption_is_usable_and_the_one_for_signing_was_not_meant(who: str, usage: int) -> None:
    found = judged(who, (usage, f"{who}.sign"), (usage, f"{who}.encrypt"), trusted=load_trust_store(pem("ca.rsa")))
    assert codes(found) == ["signing_only", "usable"]
    assert [one.meant_for_encryption for one in found] == [False, True]
    assert found[1].facts["addresses"] == f"{who}@smime.example"


@pytest.mark.parametrize("who", ["carlos", "dana"])
def test_x25519_is_usable(who: str) -> None:
    found = judged(who, (3, f"{who}.sign"), (3, f"{who}.encrypt"))
    assert codes(found) == ["signing_only,signing_only", "usable"]  # by its algorithm and by its keyUsage
    assert [one.meant_for_encryption for one in found] == [False, True]


def test_alice_is_not_bob() -> None:
    assert codes(judged("bob", (3, "alice.encrypt"))) == ["other_address"]


def test_usage_1_needs_a_ca_that_is_trusted_or_published() -> None:
    assert codes(judged("alice", (1, "alice.encrypt"))) == ["no_trust_store"]
    assert codes(judged("alice", (1, "alice.encrypt"), (2, "ca.rsa"))) == ["usable", "ca_only"]
    assert codes(judged("alice", (1, "alice.encrypt"), (2, "ca.25519"))) == ["untrusted", "ca_only"]


def test_the_path_that_rests_on_ed25519_is_beyond_the_validator() -> None:
    """RFC 9216 section 2.5, figure 2: cryptography's verifier takes no Ed25519 signatures, which fails closed."""
    records = (1, "alice.encrypt"), (0, "ca.rsa.cross")
    assert codes(judged("alice", *records, trusted=load_trust_store(pem("ca.25519")))) == ["untrusted", "ca_only"]


def test_usage_0_with_the_ca_or_its_cross_certificate() -> None:
    trusted = load_trust_store(pem("ca.rsa"))
    for ca, expected in (("ca.rsa", "usable"), ("ca.25519", "other_ca")):
        assert codes(judged("alice", (1, "alice.encrypt"), (0, ca), trusted=trusted)) == [expected, "ca_only"]


@pytest.mark.parametrize(("selector", "matching_type"), [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)])
def test_a_hash_or_a_bare_key_names_the_certificate_of_the_directory(selector: int, matching_type: int) -> None:
    data = association_data(raw("bob.encrypt"), selector, matching_type)
    record = SMIMEACandidate("smimea", "x", Format.SMIME, data, DNSSECStatus.SECURE, 3, selector, matching_type)
    found = assess_all([record], parse("bob@smime.example"), NOW, None, [pem("bob.sign"), pem("bob.encrypt")])
    assert codes(list(found)) == ["usable"]
