"""Verifies what a key says about itself (RFC 9580 sections 5.2.3.10 and 5.2.4), with ``cryptography`` alone.

Promises: never raises; a signature that cannot be verified has its own verdict.  Each verification takes bounded time:
numbers larger than anybody uses are refused before they reach OpenSSL.
"""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from smilla.errors import ParseError
from smilla.formats import openpgp_keys as pgp

if TYPE_CHECKING:
    from smilla.formats.openpgp_keys import Key, Signature


class Verdict(Enum):
    """What a signature is worth.

    WEAK is right, but over MD5, SHA-1 or RIPEMD-160, where other content can be made with the same digest.
    UNVERIFIABLE has an algorithm, hash, version, key size or critical subpacket that is not known here.
    """

    VALID = "valid"
    WEAK = "weak"
    BAD = "bad"
    UNVERIFIABLE = "unverifiable"


_HASHES: dict[int, tuple[str, hashes.HashAlgorithm, int]] = {
    1: ("md5", hashes.MD5(), 0),  # noqa: S303 - to say of a signature that it is weak
    2: ("sha1", hashes.SHA1(), 0),  # noqa: S303
    8: ("sha256", hashes.SHA256(), 16),
    9: ("sha384", hashes.SHA384(), 24),
    10: ("sha512", hashes.SHA512(), 32),
    11: ("sha224", hashes.SHA224(), 16),
    12: ("sha3_256", hashes.SHA3_256(), 16),
    14: ("sha3_512", hashes.SHA3_512(), 32),
}  # RFC 9580 section 9.5, with the size of a version 6 salt; RIPEMD-160 (3) is missing where OpenSSL lacks it
_WEAK_HASHES = (1, 2, 3)
# Subpackets that this gate acts on or can safely ignore.  A notation is not among them: a critical one
# restricts the signature in a way that only its inventor knows (RFC 9580 section 5.2.3.24).
_UNDERSTOOD = frozenset(
    (2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 16, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 37, 39)
)
CURVES: dict[str, type[ec.EllipticCurve]] = {
    "nistp256": ec.SECP256R1,
    "nistp384": ec.SECP384R1,
    "nistp521": ec.SECP521R1,
    "brainpoolP256r1": ec.BrainpoolP256R1,
    "brainpoolP384r1": ec.BrainpoolP384R1,
    "brainpoolP512r1": ec.BrainpoolP512R1,
}
# Verifying costs the square of the first times the length of the second: 10 ms at 16384 and 64 bits, against 1 ms.
_MAX_RSA_BITS = 8192
_MAX_EXPONENT_BITS = 32


def verify(signature: Signature, signer: Key, octets: bytes) -> Verdict:
    """Whether ``signer`` made ``signature`` over ``octets`` (keys and user IDs framed as in section 5.2.4)."""
    known = _HASHES.get(signature.hash)
    if known is None or signature.version not in (4, 6) or not _understood(signature):
        return Verdict.UNVERIFIABLE
    name, algorithm, salt_size = known
    if signature.version != signer.version or signature.algorithm != signer.algorithm:
        return Verdict.BAD
    if signature.version == 6 and len(signature.salt) != salt_size:
        return Verdict.BAD
    digest = hashlib.new(name, signature.salt + octets + _trailer(signature), usedforsecurity=False).digest()
    if digest[:2] != signature.digest_start:
        return Verdict.BAD
    verdict = _verify_digest(signature, signer, digest, algorithm)
    return Verdict.WEAK if verdict is Verdict.VALID and signature.hash in _WEAK_HASHES else verdict


def _understood(signature: Signature) -> bool:
    return all(s.type in _UNDERSTOOD for s in signature.hashed if s.critical)


def _trailer(signature: Signature) -> bytes:
    length = len(signature.raw_hashed).to_bytes(4, "big")
    return signature.raw_hashed + bytes([signature.version, 0xFF]) + length


def _verify_digest(signature: Signature, signer: Key, digest: bytes, algorithm: hashes.HashAlgorithm) -> Verdict:
    try:
        return _by_algorithm(signature, signer, digest, algorithm)
    except (InvalidSignature, ParseError, ValueError, OverflowError):
        return Verdict.BAD
    except (UnsupportedAlgorithm, NotImplementedError):
        return Verdict.UNVERIFIABLE


