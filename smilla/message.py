"""A message as octets: header fields split from the body, nothing decoded, nothing reserialised.

Promises: ``parse(raw).raw_unchanged(())`` is ``raw``, whatever ``raw`` is.  At a malformed header line (RFC 5322
section 2.2) the header ends, and that line opens the body, as in Postfix and Sendmail.  A line of only white space
continues its field (RFC 5322 section 4.2), again as in both.

A file may begin with octets that are not part of the message; ``without_beginning`` removes those, and only those.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from smilla.model import Header, Message

# How much header we accept: Exim accepts one MiB, Sendmail 32 KiB, Postfix as much as a whole message.
MOST_HEADER_FIELDS = 50_000
MOST_HEADER_OCTETS = 4 << 20

_FIELD = re.compile(rb"([!-9;-~]+[ \t]*):")
# What may precede a message in a file: an mbox line (RFC 4155; quoted if stored twice), a UTF-8 byte order mark.
_BEGINNINGS = (
    ("a byte order mark", re.compile(rb"\xef\xbb\xbf")),
    ("an mbox line", re.compile(rb">?From (?![ \t]*:)[^\n]*\n")),
    ("an empty line", re.compile(rb"\r?\n")),
)
_DATED_LINE = re.compile(  # the weekday, the month, the day, the time and the year, as asctime writes them
    rb"^>?From \S+ +(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} [ \d]\d "
    rb"\d\d:\d\d(?::\d\d)?(?: [+A-Z\d-]{1,6})? \d{4}(?: [+-]\d{4})?\r?$",
    re.MULTILINE,
)
_LOOK_AT = 64 * 1024
_USUAL = "return-path received date from sender reply-to to cc subject message-id mime-version content-type"
_USUAL_FIELDS = frozenset(_USUAL.split())
_BARE_LF = re.compile(rb"(?<!\r)\n")


class MemoryBody:
    """A body kept in memory, as the blocks in which it came."""

    __slots__ = ("_blocks", "_size")

    def __init__(self, blocks: Sequence[bytes] = ()) -> None:
        self._blocks = list(blocks)
        self._size = sum(map(len, blocks))

    def append(self, block: bytes) -> None:
        """Adds octets at the end."""
        self._blocks.append(block)
        self._size += len(block)

    @property
    def size(self) -> int:
        """Length in octets."""
        return self._size

    def blocks(self) -> Iterator[bytes]:
        """The octets from the beginning."""
        return iter(self._blocks)


def with_crlf(raw: bytes) -> bytes:
    """The octets with every line end as CRLF; a bare CR stays as it is."""
    return _BARE_LF.sub(b"\r\n", raw)


@dataclass(frozen=True, slots=True)
class ParsedMessage:
    """A whole message from a file: the message with CRLF, and the octets that it was made from.

    ``raw_fields`` are the header fields with their line ends.  ``raw_rest`` is everything after them, the empty line
    included, if there is one.
    """

    message: Message
    raw_fields: tuple[bytes, ...]
    raw_rest: bytes

    def raw_unchanged(self, removed: Collection[int]) -> bytes:
        """The octets as they came, without the header fields at the given indexes."""
        gone = frozenset(removed)
        kept = (field for index, field in enumerate(self.raw_fields) if index not in gone)
        return b"".join(kept) + self.raw_rest


def without_beginning(raw: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The message without the octets before its header, and what those were, in words.

    Nothing is removed unless two usual header fields (RFC 5322 section 3.6) follow: a message that begins with an empty
    line may have no header, and then its first lines are a letter and must stay in its body.  After an mbox line with
    its date (RFC 4155) one such field is enough, since no letter begins like that.
    """
    skipped: list[str] = []
    position = 0
    while True:
        for what, pattern in _BEGINNINGS:
            if found := pattern.match(raw, position):
                skipped.append(what)
                position = found.end()
                break
        else:
            break
    least = 1 if _DATED_LINE.search(raw, 0, position) else 2
    if not skipped or not _begins_with_header(raw, position, least):
        return raw, ()
    return raw[position:], tuple(dict.fromkeys(skipped))


def _begins_with_header(raw: bytes, position: int, least: int) -> bool:
    names = {header.name for header in parse(raw[position : position + _LOOK_AT]).message.headers}
    return len(names & _USUAL_FIELDS) >= least


def parse(raw: bytes) -> ParsedMessage:
    """Splits a message whose lines end in LF or CRLF."""
    fields: list[list[bytes]] = []
    position = 0
    while position < len(raw):
        end = raw.find(b"\n", position) + 1 or len(raw)
        line = raw[position:end]
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1].append(line)
        elif _FIELD.match(line):
            fields.append([line])
        else:
            break
        position = end
    rest = raw[position:]
    separator = re.match(rb"\r?\n", rest)
    body = rest[separator.end() :] if separator else rest
    raw_fields = tuple(b"".join(lines) for lines in fields)
    message = Message(tuple(map(_header, raw_fields)), MemoryBody([with_crlf(body)] if body else []))
    return ParsedMessage(message, raw_fields, rest)


def _header(field: bytes) -> Header:
    name, _, value = with_crlf(field).partition(b":")
    return Header(name, value.removesuffix(b"\r\n"))
