"""The octets of OpenPGP packets that smilla writes itself (RFC 9580 sections 3.2, 4.2, 5.2.3.7, 5.2.4 and 6)."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from smilla.formats.crc24 import crc24
from smilla.formats.openpgp_keys import EDDSA

EXPIRES, CIPHERS, HASHES, COMPRESSION, FLAGS, REASON, FEATURES = 9, 11, 21, 22, 27, 29, 30  # subpackets
_CREATED, _ISSUER, _ISSUER_FINGERPRINT = 2, 16, 33
_ED25519_OID = bytes.fromhex("2b06010401da470f01")
_SHA256 = 8
_LINE = 64


def packet(tag: int, body: bytes) -> bytes:
    """One packet with a length of five octets."""
    return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4) + body


def mpi(octets: bytes) -> bytes:
    """A multiprecision integer; ``octets`` are big-endian and may begin with zeros."""
    number = int.from_bytes(octets)
    return number.bit_length().to_bytes(2) + number.to_bytes((number.bit_length() + 7) // 8)


def subpacket(kind: int, body: bytes) -> bytes:
    """A signature subpacket with a body of less than 191 octets."""
    return bytes([len(body) + 1, kind]) + body


def hashed_key(body: bytes) -> bytes:
    """What fingerprints and signatures cover of a version 4 key."""
    return b"\x99" + len(body).to_bytes(2) + body


def hashed_user_id(user_id: bytes) -> bytes:
    """What signatures cover of a user ID."""
    return b"\xb4" + len(user_id).to_bytes(4) + user_id


def fingerprint(body: bytes) -> bytes:
    """The fingerprint of a version 4 key."""
    return hashlib.sha1(hashed_key(body), usedforsecurity=False).digest()


@dataclass(frozen=True, slots=True)
class Signer:
    """A version 4 EdDSA key, made at ``created`` (four octets), that signs."""

    private: Ed25519PrivateKey = field(repr=False)
    created: bytes

    @property
    def body(self) -> bytes:
        """The body of its public packet (RFC 9580 section 5.5.5.5)."""
        point = b"\x40" + self.private.public_key().public_bytes_raw()
        return b"\x04" + self.created + bytes([EDDSA, len(_ED25519_OID)]) + _ED25519_OID + mpi(point)

    def signature(self, kind: int, about: bytes, subpackets: bytes) -> bytes:
        """The body of a version 4 signature (RFC 9580 sections 5.2.3 and 5.2.4), EdDSA with SHA-256, over this key
        and ``about``, made when the key was."""
        primary = self.body
        own = fingerprint(primary)
        hashed = subpacket(_CREATED, self.created) + subpackets + subpacket(_ISSUER_FINGERPRINT, b"\x04" + own)
        unhashed = subpacket(_ISSUER, own[-8:])
        head = bytes([4, kind, EDDSA, _SHA256]) + len(hashed).to_bytes(2) + hashed
        trailer = b"\x04\xff" + len(head).to_bytes(4)
        digest = hashlib.sha256(hashed_key(primary) + about + head + trailer).digest()
        signed = self.private.sign(digest)
        return head + len(unhashed).to_bytes(2) + unhashed + digest[:2] + mpi(signed[:32]) + mpi(signed[32:])


def armoured(label: str, data: bytes, comment: str = "") -> bytes:
    """ASCII armour with a CRC24, which some readers still ask for; ``label`` is for instance "PGP MESSAGE"."""
    text = base64.b64encode(data).decode("ascii")
    lines = [f"-----BEGIN {label}-----", *([f"Comment: {comment}"] if comment else []), ""]
    lines += [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    lines += ["=" + base64.b64encode(crc24(data).to_bytes(3)).decode("ascii"), f"-----END {label}-----", ""]
    return "\n".join(lines).encode("ascii")
