"""The private keys of PKCS #12 and PEM files, and the names that messages have for them."""

from __future__ import annotations

import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)

from smilla.decrypt import held_key
from smilla.errors import ParseError
from tests.certificates import make_certificate, make_key, to_pem
from tests.unit.decrypt.material import owner, pem


def pfx(raw: bytes, number: int = 0, password: bytes | None = None, more: list[bytes] | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    others = [x509.load_der_x509_certificate(one) for one in more or []]
    certificate = x509.load_der_x509_certificate(raw)
    return pkcs12.serialize_key_and_certificates(b"x", make_key("rsa2048", number), certificate, others, encryption)  # type: ignore[arg-type]


def test_pem_gives_the_key_with_all_its_certificates_and_their_names() -> None:
    private, old = make_certificate(common_name="Hugh", serial=7)
    _, new = make_certificate(common_name="Hugh", serial=8)
    _, strange = make_certificate("p256")
    (found,) = held_key.read(to_pem(strange) + to_pem(old) + b"words\n" + pem(private) + to_pem(new))
    assert found.raw_certificates == (old, new)
    assert found.raw_names == {held_key.issuer_and_serial(old), held_key.issuer_and_serial(new)}


def test_names_are_those_that_messages_have() -> None:
    assert owner("p256").held.raw_names == {owner("p256").key.raw_issuer_and_serial}


def test_identifiers_are_the_stated_and_the_computed_one() -> None:
    private, raw = make_certificate(extensions=[(x509.SubjectKeyIdentifier(b"stated"), False)])
    (found,) = held_key.read(pem(private) + to_pem(raw))
    bits = private.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    assert found.raw_identifiers == {b"stated", hashlib.sha1(bits).digest()}


def test_file_with_several_keys_gives_each_its_own_certificate() -> None:
    (first, first_raw), (second, second_raw) = make_certificate(), make_certificate("p256")
    found = held_key.read(pem(first) + pem(second) + to_pem(second_raw) + to_pem(first_raw))
    assert [one.raw_certificates for one in found] == [(first_raw,), (second_raw,)]


def test_pkcs12_gives_the_same_with_its_password_alone() -> None:
    _, raw = make_certificate()
    _, other = make_certificate("p256")
    (found,) = held_key.read(pfx(raw, password=b"secret", more=[other]), b"secret")
    assert found.raw_certificates == (raw,)
    assert held_key.read(pfx(raw))[0].raw_names == found.raw_names
    for password in (b"Secret", None):
        with pytest.raises(ParseError, match="password is wrong or missing"):
            held_key.read(pfx(raw, password=b"secret"), password)


def test_locked_pem_key_needs_its_password_and_an_open_one_takes_none() -> None:
    private, raw = make_certificate()
    locked = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")) + to_pem(raw)
    assert len(held_key.read(locked, b"secret")) == 1
    assert len(held_key.read(pem(private) + to_pem(raw), b"secret")) == 1
    with pytest.raises(ParseError, match="password is wrong or missing"):
        held_key.read(locked)


def test_what_cannot_be_used_says_what_is_missing() -> None:
    private, raw = make_certificate()
    other = to_pem(make_certificate("rsa2048", number=1)[1])
    for file, told in (
        (pem(private), "without the certificate"),
        (pem(private) + other, "without the certificate"),
        (to_pem(raw), "no private key"),
        (b"", "damaged"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" + other, "damaged"),
    ):
        with pytest.raises(ParseError, match=told):
            held_key.read(file)


def test_key_never_shows_in_words() -> None:
    assert "PrivateKey" not in repr(owner().held)
