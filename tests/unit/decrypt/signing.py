"""Signs as RFC 5652 section 5 says, or with one thing wrong; shares nothing with the reader."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from smilla.decrypt.held_key import issuer_and_serial
from smilla.formats import der

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

DATA = der.oid("1.2.840.113549.1.7.1")
DIGESTS: dict[str, tuple[str, hashes.HashAlgorithm]] = {
    "sha1": ("1.3.14.3.2.26", hashes.SHA1()),
    "sha256": ("2.16.840.1.101.3.4.2.1", hashes.SHA256()),
    "sha384": ("2.16.840.1.101.3.4.2.2", hashes.SHA384()),
    "sha512": ("2.16.840.1.101.3.4.2.3", hashes.SHA512()),
}


def attribute(oid: str, *values: bytes) -> bytes:
    return der.sequence(der.oid(oid), der.set_of(*values))


def hashed(content: bytes, digest: str) -> bytes:
    hasher = hashes.Hash(DIGESTS[digest][1])
    hasher.update(content)
    return hasher.finalize()


def signed_data(
    content: bytes,
    private: PrivateKeyTypes,
    raw: bytes,
    *,
    digest: str = "sha256",
    holds: bool = False,
    attributes: list[bytes] | None = None,
    with_attributes: bool = True,
    beside: tuple[bytes, ...] = (),
    sid: bytes | None = None,
    algorithm: bytes | None = None,
    signers: int = 1,
    kind: bytes = DATA,
    comes: bool = True,
) -> bytes:
    name, hash_algorithm = DIGESTS[digest]
    if attributes is None:
        stated = der.octet_string(hashed(content, digest))
        attributes = [attribute("1.2.840.113549.1.9.3", DATA), attribute("1.2.840.113549.1.9.4", stated)]
    to_sign = der.set_of(*attributes) if with_attributes else content
    default, signature = signature_of(private, to_sign, hash_algorithm)
    one = der.sequence(
        der.integer(1),
        sid or issuer_and_serial(raw),
        der.sequence(der.oid(name)),
        der.tlv(0xA0, *sorted(attributes)) if with_attributes else b"",
        algorithm or default,
        der.octet_string(signature),
    )
    inside = der.context(0, der.octet_string(content)) if holds else b""
    certificates = der.tlv(0xA0, *([raw] if comes else []), *beside)
    data = der.sequence(
        der.integer(1),
        der.set_of(der.sequence(der.oid(name))),
        der.sequence(kind, inside),
        certificates,
        der.tlv(der.SET, one * signers),
    )
    return der.sequence(der.oid("1.2.840.113549.1.7.2"), der.context(0, data))


def signature_of(private: PrivateKeyTypes, octets: bytes, digest: hashes.HashAlgorithm) -> tuple[bytes, bytes]:
    if isinstance(private, rsa.RSAPrivateKey):
        algorithm = der.sequence(der.oid("1.2.840.113549.1.1.1"), der.null())
        return algorithm, private.sign(octets, padding.PKCS1v15(), digest)
    if isinstance(private, ec.EllipticCurvePrivateKey):
        number = {"sha256": 2, "sha384": 3, "sha512": 4, "sha1": 1}[digest.name]
        return der.sequence(der.oid(f"1.2.840.10045.4.3.{number}")), private.sign(octets, ec.ECDSA(digest))
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    return der.sequence(der.oid("1.3.101.112")), private.sign(octets)


def detached(content: bytes, der_signature: bytes, *, before: bytes = b"", after: bytes = b"\r\n") -> bytes:
    """multipart/signed (RFC 8551 section 3.5.3)."""
    head = b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256; boundary="sig"'
    part = b"Content-Type: application/pkcs7-signature; name=smime.p7s\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    part += base64.encodebytes(der_signature).replace(b"\n", b"\r\n")
    return b"".join(
        (head, b"\r\n\r\n", before, b"\r\n--sig\r\n", content, b"\r\n--sig\r\n", part, b"\r\n--sig--", after)
    )


def opaque(der_signature: bytes) -> bytes:
    """application/pkcs7-mime with signed-data (RFC 8551 section 3.5.2)."""
    head = b"Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\r\n"
    body = base64.encodebytes(der_signature).replace(b"\n", b"\r\n")
    return head + b"Content-Transfer-Encoding: base64\r\n\r\n" + body


def both(content: bytes, *words: Any, **faults: Any) -> tuple[bytes, bytes]:
    """The same signature, beside the content and around it."""
    return (
        detached(content, signed_data(content, *words, **faults)),
        opaque(signed_data(content, *words, holds=True, **faults)),
    )
