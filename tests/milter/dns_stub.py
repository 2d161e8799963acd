"""A name server that can do what no real one can be made to do at will: forget the AD bit, fall silent, close the
connection after each answer or in the middle of one, answer another question, send garbage.

It plays the validating resolver on loopback; TCP only, like the resolver client that it is for.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from tests.lab.listening import LoopbackServer

if TYPE_CHECKING:
    pass

LOOPBACK = "127.0.0.1"


class Fault(Enum):
    """What goes wrong on the wire."""

    NONE = "nothing"
    SILENCE = "the question is taken and never answered"
    CLOSE = "the connection is closed instead of an answer"
    RESET = "the connection is reset instead of an answer"
    HALF = "the answer is cut in the middle, and the connection closed"
    GARBAGE = "octets that are no DNS message"
    EMPTY = "a message of no octets"
    WRONG_ID = "an answer with another ID"
    WRONG_QUESTION = "an answer to another question"
    TRUNCATED = "an answer with the TC bit"
    NO_RESPONSE_BIT = "the question sent back"
    MALFORMED_RECORD = "a record whose RDATA is shorter than its type allows"


@dataclass(frozen=True)
class Scripted:
    """One answer.  ``rdata`` are the records of the asked type, in wire form; none with NOERROR is NODATA.  ``own`` is
    the AA bit, ``zone`` what the SOA record in the authority section is of."""

    rdata: tuple[bytes, ...] = ()
    authenticated: bool = True
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    extended_error: int | None = None
    delay_s: float = 0.0
    fault: Fault = Fault.NONE
    ttl_s: int = 60
    own: bool = False
    zone: str = ""


ABSENT = Scripted(rcode=dns.rcode.NXDOMAIN)
FAILED = Scripted(rcode=dns.rcode.SERVFAIL, authenticated=False)
BOGUS = replace(FAILED, extended_error=6)


class DNSStub(LoopbackServer):
    """A threaded server; change ``answers``, ``default``, ``probe`` (for SOA), ``validates`` and ``closes_after_each``
    at any time.

    ``answers`` maps owner names, mail domains and what these lie under (lower case, final dot) to answers for every
    type.  ``at_once`` is how many questions of one connection may be unanswered before no further one is read, as with
    unbound; 0 is any number.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Scripted] = {}
        self.default = ABSENT
        self.probe = Scripted()
        # By zone, where it is not ``probe``; r.test, where the recipients are, is not signed.
        self.probes: dict[str, Scripted] = {}
        self.parent = Scripted()  # to questions about DS
        self.validates = True
        self.closes_after_each = False
        self.at_once = 0
        self.asked: list[tuple[str, int]] = []
        super().__init__()

    @property
    def address(self) -> str:
        """As [dns] nameservers has it."""
        return f"{LOOPBACK}@{self.port}"

    def cut_connections(self) -> None:
        """Resets every connection that is open."""
        for connection in list(self.open):
            _reset(connection)

    def talk(self, connection: socket.socket) -> None:
        """Answers questions until the client has no more."""
        lock, unanswered = threading.Lock(), 0
        with contextlib.suppress(OSError, ValueError, struct.error), connection.makefile("rb") as stream:
            while head := stream.read(2):
                query = dns.message.from_wire(stream.read(struct.unpack("!H", head)[0]))
                scripted = self._scripted(query)
                unanswered += scripted.fault is Fault.SILENCE
                if self.at_once and unanswered >= self.at_once:
                    self._wait_for_the_end(connection)
                    break
                if scripted.delay_s:
                    arguments = (connection, lock, query, scripted)
                    threading.Thread(target=self._answer, args=arguments, name="dns-stub", daemon=True).start()
                else:
                    self._answer(connection, lock, query, scripted)
        self.open.discard(connection)
        connection.close()

    def _wait_for_the_end(self, connection: socket.socket) -> None:
        """Until the client closes; what it still asks stays where it is."""
        poll = select.poll()
        poll.register(connection, select.POLLRDHUP)
        poll.poll()

    def _scripted(self, query: dns.message.Message) -> Scripted:
        question = query.question[0]
        owner, rdtype = question.name.to_text().lower(), int(question.rdtype)
        self.asked.append((owner, rdtype))
        if rdtype == dns.rdatatype.SOA:
            of_domain = replace(self.probe, authenticated=False) if owner.endswith("r.test.") else self.probe
            found = self.probes.get(owner, of_domain)
            return found if self.validates else replace(found, authenticated=False)
        if rdtype == dns.rdatatype.DS:
            return self.parent
        labels = owner.split(".")
        names = [owner, *(".".join(labels[at:]) for at in range(2, len(labels) - 1))]
        found = next((self.answers[name] for name in names if name in self.answers), self.default)
        return found if self.validates else replace(found, authenticated=False)

    def _answer(
        self, connection: socket.socket, lock: threading.Lock, query: dns.message.Message, scripted: Scripted
    ) -> None:
        time.sleep(scripted.delay_s)
        if scripted.fault is Fault.SILENCE:
            return
        with contextlib.suppress(OSError), lock:
            if scripted.fault is Fault.CLOSE:
                connection.shutdown(socket.SHUT_RDWR)
                return
            if scripted.fault is Fault.RESET:
                _reset(connection)
                return
            wire = _wire(query, scripted)
            framed = struct.pack("!H", len(wire)) + wire
            connection.sendall(framed[: len(framed) // 2] if scripted.fault is Fault.HALF else framed)
            if self.closes_after_each or scripted.fault is Fault.HALF:
                connection.shutdown(socket.SHUT_RDWR)


def _wire(query: dns.message.Message, scripted: Scripted) -> bytes:
    if scripted.fault is Fault.GARBAGE:
        return query.id.to_bytes(2) + b"\xff" * 40
    if scripted.fault is Fault.EMPTY:
        return b""
    if scripted.fault is Fault.NO_RESPONSE_BIT:
        return query.to_wire()
    response = dns.message.make_response(query, recursion_available=True)
    question = query.question[0]
    if scripted.fault is Fault.WRONG_QUESTION:
        response.question = [dns.rrset.RRset(dns.name.from_text("other.test."), question.rdclass, question.rdtype)]
    response.set_rcode(scripted.rcode)
    if scripted.authenticated:
        response.flags |= dns.flags.AD
    if scripted.own:
        response.flags |= dns.flags.AA
    if scripted.zone:
        response.authority = [dns.rrset.from_text(scripted.zone, 60, "IN", "SOA", ". . 1 2 3 4 60")]
    if scripted.fault is Fault.TRUNCATED:
        response.flags |= dns.flags.TC
    if scripted.extended_error is not None:
        response.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode(scripted.extended_error))])
    wire = response.to_wire(max_size=65535)
    if scripted.fault is Fault.WRONG_ID:
        wire = (query.id ^ 1).to_bytes(2) + wire[2:]
    return _with_records(wire, question, scripted)


def _with_records(wire: bytes, question: dns.rrset.RRset, scripted: Scripted) -> bytes:
    """The response with its answer section written octet by octet, so that RDATA may be anything."""
    records = [b"\x03"] if scripted.fault is Fault.MALFORMED_RECORD else list(scripted.rdata)
    if not records:
        return wire
    size = 12 + len(question.name.to_wire() or b"") + 4
    section = b"".join(
        b"\xc0\x0c" + struct.pack("!HHIH", question.rdtype, 1, scripted.ttl_s, len(raw)) + raw for raw in records
    )
    return wire[:6] + struct.pack("!H", len(records)) + wire[8:size] + section + wire[size:]


def _reset(connection: socket.socket) -> None:
    """Closes with RST (linger on, zero seconds)."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # shutdown wakes the reader; the last close then sends the reset.
        connection.shutdown(socket.SHUT_RD)
        connection.close()
