"""What the MTA hands over by LMTP, and what its trace fields tell about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

from smilla.model import Message, Recipient
from smilla.ports import Ports, StageNote

_HOP = re.compile(rb"\sby\s+\S+\s+\([^()]*\)(?:\s+with\s+\S+)?\s+id\s+([0-9A-Za-z]+)")


@dataclass(frozen=True, slots=True)
class Handed:
    """A transaction of the MTA's LMTP client.  ``ident`` is the queue ID from XFORWARD, under which the MTA first had
    the message, or "".  ``parameters`` are those of MAIL."""

    sender: str
    recipients: tuple[Recipient, ...]
    message: Message
    ident: str = ""
    parameters: tuple[str, ...] = ()


def hop(message: Message) -> str:
    """The queue ID in the topmost Received field, "" if there is none."""
    found = _HOP.search(_newest(message))
    return found[1].decode("ascii") if found else ""


def age(message: Message, now: datetime) -> timedelta:
    """How long ago the topmost Received field was written; none if nobody can tell."""
    try:
        return now - parsedate_to_datetime(_newest(message).rpartition(b";")[2].decode("ascii", "replace").strip())
    except (ValueError, TypeError):
        return timedelta()


def note(handed: Handed, queue_id: str, raw_message_id: bytes, answer: str, ports: Ports) -> StageNote:
    """What the journal keeps of a message of which somebody is owed a copy."""
    now = ports.clock.now()
    return StageNote(queue_id, raw_message_id.hex(), (now - age(handed.message, now)).timestamp(), answer)


def _newest(message: Message) -> bytes:
    return next((header.raw_value for header in message.headers if header.name == "received"), b"")
