"""Which OpenPGP public-key algorithms are good enough, and how strong they are (RFC 9580 section 9.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import x448, x25519

from smilla.formats import openpgp_keys as pgp
from smilla.keys.validity.pgp_signatures import CURVES, elliptic_point
from smilla.model import Reason

if TYPE_CHECKING:
    from smilla.formats.openpgp_keys import Key

_LEAST_BITS = 2048  # RFC 9580 section 12.4
_MOST_BITS = 16384  # the most that OpenSSL can compute with
_STRENGTHS = {
    "cv25519": 128,
    "nistp256": 128,
    "nistp384": 192,
    "nistp521": 256,
    "brainpoolP256r1": 128,
    "brainpoolP384r1": 192,
    "brainpoolP512r1": 256,
}
_RSA_STRENGTHS = ((2048, 112), (3072, 128), (7680, 192), (15360, 256))  # NIST SP 800-57 part 1, table 2
_SIGNING_ONLY = (pgp.RSA_SIGN, pgp.DSA, pgp.ECDSA, pgp.EDDSA, pgp.ED25519, pgp.ED448, 30, 31, 32, 33, 34)
_SIGNERS = (pgp.RSA, pgp.RSA_SIGN, pgp.DSA, pgp.ECDSA, pgp.EDDSA, pgp.ED25519, pgp.ED448, 30, 31)
_ELGAMAL = (pgp.ELGAMAL, 20)
_ENCRYPTING_ONLY = (
    pgp.RSA_ENCRYPT,
    pgp.ELGAMAL,
    pgp.ECDH,
    pgp.X25519,
    pgp.X448,
    pgp.MLKEM768_X25519,
    pgp.MLKEM1024_X448,
)
_COMMON_CURVES = ("cv25519", "nistp256", "nistp384", "nistp521")


def can_encrypt(key: Key) -> bool:
    """Whether the algorithm can encrypt; an unknown one may."""
    return key.algorithm not in _SIGNING_ONLY


def can_sign(key: Key) -> bool:
    """Whether the algorithm can sign; an unknown one may."""
    return key.algorithm not in _ENCRYPTING_ONLY


def is_common(key: Key) -> bool:
    """Whether common programs open what is encrypted to it: gpg and RNP know neither version 6 nor the algorithms of
    RFC 9580 and later, and some builds of Sequoia lack Brainpool."""
    return key.version == 4 and (key.algorithm in (pgp.RSA, pgp.RSA_ENCRYPT) or key.curve in _COMMON_CURVES)


def primary_fault(key: Key) -> Reason | None:
    """What is wrong with a primary key's algorithm; without a good one, nothing that the key says can be trusted."""
    known_curve = key.algorithm != pgp.ECDSA or key.curve in CURVES
    if key.algorithm not in _SIGNERS or not known_curve:
        return Reason("unsupported_algorithm", f"the key's algorithm ({key.algorithm_name}) is not known here")
    if key.numbers and key.numbers[0].bit_length() < _LEAST_BITS:
        return Reason("weak_key", f"the key is {key.algorithm_name}; under {_LEAST_BITS} bits are too few")
    return None


def encryption_fault(key: Key, what: str) -> Reason | None:
    """What is wrong with encrypting to the key, whatever its signatures say."""
    if key.algorithm in _ELGAMAL:
        return Reason("weak_algorithm", f"{what} is ElGamal, which RFC 9580 section 12.6 forbids")
    if key.algorithm in (pgp.RSA, pgp.RSA_ENCRYPT):
        return _rsa_fault(key, what)
    if key.algorithm == pgp.ECDH:
        return _ecdh_fault(key, what)
    if key.algorithm in (pgp.X25519, pgp.X448):
        return None if _is_montgomery(key.point) else Reason("malformed", f"{what} is not a point on its curve")
    if key.algorithm in (pgp.MLKEM768_X25519, pgp.MLKEM1024_X448) and key.version == 6:
        return None if _is_kem_key(key) else Reason("malformed", f"{what} is not a valid {key.algorithm_name} key")
    return Reason("unsupported_algorithm", f"{what} is {key.algorithm_name}, which is not known here")


def _rsa_fault(key: Key, what: str) -> Reason | None:
    n, e = key.numbers
    if n.bit_length() < _LEAST_BITS:
        return Reason("weak_key", f"{what} is {key.algorithm_name}; under {_LEAST_BITS} bits are too few")
    if n.bit_length() > _MOST_BITS or e.bit_length() > 64 or e < 3 or not n & e & 1:
        return Reason("malformed", f"{what} is not a usable RSA key")
    return None


def _ecdh_fault(key: Key, what: str) -> Reason | None:
    """Curve, point and key derivation (RFC 9580 section 11.5); version 6 has X25519 in place of cv25519."""
    if key.curve not in _STRENGTHS or (key.version == 6 and key.curve == "cv25519"):
        return Reason("unsupported_algorithm", f"{what} is {key.algorithm_name}, which is not known here")
    if key.kdf[0] not in (8, 9, 10) or key.kdf[1] not in (7, 8, 9):
        return Reason("unsupported_algorithm", f"{what} derives its keys in a way that is not known here")
    return None if _is_point(key) else Reason("malformed", f"{what} is not a point on its curve")


def _is_point(key: Key) -> bool:
    if key.curve == "cv25519":
        return len(key.point) == 33 and key.point[0] == 0x40 and _is_montgomery(key.point[1:])
    try:
        elliptic_point(key)
    except ValueError:
        return False
    return True


def _is_montgomery(point: bytes) -> bool:
    """A point of X25519 (32 octets) or X448, and not of small order: anybody who sees a message to such a point can
    read it, and cryptography notices only during the computation."""
    try:
        if len(point) == 32:
            x25519.X25519PrivateKey.generate().exchange(x25519.X25519PublicKey.from_public_bytes(point))
        else:
            x448.X448PrivateKey.generate().exchange(x448.X448PublicKey.from_public_bytes(point))
    except ValueError:
        return False
    return True


def _is_kem_key(key: Key) -> bool:
    """A point on the curve, and numbers that ML-KEM allows (FIPS 203 section 7.2), as far as we can check."""
    size = 32 if key.algorithm == pgp.MLKEM768_X25519 else 56
    try:
        from cryptography.hazmat.primitives.asymmetric import mlkem  # noqa: PLC0415 - younger releases have it
    except ImportError:
        return _is_montgomery(key.point[:size])
    kind = mlkem.MLKEM768PublicKey if size == 32 else mlkem.MLKEM1024PublicKey
    try:
        kind.from_public_bytes(key.point[size:])
    except (ValueError, UnsupportedAlgorithm):
        return False
    return _is_montgomery(key.point[:size])


def strength(key: Key) -> int:
    """Bits of security, comparable across algorithms, including S/MIME's."""
    if key.algorithm in (pgp.X448, pgp.MLKEM768_X25519, pgp.MLKEM1024_X448):
        return {pgp.X448: 224, pgp.MLKEM768_X25519: 192}.get(key.algorithm, 256)
    if key.algorithm in (pgp.RSA, pgp.RSA_ENCRYPT):
        return rsa_strength(key.numbers[0].bit_length())
    return _STRENGTHS.get(key.curve, 128)


def rsa_strength(bits: int) -> int:
    """Between the lines of the table we interpolate: RSA 4096 counts as 142."""
    low_bits, low = 0, 0
    for high_bits, high in _RSA_STRENGTHS:
        if bits <= high_bits:
            return low + (high - low) * (bits - low_bits) // (high_bits - low_bits)
        low_bits, low = high_bits, high
    return low
