"""Netstrings (D. J. Bernstein's ``LENGTH:OCTETS,``), in which Postfix speaks with a socketmap server.  No socket here:
octets in, strings out."""

from __future__ import annotations

import re

from smilla.errors import ParseError

MOST = 100_000  # octets that Postfix takes, and that we take (socketmap_table(5))
_LENGTH = re.compile(rb"(?:0|[1-9][0-9]{0,5}):")
_LENGTH_BEGUN = re.compile(rb"(?:0|[1-9][0-9]{0,5})?")


def written(raw: bytes) -> bytes:
    """One netstring.  Raises ParseError if a reader would not take it."""
    if len(raw) > MOST:
        raise ParseError(f"a netstring of more than {MOST} octets")
    return b"%d:%b," % (len(raw), raw)


class Reader:
    """Takes octets as they come.  After a ParseError nobody knows where the next netstring begins."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, raw: bytes) -> None:
        """The next octets of the stream."""
        self._buffer += raw

    def next(self) -> bytes | None:
        """The next whole netstring's content; None while it has not come.  Raises ParseError."""
        match = _LENGTH.match(self._buffer)
        if match is None:
            if not _LENGTH_BEGUN.fullmatch(self._buffer):
                raise ParseError("octets that are no netstring")
            return None
        size, begin = int(match[0][:-1]), match.end()
        if size > MOST:
            raise ParseError(f"a netstring of {size} octets; the limit is {MOST}")
        if len(self._buffer) <= begin + size:
            return None
        if self._buffer[begin + size] != ord(","):
            raise ParseError("a netstring without its final comma")
        content = bytes(self._buffer[begin : begin + size])
        del self._buffer[: begin + size + 1]
        return content
