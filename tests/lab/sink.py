"""An SMTP server that accepts everything and keeps it octet for octet: it stands for the wire behind the MTA."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.lab.listening import LoopbackServer
from tests.lab.processes import LOOPBACK

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

_EXTENSIONS = ("8BITMIME", "SIZE 104857600", "DSN")


@dataclass(frozen=True)
class ReceivedMail:
    """One message as it came over the wire: the envelope (addresses without brackets, parameters as given) and the
    octets between DATA and the final dot, unstuffed."""

    mail_from: str
    rcpt_to: tuple[str, ...]
    raw: bytes
    mail_parameters: tuple[str, ...] = ()
    rcpt_parameters: tuple[tuple[str, ...], ...] = ()
    over_tls: bool = False

    @property
    def raw_header(self) -> bytes:
        """The header with its last line end."""
        return self.raw.partition(b"\r\n\r\n")[0] + b"\r\n"

    @property
    def raw_body(self) -> bytes:
        """What follows the empty line."""
        return self.raw.partition(b"\r\n\r\n")[2]


@dataclass
class _Transaction:
    mail_from: str | None = None
    mail_parameters: tuple[str, ...] = ()
    recipients: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)


class Sink(LoopbackServer):
    """Listens on a loopback port in threads of its own.

    ``answer(line)`` may return another reply to a command line (b"." stands for the end of the message), such as
    b"451 4.3.0 not now"; None leaves the usual one.  Where ``folder`` is given, each message is also written there.
    ``cut_off`` is what came of messages that had no end.  With ``tls`` it offers STARTTLS.
    """

    def __init__(
        self,
        folder: Path | None = None,
        extensions: tuple[str, ...] = _EXTENSIONS,
        *,
        address: str = LOOPBACK,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.messages: list[ReceivedMail] = []
        self.cut_off: list[bytes] = []
        self.answer: Callable[[bytes], bytes | None] = lambda line: None
        self.folder = folder
        self.extensions = extensions
        self.tls = tls
        self._changed = threading.Condition()
        super().__init__(address, port)

    def wait_for(self, count: int, timeout_s: float = 60) -> list[ReceivedMail]:
        """Waits until this many messages have come in all; raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while len(self.messages) < count:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{len(self.messages)} of {count} messages reached the sink in {timeout_s:g} s")
                self._changed.wait(left)
            return list(self.messages)

    def talk(self, connection: socket.socket) -> None:
        """One dialogue, to its end."""
        try:
            # Around the stream, too: its end writes what is left, to whoever may be gone.
            with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rwb") as stream:
                wants_tls = _Dialogue(self, stream.readline, _sender(stream.write, stream.flush)).run()
                if wants_tls and self.tls is not None:
                    self._talk_tls(connection, self.tls)
        finally:
            self.open.discard(connection)

    def _talk_tls(self, connection: socket.socket, tls: ssl.SSLContext) -> None:
        # A second descriptor, so that cut_connections still finds the first one.
        with tls.wrap_socket(connection.dup(), server_side=True) as secure, secure.makefile("rwb") as stream:
            _Dialogue(self, stream.readline, _sender(stream.write, stream.flush), is_tls=True).run()

    def file(self, number: int) -> Path:
        """Where message NUMBER (from 1) is kept, for a sink with a folder."""
        if self.folder is None:
            raise ValueError("this sink writes no files")
        return self.folder / f"{number}.eml"

    def keep(self, mail: ReceivedMail) -> None:
        """Takes a message over, called by the dialogue that received it."""
        with self._changed:
            if self.folder is not None:
                self.file(len(self.messages) + 1).write_bytes(mail.raw)
            self.messages.append(mail)
            self._changed.notify_all()


def _sender(write: Callable[[bytes], int], flush: Callable[[], None]) -> Callable[[bytes], None]:
    def send(reply: bytes) -> None:
        write(reply + b"\r\n")
        flush()

    return send


class _Dialogue:
    """One SMTP connection (RFC 5321), as much of it as an MTA that only delivers needs."""

    def __init__(
        self, sink: Sink, readline: Callable[[], bytes], send: Callable[[bytes], None], *, is_tls: bool = False
    ) -> None:
        self._sink = sink
        self._is_tls = is_tls
        self._readline = readline
        self._send = send
        self._transaction = _Transaction()

    def run(self) -> bool:
        """Until its end; True if the client begins TLS then."""
        if not self._is_tls:
            self._send(b"220 sink.test ESMTP")
        while line := self._readline():
            command = line.rstrip(b"\r\n")
            verb = command[:4].upper()
            other = self._sink.answer(command)
            if other is not None:
                self._send(other)
            elif verb == b"DATA" and self._transaction.recipients:
                self._data()
            else:
                self._send(self._reply(verb, command))
            if verb == b"QUIT":
                return False
            if command.upper() == b"STARTTLS" and self._offers_tls and other is None:
                return True
        return False

    @property
    def _offers_tls(self) -> bool:
        return self._sink.tls is not None and not self._is_tls

    def _reply(self, verb: bytes, command: bytes) -> bytes:
        if verb == b"EHLO":
            names = ["sink.test", *self._sink.extensions, *["STARTTLS"] * self._offers_tls]
            return "\r\n".join(f"250{'-' if name is not names[-1] else ' '}{name}" for name in names).encode()
        if verb == b"MAIL":
            address, parameters = _path(command)
            self._transaction = _Transaction(address, parameters)
        elif verb == b"RCPT" and self._transaction.mail_from is not None:
            self._transaction.recipients.append(_path(command))
        elif verb == b"QUIT":
            return b"221 2.0.0 bye"
        elif command.upper() == b"STARTTLS" and self._offers_tls:
            return b"220 2.0.0 go ahead"
        elif verb not in (b"HELO", b"RSET", b"NOOP"):
            return b"503 5.5.1 not now"
        return b"250 2.0.0 OK"

    def _data(self) -> None:
        self._send(b"354 go ahead")
        lines: list[bytes] = []
        while (line := self._readline()) != b".\r\n":
            if not line:
                self._sink.cut_off.append(b"".join(lines))
                return
            lines.append(line[1:] if line.startswith(b".") else line)
        transaction, self._transaction = self._transaction, _Transaction()
        other = self._sink.answer(b".")
        if other is None or other.startswith(b"2"):
            self._sink.keep(
                ReceivedMail(
                    mail_from=transaction.mail_from or "",
                    rcpt_to=tuple(address for address, _ in transaction.recipients),
                    raw=b"".join(lines),
                    mail_parameters=transaction.mail_parameters,
                    rcpt_parameters=tuple(parameters for _, parameters in transaction.recipients),
                    over_tls=self._is_tls,
                )
            )
        self._send(other or b"250 2.0.0 kept")


def _path(command: bytes) -> tuple[str, tuple[str, ...]]:
    """The address between the angle brackets of MAIL or RCPT, and the parameters after them."""
    text = command.decode("utf-8", "surrogateescape")
    address, _, parameters = text.partition("<")[2].rpartition(">")
    return address, tuple(parameters.split())
