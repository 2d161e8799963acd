"""A new certificate says what RFC 8550 wants of it, and our own gate takes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from smilla.address import parse
from smilla.records import smime_certificate
from smilla.records.record import assess, smimea_record
from smilla.records.wanted import Wanted

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def certificate(raw: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(raw)


@pytest.mark.parametrize("curve", ["", "P-256", "P-384"])
@pytest.mark.parametrize(
    "address",
    [
        "hugh@example.org",
        "Hugh@EXAMPLE.org",
        '"hugh the first"@example.org',
        "dörte@bücher.example",
        "d@bücher.example",
    ],
)
def test_gate_takes_it_for_its_address_until_its_end(curve: str, address: str) -> None:
    owner = parse(address)
    made = smime_certificate.make(Wanted(owner, "", NOW, 730), curve, bits=2048)
    record = smimea_record(owner, made.raw, 3)
    assert assess(record, owner, NOW).key is not None
    assert assess(record, owner, NOW + timedelta(days=729)).key is not None
    assert [r.code for r in assess(record, owner, NOW + timedelta(days=731)).reasons] == ["expired"]
    assert [r.code for r in assess(record, parse("else@example.org"), NOW).reasons] == ["other_address"]


def test_default_is_rsa_3072_for_signing_and_encryption_by_mail_programs() -> None:
    made = smime_certificate.make(Wanted(parse("hugh@example.org"), "Hugh", NOW, 730))
    found = certificate(made.raw)
    public = found.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    assert public.key_size == 3072
    usage = found.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert usage.value.key_encipherment
    assert not usage.value.key_agreement
    assert not usage.value.key_cert_sign
    extended = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.EMAIL_PROTECTION]
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert found.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.RFC822Name) == ["hugh@example.org"]
    found.verify_directly_issued_by(found)


def test_elliptic_one_agrees_on_keys() -> None:
    made = smime_certificate.make(Wanted(parse("hugh@example.org"), "Hugh", NOW, 1), "P-256")
    usage = certificate(made.raw).extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_agreement
    assert not usage.key_encipherment


def test_serial_numbers_are_random() -> None:
    wanted = Wanted(parse("hugh@example.org"), "Hugh", NOW, 1)
    serials = {certificate(smime_certificate.make(wanted, "P-256").raw).serial_number for _ in range(4)}
    assert len(serials) == 4
    assert all(serial.bit_length() > 64 for serial in serials)


def test_local_part_beyond_ascii_is_an_smtp_utf8_mailbox_alone() -> None:
    made = smime_certificate.make(Wanted(parse("dörte@xn--bcher-kva.example"), "", NOW, 1), "P-256")
    names = certificate(made.raw).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (name,) = names
    assert isinstance(name, x509.OtherName)
    assert name.value == b"\x0c\x16" + "dörte@bücher.example".encode()
