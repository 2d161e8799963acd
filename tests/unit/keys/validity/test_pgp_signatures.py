"""What a signature is worth, number by number: hashes, salts, subpackets, and points that are no points."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smilla.formats.openpgp import packets
from smilla.formats.openpgp_keys import Key, parse_key, parse_signature
from smilla.keys.validity import pgp_signatures
from smilla.keys.validity.pgp_signatures import Verdict, verify
from tests import openpgp_maker
from tests.openpgp_maker import packet, secret, signature, subpacket

MADE = 1_700_000_000
UNDERSTOOD = (*range(2, 8), 9, 10, 11, 12, 16, *range(21, 36), 37, 39)


def key_of(made: openpgp_maker.Secret) -> Key:
    return parse_key(next(iter(packets(packet(6, made.body)))))


def verdict(raw: bytes, made: openpgp_maker.Secret, octets: bytes = b"x") -> Verdict:
    return verify(parse_signature(next(iter(packets(raw)))), key_of(made), octets)


def test_critical_subpackets_that_are_understood_are_these_and_no_others() -> None:
    made, found = secret("eddsa", MADE), []
    for kind in range(128):
        raw = signature(made, 0x13, b"x", MADE, subpacket(kind, b"\0\0\0\1", critical=True))
        is_known = {Verdict.VALID: True, Verdict.UNVERIFIABLE: False}[verdict(raw, made)]
        found += [kind] if is_known else []
    assert found == [*UNDERSTOOD]


@pytest.mark.parametrize("version", [4, 6])
def test_hashes_that_are_known_are_these_and_no_others(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each hash that the maker does not know is one that we must not take another's place for."""
    names = {1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224", 12: "sha3_256", 14: "sha3_512"}
    salts = {1: 0, 2: 0, 8: 16, 9: 24, 10: 32, 11: 16, 12: 16, 14: 32}
    made, found = secret("ed25519", MADE, version), {}
    monkeypatch.setattr(openpgp_maker, "SALTS", salts)
    monkeypatch.setattr(openpgp_maker, "HASHES", {number: (name, None) for number, name in names.items()})
    monkeypatch.setattr(openpgp_maker, "Prehashed", lambda _: None)
    for number in range(20):
        found[number] = verdict(signature(made, 0x13, b"x", MADE, hash_algorithm=number), made)
    weak = dict.fromkeys((1, 2), Verdict.WEAK)
    good = dict.fromkeys((8, 9, 10, 11, 12, 14), Verdict.VALID)
    assert found == dict.fromkeys(range(20), Verdict.UNVERIFIABLE) | weak | good
    for number, size in salts.items():
        raw = signature(made, 0x13, b"x", MADE, hash_algorithm=number, salt_size=size + 1)
        assert verdict(raw, made) is (Verdict.BAD if version == 6 else found[number])


def test_point_of_another_form_is_not_taken() -> None:
    point = bytes(32)
    assert pgp_signatures._prefixed(b"\x40" + point) == point
    for wrong in (b"\x41" + point, b"\x40" + point[1:], b"\x40" + point + b"\0", b""):
        with pytest.raises(ValueError, match="not on this curve"):
            pgp_signatures._prefixed(wrong)


def test_digest_whose_first_octets_differ_is_false_before_anything_is_calculated() -> None:
    made = secret("eddsa", MADE)
    raw = signature(made, 0x13, b"x", MADE)
    assert verdict(raw, made) is Verdict.VALID
    assert verdict(raw, made, b"y") is Verdict.BAD
    at = raw.index(parse_signature(next(iter(packets(raw)))).digest_start)
    assert verdict(raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :], made) is Verdict.BAD


def test_algorithms_that_we_cannot_verify_are_not_called_false() -> None:
    """A revocation by such a key would be passed over otherwise."""
    for version, false in ((4, [1, 3, 17, 22, 27, 28]), (6, [1, 3, 17, 22, 27, 28, 30, 31])):
        made = secret("ed25519", MADE, version)
        signed = parse_signature(next(iter(packets(signature(made, 0x13, b"x", MADE)))))
        found = {}
        for number in range(50):
            key = replace(key_of(made), algorithm=number, curve="ed25519", numbers=(5, 5))
            key = replace(key, numbers=(5, 5, 5, 5)) if number == 17 else key
            found[number] = verify(replace(signed, algorithm=number, fields=bytes(99)), key, b"x")
        assert [number for number, verdict in found.items() if verdict is Verdict.BAD] == false
        assert {verdict for verdict in found.values() if verdict is not Verdict.BAD} == {Verdict.UNVERIFIABLE}


@pytest.mark.parametrize(
    ("kind", "curve"), [("ecdsa-nistp256", "secp256k1"), ("eddsa", "ed448"), ("eddsa", "nistp256")]
)
def test_curve_that_is_not_known_is_not_called_false(kind: str, curve: str) -> None:
    made = secret(kind, MADE)
    signed = parse_signature(next(iter(packets(signature(made, 0x13, b"x", MADE)))))
    assert verify(signed, key_of(made), b"x") is Verdict.VALID
    assert verify(signed, replace(key_of(made), curve=curve), b"x") is Verdict.UNVERIFIABLE


def test_rsa_is_calculated_with_up_to_8192_bits_and_an_exponent_of_32() -> None:
    made = secret("rsa2048", MADE)
    signed = parse_signature(next(iter(packets(signature(made, 0x13, b"x", MADE)))))
    sizes = {(8192, 32): Verdict.BAD, (8193, 32): Verdict.UNVERIFIABLE, (8192, 33): Verdict.UNVERIFIABLE}
    for (bits, exponent_bits), found in sizes.items():
        numbers = (1 << (bits - 1) | 1, (1 << exponent_bits) - 1)
        assert verify(signed, replace(key_of(made), numbers=numbers), b"x") is found
