"""The content-encryption key out of the RecipientInfos of CMS (RFC 5652 section 6.2), for one private key.

    RSA                  KeyTransRecipientInfo, PKCS #1 v1.5 or OAEP (RFC 4055)
    EC                   KeyAgreeRecipientInfo, ephemeral-static ECDH, X9.63 KDF (RFC 5753)
    X25519, X448         KeyAgreeRecipientInfo, HKDF (RFC 8418)
    ML-KEM-768, -1024    KEMRecipientInfo within OtherRecipientInfo (RFC 9629, RFC 9936)

Nobody may learn from us whether an encrypted key had the right padding (RFC 3218).  So what is wrong with a key shows
nowhere here: instead of it there is a random one, which opens nothing.  OpenSSL does the same from version 3.2 on
(implicit rejection); older ones raise, and then we do it.
"""

from __future__ import annotations

import hashlib
import os
from hmac import compare_digest
from typing import TYPE_CHECKING

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x448, x25519
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from smilla.errors import ParseError
from smilla.formats import der, oaep
from smilla.value import value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from smilla.decrypt.held_key import HeldKey

_TRANSPORT, _AGREEMENT, _OTHER = der.SEQUENCE, 0xA1, 0xA4
_ORI_KEM = "1.2.840.113549.1.9.16.13.3"
_RSA = "1.2.840.113549.1.1.1"
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303  # neither OAEP nor a KDF needs collision resistance
    "sha224": hashes.SHA224(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
# dhSinglePass-stdDH and -cofactorDH (RFC 5753 section 7.1.4); both are the same on curves whose cofactor is 1.
_X963 = {
    "1.3.133.16.840.63.0.2": "sha1",
    "1.3.133.16.840.63.0.3": "sha1",
    **{f"1.3.132.1.{arc}.{n}": name for arc in (11, 14) for n, name in enumerate(("sha224", *list(_HASHES)[2:]))},
}
_HKDF = {
    "1.2.840.113549.1.9.16.3.19": "sha256",
    "1.2.840.113549.1.9.16.3.20": "sha384",
    "1.2.840.113549.1.9.16.3.21": "sha512",
    "1.2.840.113549.1.9.16.3.28": "sha256",  # of a KEMRecipientInfo (RFC 8619)
    "1.2.840.113549.1.9.16.3.29": "sha384",
    "1.2.840.113549.1.9.16.3.30": "sha512",
}
_TRIPLE_DES_WRAP = "1.2.840.113549.1.9.16.3.6"  # what OpenSSL writes for EC unless it is told another cipher
_AES = "2.16.840.1.101.3.4.1"
_WRAPS = {_TRIPLE_DES_WRAP: 24, f"{_AES}.5": 16, f"{_AES}.25": 24, f"{_AES}.45": 32}


@value
class Mine:
    """A RecipientInfo that names one of our certificates; ``raw_encrypted_key`` is the part for it."""

    info: tuple[der.TLV, ...]
    kind: int
    raw_encrypted_key: bytes


def mine(infos: der.TLV, key: HeldKey) -> Iterator[Mine]:
    """The RecipientInfos in the SET ``infos`` that name a certificate of this key.  Raises ParseError."""
    for info in infos.children():
        fields = tuple(info.children())
        if info.tag == _TRANSPORT and len(fields) == 4 and _names(fields[1], key):
            yield Mine(fields, info.tag, fields[3].content)
        elif info.tag == _AGREEMENT and len(fields) in (4, 5):
            for each in fields[-1].children():
                rid, encrypted = each.children()
                if _names(rid, key):
                    yield Mine(fields, info.tag, encrypted.content)
        elif info.tag == _OTHER and len(fields) == 2 and der.dotted(fields[0].content) == _ORI_KEM:
            kem = tuple(fields[1].children())
            if len(kem) in (8, 9) and _names(kem[1], key):
                yield Mine(kem, info.tag, kem[-1].content)


def _names(rid: der.TLV, key: HeldKey) -> bool:
    """RecipientIdentifier and KeyAgreeRecipientIdentifier."""
    if rid.tag == der.SEQUENCE:
        return rid.whole in key.raw_names
    if rid.tag == 0x80:
        return rid.content in key.raw_identifiers
    first = next(rid.children(), None) if rid.tag == 0xA0 else None  # RecipientKeyIdentifier, or segments
    return first is not None and first.content in key.raw_identifiers


def content_key(found: Mine, key: HeldKey, octets: int) -> bytes:
    """The content-encryption key of this many octets; a random one if it cannot be had.  Raises nothing."""
    instead = os.urandom(octets)
    undo = {_TRANSPORT: _transported, _AGREEMENT: _agreed, _OTHER: _decapsulated}[found.kind]
    try:
        brought = undo(found, key.private)
    except (
        ValueError,
        TypeError,
        ParseError,
        InvalidUnwrap,
        UnsupportedAlgorithm,
        InternalError,
        KeyError,
        StopIteration,
    ):
        return instead
    return brought if len(brought) == octets else instead


# --- key transport -----------------------------------------------------------------------------------------


def _transported(found: Mine, private: PrivateKeyTypes) -> bytes:
    if not isinstance(private, rsa.RSAPrivateKey):
        raise ParseError("a key of another kind")
    algorithm = found.info[2]
    oid, *parameters = algorithm.children()
    if der.dotted(oid.content) == _RSA:
        return private.decrypt(found.raw_encrypted_key, padding.PKCS1v15())
    if not parameters:  # the defaults of RFC 4055 section 4.1; for a key without them, oaep.read chooses others
        algorithm = der.read(der.sequence(oid.whole, der.sequence()))
    chosen = oaep.read(algorithm)
    mask = padding.MGF1(_HASHES[chosen.mask_digest])
    return private.decrypt(found.raw_encrypted_key, padding.OAEP(mask, _HASHES[chosen.digest], chosen.label or None))


# --- key agreement -----------------------------------------------------------------------------------------


def _agreed(found: Mine, private: PrivateKeyTypes) -> bytes:
    """KeyAgreeRecipientInfo: version, [0] originator, [1] user keying material, algorithm, encrypted keys."""
    originator, algorithm = found.info[1], found.info[-2]
    raw_ukm = next(found.info[2].children()).content if len(found.info) == 5 else b""
    scheme, wrap = algorithm.children()
    public = next(originator.children())
    if public.tag != 0xA1:
        raise ParseError("the originator has no key in the message")
    raw_point = list(public.children())[1].content[1:]
    secret = _exchanged(private, raw_point)
    name, octets = der.dotted(scheme.content), _wrap_octets(wrap)
    entity = der.context(0, der.octet_string(raw_ukm)) if raw_ukm else b""
    bits = der.context(2, der.octet_string((octets * 8).to_bytes(4, "big")))
    info = der.sequence(wrap.whole, entity, bits)  # ECC-CMS-SharedInfo (RFC 5753 section 7.2)
    if name in _X963:
        kek = X963KDF(_HASHES[_X963[name]], octets, info).derive(secret)
    else:
        kek = HKDF(_HASHES[_HKDF[name]], octets, raw_ukm or None, info).derive(secret)
    return _unwrapped(wrap, kek, found.raw_encrypted_key)


def _exchanged(private: PrivateKeyTypes, raw_point: bytes) -> bytes:
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(private.curve, raw_point))
    if isinstance(private, x25519.X25519PrivateKey):
        return private.exchange(x25519.X25519PublicKey.from_public_bytes(raw_point))
    if isinstance(private, x448.X448PrivateKey):
        return private.exchange(x448.X448PublicKey.from_public_bytes(raw_point))
    raise ParseError("a key of another kind")


