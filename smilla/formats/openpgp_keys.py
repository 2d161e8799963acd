"""OpenPGP keys and signatures: the content of their packets (RFC 9580 sections 5.2 and 5.5), without any judgement.

Promises: raises only ParseError.  Versions 4 and 6 are read completely; of older versions and LibrePGP's version 5,
only the version number.  Nothing is verified here; see ``smilla.keys.validity``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from smilla.errors import ParseError
from smilla.formats.openpgp import PUBLIC_SUBKEY, Packet

RSA, RSA_ENCRYPT, RSA_SIGN, ELGAMAL, DSA, ECDH, ECDSA, EDDSA = 1, 2, 3, 16, 17, 18, 19, 22
X25519, X448, ED25519, ED448 = 25, 26, 27, 28
MLDSA65_ED25519, MLDSA87_ED448, MLKEM768_X25519, MLKEM1024_X448 = 30, 31, 35, 36  # draft-ietf-openpgp-pqc

_NAMES = {
    RSA: "RSA",
    RSA_ENCRYPT: "RSA",
    RSA_SIGN: "RSA",
    ELGAMAL: "ElGamal",
    20: "ElGamal",
    DSA: "DSA",
    ECDH: "ECDH",
    ECDSA: "ECDSA",
    EDDSA: "EdDSA",
    X25519: "X25519",
    X448: "X448",
    ED25519: "Ed25519",
    ED448: "Ed448",
    MLDSA65_ED25519: "ML-DSA-65+Ed25519",
    MLDSA87_ED448: "ML-DSA-87+Ed448",
    MLKEM768_X25519: "ML-KEM-768+X25519",
    MLKEM1024_X448: "ML-KEM-1024+X448",
}
# RFC 9580 section 9.2: object identifiers as in a key, without tag and length.
CURVES = {
    bytes.fromhex("2b06010401da470f01"): "ed25519",
    bytes.fromhex("2b060104019755010501"): "cv25519",
    bytes.fromhex("2a8648ce3d030107"): "nistp256",
    bytes.fromhex("2b81040022"): "nistp384",
    bytes.fromhex("2b81040023"): "nistp521",
    bytes.fromhex("2b2403030208010107"): "brainpoolP256r1",
    bytes.fromhex("2b240303020801010b"): "brainpoolP384r1",
    bytes.fromhex("2b240303020801010d"): "brainpoolP512r1",
    bytes.fromhex("2b8104000a"): "secp256k1",
}
_NUMBERS = {RSA: 2, RSA_ENCRYPT: 2, RSA_SIGN: 2, ELGAMAL: 3, 20: 3, DSA: 4}
_OCTETS = {
    X25519: 32,
    X448: 56,
    ED25519: 32,
    ED448: 57,
    MLDSA65_ED25519: 32 + 1952,
    MLDSA87_ED448: 57 + 2592,
    MLKEM768_X25519: 32 + 1184,
    MLKEM1024_X448: 56 + 1568,
}


@dataclass(frozen=True, slots=True)
class Key:
    """A primary key or subkey.

    ``numbers`` are the integers of RSA (n, e), DSA (p, q, g, y) and ElGamal (p, g, y); ``point`` is the public point or
    octets of the others; ``kdf`` is the hash and cipher of ECDH.  ``created`` is in seconds since 1970.
    """

    packet: Packet
    version: int
    created: int = 0
    algorithm: int = 0
    numbers: tuple[int, ...] = ()
    curve: str = ""
    point: bytes = b""
    kdf: tuple[int, int] = (0, 0)

    @property
    def is_subkey(self) -> bool:
        """True for a subkey packet."""
        return self.packet.tag == PUBLIC_SUBKEY

    @property
    def signed_octets(self) -> bytes:
        """The octets that fingerprints and signatures cover (RFC 9580 section 5.2.4)."""
        body = self.packet.body
        if self.version == 4:
            return b"\x99" + len(body).to_bytes(2, "big") + body
        return b"\x9b" + len(body).to_bytes(4, "big") + body

    @property
    def fingerprint(self) -> str:
        """RFC 9580 section 5.5.4, in capitals; empty for versions that we don't read."""
        if self.version == 4:
            return hashlib.sha1(self.signed_octets, usedforsecurity=False).hexdigest().upper()
        return hashlib.sha256(self.signed_octets).hexdigest().upper() if self.version == 6 else ""

    @property
    def key_id(self) -> str:
        """The eight octets of the fingerprint that identify the key (RFC 9580 section 5.5.4)."""
        return self.fingerprint[-16:] if self.version == 4 else self.fingerprint[:16]

    @property
    def algorithm_name(self) -> str:
        """For people: "RSA 3072", "ECDH nistp256", "X25519"."""
        name = _NAMES.get(self.algorithm, f"algorithm {self.algorithm}")
        detail = str(self.numbers[0].bit_length()) if self.numbers else self.curve
        return f"{name} {detail}".rstrip()


