"""What goes over a client's connection to the relay: lines of commands and replies, and blocks of content.

Promises: only CRLF ends a line; no line is longer than it needs to be; every wait has an end.
"""

from __future__ import annotations

import re
import select
import socket
import time
from contextlib import suppress

from smilla.adapters import tls_server
from smilla.adapters.tls_server import ServerTLS

_READ = 65536
_LONGEST_COMMAND = 12288  # RFC 4954 section 4; no other command needs so much
_LONGEST_TEXT = 480
_WAIT_S = 300.0  # RFC 5321 section 4.5.3.2.7
_SEND_S = 60.0
_WANT_READ = 2  # ssl.SSL_ERROR_WANT_READ: nothing is there to read
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class CutOffError(Exception):
    """The client does not keep to the protocol; the text says how."""


def one_line(code: str, enhanced: str, text: str) -> str:
    """A reply.  A line end in ``text``, which may come from another server, would begin another one, which the client
    would take for the answer to what it says next."""
    shown = _CONTROL.sub(" ", text[:_LONGEST_TEXT])
    return " ".join(word for word in (code, enhanced, shown) if word) + "\r\n"


class Lines:
    """One connection.  Every method raises OSError if the connection breaks, and those that read raise EOFError if the
    client has ended it, TimeoutError if it is too slow."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket, self._buffer = connection, bytearray()
        self.is_early, self._early = False, 0  # was the last line said before ``has_ended`` was asked?
        self.is_encrypted = False
        with suppress(OSError):  # a UNIX socket has no such option
            # Else a reply waits 40 ms for the acknowledgement of what TLS has sent before it.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def encrypt(self, tls: ServerTLS) -> None:
        """From here on everything goes over TLS, once the client has shaken hands.  What it said before that, and was
        not read, would be taken for something said over TLS (RFC 3207 section 6): the caller asks ``has_more`` before.
        Raises OSError."""
        if self._buffer:
            raise CutOffError("Wait for the answer to STARTTLS")
        self._socket = tls.accept(self._socket)
        self.is_encrypted = True

    def close(self) -> None:
        """Ends the connection."""
        tls_server.end(self._socket)
        self._socket.close()

    @property
    def has_more(self) -> bool:
        """Has the client said more than was read?"""
        return bool(self._buffer)

    def has_ended(self) -> bool:
        """Will the client say nothing more than it has said until now?  Then it may be gone, or may still read.  What
        it has said is ``early``: it tells nothing of what the client hears from now on."""
        self._socket.settimeout(0)
        found = b"-"
        while found and len(self._buffer) <= _LONGEST_COMMAND:
            try:
                found = self._socket.recv(_READ)  # peeking would not see the end within TLS
            except OSError as error:
                if isinstance(error, BlockingIOError) or error.errno == _WANT_READ:
                    break
                raise
            self._buffer += found
        self._early = len(self._buffer)
        return not found

    def is_refused(self, wait_s: float, *, has_ended: bool, is_here: bool) -> bool:
        """Does the client's system say, within this time, that nobody was there any more for what we sent?  One of this
        machine (``is_here``) says it before it says that the client has ended, if that came later."""
        poll, deadline = select.poll(), time.monotonic() + wait_s
        poll.register(self._socket, 0 if has_ended else select.POLLIN)  # POLLERR is always told
        while found := poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            events = found[0][1]
            if events & select.POLLERR:
                return True
            self._socket.settimeout(0)
            try:
                if not self._socket.recv(_READ):
                    if is_here or events & select.POLLHUP:
                        return False
                    poll.modify(self._socket, 0)  # it has ended; what it did not read, its system may refuse yet
            except OSError as error:
                if isinstance(error, ConnectionError):
                    return True
            if time.monotonic() >= deadline:
                break
        return False

    def line(self) -> str:
        """The next line, without its end.  Raises CutOffError."""
        deadline = time.monotonic() + _WAIT_S
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _LONGEST_COMMAND:
                raise CutOffError("A command that does not end")
            self._buffer += self._receive(deadline)
        raw = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self.is_early = self._early > 0
        self._early = max(0, self._early - len(raw))
        line = raw[:-2].decode("utf-8", "surrogateescape")
        if not raw.endswith(b"\r\n") or len(raw) > _LONGEST_COMMAND or _CONTROL.search(line):
            raise CutOffError("A command ends with CR and LF, and has no other control characters")
        return line

    def block(self, deadline: float) -> bytes:
        """The next octets, whatever they are, until ``deadline`` (monotonic seconds)."""
        if self._buffer:
            found = bytes(self._buffer)
            self._buffer.clear()
            return found
        return self._receive(min(deadline, time.monotonic() + _WAIT_S))

    def put_back(self, rest: bytes) -> None:
        """What was read too much."""
        self._buffer[:0] = rest

    def say(self, code: str, enhanced: str, text: str) -> None:
        """A reply of one line, whatever ``text`` holds."""
        self.send(one_line(code, enhanced, text))

    def send(self, text: str) -> None:
        """Whole lines."""
        self._socket.settimeout(_SEND_S)
        self._socket.sendall(text.encode("ascii", "replace"))

    def _receive(self, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the client is too slow")
        self._socket.settimeout(left)
        found = self._socket.recv(_READ)
        if not found:
            raise EOFError("the client has gone")
        return found
