"""Could some program take two IssuerAndSerialNumbers (RFC 5652 section 10.2.4) for the same?

RFC 5280 section 7.1 compares names without regard to case, white space and kind of string, and so do OpenSSL and NSS;
gpgsm compares text, others octets.  To find out whether a program may confuse two certificates, we use the loosest of
these.
"""

from __future__ import annotations

from collections.abc import Hashable

from smilla.errors import ParseError
from smilla.formats import der
from smilla.remembered import when_short

_ENCODINGS = {0x1E: "utf-16-be", 0x1C: "utf-32-be", 0x14: "latin-1"}  # BMPString, UniversalString, TeletexString
_USUAL = 1024  # octets; a stranger's name may have 60 KB: not worth remembering


@when_short(_USUAL, entries=2048)
def comparable(raw_issuer_and_serial: bytes) -> Hashable:
    """Equal for two that some program takes for the same.  An unreadable one equals only its own octets."""
    try:
        issuer, serial = der.read(raw_issuer_and_serial).children()
        names = tuple(tuple(sorted(_attribute(a) for a in rdn.children())) for rdn in issuer.children())
    except (ParseError, ValueError):
        return raw_issuer_and_serial
    return names, int.from_bytes(serial.content, signed=True)


def _attribute(attribute: der.TLV) -> tuple[bytes, str]:
    """Type and value; raises ParseError or ValueError if there are not exactly two elements."""
    kind, value = attribute.children()
    text = value.content.decode(_ENCODINGS.get(value.tag, "utf-8"), "surrogateescape")
    return kind.content, " ".join(text.casefold().split())
