"""The tables of the gate for certificates, number by number: what is next to a known purpose is not known."""

from __future__ import annotations

import pytest
from cryptography.x509 import ObjectIdentifier

from smilla.formats import der
from tests.certificates import make_certificate
from tests.unit.keys.validity.test_x509 import EMAIL, RSA, from_dns, one_reason, text_of, with_public_key

NOT_MAIL = (1, 2, 3, 5, 6, 7, 8, 9, 13, 14, 17, 21, 22, 27, 28, 30, 36)


def is_for_another_purpose(oid: str) -> bool:
    code, meant = one_reason(from_dns(make_certificate("p256", email=EMAIL, extended=[ObjectIdentifier(oid)])[1]))
    assert code == "not_for_mail"
    return not meant


def test_purposes_that_are_known_not_to_be_mail_are_these_and_no_others() -> None:
    others = [number for number in range(40) if number != 4]
    assert [number for number in others if is_for_another_purpose(f"1.3.6.1.5.5.7.3.{number}")] == [*NOT_MAIL]


@pytest.mark.parametrize(
    "oid",
    ["1.3.6.1.5.2.3.5", "1.3.6.1.4.1.311.20.2.2", "1.3.6.1.4.1.311.10.3.12", "1.3.6.1.4.1.11129.2.4.4"],
)
def test_purpose_of_another_arc_that_is_not_mail_was_never_meant_for_it(oid: str) -> None:
    assert is_for_another_purpose(oid)
    assert not is_for_another_purpose(f"{oid}.1")


def test_signature_algorithms_of_the_nist_are_these_and_no_others() -> None:
    found = {}
    for number in range(60):
        raw = with_public_key(der.sequence(der.oid(f"2.16.840.1.101.3.4.3.{number}")), bytes(32))
        found[number] = one_reason(from_dns(raw))
    signing = [number for number, reason in found.items() if reason == ("signing_only", False)]
    assert signing == [*range(17, 47)]
    assert set(found.values()) == {("signing_only", False), ("unsupported_key", True)}


@pytest.mark.filterwarnings("ignore:Diffie-Hellman")
def test_key_that_the_parser_knows_and_we_do_not_is_unusable() -> None:
    """Diffie-Hellman in a finite field (RFC 3370 section 4.1.1)."""
    group = der.sequence(der.integer((1 << 2048) - 1942289), der.integer(2))
    raw = with_public_key(der.sequence(der.oid("1.2.840.113549.1.3.1"), group), der.integer(5))
    found = from_dns(raw)
    assert one_reason(found) == ("unsupported_key", True)
    assert "(algorithm 1.2.840.113549.1.3.1) is malformed or not supported" in text_of(found)


def test_strength_of_each_curve_is_half_of_its_bits() -> None:
    kinds = {
        "p256": 128,
        "p384": 192,
        "p521": 256,
        "bp256": 128,
        "bp384": 192,
        "bp512": 256,
        "x25519": 128,
        "x448": 224,
    }
    kinds |= {"mlkem768": 192, "mlkem1024": 256}
    keys = {kind: from_dns(make_certificate(kind, email=EMAIL)[1]).key for kind in kinds}
    assert {kind: key.strength for kind, key in keys.items() if key} == kinds


def test_strength_of_rsa_is_that_of_the_line_of_the_table_below_it() -> None:
    lines = {3071: 112, 3072: 128, 4095: 128, 4096: 140, 7679: 140, 7680: 192, 15359: 192, 15360: 256}
    assert {bits: strength_of_rsa(bits) for bits in lines} == lines


def strength_of_rsa(bits: int) -> int:
    numbers = der.sequence(der.integer(1 << (bits - 1) | 1), der.integer(65537))
    key = from_dns(with_public_key(RSA, numbers)).key
    assert key is not None
    return key.strength
