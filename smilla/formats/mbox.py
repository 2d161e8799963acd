"""Where the messages of an mbox file begin and end (RFC 4155, and what programs really write).

A message begins with a line "From ", with a sender and a date or with nothing else, at the start of the file or after
an empty line.  Some programs also tell the length (Content-Length, "mboxcl"), and then quote nothing; others write
">From " where a line of a body begins with "From " ("mboxo", "mboxrd").  Nothing in a file says which.  So a span is
``unclear`` where two readings of the file differ, and ``is_quoted`` where a ">" may be the writer's or the sender's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from smilla.errors import ParseError
from smilla.value import value

_SEPARATOR = re.compile(
    rb"From (?:.*[ \t])?(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) +(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d{1,2} +"
    rb"\d{1,2}:\d\d(?::\d\d)?(?: +[+-]?[A-Za-z0-9]{1,6}){0,2} +\d{4}(?: +[+-]\d{4})?[ \t]*\r?\n"
    rb"|From ?\r?\n"  # Thunderbird
)
_QUOTED = re.compile(rb"(?m)^>(>*From )")
_TO_QUOTE = re.compile(rb"(?m)^(>*From )")
_BARE = re.compile(rb"(?m)^From ")
_LENGTH = re.compile(rb"content-length[ \t]*:[ \t]*(\d{1,15})[ \t]*\r?\n", re.IGNORECASE)
_LONGEST_LINE = 1 << 20  # octets at once; what is longer comes in pieces


@value
class Span:
    """One message in the file, as offsets: its "From " line from ``begin``, its octets from ``content`` to ``end``."""

    begin: int
    content: int
    end: int
    unclear: bool
    is_quoted: bool


def spans(file: BinaryIO) -> Iterator[Span]:
    """The messages, one after the other, without a gap.  Raises ParseError if the file does not begin with one."""
    file.seek(0)
    first = file.readline(_LONGEST_LINE)
    if not first:
        return
    if not _SEPARATOR.fullmatch(first):
        raise ParseError('it does not begin with a "From " line')
    reading = _Reading(0, len(first))
    at, is_whole = len(first), True
    file.seek(at)
    while line := file.readline(_LONGEST_LINE):
        was_whole, is_whole = is_whole, line.endswith(b"\n")
        if was_whole and reading.is_after_empty and _SEPARATOR.fullmatch(line):
            if reading.claims(at) and _is_boundary(file, reading.claimed_end):
                reading.unclear = True  # by its length the message goes on
            else:
                yield reading.span(at)
                reading = _Reading(at, at + len(line))
                at += len(line)
                continue
        reading.line(line, at, is_begin=was_whole)
        at += len(line)
    yield reading.span(at)


class _Reading:
    """The message that is being read."""

    def __init__(self, begin: int, content: int) -> None:
        self._begin, self._content = begin, content
        self._in_header = True
        self.is_after_empty = False
        self.claimed_end = 0
        self._length = -1
        self.unclear = self._is_quoted = False

    def claims(self, at: int) -> bool:
        """Does its Content-Length go past this place?"""
        return self.claimed_end > at

    def line(self, line: bytes, at: int, *, is_begin: bool) -> None:
        """The next line, or a further piece of a long one."""
        is_empty = is_begin and line in (b"\n", b"\r\n")
        if self._in_header:
            if found := _LENGTH.match(line):
                self._length = int(found[1])
            if is_empty:
                self._in_header = False
                self.claimed_end = at + len(line) + self._length if self._length >= 0 else 0
        elif is_begin:
            self._is_quoted |= line.startswith(b">") and _QUOTED.match(line) is not None
            self.unclear |= self.is_after_empty and line.startswith(b"From ")
        self.is_after_empty = is_empty

    def span(self, end: int) -> Span:
        return Span(self._begin, self._content, end, self.unclear, self._is_quoted)


def _is_boundary(file: BinaryIO, at: int) -> bool:
    """Does a message begin there, or the file end?  An empty line may stand between."""
    here = file.tell()
    try:
        file.seek(at - 1)
        if file.read(1) != b"\n":
            return False
        line = file.readline(_LONGEST_LINE)
        if line in (b"\n", b"\r\n"):
            line = file.readline(_LONGEST_LINE)
        return not line or _SEPARATOR.fullmatch(line) is not None
    finally:
        file.seek(here)


def without_quotes(raw_body: bytes) -> bytes:
    """The body as it was sent, if the writer quoted ("mboxrd": one ">" more; of one "mboxo" differs in nothing)."""
    return _QUOTED.sub(rb"\1", raw_body)


def with_quotes(raw_body: bytes) -> bytes:
    """The same the other way."""
    return _TO_QUOTE.sub(rb">\1", raw_body)


def would_be_quoted(raw_body: bytes) -> bool:
    """Has it a line that a writer who quotes would quote?"""
    return _TO_QUOTE.search(raw_body) is not None


def would_split(raw_body: bytes) -> bool:
    """Has it a line that a reader may take for the beginning of another message?"""
    return _BARE.search(raw_body) is not None
