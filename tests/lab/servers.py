"""Name servers that misbehave on purpose: UDP and TCP on one loopback port, each answer made by a function.

A *behaviour* takes a query (wire form, without the length of TCP) and the transport, and returns the octets to send
back, or None to stay silent.  Each query is answered in a thread of its own, so a slow answer delays no other.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset

from tests.lab.processes import LOOPBACK, Running, free_port

if TYPE_CHECKING:
    pass

Behaviour = Callable[[bytes, str], bytes | None]
Ask = Callable[[dns.message.Message], dns.message.Message]
Rewrite = Callable[[dns.message.Message, Ask], dns.message.Message]


class MisbehavingServer(Running):
    """A server with a behaviour, which may be changed while it runs; ``tcp=False`` refuses connections."""

    def __init__(self, behaviour: Behaviour, *, tcp: bool = True, port: int = 0) -> None:
        self.behaviour = behaviour
        self.port = port or free_port()
        self.asked = 0
        self._counting = threading.Lock()
        self._tcp = tcp
        self._sockets: list[socket.socket] = []
        self._connections: set[socket.socket] = set()
        self._reader: threading.Thread | None = None

    @property
    def name(self) -> str:
        """The server, as smilla's [dns] nameservers has it: ADDRESS@PORT."""
        return f"{LOOPBACK}@{self.port}"

    @property
    def connections(self) -> int:
        """How many TCP connections are open."""
        return len(self._connections)

    def close_connections(self) -> None:
        """Ends all TCP connections, and goes on listening."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def start(self) -> Self:
        """Listens, on the same port each time."""
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind((LOOPBACK, self.port))
        self._sockets = [datagrams]
        self._reader = threading.Thread(target=self._serve_udp, args=(datagrams,), daemon=True)
        self._reader.start()
        if self._tcp:
            listener = socket.create_server((LOOPBACK, self.port), backlog=64)
            self._sockets.append(listener)
            threading.Thread(target=self._serve_tcp, args=(listener,), daemon=True).start()
        return self

    @property
    def running(self) -> bool:
        """Whether it was started."""
        return bool(self._sockets)

    def stop(self) -> None:
        """Closes everything, open connections too.  Safe to repeat."""
        for open_socket in (*self._sockets, *self._connections):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
            open_socket.close()
        if self._sockets and self._reader is not None:
            self._reader.join(5)  # the kernel keeps the port while somebody reads from it
        self._sockets = []
        self._connections = set()

    def _serve_udp(self, datagrams: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                query, client = datagrams.recvfrom(65535)
                if client is None:  # shut down
                    return
                self._answer(query, "udp", partial(_send_to, datagrams, client))

    def _serve_tcp(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self._connections.add(connection)
                threading.Thread(target=self._serve_connection, args=(connection,), daemon=True).start()

    def _serve_connection(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        writing = threading.Lock()

        def send(raw: bytes) -> None:
            with writing:
                connection.sendall(struct.pack("!H", len(raw)) + raw)

        with contextlib.suppress(OSError, EOFError), connection:
            while True:
                self._answer(read_message(connection), "tcp", send)
        self._connections.discard(connection)

    def _answer(self, query: bytes, transport: str, send: Callable[[bytes], object]) -> None:
        with self._counting:
            self.asked += 1

        def work() -> None:
            with contextlib.suppress(OSError, EOFError, dns.exception.DNSException):
                raw = self.behaviour(query, transport)
                if raw is not None:
                    send(raw)

        threading.Thread(target=work, daemon=True).start()


def _send_to(datagrams: socket.socket, client: tuple[str, int], raw: bytes) -> None:
    datagrams.sendto(raw, client)


def read_message(connection: socket.socket) -> bytes:
    """One message from a TCP connection (RFC 1035 section 4.2.2).  Raises EOFError at its end."""
    (size,) = struct.unpack("!H", _read_exactly(connection, 2))
    return _read_exactly(connection, size)


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    octets = b""
    while len(octets) < size:
        more = connection.recv(size - len(octets))
        if not more:
            raise EOFError("the connection ended")
        octets += more
    return octets


# --- behaviours


def silent(query: bytes, transport: str) -> None:
    """Takes the question and answers nothing."""


def garbage(query: bytes, transport: str) -> bytes:
    """The right ID, then octets that are no DNS message."""
    return query[:2] + b"\x80\x00\x00\x01\xff\xff\xff\xff\x00\x00" + b"\xc0\x0c" * 40


def other_id(query: bytes, transport: str) -> bytes:
    """A well-formed answer to a question that was not asked: another ID."""
    response = _response(query)
    response.id ^= 0x5555
    return response.to_wire()


def other_question(query: bytes, transport: str) -> bytes:
    """The right ID, but the answer to another name's question."""
    request = dns.message.from_wire(query)
    other = dns.message.make_query(dns.name.from_text("other.test."), request.question[0].rdtype)
    other.id = request.id
    return dns.message.make_response(other).to_wire()


def truncated(query: bytes, transport: str) -> bytes:
    """Nothing but the bit that says "truncated", over TCP too."""
    response = _response(query)
    response.flags |= dns.flags.TC | dns.flags.AA
    return response.to_wire()


def empty(query: bytes, transport: str) -> bytes:
    """An answer that is not authoritative, without any record."""
    return _response(query).to_wire()


def lame(query: bytes, transport: str) -> bytes:
    """The zone is not here: a referral to the root."""
    response = _response(query)
    response.authority.append(dns.rrset.from_text(".", 60, "IN", "NS", "ns.test."))
    return response.to_wire()


def says(code: dns.rcode.Rcode) -> Behaviour:
    """Every answer has this response code and nothing else."""

    def behave(query: bytes, transport: str) -> bytes:
        response = _response(query)
        response.set_rcode(code)
        return response.to_wire()

    return behave


def passing_to(port: int) -> Behaviour:
    """What the server on that loopback port answers, unchanged: a forwarder that adds and knows nothing."""

    def behave(query: bytes, transport: str) -> bytes | None:
        raw = exchange(query, port)
        if transport == "udp" and len(raw) > 1232:
            return truncated(query, transport)
        return raw

    return behave


def later(delay_s: float, behaviour: Behaviour) -> Behaviour:
    """The same, ``delay_s`` seconds later."""

    def behave(query: bytes, transport: str) -> bytes | None:
        time.sleep(delay_s)
        return behaviour(query, transport)

    return behave


def over_tcp_only(behaviour: Behaviour) -> Behaviour:
    """Truncated over UDP, the answer over TCP."""

    def behave(query: bytes, transport: str) -> bytes | None:
        return truncated(query, transport) if transport == "udp" else behaviour(query, transport)

    return behave


def rewriting(port: int, rewrite: Rewrite) -> Behaviour:
    """Answers made by ``rewrite(query, ask)``, where ``ask`` asks the server on that loopback port."""

    def ask(query: dns.message.Message) -> dns.message.Message:
        return dns.message.from_wire(exchange(query.to_wire(), port))

    def behave(query: bytes, transport: str) -> bytes | None:
        response = rewrite(dns.message.from_wire(query), ask).to_wire()
        return truncated(query, transport) if transport == "udp" and len(response) > 1232 else response

    return behave


def exchange(query: bytes, port: int, timeout_s: float = 30) -> bytes:
    """One query over TCP to a loopback port, and what came back."""
    with socket.create_connection((LOOPBACK, port), timeout=timeout_s) as connection:
        connection.sendall(struct.pack("!H", len(query)) + query)
        return read_message(connection)


def _response(query: bytes) -> dns.message.Message:
    return dns.message.make_response(dns.message.from_wire(query))