def _wrap_octets(wrap: der.TLV) -> int:
    octets = _WRAPS.get(der.dotted(next(wrap.children()).content))
    if octets is None:
        raise ParseError("an unknown key wrap")
    return octets


def _unwrapped(wrap: der.TLV, kek: bytes, wrapped: bytes) -> bytes:
    """AES key wrap (RFC 3394), or that of triple DES (RFC 3217 section 3.2)."""
    if der.dotted(next(wrap.children()).content) != _TRIPLE_DES_WRAP:
        return aes_key_unwrap(kek, wrapped)
    swapped = _triple_des(kek, bytes.fromhex("4adda22c79e82105"), wrapped)[::-1]
    key = _triple_des(kek, swapped[:8], swapped[8:])
    if len(key) != 32 or not compare_digest(key[24:], hashlib.sha1(key[:24], usedforsecurity=False).digest()[:8]):
        raise ParseError("the checksum of the key is wrong")
    return key[:24]


def _triple_des(key: bytes, iv: bytes, octets: bytes) -> bytes:
    decryptor = Cipher(TripleDES(key), modes.CBC(iv)).decryptor()
    return decryptor.update(octets) + decryptor.finalize()


# --- key encapsulation -------------------------------------------------------------------------------------


def _decapsulated(found: Mine, private: PrivateKeyTypes) -> bytes:
    """KEMRecipientInfo: version, name, kem, ciphertext, kdf, length, [0] user keying material, wrap, encrypted key."""
    decapsulate: Callable[[bytes], bytes] | None = getattr(private, "decapsulate", None)
    if decapsulate is None:
        raise ParseError("a key of another kind")
    kdf, length, wrap = found.info[4], found.info[5], found.info[-2]
    octets = _wrap_octets(wrap)
    ukm = found.info[6].whole if len(found.info) == 9 else b""
    info = der.sequence(wrap.whole, length.whole, ukm)  # CMSORIforKEMOtherInfo (RFC 9629 section 5)
    digest = _HASHES[_HKDF[der.dotted(next(kdf.children()).content)]]
    kek = HKDF(digest, octets, None, info).derive(decapsulate(found.info[3].content))
    return _unwrapped(wrap, kek, found.raw_encrypted_key)
