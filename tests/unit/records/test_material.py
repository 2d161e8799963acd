"""The one certificate of a file that an address should publish."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, NoEncryption, pkcs12

from smilla.address import parse
from smilla.errors import ParseError
from smilla.records.material import best_certificate, only_key
from tests.certificates import NOW, make_certificate, to_pem
from tests.openpgp_maker import packet, secret

HUGH = parse("hugh@example.org")
AUTHORITY = make_certificate("p256", common_name="CA", ca=True)
KEY, OWN = make_certificate("rsa2048", email="hugh@example.org", issuer=AUTHORITY)
_, EXPIRED = make_certificate("rsa2048", email="hugh@example.org", issuer=AUTHORITY, not_after=NOW - timedelta(days=1))


def nobody_asked() -> bytes:
    raise AssertionError("no password is needed")


def pfx(*raw: bytes, password: bytes = b"") -> bytes:
    own, *others = (x509.load_der_x509_certificate(one) for one in raw)
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return pkcs12.serialize_key_and_certificates(b"x", KEY, own, others, encryption)  # type: ignore[arg-type]


def test_authority_beside_an_expired_certificate_does_not_take_its_place() -> None:
    for order in ((EXPIRED, AUTHORITY[1]), (AUTHORITY[1], EXPIRED)):
        chosen = best_certificate(b"".join(map(to_pem, order)), HUGH, 3, NOW, nobody_asked)
        assert chosen.raw == EXPIRED
        assert chosen.remark.startswith("of 2 certificates in it, this is")


def test_pkcs12_without_a_password_asks_nobody() -> None:
    assert best_certificate(pfx(OWN, AUTHORITY[1]), HUGH, 3, NOW, nobody_asked).raw == OWN


def test_pkcs12_with_a_password_asks_for_it_once() -> None:
    asked: list[bytes] = []

    def answer() -> bytes:
        asked.append(b"secret")
        return asked[-1]

    assert best_certificate(pfx(OWN, password=b"secret"), HUGH, 3, NOW, answer).raw == OWN
    assert len(asked) == 1
    with pytest.raises(ParseError, match="the password is wrong"):
        best_certificate(pfx(OWN, password=b"else"), HUGH, 3, NOW, answer)


def test_secret_openpgp_key_is_refused() -> None:
    key = secret("eddsa", 1700000000)
    with pytest.raises(ParseError, match="must never be published"):
        only_key(packet(5, key.body + b"\0"), HUGH, NOW)
