"""Which algorithms are good enough, and how strong: the tables, line by line."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from smilla.formats.openpgp import packets
from smilla.formats.openpgp_keys import Key, parse_key
from smilla.keys.validity import pgp_algorithms as algorithms
from smilla.keys.validity.pgp_signatures import CURVES
from tests.openpgp_maker import packet, secret

CV25519 = parse_key(next(iter(packets(packet(14, secret("cv25519", 1).body)))))
KEY = Key(CV25519.packet, 4)


def code(key: Key) -> str:
    fault = algorithms.encryption_fault(key, "it")
    return fault.code if fault else ""


def test_algorithms_that_can_only_sign_or_only_encrypt_are_these_and_no_others() -> None:
    keys = [replace(KEY, algorithm=number) for number in range(50)]
    signing = [key.algorithm for key in keys if not algorithms.can_encrypt(key)]
    encrypting = [key.algorithm for key in keys if not algorithms.can_sign(key)]
    assert signing == [3, 17, 19, 22, 27, 28, 30, 31, 32, 33, 34]
    assert encrypting == [2, 16, 18, 25, 26, 35, 36]


def test_algorithms_of_a_primary_key_that_we_can_verify_are_these_and_no_others() -> None:
    keys = [replace(KEY, algorithm=number, curve="nistp256") for number in range(50)]
    assert [key.algorithm for key in keys if not algorithms.primary_fault(key)] == [1, 3, 17, 19, 22, 27, 28, 30, 31]
    assert algorithms.primary_fault(replace(KEY, algorithm=19, curve="secp256k1"))


@pytest.mark.parametrize(("bits", "found"), [(2047, "weak_key"), (2048, "")])
def test_primary_key_of_2048_bits_is_just_good_enough(bits: int, found: str) -> None:
    fault = algorithms.primary_fault(replace(KEY, algorithm=1, numbers=(1 << (bits - 1), 3)))
    assert (fault.code if fault else "") == found


@pytest.mark.parametrize("algorithm", [1, 2])
@pytest.mark.parametrize(
    ("n", "e", "found"),
    [
        (1 << 2046 | 1, 65537, "weak_key"),
        (1 << 2047 | 1, 65537, ""),
        (1 << 2047 | 1, 3, ""),
        (1 << 2047 | 1, 1, "malformed"),
        (1 << 2047 | 1, 2, "malformed"),
        (1 << 2047 | 1, 65536, "malformed"),
        (1 << 2047, 65537, "malformed"),
        (1 << 2047 | 1, (1 << 64) - 1, ""),
        (1 << 2047 | 1, (1 << 64) + 1, "malformed"),
        (1 << 16383 | 1, 65537, ""),
        (1 << 16384 | 1, 65537, "malformed"),
    ],
    ids=["short", "good", "3", "1", "2", "even", "even n", "e of 64 bits", "e of 65 bits", "longest", "too long"],
)
def test_rsa_numbers_that_are_no_good_are_refused(algorithm: int, n: int, e: int, found: str) -> None:
    assert code(replace(KEY, algorithm=algorithm, numbers=(n, e))) == found


def test_derivations_of_an_ecdh_key_that_are_known_are_these_and_no_others() -> None:
    found = [(h, c) for h in range(16) for c in range(16) if not code(replace(CV25519, kdf=(h, c)))]
    assert found == [(h, c) for h in (8, 9, 10) for c in (7, 8, 9)]


def test_elgamal_in_either_form_is_weak() -> None:
    assert [
        n for n in range(50) if code(replace(KEY, algorithm=n, numbers=(1 << 2047 | 1, 3))) == "weak_algorithm"
    ] == [
        16,
        20,
    ]


def test_cv25519_is_of_version_4_alone() -> None:
    assert code(CV25519) == ""
    assert code(replace(CV25519, version=6)) == "unsupported_algorithm"


@pytest.mark.parametrize(
    "point",
    [b"\x40" + bytes(32), b"\x41" + CV25519.point[1:], CV25519.point[1:], b"", b"\x40"],
    ids=["small order", "another prefix", "no prefix", "nothing", "prefix alone"],
)
def test_point_that_is_none_or_of_small_order_is_malformed(point: bytes) -> None:
    assert code(replace(CV25519, point=point)) == "malformed"


@pytest.mark.parametrize("algorithm", [25, 26])
@pytest.mark.parametrize("octets", [0, 31, 32, 33, 55, 56, 57])
def test_point_of_small_order_or_of_another_length_is_malformed(algorithm: int, octets: int) -> None:
    assert code(replace(KEY, algorithm=algorithm, point=bytes(octets))) == "malformed"


@pytest.mark.parametrize("algorithm", [35, 36])
def test_kem_key_of_version_4_or_of_octets_that_are_none_is_refused(algorithm: int) -> None:
    assert code(replace(KEY, algorithm=algorithm, point=bytes(2000))) == "unsupported_algorithm"
    for octets in (1184 + 32, 1568 + 56):
        assert code(replace(KEY, version=6, algorithm=algorithm, point=b"\xff" * octets)) == "malformed"
        assert code(replace(KEY, version=6, algorithm=algorithm, point=bytes(octets))) == "malformed"


STRENGTHS = {
    "cv25519": 128,
    "nistp256": 128,
    "nistp384": 192,
    "nistp521": 256,
    "brainpoolP256r1": 128,
    "brainpoolP384r1": 192,
    "brainpoolP512r1": 256,
}


def test_strength_of_each_curve_is_half_of_its_bits() -> None:
    assert {curve: algorithms.strength(replace(CV25519, curve=curve)) for curve in STRENGTHS} == STRENGTHS
    found = {number: algorithms.strength(replace(KEY, algorithm=number)) for number in (25, 26, 35, 36)}
    assert found == {25: 128, 26: 224, 35: 192, 36: 256}


@pytest.mark.parametrize("curve", CURVES)
def test_point_on_each_curve_that_is_known_is_good(curve: str) -> None:
    public = ec.generate_private_key(CURVES[curve]()).public_key()
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    key = replace(CV25519, curve=curve, point=point)
    assert code(key) == ""
    compressed = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    assert code(replace(key, point=compressed)) == "malformed"
    assert code(replace(key, point=point[:-1] + bytes((point[-1] ^ 1,)))) == "malformed"
    assert code(replace(key, curve="secp256k1")) == "unsupported_algorithm"


@pytest.mark.parametrize(
    ("bits", "strength"),
    [(0, 0), (1024, 56), (2048, 112), (2049, 112), (2560, 120), (3072, 128), (4096, 142), (7680, 192), (15360, 256)],
)
def test_strength_of_rsa_is_that_of_the_table_and_between_its_lines(bits: int, strength: int) -> None:
    assert algorithms.rsa_strength(bits) == strength
    for number in (1, 2):
        assert algorithms.strength(replace(KEY, algorithm=number, numbers=(1 << bits >> 1, 3))) == strength


def test_rsa_beyond_the_table_is_as_strong_as_its_last_line() -> None:
    assert algorithms.rsa_strength(16384) == 256


def test_keys_that_common_programs_know_are_these_and_no_others() -> None:
    assert [n for n in range(50) if algorithms.is_common(replace(KEY, algorithm=n))] == [1, 2]
    common = [curve for curve in STRENGTHS if algorithms.is_common(replace(CV25519, curve=curve))]
    assert common == ["cv25519", "nistp256", "nistp384", "nistp521"]
    assert not algorithms.is_common(replace(CV25519, version=6))
    assert not algorithms.is_common(replace(KEY, version=6, algorithm=1))
