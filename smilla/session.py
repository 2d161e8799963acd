"""Collects one message from the MTA, step by step; knows no libmilter type and does no I/O.

Octets are kept as they come: ESMTP parameters, the null sender, header folding, 8-bit values, body chunks of any
size.  After ``abort`` or the end of a message a new Session begins; the connection's Client stays.
"""

from __future__ import annotations

from typing import NamedTuple

from smilla import address
from smilla.address import NO_COMPLETION, Completion, EmailAddress
from smilla.errors import AddressError
from smilla.keys.questions import MessageQuestions
from smilla.message import MOST_HEADER_FIELDS, MOST_HEADER_OCTETS, MemoryBody
from smilla.model import Client, Envelope, GrowingBody, Header, Message, Recipient, Transport
from smilla.policy import Requirement
from smilla.ports import PendingHop, PendingLookup


class Asked(NamedTuple):
    """What is looked up: whose key, in which formats (() for any), what it must rest on ([keys] trust, as in the rule),
    and the key file of a rule, "" for the sources."""

    address: EmailAddress
    formats: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    key_file: str = ""


class Session:
    """Collects the envelope, the header fields and the body of one message, and what we learned at RCPT: the
    requirement for each recipient, the look-ups begun, and the searches for a hop to a domain."""

    def __init__(
        self,
        client: Client,
        sender: str,
        parameters: tuple[str, ...] = (),
        completion: Completion = NO_COMPLETION,
        body: GrowingBody | None = None,
    ) -> None:
        """``body`` is where to keep the body; by default in memory."""
        self.client = client
        self.queue_id = ""
        self.answers_each = False  # LMTP: no recipient's answer is for another one
        self.transport: Transport | None = None  # None: nobody told how the message came
        self.lookups: dict[Asked, PendingLookup] = {}
        self.hops: dict[str, PendingHop] = {}
        self.questions = MessageQuestions()
        self.requirements: dict[Recipient, Requirement] = {}
        self.sender = sender.strip().removeprefix("<").removesuffix(">")
        self._sent_as = self.sender
        self._parameters = parameters
        self._completion = completion
        self._recipients: list[Recipient] = []
        self._headers: list[Header] = []
        self._header_octets = 0
        self._body = body or MemoryBody()
        self._envelope: Envelope | None = None
        self._message: Message | None = None

    def recipient(self, raw: str, parameters: tuple[str, ...] = ()) -> Recipient:
        """An accepted RCPT TO."""
        recipient = parsed_recipient(raw, parameters, self._completion)
        self._recipients.append(recipient)
        self._envelope = None
        return recipient

    def add(self, recipient: Recipient) -> None:
        """Adds a recipient parsed before, unless it is there already."""
        if recipient not in self._recipients:
            self._recipients.append(recipient)
            self._envelope = None

    def withdraw(self, recipient: Recipient) -> None:
        """Removes a recipient who was refused after all."""
        self._recipients.remove(recipient)
        self._envelope = None

    def header(self, raw_name: bytes, raw_value: bytes) -> None:
        """A header field, folded with LF or CRLF.  Past the limits of ``rewrap.problem`` no field is kept, since the
        message will be refused and each field takes many times its octets in memory."""
        if len(self._headers) > MOST_HEADER_FIELDS or self._header_octets > MOST_HEADER_OCTETS:
            return
        self._header_octets += len(raw_name) + len(raw_value)
        if b"\n" in raw_value:
            raw_value = raw_value.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        self._headers.append(Header(raw_name, raw_value))
        self._message = None

    def body_chunk(self, block: bytes) -> None:
        """The next octets of the body."""
        self._body.append(block)

    def sent_as(self, sender: str) -> None:
        """Sets the envelope sender as the MTA has rewritten it since (canonical maps, SRS).  Copies leave with it, but
        rules and the sender's requests go by the sender given at MAIL."""
        self._sent_as, self._envelope = sender, None

    def take(self, message: Message) -> None:
        """Takes header and body as a whole, instead of step by step."""
        self._message = message

    @property
    def envelope(self) -> Envelope:
        """The envelope so far."""
        if self._envelope is None:
            self._envelope = Envelope(self._sent_as, tuple(self._recipients), self._parameters)
        return self._envelope

    @property
    def message(self) -> Message:
        """Header and body so far."""
        if self._message is None:
            self._message = Message(tuple(self._headers), self._body)
        return self._message


def parsed_recipient(raw: str, parameters: tuple[str, ...], completion: Completion) -> Recipient:
    """A recipient as the MTA names it; ``completion`` is what the MTA appends to incomplete addresses."""
    try:
        parsed = _completed(raw, completion)
    except AddressError:
        parsed = None
    return Recipient(raw.strip(), parsed, parameters)


def _completed(raw: str, completion: Completion) -> EmailAddress:
    """Does not complete localhost: Postfix turns it into this machine, too.  Raises AddressError."""
    bare = completion.origin and "@" not in raw
    parsed = address.parse(f"{raw.strip().strip('<>')}@{completion.origin}" if bare else raw)
    return parsed if parsed.domain == "localhost" else parsed.completed(completion.domain)
