"""The AlgorithmIdentifier of RSAES-OAEP (RFC 4055 section 4.1), read and written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smilla.errors import ParseError
from smilla.formats import der
from smilla.model import OAEP

if TYPE_CHECKING:
    from collections.abc import Iterator

RSAES_OAEP = "1.2.840.113549.1.1.7"
_MGF1 = "1.2.840.113549.1.1.8"
_P_SPECIFIED = "1.2.840.113549.1.1.9"
_HASHES = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_SHA256 = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"), der.null())

# Both hashes are stated; the label is the default, empty.
SHA256 = OAEP(
    "sha256",
    "sha256",
    der.sequence(
        der.oid(RSAES_OAEP),
        der.sequence(der.context(0, _SHA256), der.context(1, der.sequence(der.oid(_MGF1), _SHA256))),
    ),
)


def read(algorithm: der.TLV) -> OAEP:
    """The parameters that a public key's AlgorithmIdentifier requires.  Without parameters the sender chooses (RFC 4055
    section 4.1), and we choose SHA-256.  Raises ParseError, also for unknown hashes."""
    oid, parameters = _identifier(algorithm)
    if oid != RSAES_OAEP:
        raise ParseError(f"{oid} is not RSAES-OAEP")
    if not parameters:
        return SHA256
    fields = _fields(der.read(parameters))
    digest = _hash(fields[0xA0]) if 0xA0 in fields else "sha1"
    mask_digest = _mask(fields[0xA1]) if 0xA1 in fields else "sha1"
    label = _label(fields[0xA2]) if 0xA2 in fields else b""
    return OAEP(digest, mask_digest, algorithm.whole, label)


def _fields(parameters: der.TLV) -> dict[int, der.TLV]:
    """The element inside each explicit tag."""
    fields: dict[int, der.TLV] = {}
    if parameters.tag != der.SEQUENCE:
        raise ParseError("the parameters of RSAES-OAEP are not a sequence")
    for tagged in parameters.children():
        inner = list(tagged.children())
        if tagged.tag not in (0xA0, 0xA1, 0xA2) or tagged.tag <= max(fields, default=0) or len(inner) != 1:
            raise ParseError("the parameters of RSAES-OAEP are malformed")
        fields[tagged.tag] = inner[0]
    return fields


def _hash(algorithm: der.TLV) -> str:
    """A hash, its parameters absent or NULL (RFC 4055 section 2.1)."""
    oid, parameters = _identifier(algorithm)
    name = _HASHES.get(oid)
    if name is None or parameters not in (b"", der.null()):
        raise ParseError(f"{oid} is not a known hash for RSAES-OAEP")
    return name


def _mask(algorithm: der.TLV) -> str:
    oid, parameters = _identifier(algorithm)
    if oid != _MGF1 or not parameters:
        raise ParseError(f"{oid} is not a known mask generation function")
    return _hash(der.read(parameters))


def _label(algorithm: der.TLV) -> bytes:
    oid, parameters = _identifier(algorithm)
    if oid != _P_SPECIFIED or parameters[:1] != bytes((der.OCTET_STRING,)):
        raise ParseError(f"{oid} is not a known label source")
    return der.read(parameters).content


def _identifier(algorithm: der.TLV) -> tuple[str, bytes]:
    """The object identifier, and its parameters in DER, b"" if absent."""
    parts: Iterator[der.TLV] = iter(algorithm.children() if algorithm.tag == der.SEQUENCE else ())
    oid, parameters, further = next(parts, None), next(parts, None), next(parts, None)
    if oid is None or oid.tag != der.OID or further is not None:
        raise ParseError("an AlgorithmIdentifier is malformed")
    return der.dotted(oid.content), parameters.whole if parameters else b""
