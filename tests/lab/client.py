"""An SMTP client that sends octets as they are: 8-bit, NUL, bare line ends and over-long lines included."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.lab.processes import LOOPBACK, Closing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Reply:
    """An SMTP reply: the code and the text, its lines joined by line feeds."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class SMTPClient(Closing):
    """One connection; EHLO is said at once, with ``lmtp`` LHLO (RFC 2033)."""

    def __init__(
        self,
        port: int,
        *,
        helo: str = "client.test",
        timeout_s: float = 60,
        lmtp: bool = False,
        host: str = LOOPBACK,
    ) -> None:
        self._socket: socket.socket = socket.create_connection((host, port), timeout=timeout_s)
        self._stream = self._socket.makefile("rb")
        self.greeting = self._read()
        self._is_lmtp = lmtp
        self.ehlo = self.command(f"{'LHLO' if lmtp else 'EHLO'} {helo}")

    def command(self, line: str | bytes) -> Reply:
        """Sends one command line and returns the reply."""
        self.send_raw((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self._read()

    def start_tls(self, *, certificate: tuple[Path, Path] | None = None, ehlo: bool = True) -> None:
        """STARTTLS, with a client's certificate and key or without, and EHLO again, which a client may leave out.  The
        server's certificate is not verified."""
        if (reply := self.command("STARTTLS")).code != 220:
            raise OSError(f"STARTTLS: {reply}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if certificate is not None:
            context.load_cert_chain(*certificate)
        self._stream.close()
        self._socket = context.wrap_socket(self._socket)
        self._stream = self._socket.makefile("rb")
        if ehlo:
            self.ehlo = self.command(f"{'LHLO' if self._is_lmtp else 'EHLO'} client.test")

    def send_raw(self, octets: bytes) -> None:
        """Sends octets and waits for nothing."""
        self._socket.sendall(octets)

    def send(
        self, mail_from: str, rcpt_to: Sequence[str], message: bytes, *, mail_parameters: str = "BODY=8BITMIME"
    ) -> list[Reply]:
        """One transaction, addresses without brackets; returns the replies to MAIL, to each RCPT, to DATA and to the
        message (over LMTP, one for each recipient taken), as many as there were.  Stops, with RSET, where no recipient
        is left."""
        replies = [self.command(f"MAIL FROM:<{mail_from}> {mail_parameters}".rstrip())]
        if replies[-1].code != 250:
            return replies
        recipients = [self.command(f"RCPT TO:<{recipient}>") for recipient in rcpt_to]
        replies += recipients
        if not any(reply.code in (250, 251) for reply in recipients):
            self.command("RSET")
            return replies
        replies.append(self.command("DATA"))
        if replies[-1].code == 354:
            self.send_raw(stuffed(message))
            taken = sum(reply.code in (250, 251) for reply in recipients) if self._is_lmtp else 1
            replies += [self._read() for _ in range(taken)]
        return replies

    def close(self) -> None:
        """Says QUIT, where the server still listens, and closes."""
        with contextlib.suppress(OSError, EOFError):
            self.command("QUIT")
        self._stream.close()
        self._socket.close()

    def _read(self) -> Reply:
        texts = []
        while True:
            line = self._stream.readline()
            if not line:
                raise EOFError("the server closed the connection")
            texts.append(line[4:].rstrip(b"\r\n").decode("utf-8", "replace"))
            if line[3:4] != b"-":
                return Reply(int(line[:3]), "\n".join(texts))


def stuffed(message: bytes) -> bytes:
    """The message as DATA carries it: leading dots doubled (RFC 5321 section 4.5.2) and the final dot added."""
    octets = re.sub(rb"(\A|\r\n)\.", rb"\1..", message)
    return octets + (b".\r\n" if octets.endswith(b"\r\n") else b"\r\n.\r\n")


def send_mail(port: int, mail_from: str, rcpt_to: Sequence[str], message: bytes) -> Reply:
    """Sends one message over a connection of its own and returns the last reply."""
    with SMTPClient(port) as client:
        return client.send(mail_from, rcpt_to, message)[-1]
