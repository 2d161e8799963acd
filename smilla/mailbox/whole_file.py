"""One run over an mbox file, which is written anew as a whole: a message cannot be changed where it lies.

Each message is changed, or copied octet for octet; then the new file is read back, and must have the same messages
with the same octets as were meant.  Then it takes the place of the old one.  A killed run has changed nothing, and the
next one begins anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

from smilla.errors import MailboxError, ParseError, SmillaError, code_of
from smilla.formats import mbox
from smilla.formats.mbox import Span
from smilla.mailbox.change import Change, Changer, Fate
from smilla.mailbox.work import Tally
from smilla.message import ParsedMessage, parse

# What a program notes for itself about a message in this file; it is wrong of the new one, and not part of it.
_OF_THE_FILE = (b"content-length", b"x-uid")
_UNCLEAR = Change(Fate.LEFT, "from_line", 'it is not clear where it ends: a line begins with "From "')
_QUOTED = Change(Fate.LEFT, "from_line", 'a line begins with ">From ": --from-lines says whose ">" that is')
_UNQUOTED = Change(
    Fate.LEFT, "from_line", 'a line of the new one begins with "From ": --from-lines says how to write it'
)
_INTERNAL = Change(Fate.NOTHING_TO_DO, "internal", "it is no message, but what a mail program notes about the file")
_BLOCK = 1 << 20


class NewFile(Protocol):
    """See adapters.mbox.Replacement."""

    file: BinaryIO

    def copy(self, begin: int, end: int) -> Iterator[bytes]:
        """Writes octets of the old file, and gives them."""

    def sync(self) -> None:
        """All that was written is on the disk."""

    def take_place(self, keep: str) -> None:
        """Takes the place of the old file."""


@dataclass
class WholeFile:
    """A run.  ``from_lines``: quoted, plain, or "" if nobody knows.  For the others see work.Work."""

    change: Changer
    from_lines: str
    tell: Callable[[str, str, Change], None]
    step: Callable[[str, int, int], None]
    tally: Tally

    def look(self, old: BinaryIO, size: int) -> None:
        """What would be done.  Raises MailboxError."""
        for span in self._spans(old):
            self.step(self.tally.folder, span.begin, size)
            self._counted(span, self._changed(span, old, dry=True))

    def run(self, old: BinaryIO, size: int, new: NewFile, keep: str) -> None:
        """Does it.  Raises MailboxError; the old file is then still there."""
        meant: list[bytes] = []
        for span in self._spans(old):
            self.step(self.tally.folder, span.begin, size)
            change = self._changed(span, old, dry=False)
            is_changed = change.fate is Fate.CHANGED
            digest = hashlib.sha256()
            for block in new.copy(span.begin, span.content if is_changed else span.end):
                digest.update(block)
            if is_changed:
                new.file.write(change.raw)
                digest.update(change.raw)
            meant.append(digest.digest())
            self._counted(span, change)
        if not self.tally.count(Fate.CHANGED):
            return
        new.sync()
        self._compare(new.file, meant)
        new.take_place(keep)

    def _spans(self, file: BinaryIO) -> Iterator[Span]:
        """While others read the file, too."""
        try:
            for span in mbox.spans(file):
                here = file.tell()
                yield span
                file.seek(here)
        except ParseError as error:
            raise MailboxError(f"{self.tally.folder}: is no mbox: {error}") from error

    def _compare(self, file: BinaryIO, meant: list[bytes]) -> None:
        """The file must have these messages, and no other.  Raises MailboxError."""
        found = []
        for span in self._spans(file):
            digest = hashlib.sha256()
            file.seek(span.begin)
            left = span.end - span.begin
            while left and (block := file.read(min(_BLOCK, left))):
                digest.update(block)
                left -= len(block)
            found.append(digest.digest())
        if found != meant:
            raise MailboxError(
                f"{self.tally.folder}: the new file was read back with other messages; the old one stays"
            )

    def _counted(self, span: Span, change: Change) -> None:
        self.tally.fates[change.fate, change.code] += 1
        if change.fate in (Fate.LEFT, Fate.LATER):
            self.tell(self.tally.folder, f"octet {span.begin}", change)

    def _changed(self, span: Span, old: BinaryIO, *, dry: bool) -> Change:
        if span.unclear:
            return _UNCLEAR
        old.seek(span.content)
        raw = old.read(span.end - span.content)
        raw, end = _without_empty_line(raw)
        parsed = parse(raw)
        if span.begin == 0 and parsed.message.named("x-imap"):
            return _INTERNAL
        try:
            change = self.change(self._as_sent(parsed, span), dry=dry)
        except SmillaError as error:
            return Change(Fate.LATER, code_of(error), str(error))
        if change.fate is not Fate.CHANGED:
            return change
        if span.is_quoted and not self.from_lines:
            return _QUOTED
        return change if dry else self._to_be_written(change, end)

    def _as_sent(self, parsed: ParsedMessage, span: Span) -> bytes:
        """The message, without what a program noted in it for itself and with its lines as they were sent."""
        fields = [field for field in parsed.raw_fields if field.partition(b":")[0].strip().lower() not in _OF_THE_FILE]
        rest = parsed.raw_rest
        if span.is_quoted and self.from_lines == "quoted":
            rest = mbox.without_quotes(rest)
        return b"".join(fields) + rest

    def _to_be_written(self, change: Change, end: bytes) -> Change:
        """The new message with its lines as this file has them, and the empty line after it."""
        parsed = parse(change.raw)
        rest = parsed.raw_rest
        if self.from_lines == "quoted":
            rest = mbox.with_quotes(rest)
        elif mbox.would_split(rest) or (not self.from_lines and mbox.would_be_quoted(rest)):
            return _UNQUOTED
        raw = b"".join(parsed.raw_fields) + rest
        line_end = b"\r\n" if b"\r\n" in parsed.raw_fields[0] else b"\n"
        if not raw.endswith(b"\n"):
            raw += line_end
        return replace(change, raw=raw + (end or line_end))


def _without_empty_line(raw: bytes) -> tuple[bytes, bytes]:
    """Before the next "From " line stands an empty one, which is not part of the message."""
    for end in (b"\r\n", b"\n"):
        if raw.endswith(end * 2):
            return raw[: -len(end)], end
    return raw, b""
