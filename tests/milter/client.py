"""The MTA's side of the milter protocol, version 6, written against its description and not against libmilter.

    client = MilterClient("unix:/run/smilla.sock", Offer())        connects and negotiates
    client.connect(); client.mail("<a@x>"); client.rcpt("<b@y>"); client.header(b"Subject", b" x") ...
    answer = client.end_of_message()
    answer.applied(message, postfix=True)                           the message as the MTA would deliver it

A packet is a length (four octets), a command (one octet) and data.  After a step for which the filter has negotiated
"no reply" nothing is read; steps that the filter does not want are not sent.  Every octet that the filter ever sends
is kept in ``received``.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

# Actions that a filter may take (SMFIF_*).
ADDHDRS, CHGBODY, ADDRCPT, DELRCPT, CHGHDRS, QUARANTINE, CHGFROM, ADDRCPT_PAR, SETSYMLIST = (1 << n for n in range(9))
ALL_ACTIONS = 0x1FF

# What of the protocol is left out or added (SMFIP_*), in the order of its bits.
(
    NO_CONNECT, NO_HELO, NO_MAIL, NO_RCPT, NO_BODY, NO_HEADERS, NO_EOH, NR_HEADER, NO_UNKNOWN, NO_DATA, SKIP,
    RCPT_REJ, NR_CONNECT, NR_HELO, NR_MAIL, NR_RCPT, NR_DATA, NR_UNKNOWN, NR_EOH, NR_BODY, LEADING_SPACE,
) = (1 << n for n in range(21))  # fmt: skip
ALL_STEPS = 0x1FFFFF
ALL_NR = NR_HEADER | NR_CONNECT | NR_HELO | NR_MAIL | NR_RCPT | NR_DATA | NR_UNKNOWN | NR_EOH | NR_BODY
# What the MTA does not send, and what it does not wait for, by command.
_SKIPPED = {
    b"C": NO_CONNECT, b"H": NO_HELO, b"M": NO_MAIL, b"R": NO_RCPT, b"T": NO_DATA, b"L": NO_HEADERS, b"N": NO_EOH,
    b"B": NO_BODY,
}  # fmt: skip
_NO_REPLY = {
    b"C": NR_CONNECT, b"H": NR_HELO, b"M": NR_MAIL, b"R": NR_RCPT, b"T": NR_DATA, b"L": NR_HEADER, b"N": NR_EOH,
    b"B": NR_BODY,
}  # fmt: skip
_VERDICTS = {b"a": "accept", b"c": "continue", b"d": "discard", b"r": "reject", b"t": "tempfail", b"s": "skip"}
CHUNK = 65535  # the most that one body packet carries


class ProtocolError(Exception):
    """The filter broke the protocol, or closed the connection where an answer was due."""


@dataclass(frozen=True)
class Offer:
    """What the MTA can do: Postfix 3 and Sendmail 8.18 offer all, older ones less."""

    actions: int = ALL_ACTIONS
    steps: int = ALL_STEPS
    version: int = 6

    def without(self, steps: int = 0, actions: int = 0) -> Offer:
        """An MTA that cannot do all of it."""
        return Offer(self.actions & ~actions, self.steps & ~steps, self.version)


@dataclass(frozen=True)
class Field:
    """A header field as it stands in a message: the value begins after the colon and is folded with LF, as MTAs keep
    it inside."""

    name: bytes
    value: bytes

    @property
    def raw(self) -> bytes:
        """The field with CRLF line ends."""
        return self.name + b":" + self.value.replace(b"\n", b"\r\n") + b"\r\n"


@dataclass(frozen=True)
class Mail:
    """A message as the MTA has it in its queue."""

    fields: tuple[Field, ...]
    body: bytes

    @classmethod
    def of(cls, raw: bytes) -> Mail:
        """From octets with CRLF line ends: header, empty line, body."""
        head, _, body = raw.partition(b"\r\n\r\n")
        fields: list[Field] = []
        for line in head.split(b"\r\n"):
            if line[:1] in (b" ", b"\t") and fields:
                last = fields.pop()
                fields.append(Field(last.name, last.value + b"\n" + line))
            elif line:
                name, _, value = line.partition(b":")
                fields.append(Field(name, value))
        return cls(tuple(fields), body)

    @property
    def raw(self) -> bytes:
        """The octets of the message."""
        return b"".join(f.raw for f in self.fields) + b"\r\n" + self.body


@dataclass(frozen=True)
class Edit:
    """One change that the filter asks for: its command and its data."""

    command: bytes
    data: bytes

    def __str__(self) -> str:
        return f"{self.command.decode()} {self.data[:80]!r}"


@dataclass(frozen=True)
class Answer:
    """What the filter answers to one step: the edits before it, the verdict, and the SMTP reply where it gave one."""

    verdict: str
    reply: str = ""
    edits: tuple[Edit, ...] = ()
    leading_space: bool = True

    @property
    def quarantined(self) -> str | None:
        """The reason of a quarantine, None where there is none."""
        return next((edit.data.rstrip(b"\0").decode() for edit in self.edits if edit.command == b"q"), None)

    def applied(self, mail: Mail, *, postfix: bool) -> Mail:
        """The message after the edits, in the order in which they came.

        Postfix counts the fields of a name as they stand at that moment; Sendmail counts those that stood there at
        first, deleted ones included.  Both take one body only, and in one piece.
        """
        slots: list[tuple[bytes, Field | None]] = [(each.name, each) for each in mail.fields]
        body: bytes | None = None
        previous = b""
        for edit in self.edits:
            if edit.command == b"b":
                if body is not None and previous != b"b":
                    raise ProtocolError("the blocks of the new body are not contiguous (Postfix: 451 4.3.5)")
                body = (body or b"") + edit.data
            elif edit.command in (b"h", b"i"):
                at = struct.unpack("!I", edit.data[:4])[0] if edit.command == b"i" else len(slots)
                new = self._field(*_strings(edit.data[4 if edit.command == b"i" else 0 :]))
                slots.insert(at, (new.name, new))
            elif edit.command == b"m":
                self._change(slots, edit.data, postfix=postfix)
            elif edit.command != b"q":
                raise ProtocolError(f"an edit that this filter should not ask for: {edit}")
            previous = edit.command
        return Mail(tuple(kept for _, kept in slots if kept is not None), mail.body if body is None else body)

    def _field(self, name: bytes, value: bytes) -> Field:
        return Field(name, value if self.leading_space else b" " + value)

    def _change(self, slots: list[tuple[bytes, Field | None]], data: bytes, *, postfix: bool) -> None:
        index = struct.unpack("!I", data[:4])[0]
        name, value = _strings(data[4:])
        same = [
            at for at, (other, _) in enumerate(slots) if other.rstrip(b" \t").lower() == name.rstrip(b" \t").lower()
        ]
        if not 1 <= index <= len(same):
            raise ProtocolError(f"a change of field {name!r} number {index}; there are {len(same)}")
        at = same[index - 1]
        if value:
            slots[at] = (name, self._field(name, value))
        elif postfix:
            del slots[at]
        elif slots[at][1] is None:
            raise ProtocolError(f"field {name!r} number {index} is deleted twice")
        else:
            slots[at] = (name, None)


class MilterClient:
    """One connection to a filter.  Closes at the end of ``with``."""

    def __init__(self, address: str, offer: Offer | None = None, *, timeout_s: float = 20) -> None:
        self.offer = offer or Offer()
        self.timeout_s = timeout_s
        self.received = bytearray()
        self.actions = self.steps = 0
        self.symbols: dict[int, str] = {}  # the macros that the filter asks for, by stage (SMFIM_*)
        self._socket = _connected(address, timeout_s)
        try:
            self._negotiate()
        except BaseException:
            self._socket.close()
            raise

    # --- packets

    def send_packet(self, command: bytes, data: bytes = b"") -> None:
        """Sends one packet and waits for nothing."""
        self._socket.sendall(struct.pack("!I", len(data) + 1) + command + data)

    def read_packet(self) -> tuple[bytes, bytes]:
        """The next packet.  Raises ProtocolError where the filter closed the connection, TimeoutError."""
        size = struct.unpack("!I", self._read(4))[0]
        packet = self._read(size)
        return packet[:1], packet[1:]

    def is_quiet(self, wait_s: float = 0.0) -> bool:
        """Whether the filter has sent nothing that is still unread (and keeps the connection open)."""
        return not select.select([self._socket], [], [], wait_s)[0]

    def _read(self, size: int) -> bytes:
        octets = bytearray()
        while len(octets) < size:
            try:
                block = self._socket.recv(min(size - len(octets), 1 << 20))
            except ConnectionError as error:
                raise ProtocolError(f"the connection broke: {error}") from error
            if not block:
                raise ProtocolError("the filter closed the connection")
            octets += block
            self.received += block
        return bytes(octets)

    def _negotiate(self) -> None:
        self.send_packet(b"O", struct.pack("!III", self.offer.version, self.offer.actions, self.offer.steps))
        command, data = self.read_packet()
        if command != b"O" or len(data) < 12:
            raise ProtocolError(f"the negotiation was answered by {command!r}")
        _, self.actions, self.steps = struct.unpack("!III", data[:12])
        self.symbols = _symbols(data[12:])
        if self.actions & ~self.offer.actions or self.steps & ~self.offer.steps:
            raise ProtocolError("the filter wants what was not offered")

    def _step(self, command: bytes, data: bytes, macros: Mapping[str, str] | None = None) -> Answer:
        if _SKIPPED.get(command, 0) & self.steps:
            return Answer("continue")
        if macros is not None:
            words = "".join(f"{name}\0{value}\0" for name, value in macros.items())
            self.send_packet(b"D", command + words.encode("utf-8", "surrogateescape"))
        self.send_packet(command, data)
        if _NO_REPLY.get(command, 0) & self.steps:
            return Answer("continue")
        return self.answer()

    def answer(self) -> Answer:
        """Reads edits up to a verdict."""
        edits: list[Edit] = []
        deadline = time.monotonic() + self.timeout_s
        space = bool(self.steps & LEADING_SPACE)
        while time.monotonic() < deadline:
            command, data = self.read_packet()
            if command in _VERDICTS:
                return Answer(_VERDICTS[command], "", tuple(edits), space)
            if command == b"y":
                reply = data.rstrip(b"\0").decode("utf-8")
                return Answer("tempfail" if reply.startswith("4") else "reject", reply, tuple(edits), space)
            if command != b"p":
                edits.append(Edit(command, data))
        raise TimeoutError("no verdict in time")

    # --- steps

    def connect(self, ip: str = "192.0.2.7", hostname: str = "client.test", macros: Mapping[str, str] = {}) -> Answer:
        """A client has connected to the MTA."""
        family = b"6" if ":" in ip else b"4"
        data = (
            hostname.encode("utf-8", "surrogateescape")
            + b"\0"
            + family
            + struct.pack("!H", 40000)
            + ip.encode()
            + b"\0"
        )
        return self._step(b"C", data, {"j": "mta.test", "{daemon_name}": "mta.test", "v": "Postfix", **macros})

    def helo(self, name: str = "client.test") -> Answer:
        """HELO or EHLO."""
        return self._step(b"H", name.encode() + b"\0", {})

    def mail(self, sender: str, *parameters: str, macros: Mapping[str, str] = {}) -> Answer:
        """MAIL FROM, the address with its angle brackets."""
        return self._step(b"M", _arguments((sender, *parameters)), {"{mail_addr}": sender.strip("<>"), **macros})

    def rcpt(self, recipient: str, *parameters: str) -> Answer:
        """RCPT TO, the address with its angle brackets."""
        return self._step(b"R", _arguments((recipient, *parameters)), {"{rcpt_addr}": recipient.strip("<>")})

    def data(self, queue_id: str = "4ABC") -> Answer:
        """DATA; over SMTP the queue ID is known from here on."""
        return self._step(b"T", b"", {"i": queue_id})

    def header(self, name: bytes, value: bytes) -> Answer:
        """One header field; ``value`` is all after the colon.  An MTA that did not negotiate the leading space drops
        one."""
        if not self.steps & LEADING_SPACE:
            value = value.removeprefix(b" ")
        return self._step(b"L", name + b"\0" + value + b"\0")

    def end_of_headers(self) -> Answer:
        """The empty line."""
        return self._step(b"N", b"", {})

    def body(self, chunk: bytes) -> Answer:
        """One block of the body."""
        return self._step(b"B", chunk)

    def end_of_message(self, queue_id: str = "4ABC") -> Answer:
        """The final dot; the one answer that counts."""
        return self._step(b"E", b"", {"i": queue_id})

    def abort(self) -> None:
        """RSET, or another filter refused; never answered."""
        self.send_packet(b"A")

    def quit(self) -> None:
        """The SMTP client is gone; never answered."""
        self.send_packet(b"Q")

    # --- whole messages

    def envelope(
        self, recipients: Sequence[str], *, sender: str = "<sender@s.test>", queue_id: str = "4ABC"
    ) -> list[Answer]:
        """MAIL, each RCPT and DATA."""
        return [self.mail(sender), *(self.rcpt(recipient) for recipient in recipients), self.data(queue_id)]

    def content(self, mail: Mail, chunks: Iterable[bytes] | None = None, *, queue_id: str = "4ABC") -> Answer:
        """The header, the body (in the given chunks) and its end.  A verdict other than "go on" ends it early, as in
        an MTA."""
        for each in mail.fields:
            if (answer := self.header(each.name, each.value)).verdict != "continue":
                return answer
        self.end_of_headers()
        if chunks is None:
            chunks = (mail.body[at : at + CHUNK] for at in range(0, len(mail.body), CHUNK))
        for chunk in chunks:
            if (answer := self.body(chunk)).verdict not in ("continue", "skip"):
                return answer
        return self.end_of_message(queue_id)

    def send(
        self,
        mail: Mail,
        recipients: Sequence[str],
        *,
        sender: str = "<sender@s.test>",
        queue_id: str = "4ABC",
        chunks: Iterable[bytes] | None = None,
    ) -> Answer:
        """One whole message."""
        for answer in self.envelope(recipients, sender=sender, queue_id=queue_id):
            if answer.verdict != "continue":
                return answer
        return self.content(mail, chunks, queue_id=queue_id)

    def wait_until_closed(self) -> None:
        """After ``quit``: until the filter has ended the connection, and with it all that it does at its end."""
        with contextlib.suppress(ConnectionError):
            while self._socket.recv(4096):
                pass

    def close(self) -> None:
        """Closes without a word, as an MTA that dies.  Safe to repeat."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            with contextlib.suppress(OSError):
                self.quit()
        self.close()


