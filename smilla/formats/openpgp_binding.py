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
from smilla.formats.openpgp_keys import Key
from smilla.formats.openpgp_write import (
    CIPHERS,
    COMPRESSION,
    FEATURES,
    FLAGS,
    Signer,
    hashed_key,
    hashed_user_id,
    packet,
    subpacket,
)

_USER_ID = b"smilla"
_CERTIFICATION, _SUBKEY_BINDING = 0x13, 0x18
_MAY_CERTIFY, _MAY_ENCRYPT = b"\x01", b"\x0c"
_AES_256_192_128, _UNCOMPRESSED, _SEIPD_V1, _SEIPD_V1_AND_V2 = b"\x09\x08\x07", b"\x00", b"\x01", b"\x09"


@cache
def _private() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"smilla: binds keys for its own engines").digest())


def bound_certificate(key: Key, *, seipd2: bool = False) -> bytes:
    """A version 4 certificate whose one encryption subkey is ``key`` (version 4, primary key or subkey).  It announces
    SEIPDv2 if requested."""
    features = _SEIPD_V1_AND_V2 if seipd2 else _SEIPD_V1
    signer = Signer(_private(), key.created.to_bytes(4))
    preferences = subpacket(CIPHERS, _AES_256_192_128) + subpacket(COMPRESSION, _UNCOMPRESSED)
    stated = subpacket(FLAGS, _MAY_CERTIFY) + preferences + subpacket(FEATURES, features)
    certification = signer.signature(_CERTIFICATION, hashed_user_id(_USER_ID), stated)
    subkey = key.packet.body
    stated = subpacket(FLAGS, _MAY_ENCRYPT)
    binding = signer.signature(_SUBKEY_BINDING, hashed_key(subkey), stated)
    parts = ((PUBLIC_KEY, signer.body), (USER_ID, _USER_ID), (SIGNATURE, certification))
    return b"".join(packet(tag, body) for tag, body in (*parts, (PUBLIC_SUBKEY, subkey), (SIGNATURE, binding)))
