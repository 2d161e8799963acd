"""Writes a new body so that nothing readable of the old one stays in Postfix's queue file.

Postfix writes a milter's new body over the old one, record by record, one for each line.  Once a line no longer fits,
it continues at the end of the file, and up to one line of the old body stays on the disk.  So the lines are short where
the old body ends: four characters of base64, which leave at most five octets, or empty lines before the first boundary
of a multipart, where they mean nothing.  Both read the same: base64 may have lines of any length up to 76 (RFC 2045
section 6.8; RFC 9580 section 6).  What others do: we know of no filter that does this.  Sendmail starts a new file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator

from smilla.value import value

_LONGEST_RECORD = 2048  # line_length_limit
_LONG = 128  # a line this long has one more octet of length before it
_BEFORE_END = 128  # a line, the record that points onward (17), and the error of the estimate
_AFTER_END = 32
_SHORT = 4
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})+[A-Za-z0-9+/=]{0,4}")


@value
class Room:
    """How many octets a body has in the queue file, and the error of that estimate."""

    octets: int
    error: int


def room(blocks: Iterable[bytes]) -> Room:
    """As many octets as on the wire if a line is short: its type and length replace CRLF.  A line of 128 has one more,
    and each 2048 octets of a line are a record of their own."""
    octets, error, begun = 0, 4, 0  # begun: octets of a line that ends in a later block
    for block in blocks:
        octets += len(block)
        lines = block.split(b"\n")
        if max(map(len, lines)) < _LONG - begun:  # the usual case, and much faster
            begun = len(lines[-1]) + (begun if len(lines) == 1 else 0)
            continue
        position = 0
        while position < len(block):
            last = block.rfind(b"\n", position, position + _LONG - begun) if begun < _LONG else -1
            if last < 0:
                last = block.find(b"\n", position)
                if last < 0:
                    begun += len(block) - position
                    break
                length = begun + last - position - 1
                octets += 3 * (length // _LONGEST_RECORD) + (length % _LONGEST_RECORD >= _LONG)
                error += length >= _LONGEST_RECORD
            position, begun = last + 1, 0
    return Room(octets, error)


def covered(head: bytes, lines: Iterator[bytes], old: Room) -> Iterator[bytes]:
    """``head`` and ``lines``, which are blocks of whole lines, mostly base64.  Only if there is a head may anything
    precede it."""
    at = len(head) + 2 * head.count(b"\r\n")  # more than needed
    if head and old.octets < at + _BEFORE_END + old.error:
        yield b"\r\n" * ((old.octets + old.error + _AFTER_END) // 2)
        yield head
        yield from lines
        return
    if head:
        yield head
    at = len(head)
    start, stop = old.octets - old.error - _BEFORE_END, old.octets + old.error + _AFTER_END
    for block in lines:
        new = _shortened(block, start - at, stop - at) if at + len(block) > start and at < stop else block
        at += len(new)
        yield new


def _shortened(block: bytes, start: int, stop: int) -> bytes:
    """The block with short lines from ``start`` to ``stop``, in octets of output; all other lines unchanged."""
    begin = block.rfind(b"\n", 0, max(0, start)) + 1
    new, position = [block[:begin]], begin
    while position < len(block) and begin < stop:
        end = block.find(b"\n", position) + 1 or len(block)
        line = _short(block[position:end])
        new.append(line)
        begin, position = begin + len(line), end
    return b"".join([*new, block[position:]])


def _short(line: bytes) -> bytes:
    text = line.rstrip(b"\r\n")
    if not _BASE64.fullmatch(text) or len(text) % _SHORT:
        return line
    pieces = struct.unpack(f"{_SHORT}s" * (len(text) // _SHORT), text)  # much faster than slices
    return b"\r\n".join((*pieces, b""))
