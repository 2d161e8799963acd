"""The gate for certificates: one fault each, and any octets at all."""

from __future__ import annotations

import base64
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from asn1crypto import x509 as oracle
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from smilla.address import EmailAddress, parse
from smilla.errors import ParseError
from smilla.formats import der
from smilla.keys.validity.x509 import TrustStore, assess, load_trust_store
from smilla.model import Assessment, Candidate, DNSSECStatus, Format, SMIMEACandidate, X509Key
from tests.certificates import NOW, association_data, key_usage, make_certificate, to_pem
from tests.unit.timing import idle_seconds

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")  # pytest undoes the module's own filter

HUGH = parse("hugh@example.org")
EMAIL = "hugh@example.org"
SMTP_UTF8_MAILBOX = ObjectIdentifier("1.3.6.1.5.5.7.8.9")
UNKNOWN_EXTENSION = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")


def from_dns(
    raw: bytes,
    usage: int = 3,
    selector: int = 0,
    matching_type: int = 0,
    *,
    now: datetime = NOW,
    address: EmailAddress | str = EMAIL,
    trusted: TrustStore | None = None,
) -> Assessment:
    record = SMIMEACandidate(
        "smimea", "x._smimecert.example.org.", Format.SMIME, raw, DNSSECStatus.SECURE, usage, selector, matching_type
    )
    wanted = parse(address) if isinstance(address, str) else address
    return assess(record, wanted, now, trusted, require_address=True)


def from_folder(raw: bytes) -> Assessment:
    return assess(Candidate("directory", "hugh.crt", Format.SMIME, raw), HUGH, NOW, require_address=False)


def codes(found: Assessment) -> list[str]:
    """The reasons against; a key is there exactly where there are none."""
    assert (found.key is None) == bool(found.reasons)
    return [reason.code for reason in found.reasons]


def one_reason(found: Assessment) -> tuple[str, bool]:
    (code,) = codes(found)
    return code, found.meant_for_encryption


def text_of(found: Assessment) -> str:
    return " ".join(reason.text for reason in found.reasons)


# --- usable ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "algorithm", "strength"),
    [
        ("rsa2048", "RSA-2048", 112),
        ("rsa3072", "RSA-3072", 128),
        ("rsa4096", "RSA-4096", 140),
        ("p256", "EC P-256", 128),
        ("p384", "EC P-384", 192),
        ("p521", "EC P-521", 256),
    ],
)
def test_certificate_for_the_address_is_usable_and_its_strength_known(kind: str, algorithm: str, strength: int) -> None:
    _, raw = make_certificate(kind, email=EMAIL)
    found = from_dns(raw)
    assert isinstance(found.key, X509Key)
    assert (found.key.algorithm, found.key.strength) == (algorithm, strength)
    assert found.key.raw == raw
    assert found.key.expires_at == NOW + timedelta(days=30)
    assert isinstance(found.key.public_key, (RSAPublicKey, EllipticCurvePublicKey))
    assert found.meant_for_encryption
    assert found.reasons == ()


def test_facts_describe_the_certificate() -> None:
    _, raw = make_certificate(email=[EMAIL, "h@example.net"], serial=0xABC, subject_email="H@example.com")
    found = from_dns(raw)
    assert found.facts == {
        "subject": "1.2.840.113549.1.9.1=H@example.com,CN=Hugh",
        "issuer": "1.2.840.113549.1.9.1=H@example.com,CN=Hugh",
        "serial": "abc",
        "fingerprint": oracle.Certificate.load(raw).sha256.hex(),
        "algorithm": "RSA-2048",
        "not_before": "2026-10-21 12:00 UTC",
        "not_after": "2026-12-20 12:00 UTC",
        "addresses": "hugh@example.org, h@example.net, H@example.com",
    }


def test_issuer_and_serial_are_copied_octet_for_octet() -> None:
    _, raw = make_certificate("p256", common_name="Hügh & Söhne", serial=1 << 100)
    found = from_folder(raw)
    assert found.key is not None
    tbs = oracle.Certificate.load(raw)["tbs_certificate"]
    assert found.key.raw_issuer_and_serial == der.sequence(tbs["issuer"].dump(), tbs["serial_number"].dump())  # type: ignore[union-attr]


