"""RecipientInfos of CMS (RFC 5652 section 6.2): the content-encryption key for each recipient, as the key requires.

    RSA                  KeyTransRecipientInfo, PKCS #1 v1.5 or OAEP (RFC 4055)
    EC                   KeyAgreeRecipientInfo, ephemeral-static ECDH, X9.63 KDF (RFC 5753)
    X25519, X448         KeyAgreeRecipientInfo, HKDF (RFC 8418)
    ML-KEM-768, -1024    KEMRecipientInfo within OtherRecipientInfo (RFC 9629, RFC 9936)

We name a recipient by issuerAndSerialNumber, which every reader accepts, and use no user keying material, which gpgsm
cannot read.  Each failure is an EncryptionError.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, singledispatch
from typing import TYPE_CHECKING, Protocol

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x448, x25519
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from smilla.errors import EncryptionError
from smilla.formats import der, oaep
from smilla.model import X509Key
from smilla.remembered import when_short
from smilla.value import value

try:
    from cryptography.hazmat.primitives.asymmetric import mlkem
except ImportError:  # this release predates the algorithm; no such key passes the gate either
    mlkem = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smilla.model import OAEP, Style


@dataclass(frozen=True, slots=True)
class Wrap:
    """AES key wrap (RFC 3565 section 2.3.2): its AlgorithmIdentifier, without parameters, and the length of its key."""

    algorithm: bytes
    octets: int


AES128_WRAP = Wrap(der.sequence(der.oid("2.16.840.1.101.3.4.1.5")), 16)
AES256_WRAP = Wrap(der.sequence(der.oid("2.16.840.1.101.3.4.1.45")), 32)

_VERSIONS = {0x30: 0, 0xA1: 2, 0xA4: 3}  # version of EnvelopedData by the tag of a RecipientInfo


@value
class _Task:
    """The values shared by all recipients of a message; ``wrap`` is as strong as the content cipher."""

    cek: bytes
    wrap: Wrap
    style: Style


def recipient_infos(keys: Sequence[X509Key], cek: bytes, wrap: Wrap, style: Style) -> tuple[int, bytes]:
    """The version of EnvelopedData (RFC 5652 section 6.1) and the RecipientInfos in DER, one for each distinct
    certificate.  Raises EncryptionError."""
    if not keys:
        raise EncryptionError("no key to encrypt to")
    if style.rsa_padding not in PADDINGS or style.ecdh_kdf not in KDFS:
        raise EncryptionError(f"no such padding or KDF: {style.rsa_padding!r}, {style.ecdh_kdf!r}")
    task, infos = _Task(cek, wrap, style), {}
    for key in keys:
        if not isinstance(key, X509Key):
            raise EncryptionError(f"a {type(key).__name__} is not a certificate that passed the gate")
        try:
            infos[key.fingerprint] = _recipient_info(key.public_key, key, task)
        except (ValueError, TypeError, OverflowError, UnsupportedAlgorithm, InternalError) as error:
            raise EncryptionError(f"cannot encrypt to the certificate {key.fingerprint}: {error}") from error
    return max(_VERSIONS[info[0]] for info in infos.values()), der.set_of(*infos.values())


@singledispatch
def _recipient_info(public_key: object, key: X509Key, _: _Task) -> bytes:
    """One RecipientInfo, by the type of the public key."""
    raise EncryptionError(f"cannot encrypt to the certificate {key.fingerprint}: a {type(public_key).__name__}")


# --- key transport -----------------------------------------------------------------------------------------


_RSA_PKCS1 = der.sequence(der.oid("1.2.840.113549.1.1.1"), der.null())
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303  # OAEP needs no collision resistance
    "sha224": hashes.SHA224(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
PADDINGS: dict[str, OAEP | None] = {"pkcs1": None, "oaep-sha256": oaep.SHA256}
_PKCS1 = padding.PKCS1v15()
_USUAL_NAME = 1024  # octets; a stranger's issuer or OAEP label may have 60 KB: not worth remembering


@_recipient_info.register(rsa.RSAPublicKey)
def _key_transport(public_key: rsa.RSAPublicKey, key: X509Key, task: _Task) -> bytes:
    """KeyTransRecipientInfo (RFC 5652 section 6.2.1).  A certificate for OAEP only states its parameters (RFC 4055
    section 4), which override the style."""
    chosen = key.oaep or PADDINGS[task.style.rsa_padding]
    encrypted = public_key.encrypt(task.cek, _scheme(chosen) if chosen else _PKCS1)
    algorithm = chosen.raw_algorithm if chosen else _RSA_PKCS1
    return _transport_head(key.raw_issuer_and_serial + algorithm, len(encrypted)) + encrypted


@lru_cache(maxsize=64)
def _scheme(chosen: OAEP) -> padding.OAEP:
    mask = padding.MGF1(_HASHES[chosen.mask_digest])
    return padding.OAEP(mask, _HASHES[chosen.digest], chosen.label or None)


@when_short(_USUAL_NAME, entries=2048)
def _transport_head(name_and_algorithm: bytes, octets: int) -> bytes:
    """Everything before the encrypted key, the same in every message; version 0 goes with issuerAndSerialNumber."""
    head = der.integer(0) + name_and_algorithm + der.header(der.OCTET_STRING, octets)
    return der.header(der.SEQUENCE, len(head) + octets) + head


# --- key agreement -----------------------------------------------------------------------------------------


_EC_PUBLIC_KEY = der.sequence(der.oid("1.2.840.10045.2.1"))  # the curve is the recipient's (RFC 5753 section 3.1.1)
_X25519 = der.sequence(der.oid("1.3.101.110"))
_X448 = der.sequence(der.oid("1.3.101.111"))
# dhSinglePass-stdDH-…-scheme: sha1kdf and sha256kdf (RFC 5753 section 7.1.4), hkdf-sha256 and -sha512 (RFC 8418).
# Clients expect SHA-1 as the KDF; its collisions do not weaken a KDF.
KDFS = {
    "sha1": (der.oid("1.3.133.16.840.63.0.2"), _HASHES["sha1"]),
    "sha256": (der.oid("1.3.132.1.11.1"), _HASHES["sha256"]),
}
_HKDF_SHA256 = der.oid("1.2.840.113549.1.9.16.3.19")
_HKDF_SHA512 = der.oid("1.2.840.113549.1.9.16.3.21")


@_recipient_info.register(ec.EllipticCurvePublicKey)
def _ecdh(public_key: ec.EllipticCurvePublicKey, key: X509Key, task: _Task) -> bytes:
    """Ephemeral-static ECDH (RFC 5753 section 3.1)."""
    scheme, digest = KDFS[task.style.ecdh_kdf]
    ephemeral = ec.generate_private_key(public_key.curve)
    kdf = X963KDF(digest, task.wrap.octets, _shared_info(task.wrap))
    kek = kdf.derive(ephemeral.exchange(ec.ECDH(), public_key))
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return _agreement(key, task, der.sequence(scheme, task.wrap.algorithm), kek, _originator(_EC_PUBLIC_KEY, point))


@_recipient_info.register(x25519.X25519PublicKey)
def _ecdh_25519(public_key: x25519.X25519PublicKey, key: X509Key, task: _Task) -> bytes:
    """RFC 8551 section 2.3 asks for HKDF with SHA-256."""
    ephemeral = x25519.X25519PrivateKey.generate()
    kek = _hkdf(hashes.SHA256(), task.wrap, ephemeral.exchange(public_key), _shared_info(task.wrap))
    algorithm = der.sequence(_HKDF_SHA256, task.wrap.algorithm)
    return _agreement(key, task, algorithm, kek, _originator(_X25519, ephemeral.public_key().public_bytes_raw()))


@_recipient_info.register(x448.X448PublicKey)
def _ecdh_448(public_key: x448.X448PublicKey, key: X509Key, task: _Task) -> bytes:
    """The KDF is as strong as the curve (RFC 8418 section 5)."""
    ephemeral = x448.X448PrivateKey.generate()
    kek = _hkdf(hashes.SHA512(), task.wrap, ephemeral.exchange(public_key), _shared_info(task.wrap))
    algorithm = der.sequence(_HKDF_SHA512, task.wrap.algorithm)
    return _agreement(key, task, algorithm, kek, _originator(_X448, ephemeral.public_key().public_bytes_raw()))


def _originator(algorithm: bytes, point: bytes) -> bytes:
    """OriginatorIdentifierOrKey, explicitly tagged: our ephemeral key (RFC 5652 section 6.2.2)."""
    return der.context(0, der.context(1, algorithm, der.bit_string(point)))


def _agreement(key: X509Key, task: _Task, algorithm: bytes, kek: bytes, originator: bytes) -> bytes:
    """KeyAgreeRecipientInfo (RFC 5652 section 6.2.2)."""
    encrypted_key = der.octet_string(aes_key_wrap(kek, task.cek))
    recipient = der.sequence(key.raw_issuer_and_serial, encrypted_key)
    return der.context(1, der.integer(3), originator, algorithm, der.sequence(recipient))


@lru_cache(maxsize=4)
def _shared_info(wrap: Wrap) -> bytes:
    """ECC-CMS-SharedInfo (RFC 5753 section 7.2)."""
    bits = (wrap.octets * 8).to_bytes(4, "big")
    return der.sequence(wrap.algorithm, der.context(2, der.octet_string(bits)))


def _hkdf(digest: hashes.HashAlgorithm, wrap: Wrap, secret: bytes, info: bytes) -> bytes:
    """Without user keying material there is no salt (RFC 8418 section 2.2, RFC 9936 section 2.2.1)."""
    return HKDF(digest, wrap.octets, None, info).derive(secret)


# --- key encapsulation -------------------------------------------------------------------------------------


_ORI_KEM = der.oid("1.2.840.113549.1.9.16.13.3")
_KEM_KDF = der.sequence(der.oid("1.2.840.113549.1.9.16.3.28"))  # HKDF with SHA-256 (RFC 8619)


class _Encapsulating(Protocol):
    """A public key of ML-KEM."""

    def encapsulate(self) -> tuple[bytes, bytes]:
        """A shared secret, and the ciphertext that conveys it to the holder of the private key."""


def _ml_kem(number: int, wrap: Wrap) -> Callable[[_Encapsulating, X509Key, _Task], bytes]:
    """The writer for one parameter set, given its number below the arc of the KEMs."""
    algorithm = der.sequence(der.oid(f"2.16.840.1.101.3.4.4.{number}"))
    other_info = der.sequence(wrap.algorithm, der.integer(wrap.octets))  # CMSORIforKEMOtherInfo (RFC 9629 section 5)

    def encapsulate(public_key: _Encapsulating, key: X509Key, task: _Task) -> bytes:
        """KEMRecipientInfo (RFC 9629 section 3)."""
        secret, ciphertext = public_key.encapsulate()
        kek = _hkdf(hashes.SHA256(), wrap, secret, other_info)
        info = der.sequence(
            der.integer(0),
            key.raw_issuer_and_serial,
            algorithm,
            der.octet_string(ciphertext),
            _KEM_KDF,
            der.integer(wrap.octets),
            wrap.algorithm,
            der.octet_string(aes_key_wrap(kek, task.cek)),
        )
        return der.context(4, _ORI_KEM, info)

    return encapsulate


if mlkem is not None:
    # Every implementation has this wrap (RFC 9936 section 2.1); we use it for 128-bit content keys too.
    _recipient_info.register(mlkem.MLKEM768PublicKey, _ml_kem(2, AES256_WRAP))
    _recipient_info.register(mlkem.MLKEM1024PublicKey, _ml_kem(3, AES256_WRAP))
