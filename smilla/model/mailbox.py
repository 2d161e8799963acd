"""Messages that lie in a mailbox, and how far the change of one has come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Marks:
    """What a mailbox says of a message besides its octets.  ``flags`` are flags and keywords, ``date`` is when the
    message came in (IMAP: INTERNALDATE, RFC 3501 section 2.3.3), both as the mailbox itself writes them."""

    flags: frozenset[str]
    date: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as it lies in a mailbox."""

    raw: bytes
    marks: Marks


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that is to be written in place of the message ``old``, with its marks, to a reserved ``place``."""

    raw: bytes
    marks: Marks
    place: str
    old: str


class State(StrEnum):
    """How far the change of one message has come.  What is done is not kept."""

    WRITING = "writing"  # the new message may be there, or not
    WRITTEN = "written"  # the mailbox has taken it
    COMPARED = "compared"  # it was read back and has the right octets
    REMOVING = "removing"  # the old message may carry our mark to be removed, or be gone


@dataclass(frozen=True, slots=True)
class Move:
    """One message on its way from its old octets to its new ones.

    ``old`` and ``new`` are names of messages in ``folder``; ``new`` is "" until it is known.  ``place`` is where the
    folder finds the new message again, whoever was killed.  ``size`` and ``raw_digest`` (SHA-256) are those of the new
    octets, ``marks`` those of the old message before anything was written.
    """

    folder: str
    old: str
    state: State
    place: str
    size: int
    raw_digest: bytes
    marks: Marks
    new: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages are asked for: those that came in at ``since_at`` or later, and before ``before_at``.  ``search``
    are further criteria of IMAP (RFC 3501 section 6.4.4)."""

    since_at: datetime | None = None
    before_at: datetime | None = None
    search: str = ""