def parse_key(packet: Packet) -> Key:
    """A public-key or public-subkey packet (RFC 9580 section 5.5.2).  Raises ParseError."""
    reader = _Reader(packet.body)
    version = reader.octet()
    if version not in (4, 6):
        return Key(packet, version)
    if version == 4 and len(packet.body) > 0xFFFF:
        raise ParseError("a key too long to have a fingerprint")
    created, algorithm = reader.number(4), reader.octet()
    if version == 6 and reader.number(4) != reader.left:
        raise ParseError("a key whose length field is wrong")
    if algorithm not in _NAMES:
        return Key(packet, version, created, algorithm)
    key = _with_material(packet, version, created, algorithm, reader)
    reader.finish("key")
    return key


def _with_material(packet: Packet, version: int, created: int, algorithm: int, reader: _Reader) -> Key:
    """The public fields of each algorithm (RFC 9580 section 5.5.5)."""
    if algorithm in _NUMBERS:
        numbers = tuple(reader.mpi() for _ in range(_NUMBERS[algorithm]))
        return Key(packet, version, created, algorithm, numbers=numbers)
    if algorithm in _OCTETS:
        return Key(packet, version, created, algorithm, point=reader.octets(_OCTETS[algorithm]))
    oid = reader.octets(reader.octet())
    curve, point = CURVES.get(oid, f"curve {oid.hex()}"), reader.mpi_octets()
    if algorithm != ECDH:
        return Key(packet, version, created, algorithm, curve=curve, point=point)
    kdf = reader.octets(reader.octet())
    if len(kdf) != 3 or kdf[0] != 1:
        raise ParseError("an ECDH key with unknown derivation parameters")
    return Key(packet, version, created, algorithm, curve=curve, point=point, kdf=(kdf[1], kdf[2]))


