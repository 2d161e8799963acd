"""Do two IssuerAndSerialNumbers (RFC 5652 section 10.2.4) mean the same to some program?

RFC 5280 section 7.1 compares names without regard to case, to white space and to the kind of string, and so do OpenSSL
and NSS; gpgsm compares text, others octets.  Whoever wants to know whether a program may confuse two certificates takes
the loosest of these.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache

from smilla.errors import ParseError
from smilla.formats import der

_ENCODINGS = {0x1E: "utf-16-be", 0x1C: "utf-32-be", 0x14: "latin-1"}  # BMPString, UniversalString, TeletexString
_USUAL = 1024  # octets; the names of strangers may have 60 KB: not worth remembering


def comparable(raw_issuer_and_serial: bytes) -> Hashable:
    """Equal for two that some program takes for the same.  What cannot be read is equal to its own octets alone."""
    return (_remembered if len(raw_issuer_and_serial) <= _USUAL else _comparable)(raw_issuer_and_serial)


def _comparable(raw: bytes) -> Hashable:
    try:
        issuer, serial = der.read(raw).children()
        names = tuple(tuple(sorted(_attribute(a) for a in rdn.children())) for rdn in issuer.children())
    except (ParseError, ValueError):
        return raw
    return names, int.from_bytes(serial.content, signed=True)


_remembered = lru_cache(maxsize=2048)(_comparable)


def _attribute(attribute: der.TLV) -> tuple[bytes, str]:
    """Type and value; raises ParseError or ValueError for another number of elements."""
    kind, value = attribute.children()
    text = value.content.decode(_ENCODINGS.get(value.tag, "utf-8"), "surrogateescape")
    return kind.content, " ".join(text.casefold().split())