def test_usage_3_needs_no_trusted_signature() -> None:
    private, _ = make_certificate("p384")
    _, raw = make_certificate("p256", email=EMAIL, issuer=(private, make_certificate("p256", number=1)[1]))
    assert codes(from_dns(raw)) == []


def test_ca_true_alone_refuses_nothing() -> None:
    _, raw = make_certificate(email=EMAIL, ca=True)
    assert codes(from_dns(raw)) == []


# --- the record --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("usage", range(4))
@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching_type", [1, 2])
def test_a_hash_was_never_meant_for_encryption(usage: int, selector: int, matching_type: int) -> None:
    found = from_dns(bytes(32 * matching_type), usage, selector, matching_type)
    assert "hash_only" in codes(found)
    assert not found.meant_for_encryption


def test_a_hash_is_not_read_as_a_certificate() -> None:
    found = from_dns(bytes(32), 3, 0, 1)
    assert one_reason(found) == ("hash_only", False)
    assert found.facts == {}


@pytest.mark.parametrize(
    ("usage", "selector", "matching_type", "code"),
    [
        (2, 0, 0, "ca_only"),
        (4, 0, 0, "unknown_usage"),
        (255, 0, 0, "unknown_usage"),
        (3, 2, 0, "unknown_selector"),
        (3, 0, 3, "unknown_matching_type"),
        (3, 0, 255, "unknown_matching_type"),
    ],
)
def test_a_record_for_another_purpose_was_never_meant_for_encryption(
    usage: int, selector: int, matching_type: int, code: str
) -> None:
    _, raw = make_certificate(email=EMAIL)
    assert one_reason(from_dns(raw, usage, selector, matching_type)) == (code, False)


def test_a_bare_key_was_never_meant_for_encryption() -> None:
    _, raw = make_certificate(email=EMAIL)
    assert one_reason(from_dns(association_data(raw, 1, 0), 3, 1, 0)) == ("bare_key", False)


@pytest.mark.parametrize("usage", [0, 1])
def test_usages_0_and_1_are_unusable_without_a_trust_store(usage: int) -> None:
    _, raw = make_certificate(email=EMAIL)
    found = from_dns(raw, usage)
    assert one_reason(found) == ("no_trust_store", True)
    assert "ca_file" in text_of(found)


def test_a_ca_under_usage_0_was_never_meant_for_encryption() -> None:
    _, raw = make_certificate(email=EMAIL, ca=True)
    assert one_reason(from_dns(raw, 0)) == ("ca_only", False)


# --- validity ----------------------------------------------------------------------------------------------


def test_expired_certificate_is_unusable_and_says_when() -> None:
    _, raw = make_certificate(email=EMAIL)
    found = from_dns(raw, now=NOW + timedelta(days=31))
    assert one_reason(found) == ("expired", True)
    assert text_of(found) == "the certificate expired on 2026-12-20 12:00 UTC"


def test_certificate_of_the_future_is_unusable_and_says_from_when() -> None:
    _, raw = make_certificate(email=EMAIL)
    found = from_dns(raw, now=NOW - timedelta(days=31))
    assert one_reason(found) == ("not_yet_valid", True)
    assert "2026-10-21 12:00 UTC" in text_of(found)