# --- signatures --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Subpacket:
    """RFC 9580 section 5.2.3.7: its type, whether it must be understood, its body."""

    type: int
    critical: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature packet.

    ``raw_hashed`` is the signed part, from the version to the end of the hashed subpackets; ``fields`` are the
    algorithm's octets.  A version 3 signature has no subpackets; we read only its claims.
    """

    packet: Packet
    version: int
    type: int
    algorithm: int
    hash: int
    created: int
    hashed: tuple[Subpacket, ...] = ()
    unhashed: tuple[Subpacket, ...] = ()
    raw_hashed: bytes = b""
    digest_start: bytes = b""
    salt: bytes = b""
    fields: bytes = b""
    issuer_v3: str = ""

    def value(self, kind: int) -> bytes | None:
        """The body of the last hashed subpacket of that type, the one that RFC 9580 section 5.2.3.9 prefers."""
        last = None
        for subpacket in self.hashed:
            if subpacket.type == kind:
                last = subpacket.body
        return last

    def seconds(self, kind: int) -> int | None:
        """A time subpacket of four octets, None if it is missing."""
        body = self.value(kind)
        return int.from_bytes(body, "big") if body is not None and len(body) == 4 else None

    @property
    def key_flags(self) -> int | None:
        """The first octet of the key flags (RFC 9580 section 5.2.3.29), None if there are none."""
        body = self.value(27)
        return None if body is None else (body[0] if body else 0)

    @property
    def all_key_flags(self) -> tuple[int, ...]:
        """The first octets of all hashed key flags: if there are two, some programs believe the first, others the
        last."""
        return tuple(s.body[0] if s.body else 0 for s in self.hashed if s.type == 27)

    def may_be_by(self, key: Key) -> bool:
        """False if the signature names an issuer other than ``key`` (RFC 9580 sections 5.2.3.12 and 35)."""
        named = [s.body[1:].hex().upper() for s in (*self.hashed, *self.unhashed) if s.type == 33]
        if named:
            return key.fingerprint in named
        named = [s.body.hex().upper() for s in (*self.hashed, *self.unhashed) if s.type == 16]
        named += [self.issuer_v3] if self.issuer_v3 else []
        return key.key_id in named if named else True


def parse_signature(packet: Packet) -> Signature:
    """A signature packet of version 3, 4 or 6 (RFC 9580 section 5.2).  Raises ParseError."""
    reader = _Reader(packet.body)
    version = reader.octet()
    if version == 3:
        return _version_3(packet, reader)
    if version not in (4, 6):
        raise ParseError(f"a signature of version {version}")
    kind, algorithm, hash_algorithm = reader.octet(), reader.octet(), reader.octet()
    size = 2 if version == 4 else 4
    hashed = parse_subpackets(reader.octets(reader.number(size)))
    raw_hashed = packet.body[: reader.at]
    unhashed = parse_subpackets(reader.octets(reader.number(size)))
    digest_start = reader.octets(2)
    salt = reader.octets(reader.octet()) if version == 6 else b""
    fields = reader.octets(reader.left)
    created = next((int.from_bytes(s.body, "big") for s in reversed(hashed) if s.type == 2 and len(s.body) == 4), None)
    if created is None:
        raise ParseError("a signature without a creation time")
    head = (packet, version, kind, algorithm, hash_algorithm, created)
    return Signature(*head, hashed, unhashed, raw_hashed, digest_start, salt, fields)


def _version_3(packet: Packet, reader: _Reader) -> Signature:
    if reader.octet() != 5:
        raise ParseError("a malformed version 3 signature")
    kind, created = reader.octet(), reader.number(4)
    issuer = reader.octets(8).hex().upper()
    return Signature(packet, 3, kind, reader.octet(), reader.octet(), created, issuer_v3=issuer)


def parse_subpackets(raw: bytes) -> tuple[Subpacket, ...]:
    """The subpackets of one area (RFC 9580 section 5.2.3.7).  Raises ParseError."""
    reader, subpackets = _Reader(raw), []
    while reader.left:
        length = reader.octet()
        if length == 255:
            length = reader.number(4)
        elif length >= 192:
            length = ((length - 192) << 8) + reader.octet() + 192
        body = reader.octets(length)
        if not body:
            raise ParseError("a signature subpacket without a type")
        subpackets.append(Subpacket(body[0] & 0x7F, bool(body[0] & 0x80), body[1:]))
    return tuple(subpackets)


def parse_numbers(fields: bytes, count: int) -> tuple[int, ...]:
    """Exactly ``count`` multiprecision integers (RFC 9580 section 3.2).  Raises ParseError."""
    reader = _Reader(fields)
    numbers = tuple(reader.mpi() for _ in range(count))
    reader.finish("signature")
    return numbers


class _Reader:
    """Takes octets from the front; raises ParseError if there are too few."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.at = 0

    @property
    def left(self) -> int:
        return len(self._raw) - self.at

    def octets(self, count: int) -> bytes:
        if count > self.left:
            raise ParseError("a key or signature packet is cut off")
        self.at += count
        return self._raw[self.at - count : self.at]

    def octet(self) -> int:
        return self.octets(1)[0]

    def number(self, size: int) -> int:
        return int.from_bytes(self.octets(size), "big")

    def mpi_octets(self) -> bytes:
        return self.octets((self.number(2) + 7) // 8)

    def mpi(self) -> int:
        return int.from_bytes(self.mpi_octets(), "big")

    def finish(self, what: str) -> None:
        if self.left:
            raise ParseError(f"octets after the end of a {what}")
