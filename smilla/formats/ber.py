"""BER (ITU-T X.690) made DER: definite lengths in the fewest octets, and octet strings in one piece.

Programs that write S/MIME in one pass use indefinite lengths and cut strings into segments.  Everything else is left
as it is: no tag, no order and no value changes.  Only ParseError is raised, and the time is linear in the octets.
"""

from __future__ import annotations

from smilla.errors import ParseError
from smilla.formats import der

_MAX_DEPTH = 32
_FEWEST, _OCTETS_EACH = 20_000, 32  # elements allowed in any case, and octets that each further one must have
_CONSTRUCTED = 0x20


def to_der(raw: bytes) -> bytes:
    """The one element at the start of ``raw``; only white space may follow it.  Raises ParseError."""
    reader = _Reader(raw)
    whole, end = reader.element(0, len(raw), 0)
    if raw[end:].strip(b"\r\n\t "):
        raise ParseError(f"octets follow the end of the data at octet {end}")
    return whole


def joined(string: der.TLV) -> bytes:
    """The octets of a string whose tag is implicit, so that ``to_der`` could not know it for one: segments in one
    piece (X.690 section 8.7.3).  Raises ParseError."""
    if not string.tag & _CONSTRUCTED:
        return string.content
    segments = list(string.children())
    if any(segment.tag != der.OCTET_STRING for segment in segments):
        raise ParseError("a segment of a string is no octet string")
    return b"".join(segment.content for segment in segments)


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._left = _FEWEST + len(raw) // _OCTETS_EACH

    def element(self, at: int, limit: int, depth: int) -> tuple[bytes, int]:
        """The element at ``at`` in DER, and where it ends."""
        self._left -= 1
        if depth == _MAX_DEPTH or self._left < 0:
            raise ParseError("the elements are too many, or nested too deep")
        tag, start, end = self._header(at, limit)
        if not tag & _CONSTRUCTED:
            if end is None:
                raise ParseError(f"a value without an end at octet {at}")
            return der.header(tag, end - start) + self._raw[start:end], end
        parts: list[bytes] = []
        position = start
        while position < end if end is not None else self._raw[position : position + 2] != b"\0\0":
            part, position = self.element(position, limit if end is None else end, depth + 1)
            parts.append(part)
        after = position if end is not None else position + 2
        if after > limit:
            raise ParseError(f"the element at octet {at} is longer than what holds it")
        if tag == der.OCTET_STRING | _CONSTRUCTED:
            return der.octet_string(b"".join(der.read(part).content for part in _strings(parts))), after
        return der.tlv(tag, *parts), after

    def _header(self, at: int, limit: int) -> tuple[int, int, int | None]:
        """The tag, where the content starts, and where it ends; None if the end is marked."""
        if at > limit - 2:
            raise ParseError(f"an element is cut off at octet {at}")
        tag, first = self._raw[at], self._raw[at + 1]
        if tag & 0x1F == 0x1F or not tag:
            raise ParseError(f"an unknown tag at octet {at}")
        if first == 0x80:
            return tag, at + 2, None
        start = at + 2 + (first & 0x7F if first > 0x80 else 0)
        length = first if first < 0x80 else int.from_bytes(self._raw[at + 2 : start], "big")
        if length > limit - start:
            raise ParseError(f"the element at octet {at} is longer than what holds it")
        return tag, start, start + length


def _strings(parts: list[bytes]) -> list[bytes]:
    if any(part[0] != der.OCTET_STRING for part in parts):
        raise ParseError("a segment of an octet string is none")
    return parts
