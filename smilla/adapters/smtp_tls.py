"""What an SMTP server presents after STARTTLS (RFC 3207) at one address.

Promises: the whole exchange ends within ``timeout_s``, whatever the server does; ``starttls`` verifies nothing, and no
mail is sent; the dialogue ends with QUIT.  A server that does not offer STARTTLS is told from one that could not be
asked.
"""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass

from smilla.errors import HopError, words_of

_MOST = 64 * 1024  # octets of the server's replies
_A_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Presented:
    """``raw_chain`` in DER, the server's own certificate first, as the server sent it; ``asked_for`` is the name that
    we sent (SNI); ``offered`` are the keywords of EHLO inside TLS, in capitals: None if that was not asked, or not
    answered."""

    asked_for: str
    version: str
    cipher: str
    raw_chain: tuple[bytes, ...]
    offered: tuple[str, ...] | None = None


def starttls(address: str, port: int, server_name: str, timeout_s: float, own_name: str = "localhost") -> Presented:
    """Asks the server at an IP address.  Raises HopError; with the code ``no_starttls`` if the server does not offer
    it."""
    return _exchanged((address, port), timeout_s, _Hello(own_name, server_name, _unverified()))


def survey(address: str, port: int, server_name: str, timeout_s: float, own_name: str) -> Presented:
    """The same, as a sender with opportunistic TLS meets the server: old versions and weak ciphers, too, if the server
    has no better ones.  ``offered`` is asked for."""
    context = _unverified()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return _exchanged((address, port), timeout_s, _Hello(own_name, server_name, context, asks_again=True))


def own_host_name() -> str:
    """This machine's name, as EHLO should say it."""
    return socket.getfqdn()


def verify(address: str, port: int, server_name: str, timeout_s: float, ca_file: str = "") -> None:
    """Returns if the certificate is valid now for the name, under the system's authorities or those in ``ca_file``
    (PEM).  Raises HopError; with the code ``untrusted`` if it is not, and ``no_authorities`` for an unusable file."""
    context = verifying(ca_file)
    _exchanged((address, port), timeout_s, _Hello("localhost", server_name, context))


def verifying(ca_file: str = "") -> ssl.SSLContext:
    """What verifies a server's certificate and its name, under the system's authorities or those in ``ca_file``.
    Raises HopError with the code ``no_authorities`` for an unusable file."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise HopError(f"{ca_file}: cannot be used: {error}", code="no_authorities") from error
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as MTAs verify; Python 3.13 sets it
    return context


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the caller judges
    return context


@dataclass(frozen=True, slots=True)
class _Hello:
    """How we present ourselves, whom we ask for (SNI), what is verified, and whether we say EHLO again inside TLS."""

    own_name: str
    server_name: str
    context: ssl.SSLContext
    asks_again: bool = False


def _exchanged(where: tuple[str, int], timeout_s: float, hello: _Hello) -> Presented:
    deadline = time.monotonic() + timeout_s
    try:
        with _connected(where, timeout_s) as connection:
            return _asked(_Dialogue(connection, deadline), hello)
    except HopError:
        raise
    except ssl.SSLCertVerificationError as error:
        raise HopError(error.verify_message or str(error), code="untrusted") from error
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise HopError(f"{where[0]}:{where[1]}: {words_of(error)}", code="unreachable") from error


def _connected(where: tuple[str, int], timeout_s: float) -> socket.socket:
    try:
        return socket.create_connection(where, timeout_s)
    except OSError as error:
        code = "refused" if isinstance(error, ConnectionRefusedError) else "no_connection"
        raise HopError(f"{where[0]}:{where[1]}: {words_of(error)}", code=code) from error


def _asked(dialogue: _Dialogue, hello: _Hello) -> Presented:
    dialogue.expect(220)
    offered = dialogue.command(f"EHLO {hello.own_name}", 250)
    if "STARTTLS" not in (line[4:].strip().upper() for line in offered):
        dialogue.quit()
        raise HopError("the server does not offer STARTTLS", code="no_starttls")
    dialogue.command("STARTTLS", 220)
    tls = dialogue.encrypted(hello)
    with tls:
        cipher = tls.cipher()
        inside = dialogue.asked_again(hello.own_name) if hello.asks_again else None
        found = Presented(hello.server_name, tls.version() or "", cipher[0] if cipher else "", _chain(tls), inside)
        dialogue.quit()
    return found


class _Dialogue:
    """Lines with a server, until a deadline (monotonic seconds)."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline
        self._unread, self._left = b"", _MOST

    def command(self, line: str, code: int) -> list[str]:
        """Sends it, and gives the lines of the reply.  Raises HopError for another reply."""
        self._limit()
        self._connection.sendall(line.encode("ascii") + b"\r\n")
        return self.expect(code)

    def expect(self, code: int) -> list[str]:
        """The lines of a reply.  Raises HopError for another one."""
        lines = [self._line()]
        while lines[-1][3:4] == "-":
            lines.append(self._line())
        if lines[-1][:3] != str(code):
            raise HopError(f"the server says {lines[-1][:200]!r} instead of {code}", code="unexpected_reply")
        return lines

    def encrypted(self, hello: _Hello) -> ssl.SSLSocket:
        """The same connection after the handshake.  What the server sent early, in the clear, is an error."""
        if self._unread:
            raise HopError("the server sent more than its reply to STARTTLS", code="unexpected_reply")
        self._limit()
        tls = hello.context.wrap_socket(self._connection, server_hostname=hello.server_name)
        self._connection = tls
        return tls

    def asked_again(self, own_name: str) -> tuple[str, ...] | None:
        """The keywords that the server offers inside TLS (RFC 3207 section 4.2); None if it does not say."""
        try:
            return tuple(
                words[0].upper() for line in self.command(f"EHLO {own_name}", 250)[1:] if (words := line[4:].split())
            )
        except (OSError, HopError):
            return None

    def quit(self) -> None:
        """Ends the dialogue, if the server still listens."""
        with suppress(OSError, HopError):
            self.command("QUIT", 221)

    def _line(self) -> str:
        while b"\n" not in self._unread:
            self._limit()
            block = self._connection.recv(_A_BLOCK)
            self._left -= len(block)
            if not block or self._left < 0:
                text = "the server's replies are too long" if block else "the server ended the connection"
                raise HopError(text, code="unreachable")
            self._unread += block
        line, _, self._unread = self._unread.partition(b"\n")
        return line.rstrip(b"\r").decode("utf-8", "replace")

    def _limit(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise HopError("the server did not answer in time", code="unreachable")
        self._connection.settimeout(left)


def _chain(tls: ssl.SSLSocket) -> tuple[bytes, ...]:
    """What the server sent.  Before Python 3.13 the method stands one level deeper, and gives objects."""
    if hasattr(tls, "get_unverified_chain"):
        return tuple(tls.get_unverified_chain())
    inner = tls._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
    return tuple(ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in inner or ())
