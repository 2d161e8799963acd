"""The gate's finer points: addresses beyond ASCII (RFC 9598), extensions, and octets that are almost a certificate."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from smilla.address import parse
from smilla.formats import der
from smilla.keys.validity.x509 import assess
from smilla.model import Assessment, DNSSECStatus, Format, SMIMEACandidate
from tests.certificates import NOW, key_usage, make_certificate

SMTP_UTF8_MAILBOX = ObjectIdentifier("1.3.6.1.5.5.7.8.9")
EMAIL = "hugh@example.org"


def judged(raw: bytes, address: str = EMAIL) -> Assessment:
    record = SMIMEACandidate("smimea", "x", Format.SMIME, raw, DNSSECStatus.SECURE, 3, 0, 0)
    return assess(record, parse(address), NOW, require_address=True)


def codes(raw: bytes, address: str = EMAIL) -> list[str]:
    found = judged(raw, address)
    assert (found.key is None) == bool(found.reasons)
    return [reason.code for reason in found.reasons]


def mailbox(text: str) -> x509.OtherName:
    return x509.OtherName(SMTP_UTF8_MAILBOX, der.tlv(der.UTF8_STRING, text.encode()))


def with_mailbox(text: str) -> bytes:
    return make_certificate("p256", other_names=[mailbox(text)])[1]


# --- addresses ---------------------------------------------------------------------------------------------

SAME = [
    "dörte@bücher.example",
    "do\u0308rte@bu\u0308cher.example",
    "DÖRTE@BÜCHER.EXAMPLE",
    "dörte@xn--bcher-kva.example",
    "Dörte@XN--BCHER-KVA.Example",
    "dörte@bücher\u3002example",
]
OTHER = [
    "dorte@bücher.example",
    "doerte@bücher.example",
    "dörte@bucher.example",
    "dörte@buecher.example",
    "\ufeffdörte@bücher.example",  # RFC 9598 section 3: no byte order mark
    "dörte@bücher.example\0",
    "dörte",
    "",
]


@pytest.mark.parametrize("named", SAME)
@pytest.mark.parametrize("asked", SAME)
def test_a_mailbox_beyond_ascii_is_the_same_in_every_form(named: str, asked: str) -> None:
    """RFC 9598 section 3 wants A-labels; RFC 8398 before it had U-labels."""
    assert codes(with_mailbox(named), asked) == []


@pytest.mark.parametrize("named", OTHER)
def test_a_mailbox_beyond_ascii_is_not_taken_for_a_similar_one(named: str) -> None:
    assert codes(with_mailbox(named), SAME[0]) == ["other_address"]


def test_a_mailbox_in_ascii_may_stand_there_too() -> None:
    assert codes(with_mailbox(EMAIL)) == []


@pytest.mark.parametrize(
    ("named", "asked"), [("straße@example.org", "strasse@example.org"), ("\u017f@example.org", "s@example.org")]
)
def test_case_is_folded_and_letters_are_not_unfolded(named: str, asked: str) -> None:
    assert codes(with_mailbox(named), asked) == ["other_address"]


def test_domains_that_look_alike_are_two() -> None:
    assert codes(with_mailbox("hugh@ex\u0430mple.org")) == ["other_address"]  # a Cyrillic a


@pytest.mark.parametrize(
    ("named", "expected"), [("dörte@bücher.example", []), ("dorte@bücher.example", ["other_address"])]
)
def test_the_subject_may_name_a_mailbox_beyond_ascii(named: str, expected: list[str]) -> None:
    """An IA5String by the RFC; a UTF8String in practice."""
    value = x509.NameAttribute(x509.NameOID.EMAIL_ADDRESS, named, _type=x509.name._ASN1Type.UTF8String)
    raw = reissued(subject=x509.Name([value]).public_bytes())
    assert codes(raw, "dörte@bücher.example") == expected


def test_a_subject_with_several_addresses_is_for_each_of_them() -> None:
    pair = [x509.NameAttribute(x509.NameOID.EMAIL_ADDRESS, text) for text in ("x@example.org", EMAIL)]
    for subject in (x509.Name(pair), x509.Name([x509.RelativeDistinguishedName(pair)])):
        assert codes(reissued(subject=subject.public_bytes())) == []


def test_rfc822_name_that_is_no_ascii_makes_the_certificate_malformed() -> None:
    raw = make_certificate("p256", email="hXgh@example.org")[1]
    assert codes(raw.replace(b"hXgh@", b"h\xfcgh@")) == ["malformed"]


@pytest.mark.parametrize("named", ["@example.org", "hugh@", "hugh@example.org, x@example.org", "<x@example.org>", " "])
def test_a_name_that_is_no_address_names_somebody_else(named: str) -> None:
    name = x509.RFC822Name._init_without_validation(named)
    assert codes(make_certificate("p256", other_names=[name])[1]) == ["other_address"]


@given(st.text(max_size=80))
def test_any_text_as_a_mailbox_gives_an_assessment(text: str) -> None:
    assert codes(with_mailbox(text)) in ([], ["other_address"])


# --- extensions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extension",
    [
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]),
        x509.SubjectAlternativeName([x509.RFC822Name(EMAIL)]),
        x509.CertificatePolicies([x509.PolicyInformation(ObjectIdentifier("1.2.3"), None)]),
        x509.BasicConstraints(False, None),
        x509.NameConstraints([x509.RFC822Name("example.net")], None),
        key_usage("key_agreement"),
    ],
    ids=lambda extension: type(extension).__name__,
)
def test_known_extension_may_be_critical(extension: x509.ExtensionType) -> None:
    assert codes(make_certificate("p256", extensions=[(extension, True)])[1]) == []


@pytest.mark.parametrize(
    "extension",
    [x509.OCSPNoCheck(), x509.TLSFeature([x509.TLSFeatureType.status_request]), x509.PrecertPoison()],
    ids=lambda extension: type(extension).__name__,
)
def test_extension_that_the_parser_knows_and_we_do_not_may_not_be_critical(extension: x509.ExtensionType) -> None:
    assert codes(make_certificate("p256", extensions=[(extension, False)])[1]) == []
    assert codes(make_certificate("p256", extensions=[(extension, True)])[1]) == ["critical_extension"]


def test_critical_extended_key_usage_for_something_else_was_never_meant_for_mail() -> None:
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
    found = judged(make_certificate("p256", email=EMAIL, extensions=[(usage, True)])[1])
    assert ([reason.code for reason in found.reasons], found.meant_for_encryption) == (["not_for_mail"], False)


def test_the_same_extension_twice_is_malformed() -> None:
    raw = make_certificate("p256", email=EMAIL, usages=["key_agreement"], ca=False)[1]
    tbs, *rest = der.read(raw).children()
    *fields, extensions = tbs.children()
    (one,) = extensions.children()
    doubled = der.tlv(extensions.tag, der.sequence(*[e.whole for e in one.children()] * 2))
    raw = der.sequence(der.sequence(*(field.whole for field in fields), doubled), *(part.whole for part in rest))
    assert codes(raw) == ["malformed"]


# --- octets ------------------------------------------------------------------------------------------------


def reissued(**changed: bytes) -> bytes:
    """A certificate without names and extensions, with other octets in some fields; its signature is not looked at."""
    order = ("serial", "signature", "issuer", "validity", "subject", "public_key")
    raw = make_certificate("p256", serial=5)[1]
    tbs, *rest = der.read(raw).children()
    version, *fields = tbs.children()
    whole = [changed.get(name, field.whole) for name, field in zip(order, fields, strict=False)]
    return der.sequence(der.sequence(version.whole, *whole), *(part.whole for part in rest))


def test_the_tool_of_these_tests_changes_nothing_else() -> None:
    assert codes(reissued()) == []


@pytest.mark.parametrize("field", ["serial", "signature", "issuer", "validity", "subject", "public_key"])
@pytest.mark.parametrize(
    "octets", [b"", b"\x05\x00", b"\x30\x80\x00\x00", b"\x30\x81\x01\x00", b"\x30\x05", b"\x1f\x81\x01\x00"]
)
def test_a_field_that_is_something_else_is_malformed(field: str, octets: bytes) -> None:
    assert codes(reissued(**{field: octets})) == ["malformed"]


@pytest.mark.parametrize("field", ["validity", "public_key", "signature"])
def test_octets_after_the_parts_of_a_field_make_it_malformed(field: str) -> None:
    raw = make_certificate("p256", serial=5)[1]
    _, *fields = next(der.read(raw).children()).children()
    names = ("serial", "signature", "issuer", "validity", "subject", "public_key")
    content = dict(zip(names, fields, strict=False))[field].content
    assert codes(reissued(**{field: der.sequence(content, b"\0")})) == ["malformed"]


def test_octets_after_the_signature_make_it_malformed() -> None:
    inside = der.read(make_certificate("p256")[1]).content
    assert codes(der.sequence(inside, der.null())) == ["malformed"]
    assert codes(der.sequence(inside, b"\0")) == ["malformed"]


def test_validity_that_ends_before_it_begins_is_never_valid() -> None:
    times = [der.tlv(0x17, text) for text in (b"270101000000Z", b"260101000000Z")]
    assert codes(reissued(validity=der.sequence(*times))) == ["not_yet_valid", "expired"]


def test_a_length_beyond_the_octets_is_malformed_at_once() -> None:
    for raw in (b"\x30\x84\xff\xff\xff\xff", b"\x30\x88" + b"\x7f" * 8, b"\x30" * 60_000, b"\x30\x82\xea\x60" * 15_000):
        assert codes(raw) == ["malformed"]
