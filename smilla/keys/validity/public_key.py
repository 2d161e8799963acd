"""The public key of a certificate: what cryptography reads from its SubjectPublicKeyInfo, and what it leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from cryptography.hazmat.primitives.asymmetric import ec, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import load_der_public_key

from smilla.errors import ParseError
from smilla.formats import der, oaep
from smilla.formats.oaep import RSAES_OAEP
from smilla.model import Mechanism

try:
    from cryptography.hazmat.primitives.asymmetric import mlkem
except ImportError:  # this release predates the algorithm: such a key is not supported
    mlkem = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from cryptography import x509

    from smilla.model import OAEP
    from smilla.model.keys import EncryptionPublicKey

RSA = "1.2.840.113549.1.1.1"
SIGNATURE_ALGORITHMS = {
    "1.2.840.113549.1.1.10": "RSASSA-PSS",
    "1.2.840.10040.4.1": "DSA",
    "1.3.101.112": "Ed25519",
    "1.3.101.113": "Ed448",
}
_NAMES = {
    **SIGNATURE_ALGORITHMS,
    "1.3.101.110": "X25519",
    "1.3.101.111": "X448",
    "2.16.840.1.101.3.4.4.1": "ML-KEM-512",
    "2.16.840.1.101.3.4.4.2": "ML-KEM-768",
    "2.16.840.1.101.3.4.4.3": "ML-KEM-1024",
}
_CURVES = {
    "secp256r1": "EC P-256",
    "secp384r1": "EC P-384",
    "secp521r1": "EC P-521",
    "brainpoolP256r1": "EC brainpoolP256r1",
    "brainpoolP384r1": "EC brainpoolP384r1",
    "brainpoolP512r1": "EC brainpoolP512r1",
}
_COMMON_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_ENCAPSULATION_KEYS = () if mlkem is None else (mlkem.MLKEM768PublicKey, mlkem.MLKEM1024PublicKey)
_MECHANISMS: tuple[tuple[tuple[type, ...], Mechanism], ...] = (
    ((rsa.RSAPublicKey,), Mechanism.RSA),
    ((ec.EllipticCurvePublicKey,), Mechanism.ECDH),
    ((x25519.X25519PublicKey, x448.X448PublicKey), Mechanism.XDH),
    (_ENCAPSULATION_KEYS, Mechanism.KEM),
)


def is_for_encryption(key: object) -> TypeGuard[EncryptionPublicKey]:
    """Whether the encrypter accepts this kind of key."""
    return any(isinstance(key, kinds) for kinds, _ in _MECHANISMS)


def mechanism(key: EncryptionPublicKey) -> Mechanism:
    """How the content-encryption key reaches the holder of this key."""
    return next(found for kinds, found in _MECHANISMS if isinstance(key, kinds))


def is_common(key: object, demanded: OAEP | None) -> bool:
    """Whether common programs open what is encrypted to it: RSA that allows any padding, and the NIST curves."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name in _COMMON_CURVES
    return isinstance(key, rsa.RSAPublicKey) and demanded is None


def load(certificate: x509.Certificate, raw: bytes) -> tuple[object, OAEP | None]:
    """The key in a SubjectPublicKeyInfo (``raw``), and the only padding that it allows, if any.  Raises ParseError, and
    cryptography's own exceptions: for an unknown algorithm or curve, or a point that is not on its curve."""
    if certificate.public_key_algorithm_oid.dotted_string == RSAES_OAEP:
        return _load_oaep(raw)
    key = certificate.public_key()
    # A point of small order: anybody could read the message, and cryptography notices only here.
    if isinstance(key, x25519.X25519PublicKey):
        x25519.X25519PrivateKey.generate().exchange(key)
    if isinstance(key, x448.X448PublicKey):
        x448.X448PrivateKey.generate().exchange(key)
    return key, None


def _load_oaep(raw: bytes) -> tuple[object, OAEP]:
    """An RSA key for RSAES-OAEP only (RFC 4055 section 4); to cryptography it is an RSA key for any use."""
    parts = list(der.read(raw).children())
    if len(parts) != 2:
        raise ParseError("the SubjectPublicKeyInfo is malformed")
    demanded = oaep.read(parts[0])
    return load_der_public_key(der.sequence(der.sequence(der.oid(RSA), der.null()), parts[1].whole)), demanded


def name(key: object, oid: str, demanded: OAEP | None) -> str:
    """The algorithm's name for people; its object identifier if it has no name here."""
    if isinstance(key, rsa.RSAPublicKey) and demanded is not None:
        return f"RSA-{key.key_size} for OAEP with {demanded.digest} and MGF1 with {demanded.mask_digest}"
    if isinstance(key, rsa.RSAPublicKey) and oid == RSA:
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name, f"EC {key.curve.name}")
    return _NAMES.get(oid, oid)
