"""Revocation lists: what they say against a path, and that a list which cannot be believed speaks for nobody."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from smilla.address import parse
from smilla.errors import ParseError
from smilla.formats import der
from smilla.keys.validity import x509_revocation
from smilla.keys.validity.x509 import RevocationLists, assess_all, load_trust_store
from smilla.model import Assessment, DNSSECStatus, Format, SMIMEACandidate
from tests.certificates import NOW, make_certificate, make_crl, make_key, to_pem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    Pair = tuple[PrivateKeyTypes, bytes]

EMAIL = "hugh@example.org"
KEY_COMPROMISE = x509.ReasonFlags.key_compromise


def ca(number: int, issuer: Pair | None = None, **more: object) -> Pair:
    options: dict[str, object] = {"ca": True, "usages": ["key_cert_sign", "crl_sign"], "common_name": f"CA {number}"}
    return make_certificate("p256", number=number, issuer=issuer, **(options | more))  # type: ignore[arg-type]


ROOT = ca(20)
MIDDLE = ca(22, ROOT)
HUGH = make_certificate("p256", email=EMAIL, issuer=ROOT)[1]
BELOW = make_certificate("p256", email=EMAIL, issuer=MIDDLE)[1]


def judged(raw: bytes, *crls: bytes, usage: int = 1, root: bytes = ROOT[1]) -> Assessment:
    trusted = load_trust_store(to_pem(root) + to_pem(MIDDLE[1]), b"".join(crls))
    record = SMIMEACandidate("smimea", "x", Format.SMIME, raw, DNSSECStatus.SECURE, usage, 0, 0)
    return assess_all([record], parse(EMAIL), NOW, trusted)[0]


def codes(found: Assessment) -> list[str]:
    assert (found.key is None) == bool(found.reasons)
    assert found.meant_for_encryption
    return [reason.code for reason in found.reasons]


def crl(issuer: Pair = ROOT, revoked: Mapping[bytes, x509.ReasonFlags | None] | None = None, **more: object) -> bytes:
    return make_crl(issuer, revoked, **more)  # type: ignore[arg-type]


def pem(raw: bytes) -> bytes:
    return x509.load_der_x509_crl(raw).public_bytes(Encoding.PEM)


def scoped(**flags: object) -> tuple[x509.ExtensionType, bool]:
    names = ("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl", "only_contains_attribute_certs")
    options = {"full_name": None, "relative_name": None, "only_some_reasons": None} | dict.fromkeys(names, False)
    return x509.IssuingDistributionPoint(**(options | flags)), True  # type: ignore[arg-type]


def test_certificate_on_no_list_is_usable() -> None:
    assert codes(judged(HUGH, crl())) == []
    assert codes(judged(BELOW, crl(), crl(MIDDLE))) == []


def test_revoked_certificate_is_unusable_and_says_when_and_why() -> None:
    found = judged(HUGH, crl(revoked={HUGH: KEY_COMPROMISE}))
    assert codes(found) == ["revoked"]
    assert found.reasons[0].text == "the certificate was revoked on 2026-11-18 12:00 UTC (keyCompromise)"
    assert "no reason given" in judged(HUGH, crl(revoked={HUGH: None})).reasons[0].text


@pytest.mark.parametrize("usage", [0, 1])
def test_usages_0_and_1_are_checked(usage: int) -> None:
    assert codes(judged(HUGH, crl(revoked={HUGH: None}), usage=usage)) == ["revoked"]


def test_usage_3_is_not_checked() -> None:
    """Who publishes a certificate under usage 3 revokes it by taking the record away."""
    assert codes(judged(HUGH, crl(revoked={HUGH: None}), usage=3)) == []


def test_revoked_intermediate_ca_makes_what_is_below_it_unusable() -> None:
    found = judged(BELOW, crl(revoked={MIDDLE[1]: x509.ReasonFlags.ca_compromise}))
    assert codes(found) == ["revoked"]
    assert "a CA's certificate" in found.reasons[0].text
    assert "cACompromise" in found.reasons[0].text


def test_every_certificate_of_the_path_is_checked() -> None:
    found = judged(BELOW, crl(revoked={MIDDLE[1]: None}), crl(MIDDLE, {BELOW: None}))
    assert codes(found) == ["revoked", "revoked"]


def test_another_serial_number_of_the_same_ca_and_the_same_of_another_ca_are_not_revoked() -> None:
    other = make_certificate("p256", number=1, email=EMAIL, issuer=ROOT)[1]
    assert codes(judged(HUGH, crl(revoked={other: None}))) == []
    assert codes(judged(HUGH, crl(MIDDLE, {HUGH: None}))) == []


def test_certificate_whose_issuer_has_no_list_is_not_checked() -> None:
    assert codes(judged(BELOW, crl())) == []
    assert codes(judged(HUGH, crl(ca(25)))) == []


def test_list_that_has_ended_makes_unusable_and_says_so() -> None:
    found = judged(HUGH, crl(expires_at=NOW - timedelta(seconds=1)))
    assert codes(found) == ["stale_crl"]
    assert "cannot be told" in found.reasons[0].text
    assert "ended 2026-11-20 11:59 UTC" in found.reasons[0].text
    assert "CN=CA 20" in found.reasons[0].text


def test_of_lists_that_have_ended_the_latest_is_named() -> None:
    older, later = (crl(issued_at=NOW - timedelta(days=d), expires_at=NOW - timedelta(days=d - 1)) for d in (9, 3))
    for lists in ((older, later), (later, older)):
        assert "ended 2026-11-18" in judged(HUGH, *lists).reasons[0].text


def test_list_is_in_force_from_its_first_second_to_its_last() -> None:
    assert codes(judged(HUGH, crl(issued_at=NOW))) == []
    assert codes(judged(HUGH, crl(expires_at=NOW))) == []


def test_list_of_the_future_makes_unusable() -> None:
    assert codes(judged(HUGH, crl(issued_at=NOW + timedelta(hours=1)))) == ["stale_crl"]


def test_list_without_an_end_makes_unusable() -> None:
    """RFC 5280 section 5.1.2.5: nextUpdate is mandatory."""
    found = judged(HUGH, without_next_update(crl()))
    assert codes(found) == ["stale_crl"]
    assert "until when" in found.reasons[0].text


def without_next_update(raw: bytes) -> bytes:
    """The list without the field, signed anew."""
    tbs, algorithm, _ = der.read(raw).children()
    fields = [field.whole for field in tbs.children()]
    del fields[4]
    signed = der.sequence(*fields)
    assert isinstance(ROOT[0], ec.EllipticCurvePrivateKey)
    signature = ROOT[0].sign(signed, ec.ECDSA(hashes.SHA256()))
    return der.sequence(signed, algorithm.whole, der.bit_string(signature))


def test_of_two_lists_the_one_in_force_counts() -> None:
    old = crl(issued_at=NOW - timedelta(days=9), expires_at=NOW - timedelta(days=2))
    assert codes(judged(HUGH, old, crl())) == []
    assert codes(judged(HUGH, crl(), old)) == []


def test_what_a_list_that_has_ended_revoked_stays_revoked() -> None:
    assert codes(judged(HUGH, crl(revoked={HUGH: None}, expires_at=NOW - timedelta(hours=1)))) == ["revoked"]


def test_list_that_another_key_has_signed_makes_unusable() -> None:
    """Neither what it revokes nor what it leaves out is believed."""
    forged = (make_key("p256", 99), ROOT[1])
    for revoked in ({}, {HUGH: None}):
        assert codes(judged(HUGH, crl(forged, revoked))) == ["bad_crl"]
    assert codes(judged(HUGH, crl(forged), crl())) == []


def test_list_of_a_ca_that_may_not_sign_lists_makes_unusable() -> None:
    root = ca(20, usages=["key_cert_sign"])
    raw = make_certificate("p256", email=EMAIL, issuer=root)[1]
    assert codes(judged(raw, crl(root), root=root[1])) == ["bad_crl"]


def test_list_of_another_ca_of_the_same_name_is_passed_over_where_the_key_identifiers_tell() -> None:
    public = make_key("p256", 20).public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)  # type: ignore[arg-type]
    root = ca(20, extensions=[(identifier, False)])
    raw = make_certificate("p256", email=EMAIL, issuer=root)[1]
    twin = (make_key("p256", 99), root[1])
    other = x509.AuthorityKeyIdentifier(b"another", None, None)
    assert codes(judged(raw, crl(twin, extensions=[(other, False)]), root=root[1])) == []
    same = x509.AuthorityKeyIdentifier(identifier.digest, None, None)
    assert codes(judged(raw, crl(twin, extensions=[(same, False)]), root=root[1])) == ["bad_crl"]


def test_list_speaks_only_of_the_kind_of_certificate_that_it_says() -> None:
    users = crl(revoked={HUGH: None, MIDDLE[1]: None}, extensions=[scoped(only_contains_user_certs=True)])
    authorities = crl(revoked={HUGH: None, MIDDLE[1]: None}, extensions=[scoped(only_contains_ca_certs=True)])
    assert [codes(judged(HUGH, users)), codes(judged(BELOW, users))] == [["revoked"], []]
    assert [codes(judged(HUGH, authorities)), codes(judged(BELOW, authorities))] == [[], ["revoked"]]


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("serial", [0, 1, 2])
def test_certificate_with_the_least_serial_numbers_is_found_in_the_list(serial: int) -> None:
    """RFC 5280 section 4.1.2.2 forbids zero; there are CAs that used it all the same."""
    raw = make_certificate("p256", email=EMAIL, issuer=ROOT, serial=5)[1]
    changed, listed = (with_serial(octets, serial) for octets in (raw, crl(revoked={raw: None})))
    assert codes(judged(changed, listed)) == ["revoked"]
    assert codes(judged(changed, crl())) == []


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_certificate_with_a_negative_serial_number_has_no_path() -> None:
    raw = make_certificate("p256", email=EMAIL, issuer=ROOT, serial=5)[1]
    assert codes(judged(with_serial(raw, 0xF5), crl())) == ["untrusted"]


def with_serial(raw: bytes, serial: int) -> bytes:
    """The certificate or list with that octet as serial number in place of 5, signed anew."""
    tbs, algorithm, _ = der.read(raw).children()
    assert tbs.whole.count(b"\x02\x01\x05") == 1
    signed = tbs.whole.replace(b"\x02\x01\x05", bytes((2, 1, serial)))
    assert isinstance(ROOT[0], ec.EllipticCurvePrivateKey)
    return der.sequence(signed, algorithm.whole, der.bit_string(ROOT[0].sign(signed, ec.ECDSA(hashes.SHA256()))))


def test_list_that_says_only_where_it_is_published_speaks_of_every_certificate() -> None:
    everything = crl(revoked={HUGH: None, MIDDLE[1]: None}, extensions=[scoped(full_name=[x509.DNSName("x.test")])])
    assert [codes(judged(HUGH, everything)), codes(judged(BELOW, everything))] == [["revoked"], ["revoked"]]


@pytest.mark.parametrize("of_authority", [False, True])
def test_list_counts_where_only_one_of_list_and_ca_has_a_key_identifier(of_authority: bool) -> None:
    public = make_key("p256", 20).public_key()
    subject = x509.SubjectKeyIdentifier.from_public_key(public)  # type: ignore[arg-type]
    authority = x509.AuthorityKeyIdentifier(b"any", None, None)
    root = ca(20, extensions=[(subject, False)] if of_authority else [])
    raw = make_certificate("p256", email=EMAIL, issuer=root)[1]
    listed = crl(root, {raw: None}, extensions=[] if of_authority else [(authority, False)])
    assert codes(judged(raw, listed, root=root[1])) == ["revoked"]


def test_list_whose_signature_cannot_be_verified_is_not_signed() -> None:
    parsed = x509.load_der_x509_crl(crl())
    assert x509_revocation._verified(parsed, ROOT[0].public_key())
    for key in (make_key("p256", 99).public_key(), make_key("x25519").public_key(), None):
        assert not x509_revocation._verified(parsed, key)


# --- the file ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [bytes, pem])
def test_file_may_hold_several_lists_in_either_form(form: type[bytes]) -> None:
    lists = form(crl()), form(crl(MIDDLE, {BELOW: None}))
    assert codes(judged(BELOW, *lists)) == ["revoked"]
    assert codes(judged(HUGH, *lists)) == []


@pytest.mark.parametrize(
    "raw",
    [b"", b"text", HUGH, to_pem(HUGH), crl() + b"\0", crl()[:-1], pem(crl()).replace(b"\nMI", b"\n!!")],
    ids=["empty", "text", "certificate", "pem-certificate", "trailing", "cut", "bad-pem"],
)
def test_file_that_holds_no_list_is_an_error(raw: bytes) -> None:
    with pytest.raises(ParseError):
        RevocationLists.load(raw)


@pytest.mark.parametrize(
    "extension",
    [
        (x509.DeltaCRLIndicator(3), True),
        (x509.DeltaCRLIndicator(3), False),
        (x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),
        scoped(indirect_crl=True),
        scoped(only_some_reasons=frozenset([KEY_COMPROMISE])),
        scoped(only_contains_attribute_certs=True),
    ],
    ids=["delta", "delta, not critical", "unknown", "indirect", "some-reasons", "attributes"],
)
def test_list_that_tells_only_a_part_is_an_error(extension: tuple[x509.ExtensionType, bool]) -> None:
    with pytest.raises(ParseError):
        RevocationLists.load(crl(extensions=[extension]))


def test_lists_without_a_trust_store_are_no_trust_store() -> None:
    trusted = load_trust_store(b"", crl(revoked={HUGH: None}))
    record = SMIMEACandidate("smimea", "x", Format.SMIME, HUGH, DNSSECStatus.SECURE, 1, 0, 0)
    anchor = SMIMEACandidate("smimea", "x", Format.SMIME, ROOT[1], DNSSECStatus.SECURE, 2, 0, 0)
    assert codes(assess_all([record], parse(EMAIL), NOW, trusted)[0]) == ["no_trust_store"]
    assert codes(assess_all([record, anchor], parse(EMAIL), NOW, trusted)[0]) == ["revoked"]


@given(st.binary(max_size=200))
def test_any_octets_give_lists_or_a_parse_error(raw: bytes) -> None:
    with pytest.raises(ParseError):
        RevocationLists.load(raw)


@given(st.integers(0, 600), st.binary(min_size=1, max_size=4), st.integers(0, 4))
def test_a_damaged_list_revokes_nobody_and_frees_nobody(at: int, damage: bytes, gone: int) -> None:
    raw = crl(revoked={HUGH: None})
    damaged = raw[: at % len(raw)] + damage + raw[at % len(raw) + gone :]
    if damaged == raw:
        return
    try:
        found = judged(HUGH, damaged)
    except ParseError:
        return
    assert codes(found) in ([], ["bad_crl"])  # [] where the issuer's name is damaged


def test_a_list_is_asked_once_for_each_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both take long with a large list."""
    asked: list[object] = []
    real = x509_revocation._verified

    def counted(parsed: x509.CertificateRevocationList, public_key: object) -> bool:
        asked.append(parsed)
        return real(parsed, public_key)

    monkeypatch.setattr(x509_revocation, "_verified", counted)
    trusted = load_trust_store(to_pem(ROOT[1]), crl())
    record = SMIMEACandidate("smimea", "x", Format.SMIME, HUGH, DNSSECStatus.SECURE, 1, 0, 0)
    for _ in range(3):
        assert codes(assess_all([record], parse(EMAIL), NOW, trusted)[0]) == []
    assert len(asked) == 1