@dataclass
class Clients:
    """Opens connections and keeps them, so that a test can look at all that a filter ever sent."""

    opened: list[MilterClient] = field(default_factory=list)

    def open(
        self, address: str, offer: Offer | None = None, *, greet: bool = True, timeout_s: float = 20
    ) -> MilterClient:
        """A new connection; ``greet`` says connect and HELO."""
        client = MilterClient(address, offer, timeout_s=timeout_s)
        self.opened.append(client)
        if greet:
            client.connect()
            client.helo()
        return client

    @property
    def received(self) -> bytes:
        """Every octet that came from a filter."""
        return b"\n".join(bytes(client.received) for client in self.opened)

    def close(self) -> None:
        """Closes every connection."""
        for client in self.opened:
            client.close()


def _connected(address: str, timeout_s: float) -> socket.socket:
    kind, _, place = address.partition(":")
    if kind in ("unix", "local"):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout_s)
        try:
            sock.connect(place)
        except OSError:
            sock.close()
            raise
        return sock
    port, _, host = place.partition("@")
    return socket.create_connection((host, int(port)), timeout_s)


def _symbols(data: bytes) -> dict[int, str]:
    found = {}
    while data:
        words, _, rest = data[4:].partition(b"\0")
        found[struct.unpack("!I", data[:4])[0]] = words.decode("ascii")
        data = rest
    return found


def _arguments(words: Iterable[str]) -> bytes:
    return b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words)


def _strings(data: bytes) -> tuple[bytes, bytes]:
    name, value, rest = data.split(b"\0", 2)
    if rest:
        raise ProtocolError(f"octets after the end of a header field: {rest!r}")
    return name, value
