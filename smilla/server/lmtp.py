"""The stage's LMTP server (RFC 2033): takes what the MTA hands over after its queue, and answers for each recipient.

Promises: a recipient is answered 250 only after the listener took their copy.  If the connection breaks, a message is
cut off or smilla fails, the mail stays with the MTA.  No body is held in memory.  One message harms no other.  This
module decides nothing about mail.  Extensions: 8BITMIME, SMTPUTF8 (RFC 6531), DSN (RFC 3461), ENHANCEDSTATUSCODES,
PIPELINING, and Postfix's XFORWARD.  Of XFORWARD only IDENT is used, since the sealed facts have the rest.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

from smilla import log
from smilla.adapters.spool import SpooledBody
from smilla.answer import reply
from smilla.config.options import StageOptions
from smilla.errors import SmillaError
from smilla.model import Recipient
from smilla.server import stage
from smilla.server.content import Content
from smilla.server.handed import Handed
from smilla.server.lines import one_line
from smilla.server.listener import LocalSocket
from smilla.server.service import Runtime, Service
from smilla.session import parsed_recipient

_READ = 65536
_LONGEST_LINE = 1 << 20  # a header field may be one line
_IDLE_S = 600.0  # Postfix's lmtp_data_xfer_timeout is 180 s
_MOST_RECIPIENTS = 2000
_XTEXT = re.compile(r"\+([0-9A-Fa-f]{2})")
_PATH = re.compile(r"\s*<((?:[^<>\"]|\"(?:[^\"\\]|\\.)*\")*)>((?:\s+\S+)*)\s*", re.DOTALL)
_HELLO = ("smilla", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "PIPELINING",
          "XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT")  # fmt: skip


class Server:
    """The listening socket.  It is made before rights are dropped, and served after a fork."""

    def __init__(self, options: StageOptions, user: str) -> None:
        """Makes the socket, with its group and mode.  Raises SmillaError."""
        self._listening = LocalSocket("stage", options, user)

    def remove(self) -> None:
        """Removes the socket's path."""
        self._listening.remove()

    def serve(self, service: Service) -> NoReturn:
        """Answers the MTA until the process ends: one thread per connection, at most [stage] connections at once."""
        self._listening.serve(partial(_serve_one, service), service.runtime.config.stage.connections)


def _serve_one(service: Service, connection: socket.socket, done: Callable[[], object]) -> None:
    try:
        with connection:
            connection.settimeout(_IDLE_S)
            _Dialogue(service, connection).run()
    except (OSError, EOFError):
        pass  # the MTA is gone or was silent for too long; it keeps what was not answered
    except Exception:
        log.internal_error("", "stage")
    finally:
        done()


@dataclass(slots=True)
class _Transaction:
    sender: str
    ident: str
    parameters: tuple[str, ...]
    runtime: Runtime  # the configuration in force at MAIL, for the whole message
    recipients: list[Recipient] = field(default_factory=list)


