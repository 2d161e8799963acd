"""DER (ITU-T X.690): a writer and a reader.

Promises: the writer emits definite, minimal lengths (X.690 section 10).  The reader accepts only DER, copies only what
is asked for, and raises ParseError on every malformation, nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smilla.errors import ParseError
from smilla.value import value

if TYPE_CHECKING:
    from collections.abc import Iterator

INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OID = 0x06
UTF8_STRING = 0x0C
SEQUENCE = 0x30
SET = 0x31


# --- writing -----------------------------------------------------------------------------------------------


def header(tag: int, length: int) -> bytes:
    """The identifier and length octets of an element; its ``length`` octets of content follow elsewhere."""
    if length < 0x80:
        return bytes((tag, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets


def tlv(tag: int, *content: bytes) -> bytes:
    """One element: ``tag`` is the whole identifier octet."""
    joined = b"".join(content)
    return header(tag, len(joined)) + joined


def sequence(*items: bytes) -> bytes:
    """SEQUENCE and SEQUENCE OF."""
    return tlv(SEQUENCE, *items)


def set_of(*items: bytes) -> bytes:
    """SET OF, its elements in ascending order of their encodings (X.690 section 11.6)."""
    return tlv(SET, *sorted(items))


def integer(value: int) -> bytes:
    """INTEGER in the fewest octets of two's complement."""
    magnitude = value if value >= 0 else ~value
    return tlv(INTEGER, value.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True))


def oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER."""
    first, second, *others = map(int, dotted.split("."))
    return tlv(OID, *map(_base128, (first * 40 + second, *others)))


def _base128(arc: int) -> bytes:
    octets = [arc & 0x7F]
    while arc := arc >> 7:
        octets.append(0x80 | arc & 0x7F)
    return bytes(reversed(octets))


def octet_string(value: bytes) -> bytes:
    """OCTET STRING."""
    return tlv(OCTET_STRING, value)


def bit_string(value: bytes) -> bytes:
    """BIT STRING of whole octets."""
    return tlv(0x03, b"\0", value)


def null() -> bytes:
    """NULL."""
    return b"\x05\0"


def context(number: int, *content: bytes) -> bytes:
    """A context tag: EXPLICIT around an element, or IMPLICIT around an element's content."""
    return tlv(0xA0 | number, *content)


# --- reading -----------------------------------------------------------------------------------------------


@value
class TLV:
    """One element within ``raw``: the header from ``start``, the content from ``content_start`` to ``end``."""

    raw: bytes
    tag: int
    start: int
    content_start: int
    end: int

    @property
    def content(self) -> bytes:
        """The content octets."""
        return self.raw[self.content_start : self.end]

    @property
    def whole(self) -> bytes:
        """The element, header included."""
        return self.raw[self.start : self.end]

    def children(self) -> Iterator[TLV]:
        """The elements inside, in order; raises ParseError if the content does not end with the last one."""
        position = self.content_start
        while position < self.end:
            child = read(self.raw, position, self.end)
            yield child
            position = child.end


def read(raw: bytes, offset: int = 0, end: int | None = None) -> TLV:
    """The DER element that starts at ``offset`` and ends before ``end``.  Raises ParseError."""
    limit = len(raw) if end is None else min(end, len(raw))
    if not 0 <= offset <= limit - 2:
        raise ParseError(f"an element is cut off at octet {offset}")
    tag, first = raw[offset], raw[offset + 1]
    if tag & 0x1F == 0x1F:
        raise ParseError(f"a tag number above 30 at octet {offset}")
    content_start = offset + 2
    length = first
    if first >= 0x80:
        content_start += first & 0x7F
        length = _long_length(raw[offset + 2 : min(content_start, limit)], first & 0x7F, offset)
    if length > limit - content_start:
        raise ParseError(f"the element at octet {offset} is longer than what holds it")
    return TLV(raw, tag, offset, content_start, content_start + length)


def _long_length(octets: bytes, expected: int, offset: int) -> int:
    length = int.from_bytes(octets, "big")
    minimal = 1 <= expected <= 8 and len(octets) == expected and octets[0] != 0 and length >= 0x80
    if not minimal:
        raise ParseError(f"the length at octet {offset} is not in DER")
    return length


def dotted(content: bytes) -> str:
    """The content of an OBJECT IDENTIFIER as text.  Raises ParseError."""
    if not content or content[-1] & 0x80 or len(content) > 64:
        raise ParseError("an object identifier is malformed")
    arcs, arc = [], 0
    for octet in content:
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - first * 40, *arcs[1:])))