def _by_algorithm(signature: Signature, signer: Key, digest: bytes, algorithm: hashes.HashAlgorithm) -> Verdict:
    """Returns VALID, or raises like ``cryptography``."""
    kind, fields = signer.algorithm, signature.fields
    if kind in (pgp.RSA, pgp.RSA_SIGN):
        _verify_rsa(signer, fields, digest, algorithm)
    elif kind == pgp.DSA:
        public = dsa.DSAPublicNumbers(signer.numbers[3], dsa.DSAParameterNumbers(*signer.numbers[:3])).public_key()
        public.verify(encode_dss_signature(*pgp.parse_numbers(fields, 2)), digest, Prehashed(algorithm))
    elif kind == pgp.ECDSA and signer.curve in CURVES:
        signed = encode_dss_signature(*pgp.parse_numbers(fields, 2))
        elliptic_point(signer).verify(signed, digest, ec.ECDSA(Prehashed(algorithm)))
    elif kind == pgp.EDDSA and signer.curve == "ed25519":
        halves = b"".join(number.to_bytes(32, "big") for number in pgp.parse_numbers(fields, 2))
        ed25519.Ed25519PublicKey.from_public_bytes(_prefixed(signer.point)).verify(halves, digest)
    elif kind == pgp.ED25519:
        ed25519.Ed25519PublicKey.from_public_bytes(signer.point).verify(fields, digest)
    elif kind == pgp.ED448:
        ed448.Ed448PublicKey.from_public_bytes(signer.point).verify(fields, digest)
    elif kind in (pgp.MLDSA65_ED25519, pgp.MLDSA87_ED448) and signer.version == 6:
        _verify_composite(signer, fields, digest)
    else:
        raise NotImplementedError
    return Verdict.VALID


def _verify_rsa(signer: Key, fields: bytes, digest: bytes, algorithm: hashes.HashAlgorithm) -> None:
    n, e = signer.numbers
    if n.bit_length() > _MAX_RSA_BITS or e.bit_length() > _MAX_EXPONENT_BITS:
        raise UnsupportedAlgorithm("an RSA key of an unheard-of size")
    (number,) = pgp.parse_numbers(fields, 1)
    signed = number.to_bytes((n.bit_length() + 7) // 8, "big")
    rsa.RSAPublicNumbers(e, n).public_key().verify(signed, digest, padding.PKCS1v15(), Prehashed(algorithm))


def _verify_composite(signer: Key, fields: bytes, digest: bytes) -> None:
    """A signature by ML-DSA and one by EdDSA; both must be right (draft-ietf-openpgp-pqc section 5)."""
    try:
        from cryptography.hazmat.primitives.asymmetric import mldsa  # noqa: PLC0415 - younger releases have it
    except ImportError as error:
        raise UnsupportedAlgorithm("this release of cryptography has no ML-DSA") from error
    point = signer.point
    if signer.algorithm == pgp.MLDSA65_ED25519:
        ed25519.Ed25519PublicKey.from_public_bytes(point[:32]).verify(fields[:64], digest)
        mldsa.MLDSA65PublicKey.from_public_bytes(point[32:]).verify(fields[64:], digest)
    else:
        ed448.Ed448PublicKey.from_public_bytes(point[:57]).verify(fields[:114], digest)
        mldsa.MLDSA87PublicKey.from_public_bytes(point[57:]).verify(fields[114:], digest)


def _prefixed(point: bytes) -> bytes:
    """A native point, prefixed with the octet 0x40 (RFC 9580 section 11.2.2)."""
    if len(point) != 33 or point[0] != 0x40:
        raise ValueError("a point that is not on this curve")
    return point[1:]


def elliptic_point(key: Key) -> ec.EllipticCurvePublicKey:
    """The key's point, which must lie on its curve.  Raises ValueError."""
    if key.curve not in CURVES or key.point[:1] != b"\x04":
        raise ValueError("a point that is not on this curve")
    return ec.EllipticCurvePublicKey.from_encoded_point(CURVES[key.curve](), key.point)
