"""CMS SignedData (RFC 5652 section 5): which certificate's key has signed a content, if any.

Whether that certificate is believed, keys.validity.signer says.  Read strictly: one signer, a digest without known
collisions, signed attributes as section 5.3 asks for.  What others do: some take the digest from the signed attributes
without hashing the content, or a signature without attributes over what may be the attributes of another one
(CVE-2018-16152 and its kin): here the type of the content and its digest must both be signed.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from smilla.errors import ParseError
from smilla.formats import ber, der
from smilla.keys.validity.certificate import read as read_certificate
from smilla.value import value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smilla.keys.validity.certificate import Certificate

_SIGNED_DATA, _DATA = "1.2.840.113549.1.7.2", "1.2.840.113549.1.7.1"
_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_MOST_CERTIFICATES = 32
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "2.16.840.1.101.3.4.2.1": hashes.SHA256(),
    "2.16.840.1.101.3.4.2.2": hashes.SHA384(),
    "2.16.840.1.101.3.4.2.3": hashes.SHA512(),
}
_WEAK = ("1.3.14.3.2.26", "1.2.840.113549.2.5")  # SHA-1, MD5
# The hash that a signature algorithm names; None if it leaves that to the digest algorithm (RFC 5652 section 5.3).
_RSA = {
    "1.2.840.113549.1.1.1": None,
    "1.2.840.113549.1.1.11": "2.16.840.1.101.3.4.2.1",
    "1.2.840.113549.1.1.12": "2.16.840.1.101.3.4.2.2",
    "1.2.840.113549.1.1.13": "2.16.840.1.101.3.4.2.3",
}
_PSS = "1.2.840.113549.1.1.10"
_ECDSA = {f"1.2.840.10045.4.3.{n}": f"2.16.840.1.101.3.4.2.{n - 1}" for n in (2, 3, 4)}
_EDDSA = {"1.3.101.112": ed25519.Ed25519PublicKey, "1.3.101.113": ed448.Ed448PublicKey}


class BadSignature(Exception):
    """The content is not what was signed (``result`` fail), or nobody can tell here (neutral); ``reason`` is a stable
    word."""

    def __init__(self, text: str, reason: str = "unsupported", result: str = "neutral") -> None:
        super().__init__(text)
        self.reason, self.result = reason, result


@value
class SignedData:
    """``raw_content`` is what it holds itself, None if that stands elsewhere."""

    raw_content: bytes | None
    certificates: tuple[bytes, ...]
    signers: tuple[tuple[der.TLV, ...], ...]


def read(raw: bytes) -> SignedData:
    """The ContentInfo in BER or DER.  Raises ParseError."""
    try:
        oid, explicit = der.read(ber.to_der(raw)).children()
        if der.dotted(oid.content) != _SIGNED_DATA:
            raise ParseError("it is no signed-data")
        (data,) = explicit.children()
        fields = list(data.children())
        signers = tuple(tuple(signer.children()) for signer in fields[-1].children())
        return SignedData(_content(fields[2]), _certificates(fields[3:-1]), signers)
    except (ValueError, IndexError) as error:
        raise ParseError("the signed-data is malformed") from error


def _content(info: der.TLV) -> bytes | None:
    """EncapsulatedContentInfo of type data, which S/MIME has (RFC 8551 section 3.5.2)."""
    kind, *rest = info.children()
    if der.dotted(kind.content) != _DATA:
        raise ParseError("what is signed is no MIME entity")
    return next(rest[0].children()).content if rest else None


def _certificates(fields: Sequence[der.TLV]) -> tuple[bytes, ...]:
    """Those of X.509 that come along; other kinds, and revocation lists, are left out."""
    found = (one for field in fields if field.tag == 0xA0 for one in field.children())
    return tuple(one.whole for one in found if one.tag == der.SEQUENCE)[:_MOST_CERTIFICATES]


def signed_by(data: SignedData, raw_content: bytes, held: Sequence[bytes] = ()) -> Certificate:
    """The certificate whose key has signed ``raw_content``: one that comes along, or one of ``held``.

    Raises BadSignature, also if it cannot be checked here, and ParseError.
    """
    if len(data.signers) != 1:
        raise BadSignature(f"it has {len(data.signers)} signers; smilla checks one")
    try:
        _, sid, digest, *rest = data.signers[0]
        attributes = rest.pop(0) if rest[0].tag == 0xA0 else None
        algorithm, signature = rest[:2]
        found = _named(sid, [*data.certificates, *held])
        name = der.dotted(next(digest.children()).content)
        signed = raw_content if attributes is None else _attributes(attributes, _digest(name, raw_content))
        _verify(found.public_key, algorithm, name, signature.content, signed)
    except (ValueError, IndexError, StopIteration) as error:
        raise BadSignature("it is malformed", "malformed") from error
    except InvalidSignature as error:
        raise BadSignature("the content or the signature was changed", "changed", "fail") from error
    except UnsupportedAlgorithm as error:
        raise BadSignature("its algorithm is not supported") from error
    return found


def _named(sid: der.TLV, raw_certificates: Sequence[bytes]) -> Certificate:
    for raw in raw_certificates:
        found = read_certificate(raw, pem=True).certificate
        if found is None:
            continue
        if sid.tag == der.SEQUENCE and found.raw_issuer_and_serial == sid.whole:
            return found
        if sid.tag == 0x80 and sid.content in _identifiers(found):
            return found
    raise BadSignature("the signer's certificate is not there", "no_certificate")


def _identifiers(certificate: Certificate) -> tuple[bytes, ...]:
    from cryptography.x509 import SubjectKeyIdentifier  # noqa: PLC0415

    found = certificate.extension(SubjectKeyIdentifier)
    return (found.digest,) if found else ()


def _digest(name: str, octets: bytes) -> bytes:
    hasher = hashes.Hash(_hash(name))
    hasher.update(octets)
    return hasher.finalize()


def _hash(name: str) -> hashes.HashAlgorithm:
    if name in _WEAK:
        raise BadSignature("its digest is too weak: others can make a content with the same one", "weak_digest")
    if name not in _HASHES:
        raise BadSignature("its digest is not supported")
    return _HASHES[name]


def _attributes(attributes: der.TLV, digest: bytes) -> bytes:
    """The DER of the signed attributes as a SET OF, which is what is signed (RFC 5652 section 5.4), if they are of this
    content."""
    values: dict[str, list[bytes]] = {}
    for attribute in attributes.children():
        kind, found = attribute.children()
        name = der.dotted(kind.content)
        if name in values:
            raise BadSignature("a signed attribute stands twice", "malformed")
        values[name] = [one.content for one in found.children()]
    if values.get(_CONTENT_TYPE) != [der.read(der.oid(_DATA)).content]:
        raise BadSignature("the signed attributes are of another type of content", "malformed")
    if len(stated := values.get(_MESSAGE_DIGEST, [])) != 1 or not compare_digest(stated[0], digest):
        raise BadSignature("the content was changed after it was signed", "changed", "fail")
    return der.set_of(*(attribute.whole for attribute in attributes.children()))


def _verify(key: object, algorithm: der.TLV, name: str, signature: bytes, signed: bytes) -> None:
    """Raises BadSignature or InvalidSignature."""
    oid = der.dotted(next(algorithm.children()).content)
    digest = _hash(name)
    if isinstance(key, rsa.RSAPublicKey) and _RSA.get(oid, "") in (None, name):
        key.verify(signature, signed, padding.PKCS1v15(), digest)
    elif isinstance(key, rsa.RSAPublicKey) and oid == _PSS:
        key.verify(signature, signed, padding.PSS(padding.MGF1(digest), padding.PSS.AUTO), digest)
    elif isinstance(key, ec.EllipticCurvePublicKey) and _ECDSA.get(oid) == name:
        key.verify(signature, signed, ec.ECDSA(digest))
    elif oid in _EDDSA and isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
        if not isinstance(key, _EDDSA[oid]):
            raise BadSignature("its algorithm does not fit its key")
        key.verify(signature, signed)
    else:
        raise BadSignature("its algorithm is not supported, or does not fit its key")
