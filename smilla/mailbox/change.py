"""What becomes of one message of a mailbox."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from smilla.message import ParsedMessage


class Fate(StrEnum):
    """In the words of the summary."""

    CHANGED = "changed"
    NOTHING_TO_DO = "nothing to do"
    LEFT = "left"  # it stays as it is, and somebody should know
    LATER = "deferred"  # it stays as it is, and another run may do it


@dataclass(frozen=True, slots=True)
class Change:
    """What is to happen, and why (a code, and words).  ``raw`` is the new message if it is CHANGED and not a dry run.
    ``is_lasting``: another run need not look at the message again."""

    fate: Fate
    code: str
    text: str
    raw: bytes = b""
    is_lasting: bool = False


class Changer(Protocol):
    """Makes the new message of an old one."""

    def __call__(self, raw: bytes, *, dry: bool) -> Change:
        """Raises SmillaError if this message cannot be changed now."""


def with_line_ends_of(parsed: ParsedMessage, raw: bytes) -> bytes:
    """A new message, whose lines end in CRLF, with the line ends of the old one: only where that has no CRLF at all,
    its lines end in LF."""
    has_crlf = any(b"\r\n" in field for field in parsed.raw_fields) or b"\r\n" in parsed.raw_rest
    return raw if has_crlf else raw.replace(b"\r\n", b"\n")
