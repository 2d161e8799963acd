"""The sealed message: the facts and octets inside it, and the MIME message around them in the MTA's queue.

If a sealed message turns up where it should not be, its text says what it is and how an administrator opens it.  Its
body, its recipients and the decisions are encrypted.  The content is one stream: the length of the facts (4 octets),
the facts in JSON, then the header and body as they came.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from smilla import message as messages
from smilla.copies import rewrap
from smilla.errors import ParseError, SealBroken
from smilla.formats import mime, seal
from smilla.formats.base64_lines import base64_lines
from smilla.formats.covering import covered, room
from smilla.formats.seal import Bound, Head
from smilla.model import Action, Client, Decision, Direction, Envelope, Header, HeaderEdits, Message, Reason, Rewrite
from smilla.ports import SealKey

MARK = "X-Smilla-Stage"
_MARK_VALUE = re.compile(rb"\s*([0-9a-f]{32}) ([0-9a-f]{16})\s*")
_MOST_FACTS = 8 << 20
SEALED_TYPE = "application/vnd.smilla.sealed"
_WORDS = """\
This message waits in the queue of a mail server. The filter smilla has sealed
it until it can be encrypted for its recipients. You should not have received it
in this form: something led it past the last step of its delivery.

If you are its reader: please tell the postmaster of the server that it came
from. If you are the administrator: "smilla open" shows what is inside, and
smilla-stage(7) says what may lead a message past it.
"""


@dataclass(frozen=True, slots=True)
class SealedRecipient:
    """A recipient as named at RCPT, and the decision then.  ``waits`` is Decision.awaits_expansion;
    the name is part of the sealed form, so that what was sealed before an upgrade can be read."""

    raw: str
    parameters: tuple[str, ...]
    action: Action
    form: str
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What the session knew when it sealed the message."""

    envelope: Envelope
    recipients: tuple[SealedRecipient, ...]
    queue_id: str
    client: Client
    direction: Direction

    @property
    def bound(self) -> Bound:
        """What the seal is bound to."""
        return Bound(self.envelope.sender, tuple(recipient.raw for recipient in self.recipients), self.queue_id)


def facts(
    envelope: Envelope, decisions: Iterable[Decision], queue_id: str, client: Client, direction: Direction
) -> Facts:
    """The facts of a message whose decisions are made."""
    recipients = tuple(
        SealedRecipient(
            d.recipient.raw,
            d.recipient.parameters,
            d.action,
            d.key.format.value if d.key else d.action.value,
            d.awaits_expansion,
        )
        for d in decisions
    )
    return Facts(envelope, recipients, queue_id, client, direction)


# --- sealing -----------------------------------------------------------------------------------------------


_NONE = HeaderEdits()


def rewrite(message: Message, known: Facts, key: SealKey, edits: HeaderEdits = _NONE) -> Rewrite:
    """The sealed message for the MTA's queue: replaces the MIME fields and the body, adds the mark, and keeps all other
    header fields.  ``edits`` are made inside, too, where the stage takes the header from."""
    raw_id = secrets.token_bytes(seal.MESSAGE_ID_OCTETS)
    boundary = f"smilla-{secrets.token_hex(16)}"
    inside = rewrap.edited(message, edits)
    gone = sorted(index for name, places in message.places.items() if _goes(name) for index in places)
    added: tuple[tuple[str, str], ...] = (
        ("Content-Type", f'multipart/mixed; boundary="{boundary}"'),
        (MARK, f"{raw_id.hex()} {key.raw_id.hex()}"),
    )
    if "mime-version" not in message.places:
        added = (("MIME-Version", "1.0"), *added)

    def body() -> Iterator[bytes]:
        beginning, base64 = _beginning(boundary), seal.sealed(_content(inside, known), key, raw_id, known.bound)
        yield from covered(beginning, base64_lines(base64), room(message.body.blocks()))
        yield f"\r\n--{boundary}--\r\n".encode("ascii")

    return rewrap.combined(Rewrite(tuple(gone), added, body), edits)


def _goes(name: str) -> bool:
    return rewrap.goes(name) or name == MARK.lower()


def _beginning(boundary: str) -> bytes:
    words = _WORDS.replace("\n", "\r\n")
    text = (
        f"--{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n{words}\r\n"
        f"--{boundary}\r\nContent-Type: {SEALED_TYPE}\r\nContent-Transfer-Encoding: base64\r\n"
        "Content-Disposition: attachment; filename=sealed.smilla\r\n\r\n"
    )
    return text.encode("ascii")


def _content(message: Message, known: Facts) -> Iterator[bytes]:
    document = {
        "sender": known.envelope.sender,
        "parameters": known.envelope.parameters,
        "recipients": [asdict(recipient) for recipient in known.recipients],
        "queue_id": known.queue_id,
        "client": asdict(known.client),
        "direction": known.direction,
        "header_octets": sum(len(header.raw) for header in message.headers),
    }
    raw = json.dumps(document).encode("ascii")
    head = (header.raw for header in message.headers)
    return chain([len(raw).to_bytes(4, "big"), raw], head, message.body.blocks())


# --- opening -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mark:
    """The IDs in an X-Smilla-Stage field: of the message and of the seal key."""

    raw_message_id: bytes
    raw_key_id: bytes