@pytest.mark.parametrize("days", [-30, 30])
def test_the_first_and_the_last_second_are_valid(days: int) -> None:
    _, raw = make_certificate(email=EMAIL)
    assert codes(from_dns(raw, now=NOW + timedelta(days=days))) == []
    assert codes(from_dns(raw, now=NOW + timedelta(days=days, seconds=days // 30))) != []


# --- key usage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "usages"),
    [
        ("rsa2048", ["key_encipherment"]),
        ("rsa2048", ["digital_signature", "key_encipherment", "data_encipherment"]),
        ("p256", ["key_agreement"]),
        ("p256", ["digital_signature", "key_agreement"]),
    ],
)
def test_key_usage_that_allows_encryption_is_usable(kind: str, usages: list[str]) -> None:
    _, raw = make_certificate(kind, email=EMAIL, usages=usages)
    assert codes(from_dns(raw)) == []


@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
@pytest.mark.parametrize(
    "usages", [["digital_signature"], ["digital_signature", "content_commitment"], ["key_cert_sign"]]
)
def test_certificate_for_signing_only_was_never_meant_for_encryption(kind: str, usages: list[str]) -> None:
    _, raw = make_certificate(kind, email=EMAIL, usages=usages)
    assert one_reason(from_dns(raw)) == ("signing_only", False)


@pytest.mark.parametrize(
    ("kind", "usages", "word"),
    [
        ("rsa2048", ["key_agreement"], "keyEncipherment"),
        ("rsa2048", ["data_encipherment"], "keyEncipherment"),
        ("p256", ["key_encipherment"], "keyAgreement"),
    ],
)
def test_key_usage_for_another_kind_of_key_is_unusable(kind: str, usages: list[str], word: str) -> None:
    _, raw = make_certificate(kind, email=EMAIL, usages=usages)
    found = from_dns(raw)
    assert one_reason(found) == ("key_usage", True)
    assert word in text_of(found)


@pytest.mark.parametrize(
    "extended",
    [
        [ExtendedKeyUsageOID.EMAIL_PROTECTION],
        [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE],
        [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION],
    ],
)
def test_extended_key_usage_for_mail_is_usable(extended: list[ObjectIdentifier]) -> None:
    _, raw = make_certificate(email=EMAIL, extended=extended)
    assert codes(from_dns(raw)) == []


def test_extended_key_usage_without_mail_was_never_meant_for_it() -> None:
    _, raw = make_certificate(email=EMAIL, extended=[ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    assert one_reason(from_dns(raw)) == ("not_for_mail", False)


@pytest.mark.parametrize("beside", [[], [ExtendedKeyUsageOID.CLIENT_AUTH]])
def test_extended_key_usage_that_is_not_known_may_be_a_word_for_encryption(beside: list[ObjectIdentifier]) -> None:
    efs = ObjectIdentifier("1.3.6.1.4.1.311.10.3.4")
    found = from_dns(make_certificate(email=EMAIL, extended=[*beside, efs])[1])
    assert one_reason(found) == ("not_for_mail", True)
    assert efs.dotted_string in text_of(found)


@pytest.mark.parametrize("bits", [b"\x03\x01\x00", b"\x03\x02\x07\x00", b"\x03\x04\x00\x00\x00\x80"])
def test_key_usage_that_names_no_known_use_is_not_for_signing_alone(bits: bytes) -> None:
    usage = x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.15"), bits)
    found = from_dns(make_certificate(email=EMAIL, extensions=[(usage, True)])[1])
    assert one_reason(found) == ("key_usage", True)


@pytest.mark.parametrize(
    ("oid", "octets"),
    [
        ("2.5.29.15", b"\x04\x01\x00"),
        ("2.5.29.37", b"\x30\x00"),
        ("2.5.29.37", b"\x30\x02\x05\x00"),
        ("2.5.29.37", b""),
    ],
)
def test_usage_that_cannot_be_read_makes_the_certificate_unusable(oid: str, octets: bytes) -> None:
    for usages in (None, ["digital_signature"] if oid != "2.5.29.15" else None):
        extension = x509.UnrecognizedExtension(ObjectIdentifier(oid), octets)
        found = from_dns(make_certificate(email=EMAIL, usages=usages, extensions=[(extension, False)])[1])
        assert (codes(found), found.meant_for_encryption) == (["malformed"], True)


def test_signing_certificate_with_a_critical_extension_that_is_not_known_may_be_for_encryption() -> None:
    _, raw = make_certificate(email=EMAIL, usages=["digital_signature"], extensions=[(UNKNOWN_EXTENSION, True)])
    found = from_dns(raw)
    assert (codes(found), found.meant_for_encryption) == (["signing_only", "critical_extension"], True)


def test_unknown_critical_extension_is_unusable_and_named() -> None:
    _, raw = make_certificate(email=EMAIL, extensions=[(UNKNOWN_EXTENSION, True)])
    found = from_dns(raw)
    assert one_reason(found) == ("critical_extension", True)
    assert "1.2.3.4" in text_of(found)


def test_unknown_extension_that_is_not_critical_is_passed_over() -> None:
    _, raw = make_certificate(email=EMAIL, extensions=[(UNKNOWN_EXTENSION, False)])
    assert codes(from_dns(raw)) == []


# --- address -----------------------------------------------------------------------------------------------


def mailbox(text: str | bytes) -> x509.OtherName:
    return x509.OtherName(SMTP_UTF8_MAILBOX, der.tlv(der.UTF8_STRING, text.encode() if isinstance(text, str) else text))


@pytest.mark.parametrize("named", ["hugh@example.org", "HUGH@EXAMPLE.ORG", "Hugh@example.org", "hugh@Example.Org"])
def test_named_address_is_compared_without_regard_to_case(named: str) -> None:
    _, raw = make_certificate("p256", email=named)
    assert codes(from_dns(raw)) == []


@pytest.mark.parametrize("named", ["hugh@example.net", "hugo@example.org", "hugh+tag@example.org", "example.org", "h"])
def test_certificate_for_another_address_is_unusable_and_says_for_whom(named: str) -> None:
    _, raw = make_certificate("p256", email=named)
    found = from_dns(raw)
    assert one_reason(found) == ("other_address", True)
    assert named in text_of(found)


def test_one_of_several_named_addresses_is_enough() -> None:
    _, raw = make_certificate("p256", email=["x@example.org", EMAIL])
    assert codes(from_dns(raw)) == []


def test_address_in_the_subject_counts() -> None:
    assert codes(from_dns(make_certificate("p256", subject_email="Hugh@example.org")[1])) == []
    assert codes(from_dns(make_certificate("p256", subject_email="x@example.org")[1])) == ["other_address"]
    assert codes(from_dns(make_certificate("p256", subject_email=EMAIL, email="x@example.org")[1])) == []


def test_certificate_from_dns_that_names_no_address_is_usable() -> None:
    _, raw = make_certificate("p256")
    assert codes(from_dns(raw)) == []
    _, raw = make_certificate(
        "p256", other_names=[x509.DNSName("example.net"), x509.OtherName(UNKNOWN_EXTENSION.oid, der.null())]
    )
    assert codes(from_dns(raw)) == []


def test_internationalized_mailbox_counts() -> None:
    _, raw = make_certificate("p256", other_names=[mailbox("dörte@xn--bcher-kva.example")])
    assert codes(from_dns(raw, address="dörte@bücher.example")) == []
    assert codes(from_dns(raw, address="do\u0308rte@BÜCHER.example")) == []
    assert codes(from_dns(raw, address="dorte@bücher.example")) == ["other_address"]


def test_domain_in_a_labels_is_the_domain_in_unicode() -> None:
    _, raw = make_certificate("p256", email="hugh@xn--bcher-kva.example")
    assert codes(from_dns(raw, address="hugh@bücher.example")) == []


@pytest.mark.parametrize(
    "value", [der.null(), der.octet_string(EMAIL.encode()), der.tlv(der.UTF8_STRING, b"\xff@example.org")]
)
def test_malformed_internationalized_mailbox_names_nobody(value: bytes) -> None:
    _, raw = make_certificate("p256", other_names=[x509.OtherName(SMTP_UTF8_MAILBOX, value)])
    assert codes(from_dns(raw)) == ["other_address"]


def test_a_name_too_long_for_an_address_is_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old releases of idna need quadratic time for long labels (CVE-2024-3651)."""
    parsed: list[str] = []
    monkeypatch.setattr("smilla.address.parse", parsed.append)
    _, raw = make_certificate("p256", other_names=[mailbox("ü@" + "ü" * 1023)])
    assert codes(from_dns(raw, address=HUGH)) == ["other_address"]
    assert parsed == []


def test_the_administrators_word_needs_no_named_address() -> None:
    _, raw = make_certificate("p256", email="x@example.net")
    assert codes(from_folder(raw)) == []


# --- algorithms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rsa1024", "rsa2046"])
def test_weak_rsa_key_is_unusable_and_says_how_long_it_is(kind: str) -> None:
    _, raw = make_certificate(kind, email=EMAIL)
    found = from_dns(raw)
    assert one_reason(found) == ("weak_key", True)
    assert kind[3:] in text_of(found)


def test_rsa_modulus_of_2047_bits_is_taken() -> None:
    _, raw = make_certificate("rsa2047", email=EMAIL)
    assert codes(from_dns(raw)) == []


def test_unsupported_curve_is_unusable_and_named() -> None:
    _, raw = make_certificate("k256", email=EMAIL)
    found = from_dns(raw)
    assert one_reason(found) == ("unsupported_curve", True)
    assert "secp256k1" in text_of(found)


@pytest.mark.parametrize(("kind", "name"), [("ed25519", "Ed25519"), ("ed448", "Ed448"), ("dsa", "DSA")])
def test_key_that_can_sign_only_was_never_meant_for_encryption(kind: str, name: str) -> None:
    _, raw = make_certificate(kind, email=EMAIL)
    found = from_dns(raw)
    assert one_reason(found) == ("signing_only", False)
    assert found.facts["algorithm"] == name


@pytest.mark.parametrize(
    ("kind", "name", "strength"),
    [
        ("x25519", "X25519", 128),
        ("x448", "X448", 224),
        ("mlkem768", "ML-KEM-768", 192),
        ("mlkem1024", "ML-KEM-1024", 256),
    ],
)
def test_key_of_another_mechanism_is_usable(kind: str, name: str, strength: int) -> None:
    _, raw = make_certificate(kind, email=EMAIL)
    found = from_dns(raw)
    assert codes(found) == []
    assert isinstance(found.key, X509Key)
    assert (found.key.algorithm, found.key.strength, found.facts["algorithm"]) == (name, strength, name)


@pytest.mark.parametrize(
    ("kind", "usage", "reasons"),
    [
        ("x25519", "key_agreement", []),
        ("x25519", "key_encipherment", ["key_usage"]),
        ("x448", "digital_signature", ["signing_only"]),
        ("mlkem768", "key_encipherment", []),
        ("mlkem768", "key_agreement", ["key_usage"]),
    ],
)
def test_key_usage_is_that_of_the_mechanism(kind: str, usage: str, reasons: list[str]) -> None:
    _, raw = make_certificate(kind, email=EMAIL, usages=(usage,))
    assert codes(from_dns(raw)) == reasons


@pytest.mark.parametrize(
    ("oid", "key"),
    [
        ("1.3.101.110", bytes(32)),  # a point of order 4
        ("1.3.101.110", b"\1" + bytes(31)),
        ("1.3.101.110", b"short"),
        ("1.3.101.111", bytes(56)),
        ("2.16.840.1.101.3.4.4.1", bytes(800)),  # ML-KEM-512, which cryptography does not have
        ("2.16.840.1.101.3.4.4.2", b"\xff" * 1184),  # coefficients that are not reduced
        ("2.16.840.1.101.3.4.4.3", bytes(7)),
    ],
)
def test_key_that_could_be_read_by_others_or_by_nobody_is_unusable(oid: str, key: bytes) -> None:
    assert one_reason(from_dns(with_public_key(der.sequence(der.oid(oid)), key))) == ("unsupported_key", True)


def patched(raw: bytes, old: bytes, new: bytes) -> bytes:
    """Other octets in place; the signature does not matter for usage 3."""
    assert old in raw
    return raw.replace(old, new)


def with_public_key(algorithm: bytes, key: bytes) -> bytes:
    """A certificate for the address with that SubjectPublicKeyInfo."""
    _, raw = make_certificate("p256", email=EMAIL)
    tbs, *signature = der.read(raw).children()
    fields = [field.whole for field in tbs.children()]
    fields[6] = der.sequence(algorithm, der.bit_string(key))
    return der.sequence(der.sequence(*fields), *(part.whole for part in signature))


RSA = der.sequence(der.oid("1.2.840.113549.1.1.1"), der.null())
MODULUS = (1 << 2047) + 12345


@pytest.mark.parametrize("parameters", [(), (der.sequence(),)])
def test_rsassa_pss_key_was_never_meant_for_encryption(parameters: tuple[bytes, ...]) -> None:
    algorithm = der.sequence(der.oid("1.2.840.113549.1.1.10"), *parameters)
    found = from_dns(with_public_key(algorithm, der.sequence(der.integer(MODULUS), der.integer(65537))))
    assert one_reason(found) == ("signing_only", False)
    assert found.facts["algorithm"] == "RSASSA-PSS"


@pytest.mark.parametrize("number", [1, 8, 16, 47, 100])
def test_key_of_an_algorithm_that_is_not_known_is_not_for_signing_alone_for_its_neighbours(number: int) -> None:
    found = from_dns(with_public_key(der.sequence(der.oid(f"2.16.840.1.101.3.4.3.{number}")), bytes(32)))
    assert one_reason(found) == ("unsupported_key", True)


def test_key_of_a_kind_that_the_encrypter_does_not_take_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smilla.keys.validity.x509.is_for_encryption", lambda key: False)
    assert one_reason(from_dns(make_certificate("x448", email=EMAIL)[1])) == ("unsupported_key", True)


@pytest.mark.parametrize("oid", ["2.16.840.1.101.3.4.3.17", "2.16.840.1.101.3.4.3.20"])
def test_post_quantum_signature_key_was_never_meant_for_encryption(oid: str) -> None:
    found = from_dns(with_public_key(der.sequence(der.oid(oid)), bytes(32)))
    assert one_reason(found) == ("signing_only", False)


@pytest.mark.parametrize(
    ("algorithm", "code"),
    [
        (der.sequence(der.oid("2.16.840.1.101.3.4.4.1")), "unsupported_key"),  # ML-KEM
        (der.sequence(der.oid("1.2.840.113549.1.1.7")), "unsupported_key"),  # RSAES-OAEP
        (der.sequence(der.oid("1.2.840.10045.2.1"), der.oid("1.2.3")), "unsupported_key"),  # an unknown curve
        (der.sequence(der.oid("1.2.840.10045.2.1"), der.sequence(der.integer(1))), "malformed"),  # a curve spelt out
        (der.sequence(der.oid("1.2.840.10045.2.1")), "malformed"),  # no curve
    ],
)
def test_encryption_key_that_is_not_supported_is_unusable(algorithm: bytes, code: str) -> None:
    assert one_reason(from_dns(with_public_key(algorithm, bytes(32)))) == (code, True)


@pytest.mark.parametrize(
    ("modulus", "exponent", "code"),
    [
        (MODULUS, 65537, None),
        (MODULUS, 3, None),
        (MODULUS, 1, "unsupported_key"),  # the content-encryption key would stand in the message in the clear
        (MODULUS, 65536, "unsupported_key"),
        (MODULUS, (1 << 64) - 1, None),
        (MODULUS, 1 << 64 | 1, "malformed_key"),
        (MODULUS + 1, 65537, "malformed_key"),
        (1 << 16383 | 1, 65537, None),
        (1 << 16384 | 1, 65537, "oversize_key"),
    ],
    ids=["good", "three", "one", "even", "longest", "long", "even-modulus", "longest-modulus", "long-modulus"],
)
def test_rsa_numbers_that_are_no_good_are_refused(modulus: int, exponent: int, code: str | None) -> None:
    found = from_dns(with_public_key(RSA, der.sequence(der.integer(modulus), der.integer(exponent))))
    assert codes(found) == ([code] if code else [])


def test_point_that_is_not_on_the_curve_is_unusable() -> None:
    _, raw = make_certificate("p256", email=EMAIL)
    at = raw.index(b"\x03\x42\x00\x04") + 10
    found = from_dns(raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :])
    assert one_reason(found) == ("unsupported_key", True)


# --- path validation ---------------------------------------------------------------------------------------

CA_USAGES = ["key_cert_sign", "crl_sign"]


def ca(number: int = 8, **more: object) -> tuple[PrivateKeyTypes, bytes]:
    return make_certificate("p256", number=number, ca=True, usages=CA_USAGES, common_name=f"CA {number}", **more)  # type: ignore[arg-type]


def store(*certificates: bytes) -> TrustStore:
    return load_trust_store(b"".join(map(to_pem, certificates)))


def issued(issuer: tuple[PrivateKeyTypes, bytes], **more: object) -> bytes:
    return make_certificate("p256", email=EMAIL, issuer=issuer, **more)[1]  # type: ignore[arg-type]


@pytest.mark.parametrize("usage", [0, 1])
@pytest.mark.parametrize("extended", [None, [ExtendedKeyUsageOID.EMAIL_PROTECTION]])
def test_certificate_of_a_trusted_ca_is_usable(usage: int, extended: list[ObjectIdentifier] | None) -> None:
    authority = ca()
    assert codes(from_dns(issued(authority, extended=extended), usage, trusted=store(authority[1]))) == []


def test_certificate_of_an_intermediate_ca_in_the_store_is_usable() -> None:
    root = ca()
    intermediate = ca(9, issuer=root, extended=[ExtendedKeyUsageOID.EMAIL_PROTECTION])
    assert codes(from_dns(issued(intermediate), 1, trusted=store(root[1], intermediate[1]))) == []
    assert codes(from_dns(issued(intermediate), 1, trusted=store(root[1]))) == ["untrusted"]


def test_certificate_of_an_unknown_ca_is_unusable() -> None:
    assert one_reason(from_dns(issued(ca(9)), 1, trusted=store(ca()[1]))) == ("untrusted", True)


def test_certificate_that_names_a_trusted_ca_but_is_signed_by_another_is_unusable() -> None:
    impostor = (make_certificate("p256", number=5)[0], ca()[1])
    assert codes(from_dns(issued(impostor), 1, trusted=store(ca()[1]))) == ["untrusted"]


def test_self_signed_certificate_under_usage_1_is_unusable() -> None:
    _, raw = make_certificate("p256", email=EMAIL)
    assert codes(from_dns(raw, 1, trusted=store(ca()[1]))) == ["untrusted"]


def test_certificate_signed_by_no_ca_is_unusable() -> None:
    leaf = make_certificate("p256", number=3, ca=False)
    assert codes(from_dns(issued(leaf), 1, trusted=store(leaf[1]))) == ["untrusted"]


def test_ca_that_is_not_for_mail_is_unusable() -> None:
    authority = ca(extended=[ExtendedKeyUsageOID.SERVER_AUTH])
    assert codes(from_dns(issued(authority), 1, trusted=store(authority[1]))) == ["untrusted"]


def test_ca_that_may_not_sign_certificates_is_unusable() -> None:
    authority = make_certificate("p256", number=8, ca=True, usages=["digital_signature"])
    assert codes(from_dns(issued(authority), 1, trusted=store(authority[1]))) == ["untrusted"]


def test_expired_ca_is_unusable() -> None:
    authority = ca(not_after=NOW - timedelta(days=1))
    assert codes(from_dns(issued(authority), 1, trusted=store(authority[1]))) == ["untrusted"]


def test_expired_certificate_of_a_trusted_ca_says_only_that() -> None:
    authority = ca()
    found = from_dns(issued(authority), 1, now=NOW + timedelta(days=31), trusted=store(authority[1]))
    assert codes(found) == ["expired"]


def test_trusted_ca_does_not_make_up_for_another_address() -> None:
    authority = ca()
    found = from_dns(issued(authority), 1, trusted=store(authority[1]), address="x@example.org")
    assert codes(found) == ["other_address"]


@pytest.mark.parametrize("raw", [b"", b"text", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_trust_store_without_a_certificate_is_an_error(raw: bytes) -> None:
    with pytest.raises(ParseError):
        load_trust_store(raw)


# --- octets ------------------------------------------------------------------------------------------------


def test_all_reasons_are_collected() -> None:
    _, raw = make_certificate(
        "rsa1024", email="x@example.org", usages=["key_agreement"], extensions=[(UNKNOWN_EXTENSION, True)]
    )
    found = from_dns(raw, 1, now=NOW + timedelta(days=99))
    assert codes(found) == ["expired", "weak_key", "key_usage", "critical_extension", "other_address", "no_trust_store"]
    assert found.meant_for_encryption


@pytest.mark.parametrize("after", [b"\0", b"\n", b"-----"])
def test_octets_after_the_certificate_make_it_malformed(after: bytes) -> None:
    _, raw = make_certificate("p256", email=EMAIL)
    assert one_reason(from_dns(raw + after)) == ("malformed", True)


def test_pem_is_read_from_a_file_and_not_from_dns() -> None:
    _, raw = make_certificate("p256", email=EMAIL)
    assert codes(from_dns(to_pem(raw))) == ["malformed"]
    found = from_folder(
        b"Certificate:\n    Data: ...\n" + to_pem(raw).replace(b"\n", b"\r\n") + to_pem(make_certificate()[1])
    )
    assert found.key is not None
    assert found.key.raw == raw


@pytest.mark.parametrize("inside", [b"", b"!!!!", b"AAA", base64.b64encode(b"\x30\x00")])
def test_malformed_pem_is_malformed(inside: bytes) -> None:
    raw = b"-----BEGIN CERTIFICATE-----\n" + inside + b"\n-----END CERTIFICATE-----\n"
    assert codes(from_folder(raw)) == ["malformed"]


def test_pem_with_a_character_that_is_none_of_its_alphabet_is_malformed() -> None:
    assert codes(from_folder(to_pem(make_certificate("p256", email=EMAIL)[1]).replace(b"\nMI", b"\n!MI"))) == [
        "malformed"
    ]


def test_pem_within_a_certificate_in_der_is_not_taken_for_it() -> None:
    inner = x509.UnrecognizedExtension(UNKNOWN_EXTENSION.oid, to_pem(make_certificate("p256", number=1)[1]))
    _, raw = make_certificate("p256", email=EMAIL, extensions=[(inner, False)])
    found = from_folder(raw)
    assert found.key is not None
    assert found.key.raw == raw


def test_oversize_certificate_is_malformed() -> None:
    big = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), der.octet_string(bytes(66_000)))
    _, raw = make_certificate("p256", email=EMAIL, extensions=[(big, False)])
    assert one_reason(from_dns(raw)) == ("malformed", True)


@pytest.mark.parametrize("serial", [b"\x00", b"\xf5"])
def test_serial_that_is_not_positive_is_taken_octet_for_octet(serial: bytes) -> None:
    _, raw = make_certificate("p256", email=EMAIL, serial=5)
    found = from_dns(patched(raw, b"\x02\x01\x05", b"\x02\x01" + serial))
    assert found.key is not None
    assert found.key.raw_issuer_and_serial.endswith(b"\x02\x01" + serial)  # type: ignore[union-attr]


def test_a_warning_of_the_parser_that_is_made_an_error_does_not_escape() -> None:
    _, raw = make_certificate("p256", email=EMAIL, serial=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert codes(from_dns(patched(raw, b"\x02\x01\x05", b"\x02\x01\xf5"))) == ["malformed"]


def test_control_characters_of_a_stranger_do_not_reach_the_facts() -> None:
    _, raw = make_certificate("p256", common_name="Hu\x1b[2Jgh\n", email="x@ex\x07ample.org")
    found = from_dns(raw)
    shown = text_of(found) + "".join(found.facts.values())
    assert shown.isprintable()


def test_a_certificate_full_of_addresses_is_judged_soon() -> None:
    names = [mailbox("ü" * 30 + f"{n}@bücher.example") for n in range(500)] + [mailbox("ü@" + "ü" * 3000)]
    _, raw = make_certificate("p256", other_names=names)
    assert codes(from_dns(raw)) == ["other_address"]
    assert idle_seconds(lambda: from_dns(raw), 1) < 1


@given(st.binary(max_size=300), st.integers(0, 4), st.integers(0, 2), st.integers(0, 3))
def test_any_octets_give_an_assessment(raw: bytes, usage: int, selector: int, matching_type: int) -> None:
    assert from_dns(raw, usage, selector, matching_type).key is None
    assert from_folder(raw).key is None


_SUBJECTS = [
    make_certificate(
        "p256", email=EMAIL, subject_email=EMAIL, other_names=[mailbox(EMAIL)], ca=True, usages=["key_agreement"]
    )[1],
    make_certificate(
        "rsa2048", email=EMAIL, extended=[ExtendedKeyUsageOID.EMAIL_PROTECTION], usages=["key_encipherment"]
    )[1],
]
_TRUSTED = store(ca()[1])


@given(
    st.sampled_from(_SUBJECTS),
    st.integers(0, 900),
    st.binary(min_size=1, max_size=6),
    st.integers(0, 6),
    st.integers(0, 1),
)
@settings(max_examples=400)
def test_a_damaged_certificate_gives_an_assessment(raw: bytes, at: int, damage: bytes, gone: int, usage: int) -> None:
    damaged = raw[: at % len(raw)] + damage + raw[at % len(raw) + gone :]
    for found in (from_dns(damaged, usage, trusted=_TRUSTED), from_dns(damaged), from_folder(damaged)):
        assert (found.key is None) == bool(found.reasons)


def test_a_certificate_with_any_one_octet_changed_gives_an_assessment() -> None:
    for raw in _SUBJECTS:
        for at in range(len(raw)):
            for change in (0x01, 0x80, 0xFF):
                found = from_dns(raw[:at] + bytes((raw[at] ^ change,)) + raw[at + 1 :])
                assert (found.key is None) == bool(found.reasons)


def test_the_helper_makes_what_the_tests_ask_for() -> None:
    assert key_usage("key_agreement").key_agreement
    assert not key_usage("key_agreement").key_encipherment