class _Dialogue:
    """One connection."""

    def __init__(self, service: Service, connection: socket.socket) -> None:
        self._service, self._socket = service, connection
        self._buffer = bytearray()
        self._transaction: _Transaction | None = None
        self._ident = ""
        self._ended = False

    def run(self) -> None:
        """Serves the connection until QUIT, or until smilla stops."""
        self._say("220", "", "smilla stage")
        while not self._ended:
            line = self._line()
            verb, _, rest = line.partition(" ")
            handler = _COMMANDS.get(verb.upper())
            if handler is None:
                self._say("500", "5.5.2", "Unknown command")
            else:
                handler(self, rest)

    # --- commands

    def _lhlo(self, _: str) -> None:
        self._transaction = None
        lines = [f"250-{line}" for line in _HELLO]
        lines[-1] = lines[-1].replace("250-", "250 ", 1)
        self._send("".join(f"{line}\r\n" for line in lines))

    def _xforward(self, rest: str) -> None:
        """Postfix sends this anew for each message."""
        found = re.search(r"(?:^|\s)IDENT=(\S+)", rest, re.IGNORECASE)
        if found:
            ident = _XTEXT.sub(lambda match: chr(int(match[1], 16)), found[1])
            self._ident = "" if ident == "[UNAVAILABLE]" else ident
        self._say("250", "2.0.0", "Ok")

    def _mail(self, rest: str) -> None:
        found = _PATH.fullmatch(rest[5:]) if rest[:5].upper() == "FROM:" else None
        if self._service.draining:
            self._say("421", "4.3.2", "smilla is restarting")
            self._ended = True
        elif found is None or self._transaction is not None:
            self._say("503" if found else "501", "5.5.1", "MAIL is not as it should be")
        else:
            parameters, runtime = tuple(found[2].split()), self._service.runtime
            self._transaction, self._ident = _Transaction(found[1], self._ident, parameters, runtime), ""
            self._say("250", "2.1.0", "Ok")

    def _rcpt(self, rest: str) -> None:
        found = _PATH.fullmatch(rest[3:]) if rest[:3].upper() == "TO:" else None
        if self._transaction is None or found is None:
            self._say("503" if found else "501", "5.5.1", "RCPT is not as it should be")
        elif len(self._transaction.recipients) >= _MOST_RECIPIENTS:
            self._say("452", "4.5.3", "Too many recipients")
        else:
            recipient = parsed_recipient(
                f"<{found[1]}>", tuple(found[2].split()), self._transaction.runtime.config.completion
            )
            self._transaction.recipients.append(recipient)
            self._say("250", "2.1.5", "Ok")

    def _data(self, _: str) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is None or not transaction.recipients:
            self._say("503", "5.5.1", "No recipient")
            return
        self._say("354", "", "Go on")
        self._service.begin()
        try:
            for answer in self._answers(transaction):
                self._say(answer.code, answer.enhanced, answer.text)
        finally:
            self._service.end()

    def _answers(self, transaction: _Transaction) -> tuple[reply.Reply, ...]:
        """One answer per recipient.  If smilla fails, all get the error's reply (451) and are owed their copies."""
        runtime = transaction.runtime
        body = SpooledBody(runtime.config.spool.folder, runtime.config.spool.threshold_kib * 1024)
        problem: Exception | None = None
        content = Content(body)
        for block in self._blocks():
            try:
                content.take(block)
            except SmillaError as error:  # the rest must be read all the same
                problem = problem or error
        try:
            if problem is not None:
                raise problem
            handed = Handed(
                transaction.sender,
                tuple(transaction.recipients),
                content.message(),
                transaction.ident,
                transaction.parameters,
            )
            return stage.deliver(handed, runtime.ports, runtime.behind("postfix"))
        except Exception as error:
            log.internal_error("", "stage")
            return (reply.for_error(error),) * len(transaction.recipients)

    def _rset(self, _: str) -> None:
        self._transaction = None
        self._say("250", "2.0.0", "Ok")

    def _noop(self, _: str) -> None:
        self._say("250", "2.0.0", "Ok")

    def _quit(self, _: str) -> None:
        self._say("221", "2.0.0", "Bye")
        self._ended = True

    # --- octets

    def _blocks(self) -> Iterator[bytes]:
        """The content up to its final dot, in whole lines, with doubled dots undone (RFC 5321 section 4.5.2).  Raises
        EOFError if it is cut off."""
        held = b""
        while True:
            held += self._more()
            whole = held.rfind(b"\r\n") + 2
            if whole < 2 and len(held) > _LONGEST_LINE:
                raise EOFError("a line that does not end")
            if whole < 2:
                continue
            lines = b"\r\n" + held[:whole]
            end = lines.find(b"\r\n.\r\n")
            if end >= 0:
                self._buffer[:0] = lines[end + 5 :] + held[whole:]
                yield lines[: end + 2].replace(b"\r\n..", b"\r\n.")[2:]
                return
            yield lines.replace(b"\r\n..", b"\r\n.")[2:]
            held = held[whole:]

    def _line(self) -> str:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _LONGEST_LINE:
                raise EOFError("a command that does not end")
            self._buffer += self._receive()
        raw = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        return raw.decode("utf-8", "surrogateescape")

    def _more(self) -> bytes:
        if self._buffer:
            found = bytes(self._buffer)
            self._buffer.clear()
            return found
        return self._receive()

    def _receive(self) -> bytes:
        found = self._socket.recv(_READ)
        if not found:
            raise EOFError("the MTA has gone")
        return found

    def _say(self, code: str, enhanced: str, text: str) -> None:
        self._send(one_line(code, enhanced, text))

    def _send(self, text: str) -> None:
        self._socket.sendall(text.encode("ascii", "replace"))


_COMMANDS: dict[str, Callable[[_Dialogue, str], None]] = {
    "LHLO": _Dialogue._lhlo,
    "XFORWARD": _Dialogue._xforward,
    "MAIL": _Dialogue._mail,
    "RCPT": _Dialogue._rcpt,
    "DATA": _Dialogue._data,
    "RSET": _Dialogue._rset,
    "NOOP": _Dialogue._noop,
    "QUIT": _Dialogue._quit,
}
