"""Makes OpenPGP packets, keys and signatures octet by octet, so that a test can get one thing wrong."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa, x448, x25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from smilla.formats.crc24 import crc24

HASHES = {
    1: ("md5", hashes.MD5()),
    2: ("sha1", hashes.SHA1()),
    8: ("sha256", hashes.SHA256()),
    9: ("sha384", hashes.SHA384()),
    10: ("sha512", hashes.SHA512()),
    14: ("sha3_512", hashes.SHA3_512()),
}
SALTS = {8: 16, 9: 24, 10: 32, 14: 32}


def packet(tag: int, body: bytes, *, old: bool = False) -> bytes:
    if old:
        return bytes([0x80 | tag << 2 | 2]) + len(body).to_bytes(4, "big") + body
    if len(body) < 192:
        return bytes([0xC0 | tag, len(body)]) + body
    return bytes([0xC0 | tag, 255]) + len(body).to_bytes(4, "big") + body


def armoured(data: bytes, label: str = "PGP MESSAGE", *headers: str, crc: bool = True, end: str = "\r\n") -> bytes:
    text = base64.b64encode(data).decode()
    lines = [f"-----BEGIN {label}-----", *headers, "", *(text[i : i + 64] for i in range(0, len(text), 64))]
    if crc:
        lines.append("=" + base64.b64encode(crc24(data).to_bytes(3, "big")).decode())
    return (end.join([*lines, f"-----END {label}-----"]) + end).encode()


def mpi(number: int | bytes) -> bytes:
    if isinstance(number, bytes):
        number = int.from_bytes(number, "big")
    bits = number.bit_length()
    return bits.to_bytes(2, "big") + number.to_bytes((bits + 7) // 8, "big")


def subpacket(kind: int, body: bytes, *, critical: bool = False) -> bytes:
    return bytes([len(body) + 1, kind | (0x80 if critical else 0)]) + body


def seconds(kind: int, value: int) -> bytes:
    return subpacket(kind, value.to_bytes(4, "big"))


FLAGS_CERTIFY = subpacket(27, b"\x01")
FLAGS_SIGN = subpacket(27, b"\x02")
FLAGS_ENCRYPT = subpacket(27, b"\x0c")

_OIDS = {
    "ed25519": "2b06010401da470f01",
    "cv25519": "2b060104019755010501",
    "nistp256": "2a8648ce3d030107",
    "nistp384": "2b81040022",
    "nistp521": "2b81040023",
    "brainpoolP256r1": "2b2403030208010107",
    "secp256k1": "2b8104000a",
}
_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "nistp256": ec.SECP256R1,
    "nistp384": ec.SECP384R1,
    "nistp521": ec.SECP521R1,
    "brainpoolP256r1": ec.BrainpoolP256R1,
    "secp256k1": ec.SECP256K1,
}


@dataclass
class Secret:
    """A key pair: its packet body, and what signs with it."""

    algorithm: int
    material: bytes
    created: int
    version: int
    private: object = None
    body: bytes = field(init=False)

    def __post_init__(self) -> None:
        head = bytes([self.version]) + self.created.to_bytes(4, "big") + bytes([self.algorithm])
        if self.version in (5, 6):
            head += len(self.material).to_bytes(4, "big")
        if self.version in (2, 3):
            head = bytes([self.version]) + self.created.to_bytes(4, "big") + b"\0\0" + bytes([self.algorithm])
        self.body = head + self.material

    @property
    def signed(self) -> bytes:
        if self.version == 4:
            return b"\x99" + len(self.body).to_bytes(2, "big") + self.body
        return b"\x9b" + len(self.body).to_bytes(4, "big") + self.body

    @property
    def fingerprint(self) -> bytes:
        if self.version == 4:
            return hashlib.sha1(self.signed).digest()
        return hashlib.sha256(self.signed).digest()

    @property
    def key_id(self) -> bytes:
        return self.fingerprint[-8:] if self.version == 4 else self.fingerprint[:8]


@lru_cache
def _rsa(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@lru_cache
def _dsa() -> dsa.DSAPrivateKey:
    return dsa.generate_private_key(2048)


@lru_cache
def _pair(kind: str) -> object:
    makers = {
        "ed25519": ed25519.Ed25519PrivateKey,
        "ed448": ed448.Ed448PrivateKey,
        "x25519": x25519.X25519PrivateKey,
        "x448": x448.X448PrivateKey,
    }
    return makers[kind].generate()  # type: ignore[attr-defined]


@lru_cache
def _elliptic(curve: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(_CURVES[curve]())


def _raw(private: object) -> bytes:
    raw: bytes = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)  # type: ignore[attr-defined]
    return raw


def _oid(curve: str) -> bytes:
    oid = bytes.fromhex(_OIDS[curve])
    return bytes([len(oid)]) + oid


def secret(kind: str, created: int, version: int = 4) -> Secret:  # noqa: PLR0911
    """A key of a kind: rsa2048, dsa, eddsa, ed25519, ed448, ecdsa-CURVE; for encryption cv25519, ecdh-CURVE, x25519,
    x448, elgamal, unknown."""
    if kind.startswith("rsa"):
        private = _rsa(int(kind[3:]))
        numbers = private.public_key().public_numbers()
        return Secret(1, mpi(numbers.n) + mpi(numbers.e), created, version, private)
    if kind == "dsa":
        pair = _dsa()
        y = pair.public_key().public_numbers()
        p = y.parameter_numbers
        return Secret(17, mpi(p.p) + mpi(p.q) + mpi(p.g) + mpi(y.y), created, version, pair)
    if kind == "eddsa":
        signer = _pair("ed25519")
        return Secret(22, _oid("ed25519") + mpi(b"\x40" + _raw(signer)), created, version, signer)
    if kind == "cv25519":
        material = _oid("cv25519") + mpi(b"\x40" + _raw(_pair("x25519"))) + b"\x03\x01\x08\x07"
        return Secret(18, material, created, version)
    if kind.startswith(("ecdsa-", "ecdh-")):
        name, _, curve = kind.partition("-")
        elliptic = _elliptic(curve)
        point = elliptic.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        material = _oid(curve) + mpi(point) + (b"\x03\x01\x08\x09" if name == "ecdh" else b"")
        return Secret(18 if name == "ecdh" else 19, material, created, version, elliptic)
    if kind == "elgamal":
        return Secret(16, mpi(1 << 2047 | 1) + mpi(5) + mpi(1 << 2040 | 7), created, version)
    if kind == "unknown":
        return Secret(35, bytes(1216), created, version)
    algorithms = {"ed25519": 27, "ed448": 28, "x25519": 25, "x448": 26}
    return Secret(algorithms[kind], _raw(_pair(kind)), created, version, _pair(kind))


def _fields(signer: Secret, digest: bytes, hash_algorithm: int) -> bytes:
    private, algorithm = signer.private, Prehashed(HASHES[hash_algorithm][1])
    if isinstance(private, rsa.RSAPrivateKey):
        return mpi(private.sign(digest, padding.PKCS1v15(), algorithm))
    if isinstance(private, dsa.DSAPrivateKey):
        r, s = decode_dss_signature(private.sign(digest, algorithm))
        return mpi(r) + mpi(s)
    if isinstance(private, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(private.sign(digest, ec.ECDSA(algorithm)))
        return mpi(r) + mpi(s)
    signed: bytes = private.sign(digest)  # type: ignore[attr-defined]
    return mpi(signed[:32]) + mpi(signed[32:]) if signer.algorithm == 22 else signed


def signature(
    signer: Secret,
    kind: int,
    octets: bytes,
    created: int,
    *subpackets: bytes,
    hash_algorithm: int = 8,
    unhashed: bytes | None = None,
    spoil: bool = False,
    salt_size: int | None = None,
) -> bytes:
    """A signature packet by ``signer`` over ``octets``; ``spoil`` makes it false."""
    version = signer.version
    size = 2 if version == 4 else 4
    hashed = seconds(2, created) + b"".join(subpackets)
    if unhashed is None:
        unhashed = subpacket(33, bytes([version]) + signer.fingerprint)
        unhashed += subpacket(16, signer.key_id) if version == 4 else b""  # gpg knows no self-signature without it
    claimed = hash_algorithm if hash_algorithm in HASHES else 8
    head = bytes([version, kind, signer.algorithm, hash_algorithm]) + len(hashed).to_bytes(size, "big") + hashed
    salt = bytes(SALTS[claimed] if salt_size is None else salt_size) if version == 6 else b""
    trailer = head + bytes([version, 0xFF]) + len(head).to_bytes(4, "big")
    digest = hashlib.new(HASHES[claimed][0], salt + octets + trailer).digest()
    fields = _fields(signer, digest[::-1] if spoil else digest, claimed)
    salted = bytes([len(salt)]) + salt if version == 6 else b""
    body = head + len(unhashed).to_bytes(size, "big") + unhashed + digest[:2] + salted + fields
    return packet(2, body)


def user_id_octets(text: bytes) -> bytes:
    return b"\xb4" + len(text).to_bytes(4, "big") + text


def user_id(primary: Secret, text: str | bytes, created: int, *subpackets: bytes, **options: object) -> bytes:
    """A user ID packet and its self-certification."""
    raw = text.encode() if isinstance(text, str) else text
    octets = primary.signed + user_id_octets(raw)
    return packet(13, raw) + signature(primary, 0x13, octets, created, *(subpackets or (FLAGS_CERTIFY,)), **options)  # type: ignore[arg-type]


def subkey(primary: Secret, sub: Secret, created: int, *subpackets: bytes, **options: object) -> bytes:
    """A subkey packet and its binding signature."""
    bound = signature(
        primary,
        0x18,
        primary.signed + sub.signed,
        created,
        *(subpackets or (FLAGS_ENCRYPT,)),
        **options,  # type: ignore[arg-type]
    )
    return packet(14, sub.body) + bound
