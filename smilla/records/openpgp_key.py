"""An OpenPGP key fit for publishing: made here, since of the engines one cannot make it and the other needs an agent.

It is of version 4, with an Ed25519 primary key that certifies and signs and a Curve25519 subkey for encryption: the
shape that GnuPG makes by itself, and that GnuPG, Thunderbird (RNP) and Sequoia read.  It announces SEIPDv1 only.  What
others do: the version 4 keys of Sequoia's libraries announce SEIPDv2, and gpg 2.4's its own OCB packets; somebody
reads neither.

The secret parts are encrypted as gpg does it (RFC 9580 section 3.7.2.1, usage 254): AES-256 in CFB mode, with a key
derived from the password by iterated and salted SHA-256, and a SHA-1 checksum inside.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from smilla.formats.openpgp import PUBLIC_KEY, PUBLIC_SUBKEY, SECRET_KEY, SECRET_SUBKEY, SIGNATURE, USER_ID
from smilla.formats.openpgp_keys import ECDH
from smilla.formats.openpgp_write import (
    CIPHERS,
    COMPRESSION,
    EXPIRES,
    FEATURES,
    FLAGS,
    HASHES,
    REASON,
    Signer,
    armoured,
    fingerprint,
    hashed_key,
    hashed_user_id,
    mpi,
    packet,
    subpacket,
)
from smilla.records.wanted import Wanted

_CV25519_OID = bytes.fromhex("2b060104019755010501")
_SHA256, _AES256 = 8, 9
_KDF = bytes([3, 1, _SHA256, _AES256])  # RFC 9580 section 5.5.5.6: its length, a reserved 1, hash, cipher
_POSITIVE, _SUBKEY_BINDING, _KEY_REVOCATION = 0x13, 0x18, 0x20
_CERTIFIES_AND_SIGNS, _ENCRYPTS = b"\x03", b"\x0c"
_PREFERENCES = (
    subpacket(CIPHERS, b"\x09\x08\x07") + subpacket(HASHES, b"\x0a\x09\x08") + subpacket(COMPRESSION, b"\x02\x03\x01")
)
_SEIPD_V1 = subpacket(FEATURES, b"\x01")
_NO_REASON = subpacket(REASON, b"\x00")
_ENCRYPTED_WITH_SHA1, _ITERATED = 254, 3
_COUNT = 0xFF  # 65,011,712 octets are hashed: a fifth of a second
_OCTETS_HASHED = (16 + (_COUNT & 15)) << ((_COUNT >> 4) + 6)
_BLOCK = 16
_ABOUT_REVOCATION = "This is a revocation certificate: whoever imports and publishes it ends the key."


@dataclass(frozen=True, slots=True)
class OpenPGPKeyPair:
    """``public`` is binary, as a record has it; ``secret`` and ``revocation`` are armoured files."""

    fingerprint: str
    public: bytes
    secret: bytes = field(repr=False)
    revocation: bytes = field(repr=False)

    @property
    def public_file(self) -> bytes:
        """The public key, armoured."""
        return armoured("PGP PUBLIC KEY BLOCK", self.public)


def make(wanted: Wanted, password: bytes) -> OpenPGPKeyPair:
    """A key as wanted, its secret parts encrypted with the password."""
    created = int(wanted.now.timestamp()).to_bytes(4)
    signer, encrypting = Signer(Ed25519PrivateKey.generate(), created), X25519PrivateKey.generate()
    subkey = _cv25519_body(created, encrypting.public_key().public_bytes_raw())
    rest = _user_id(signer, wanted), packet(SIGNATURE, _binding(signer, subkey, wanted.days))
    public = _joined(packet(PUBLIC_KEY, signer.body), packet(PUBLIC_SUBKEY, subkey), *rest)
    secret_primary = signer.body + _locked(mpi(signer.private.private_bytes_raw()), password)
    secret_subkey = subkey + _locked(mpi(_scalar(encrypting)), password)
    secret = _joined(packet(SECRET_KEY, secret_primary), packet(SECRET_SUBKEY, secret_subkey), *rest)
    revocation = signer.signature(_KEY_REVOCATION, b"", _NO_REASON)
    return OpenPGPKeyPair(
        fingerprint(signer.body).hex().upper(),
        public,
        armoured("PGP PRIVATE KEY BLOCK", secret),
        armoured("PGP PUBLIC KEY BLOCK", packet(SIGNATURE, revocation), _ABOUT_REVOCATION),
    )


def _user_id(signer: Signer, wanted: Wanted) -> bytes:
    """The user ID and its certification, which says what the primary key is for and until when."""
    user_id = (f"{wanted.name} <{wanted.address}>" if wanted.name else f"<{wanted.address}>").encode()
    stated = subpacket(FLAGS, _CERTIFIES_AND_SIGNS) + _lifetime(wanted.days) + _PREFERENCES + _SEIPD_V1
    certification = signer.signature(_POSITIVE, hashed_user_id(user_id), stated)
    return packet(USER_ID, user_id) + packet(SIGNATURE, certification)


def _binding(signer: Signer, subkey: bytes, days: int) -> bytes:
    return signer.signature(_SUBKEY_BINDING, hashed_key(subkey), subpacket(FLAGS, _ENCRYPTS) + _lifetime(days))


def _lifetime(days: int) -> bytes:
    return subpacket(EXPIRES, int(timedelta(days=days).total_seconds()).to_bytes(4))


def _joined(primary: bytes, subkey: bytes, about_user: bytes, binding: bytes) -> bytes:
    return primary + about_user + subkey + binding


def _cv25519_body(created: bytes, point: bytes) -> bytes:
    return b"\x04" + created + bytes([ECDH, len(_CV25519_OID)]) + _CV25519_OID + mpi(b"\x40" + point) + _KDF


def _scalar(key: X25519PrivateKey) -> bytes:
    """Clamped and big-endian, as version 4 keys store it (RFC 9580 section 5.5.5.6.1.1)."""
    octets = bytearray(key.private_bytes_raw())
    octets[0] &= 0xF8
    octets[31] = octets[31] & 0x7F | 0x40
    return bytes(reversed(octets))


def _locked(material: bytes, password: bytes) -> bytes:
    """The secret part of a key packet, after its public part (RFC 9580 section 5.5.3)."""
    salt, iv = secrets.token_bytes(8), secrets.token_bytes(_BLOCK)
    head = bytes([_ENCRYPTED_WITH_SHA1, _AES256, _ITERATED, _SHA256]) + salt + bytes([_COUNT]) + iv
    checksum = hashlib.sha1(material, usedforsecurity=False).digest()
    return head + _cfb(derived(password, salt), iv, material + checksum)


def derived(password: bytes, salt: bytes) -> bytes:
    """32 octets by iterated and salted S2K (RFC 9580 section 3.7.1.3)."""
    repeated = salt + password
    digest = hashlib.sha256()
    block = repeated * (65536 // len(repeated) + 1)
    left = max(_OCTETS_HASHED, len(repeated))
    while left:
        digest.update(block[:left])
        left -= min(left, len(block))
    return digest.digest()


def _cfb(key: bytes, iv: bytes, octets: bytes) -> bytes:
    """CFB with whole blocks of feedback, made of single blocks: cryptography has called its own mode a relic."""
    single = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - what CFB is made of
    written, feedback = b"", iv
    for at in range(0, len(octets), _BLOCK):
        stream = single.update(feedback)
        feedback = bytes(a ^ b for a, b in zip(octets[at : at + _BLOCK], stream, strict=False))
        written += feedback
    return written
