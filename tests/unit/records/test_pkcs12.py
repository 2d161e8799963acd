"""PKCS #12: certificates come out, private keys never do."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, NoEncryption
from cryptography.hazmat.primitives.serialization import pkcs12 as library

from smilla.address import parse
from smilla.errors import ParseError
from smilla.records import pkcs12, smime_certificate
from smilla.records.wanted import Wanted
from tests.certificates import make_certificate

WANTED = Wanted(parse("hugh@example.org"), "Hugh", datetime(2026, 11, 22, tzinfo=UTC), 30)


def test_written_file_holds_the_certificate_and_its_key() -> None:
    made = smime_certificate.make(WANTED, "P-256")
    raw = pkcs12.written("Hugh", made.key, made.raw, b"secret")
    assert pkcs12.is_pkcs12(raw)
    assert pkcs12.certificates(raw, b"secret") == (made.raw,)
    held = library.load_pkcs12(raw, b"secret")
    assert held.key == made.key or held.key is not None
    assert held.cert is not None
    assert held.cert.friendly_name == b"Hugh"


@pytest.mark.parametrize("password", [None, b"", b"wrong"])
def test_wrong_password_says_so(password: bytes | None) -> None:
    made = smime_certificate.make(WANTED, "P-256")
    with pytest.raises(ParseError, match="the password is wrong"):
        pkcs12.certificates(pkcs12.written("Hugh", made.key, made.raw, b"secret"), password)


def test_own_certificate_comes_before_those_of_the_chain() -> None:
    authority = make_certificate("p256", common_name="CA", ca=True)
    key, raw = make_certificate("rsa2048", email="hugh@example.org", issuer=authority)
    own, above = (x509.load_der_x509_certificate(one) for one in (raw, authority[1]))
    for encryption in (NoEncryption(), BestAvailableEncryption(b"secret")):
        file = library.serialize_key_and_certificates(b"x", key, own, [above], encryption)  # type: ignore[arg-type]
        password = None if isinstance(encryption, NoEncryption) else b"secret"
        assert pkcs12.certificates(file, password) == (raw, authority[1])


@pytest.mark.parametrize("raw", [b"", b"\x30", b"\x30\x03\x02\x01\x02", b"-----BEGIN", make_certificate()[1]])
def test_other_files_are_none(raw: bytes) -> None:
    assert not pkcs12.is_pkcs12(raw)


@pytest.mark.parametrize("start", [b"\x30\x80\x02\x01\x03", b"\x30\x82\x01\x00\x02\x01\x03", b"\x30\x7f\x02\x01\x03"])
def test_every_form_of_length_is_known(start: bytes) -> None:
    assert pkcs12.is_pkcs12(start + b"\x30\x00")
