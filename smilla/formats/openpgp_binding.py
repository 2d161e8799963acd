"""A certificate made for the engines: the recipient's encryption key under a primary key of ours.

The gate has judged the recipient's certificate; the engine should encrypt to the one key that passed and not judge for
itself.  Given the original, each engine does.  Sequoia writes SEIPDv2, which no gpg and no rnp reads, to version 4 keys
that announce it, and has no option against it.  gpg 2.4 writes its own OCB packets, which are in no RFC and which
Sequoia and PGPainless cannot read, to those that announce them.  gpg refuses keys without a user ID or with signatures
by unknown hashes.  Both check the dates again.  So we bind the key, octet for octet (its fingerprint and key ID depend
only on its own packet, RFC 9580 section 5.5.4), by a signature that announces only SEIPDv1 and AES, or SEIPDv2 too if
requested.

The signing key is no secret and proves nothing: it is the same in every smilla, and its certificates are never sent.
"""

from __future__ import annotations

import hashlib
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from smilla.formats.openpgp import PUBLIC_KEY, PUBLIC_SUBKEY, SIGNATURE, USER_ID
from smilla.formats.openpgp_keys import EDDSA, Key

_ED25519_OID = bytes.fromhex("2b06010401da470f01")
_USER_ID = b"smilla"
_SHA256 = 8
_CERTIFICATION, _SUBKEY_BINDING = 0x13, 0x18
_MAY_CERTIFY, _MAY_ENCRYPT = b"\x01", b"\x0c"
_AES_256_192_128, _UNCOMPRESSED, _SEIPD_V1, _SEIPD_V1_AND_V2 = b"\x09\x08\x07", b"\x00", b"\x01", b"\x09"
_CREATED, _FLAGS, _CIPHERS, _COMPRESSION, _FEATURES, _ISSUER, _ISSUER_FINGERPRINT = 2, 27, 11, 22, 30, 16, 33


@cache
def _signer() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"smilla: binds keys for its own engines").digest())


def bound_certificate(key: Key, *, seipd2: bool = False) -> bytes:
    """A version 4 certificate whose one encryption subkey is ``key`` (version 4, primary key or subkey).  It announces
    SEIPDv2 if requested."""
    features = _SEIPD_V1_AND_V2 if seipd2 else _SEIPD_V1
    created = key.created.to_bytes(4)
    point = b"\x40" + _signer().public_key().public_bytes_raw()
    primary = b"\x04" + created + bytes([EDDSA, len(_ED25519_OID)]) + _ED25519_OID + _mpi(point)
    preferences = _sub(_CIPHERS, _AES_256_192_128) + _sub(_COMPRESSION, _UNCOMPRESSED) + _sub(_FEATURES, features)
    user_id = b"\xb4" + len(_USER_ID).to_bytes(4) + _USER_ID
    certification = _signature(_CERTIFICATION, primary, user_id, created, _sub(_FLAGS, _MAY_CERTIFY) + preferences)
    subkey = key.packet.body
    binding = _signature(_SUBKEY_BINDING, primary, _hashed_key(subkey), created, _sub(_FLAGS, _MAY_ENCRYPT))
    parts = ((PUBLIC_KEY, primary), (USER_ID, _USER_ID), (SIGNATURE, certification))
    return b"".join(_packet(tag, body) for tag, body in (*parts, (PUBLIC_SUBKEY, subkey), (SIGNATURE, binding)))


def _signature(kind: int, primary: bytes, about: bytes, created: bytes, subpackets: bytes) -> bytes:
    """A version 4 signature packet's body (RFC 9580 sections 5.2.3 and 5.2.4), EdDSA with SHA-256."""
    fingerprint = hashlib.sha1(_hashed_key(primary), usedforsecurity=False).digest()
    hashed = _sub(_CREATED, created) + subpackets + _sub(_ISSUER_FINGERPRINT, b"\x04" + fingerprint)
    unhashed = _sub(_ISSUER, fingerprint[-8:])
    head = bytes([4, kind, EDDSA, _SHA256]) + len(hashed).to_bytes(2) + hashed
    trailer = b"\x04\xff" + len(head).to_bytes(4)
    digest = hashlib.sha256(_hashed_key(primary) + about + head + trailer).digest()
    signed = _signer().sign(digest)
    return head + len(unhashed).to_bytes(2) + unhashed + digest[:2] + _mpi(signed[:32]) + _mpi(signed[32:])


def _hashed_key(body: bytes) -> bytes:
    return b"\x99" + len(body).to_bytes(2) + body


def _sub(kind: int, body: bytes) -> bytes:
    return bytes([len(body) + 1, kind]) + body


def _mpi(octets: bytes) -> bytes:
    number = int.from_bytes(octets)
    return number.bit_length().to_bytes(2) + number.to_bytes((number.bit_length() + 7) // 8)


def _packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4) + body