def mark(headers: Iterable[Header]) -> Mark | None:
    """The mark of a message; None unless it has exactly one, and that is well-formed."""
    found = [header.raw_value for header in headers if header.name == MARK.lower()]
    match = _MARK_VALUE.fullmatch(found[0]) if len(found) == 1 else None
    return Mark(bytes.fromhex(match[1].decode()), bytes.fromhex(match[2].decode())) if match else None


def forged(message: Message) -> Reason | None:
    """Why an incoming message with a mark is refused: only we set marks, and a mark leads past other filters."""
    if MARK.lower() in message.places:
        return Reason("forged_mark", f"it has an {MARK} field, which only this filter may add")
    return None


@dataclass(frozen=True, slots=True)
class Opened:
    """A sealed message, fully verified: the facts, and the message as it came."""

    facts: Facts
    message: Message
    raw_message_id: bytes


def opened(sealed_message: Message, key: SealKey) -> Opened:
    """Verifies the whole, then reads it.  The facts are those that the seal is bound to; the caller must check that the
    message may go where it is now.  Raises SealBroken."""
    return opened_octets(sealed_octets(sealed_message), key)


def head(octets: Callable[[], Iterator[bytes]]) -> Head:
    """The beginning of sealed octets, which names the message and the key.  Raises SealBroken if it is missing."""
    return seal.head_of(b"".join(_first(octets(), seal.HEAD_OCTETS)))


def opened_octets(octets: Callable[[], Iterator[bytes]], key: SealKey) -> Opened:
    """The same as ``opened``, for sealed octets without a message around them."""
    first, size = [], 0
    for block in seal.opened(octets(), key):
        if size < _MOST_FACTS:
            first.append(block)
        size += len(block)
    beginning = b"".join(first)
    known, start, body_at = _facts(beginning)
    found = head(octets)
    if not seal.is_bound_to(found, key, known.bound):
        raise SealBroken("the facts in the sealed message are not those that it is bound to")
    body = _OpenedBody(octets, key, body_at, size - body_at)
    return Opened(known, Message(messages.parse(beginning[start:body_at]).message.headers, body), found.raw_message_id)


def _first(blocks: Iterator[bytes], octets: int) -> Iterator[bytes]:
    for block in blocks:
        yield block
        octets -= len(block)
        if octets <= 0:
            return


def sealed_octets(message: Message) -> Callable[[], Iterator[bytes]]:
    """The sealed octets in the second part of a message that ``rewrite`` made; they can be read more than once.  Raises
    SealBroken, at once or while they are read."""
    types = [header.raw_value for header in message.named("content-type")]
    kind = mime.content_type(types[0]) if len(types) == 1 else None
    boundary = kind.parameters.get("boundary", "") if kind else ""
    if not boundary:
        raise SealBroken("the message has no boundary")

    def octets() -> Iterator[bytes]:
        try:
            sections = mime.multipart_sections(message.body.blocks(), boundary.encode("ascii", "replace"))
            part = (block for number, block in sections if number == 2)
            yield from mime.decoded(_without_head(part), "base64")
        except ParseError as error:
            raise SealBroken(f"the sealed part cannot be read: {error}") from error

    return octets


def _without_head(part: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for block in part:
        head += block
        before, empty_line, rest = head.partition(b"\r\n\r\n")
        if empty_line:
            if SEALED_TYPE.encode("ascii") not in before:
                raise SealBroken("the second part is not a sealed message")
            yield rest
            yield from part
            return
    raise SealBroken("the message has no sealed part")


def _facts(beginning: bytes) -> tuple[Facts, int, int]:
    """The facts, and the offsets of the header and the body.  All of it is authentic, so another form means another
    version of smilla."""
    start = 4 + int.from_bytes(beginning[:4], "big")
    try:
        document = json.loads(beginning[4:start])
        body_at = start + int(document["header_octets"])
        if len(beginning) < body_at:
            raise ValueError("the header is too long")
        return _facts_of(document), start, body_at
    except (ValueError, KeyError, TypeError) as error:
        raise SealBroken(f"the facts in the sealed message cannot be read: {error!r}") from error


def _facts_of(document: dict[str, Any]) -> Facts:
    recipients = tuple(
        SealedRecipient(r["raw"], tuple(r["parameters"]), Action(r["action"]), r["form"], bool(r.get("waits")))
        for r in document["recipients"]
    )
    envelope = Envelope(document["sender"], (), tuple(document["parameters"]))
    client, direction = Client(**document["client"]), Direction(document["direction"])
    return Facts(envelope, recipients, document["queue_id"], client, direction)


class _OpenedBody:
    """The octets of a sealed message from ``start`` on, decrypted anew each time they are read."""

    __slots__ = ("_key", "_sealed_octets", "_start", "size")

    def __init__(self, sealed_octets: Callable[[], Iterator[bytes]], key: SealKey, start: int, size: int) -> None:
        self._sealed_octets, self._key, self._start, self.size = sealed_octets, key, start, size

    def blocks(self) -> Iterator[bytes]:
        """The octets from the beginning."""
        left = self._start
        for block in seal.opened(self._sealed_octets(), self._key):
            if left < len(block):
                yield block[left:]
            left = max(0, left - len(block))
