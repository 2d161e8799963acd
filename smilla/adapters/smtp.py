"""The client for the MTA's own listener, for re-injection (RFC 5321).

Promises: the final dot is sent only after ``before_dot`` has returned.  If anything fails before that, the connection
is cut and nothing was accepted.  The octets are sent exactly as given, with leading dots doubled.  The client's ESMTP
parameters are passed on if the listener offers the extension.  The client's identity is passed on by XFORWARD before
each MAIL, since Postfix forgets it after each transaction; never by XCLIENT, since then the listener would judge the
client again.
"""

from __future__ import annotations

import re
import select
import smtplib
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

from smilla.errors import ReinjectError
from smilla.model import Client, Recipient
from smilla.ports import Handover, Submission

_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_SMUGGLED = re.compile(rb"(?<!\r)\n\.")
_FINAL_REPLY_S = 300.0
_WAITING_EVERY_S = 10
_LIMIT_S, _LIMIT_AGAIN_S, _LIMIT_TIMEOUT_S = 300.0, 30.0, 5.0
_EXTENSIONS = ("dsn", "8bitmime", "smtputf8", "xforward")


def problems(listener: str, timeout_s: float) -> list[tuple[str, str]]:
    """What is wrong with the listener at HOST:PORT: pairs of "error" or "warning" and a text."""
    try:
        with Listener(listener, timeout_s).connect() as connection:
            missing = [name for name in _EXTENSIONS if not connection.offers(name)]
    except ReinjectError as error:
        return [("error", str(error))]
    return [("warning", f"does not offer {name.upper()}, so it is not passed on") for name in missing]


def size_limit(listener: str, timeout_s: float) -> int:
    """The size in octets of the largest message that the listener at HOST:PORT takes, 0 if it does not say."""
    return Listener(listener, timeout_s).size_limit()


def stage_problem(socket_name: str, timeout_s: float) -> str:
    """What is wrong with the LMTP server (RFC 2033) at a socket in libmilter's notation, "" if it answers LHLO."""
    kind, _, place = socket_name.partition(":")
    port, _, host = place.partition("@")
    try:
        client = smtplib.LMTP(local_hostname=_own_name(), timeout=timeout_s)
        code, text = client.connect(place) if kind in ("unix", "local") else client.connect(host.strip("[]"), int(port))
        with client:
            if code == 220:
                code, text = client.ehlo()
            return "" if code == 250 else _shown(code, text)
    except (OSError, smtplib.SMTPException) as error:
        return f"does not answer as a stage: {error}"


class Listener:
    """Connections to HOST:PORT; each reply may take ``timeout_s``, the one to the final dot five minutes."""

    def __init__(self, address: str, timeout_s: float) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port, self._timeout_s = host.strip("[]"), int(port), timeout_s
        self._limit, self._limit_until = 0, 0.0

    def size_limit(self) -> int:
        """See ports.Mailer.  If the listener does not answer, its earlier limit still applies."""
        if time.monotonic() >= self._limit_until:
            self._limit_until = time.monotonic() + _LIMIT_S  # meanwhile the other threads use the old limit
            try:
                with self._connected(min(self._timeout_s, _LIMIT_TIMEOUT_S)) as connection:
                    self._limit = connection.size_limit
            except ReinjectError:
                self._limit_until = time.monotonic() + _LIMIT_AGAIN_S
        return self._limit

    def connect(self) -> AbstractContextManager[Connection]:
        """Raises ReinjectError."""
        return self._connected(self._timeout_s)

    @contextmanager
    def _connected(self, timeout_s: float) -> Iterator[Connection]:
        # We give a name, since smtplib would ask the name servers for one, however long they take.
        client = smtplib.SMTP(local_hostname=_own_name(), timeout=timeout_s)
        try:
            code, text = client.connect(self._host, self._port)
            if code == 220:
                code, text = client.ehlo()
        except (OSError, smtplib.SMTPException) as error:
            client.close()
            raise ReinjectError(f"{self._host}:{self._port}: {error}") from error
        try:
            if code not in (220, 250):
                raise ReinjectError(f"{self._host}:{self._port}: {_shown(code, text)}")
            if client.sock is not None:
                client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(client)
            yield connection
            if connection.idle:
                with suppress(OSError, smtplib.SMTPException):
                    client.docmd("QUIT")
        finally:
            client.close()


class Connection:
    """One connection, for several messages."""

    def __init__(self, client: smtplib.SMTP) -> None:
        self._client = client
        self.idle = True  # between transactions, so QUIT is allowed

    def offers(self, extension: str) -> bool:
        """Was the extension in the answer to EHLO?"""
        return bool(self._client.has_extn(extension))

    @property
    def size_limit(self) -> int:
        """The SIZE in the answer to EHLO (RFC 1870), 0 if it has none."""
        size = self._client.esmtp_features.get("size", "")
        return int(size) if re.fullmatch("[0-9]{1,18}", size) else 0

    def send(
        self,
        submission: Submission,
        before_dot: Callable[[Sequence[Recipient]], None],
        waiting: Callable[[], object] = lambda: None,
    ) -> Handover:
        """See ports.MailerConnection."""
        self.idle = False
        try:
            accepted, refused = self._envelope(submission)
            if not accepted:
                self._command("RSET")
                self.idle = True
                return Handover((), refused)
            code, text = self._command("DATA")
            if code != 354:
                raise ReinjectError(_shown(code, text))
            for block in _stuffed(submission.octets()):
                self._client.send(block)
            if self._has_said_more():
                raise ReinjectError("the listener ended the connection or sent an unexpected reply")
            before_dot(accepted)
        except (OSError, smtplib.SMTPException) as error:
            self._client.close()
            raise ReinjectError(f"the connection to the listener failed: {error}") from error
        except BaseException:
            self._client.close()
            raise
        try:
            self._client.send(b".\r\n")
            self._await_final_reply(waiting)
            code, text = self._client.getreply()
        except (OSError, smtplib.SMTPException):
            self._client.close()
            return Handover((), refused, unknown=True)
        if not 100 <= code <= 599:
            self._client.close()
            return Handover((), refused, unknown=True)
        self.idle = True
        if 200 <= code < 300:
            return Handover(accepted, refused, reply=_shown(code, text))
        return Handover((), refused + tuple((recipient, _shown(code, text)) for recipient in accepted))

    def _has_said_more(self) -> bool:
        """Is there anything to read before the final dot?  There should not be: an early reply (a 421, for instance)
        would be taken for the answer to the dot."""
        sock, file = self._client.sock, self._client.file
        if sock is None or file is None or self._is_readable(0):
            return True
        sock.settimeout(0)
        try:
            return bool(file.peek(1))  # type: ignore[attr-defined, unused-ignore]
        finally:
            sock.settimeout(self._client.timeout)

    def _is_readable(self, wait_s: int) -> bool:
        """Is there something to read, or has the connection ended?"""
        poll = select.poll()
        if self._client.sock is not None:
            poll.register(self._client.sock, select.POLLIN)
        return self._client.sock is None or bool(poll.poll(wait_s * 1000))

    def _await_final_reply(self, waiting: Callable[[], object]) -> None:
        """Returns once there is something to read.  Raises TimeoutError.  Giving up early means sending a second copy
        (RFC 1047; RFC 5321 section 4.5.3.2.6 asks for ten minutes).  Meanwhile the MTA's own client waits for us."""
        until = time.monotonic() + _FINAL_REPLY_S
        while not self._is_readable(_WAITING_EVERY_S):
            if time.monotonic() > until:
                raise TimeoutError("no reply to the final dot")
            waiting()

    def _envelope(self, submission: Submission) -> tuple[tuple[Recipient, ...], tuple[tuple[Recipient, str], ...]]:
        self._forward(submission.client, submission.queue_id)
        code, text = self._command(f"MAIL FROM:<{_address(submission.sender)}>{self._mail_parameters(submission)}")
        if code != 250:
            raise ReinjectError(_shown(code, text))
        accepted, refused = [], []
        for recipient in submission.recipients:
            address = _address(recipient.raw)
            code, text = self._command(f"RCPT TO:<{address}>{self._words(recipient.parameters, ('NOTIFY', 'ORCPT'))}")
            if code in (250, 251):
                accepted.append(recipient)
            else:
                refused.append((recipient, _shown(code, text)))
        return tuple(accepted), tuple(refused)

    def _mail_parameters(self, submission: Submission) -> str:
        names = {parameter.partition("=")[0].upper() for parameter in submission.parameters}
        addresses = (submission.sender, *(recipient.raw for recipient in submission.recipients))
        needs_utf8 = "SMTPUTF8" in names or not all(address.isascii() for address in addresses)
        if needs_utf8 and not self.offers("smtputf8"):
            raise ReinjectError("the listener does not offer SMTPUTF8, which this message needs")
        if submission.needs_dsn and not self.offers("dsn"):
            raise ReinjectError("the listener does not offer DSN, so a bounce would have the whole text")
        text = self._words(submission.parameters, ("RET", "ENVID"))
        if self.offers("8bitmime"):
            text += "".join(f" {p}" for p in submission.parameters if p.upper() in ("BODY=8BITMIME", "BODY=7BIT"))
        return text + (" SMTPUTF8" if needs_utf8 else "")

    def _words(self, parameters: Iterable[str], names: Sequence[str]) -> str:
        """The parameters of the DSN extension (RFC 3461) as they were given."""
        if not self.offers("dsn"):
            return ""
        chosen = [p for p in parameters if p.partition("=")[0].upper() in names]
        if any(_CONTROL.search(parameter) for parameter in chosen):
            raise ReinjectError("an ESMTP parameter contains a forbidden character")
        return "".join(f" {parameter}" for parameter in chosen)

    def _forward(self, client: Client, queue_id: str) -> None:
        """Sends the XFORWARD attributes that the listener offers.  If it refuses them, the mail goes on anyway."""
        offered = self._client.esmtp_features.get("xforward", "").upper().split()
        address = f"IPV6:{client.ip}" if ":" in client.ip and not client.ip.upper().startswith("IPV6:") else client.ip
        values = {
            "NAME": client.host_name if not client.host_name.startswith("[") else "",
            "ADDR": address,
            "PORT": str(client.port or ""),
            "PROTO": "ESMTP",
            "HELO": client.helo,
            "IDENT": queue_id,
            # With LOCAL the listener would rewrite the header; if the MTA rewrites at all, it already has.
            "SOURCE": "REMOTE",
        }
        words = [f"{name}={_xtext(values[name])}" for name in offered if name in values]
        if words:
            self._command("XFORWARD " + " ".join(words))

    def _command(self, line: str) -> tuple[int, bytes]:
        self._client.send(line.encode("utf-8", "surrogateescape") + b"\r\n")
        return self._client.getreply()


def _own_name() -> str:
    """The name for EHLO: the machine's, if it has a domain."""
    name = socket.gethostname()
    return name if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name) else "localhost"


def _address(raw: str) -> str:
    """Without brackets and source route (RFC 5321 appendix C).  Raises ReinjectError if it could end a command."""
    bare = raw.strip().removeprefix("<").removesuffix(">").strip(" ")
    if bare.startswith("@"):
        bare = bare.partition(":")[2]
    if re.search(r"[\x00-\x1f\x7f]", bare) or (_CONTROL.search(bare) and not bare.startswith('"')):
        raise ReinjectError("an address contains a forbidden character")
    return bare


def _xtext(value: str) -> str:
    """As in RFC 3461 section 4; [UNAVAILABLE] for a value that is unknown or unsuitable."""
    if not value or len(value) > 255 or not value.isascii():
        return "[UNAVAILABLE]"
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in value)


def _stuffed(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Doubles leading dots, also across blocks (RFC 5321 section 4.5.2), and adds a line end if the last is missing.

    Raises ReinjectError for a dot after a bare line feed: some servers take it for the end of the message and the rest
    for commands (SMTP smuggling), and others would not undo the doubling.
    """
    last = b"\r\n"
    for block in blocks:
        if not block:
            continue
        if _SMUGGLED.search(last + block, len(last) - 1):
            raise ReinjectError("a line begins with a dot after a bare line feed, which no server reads safely")
        joined = (last + block).replace(b"\r\n.", b"\r\n..")
        yield joined[len(last) :]
        last = (last + block)[-2:]
    if last != b"\r\n":
        yield b"\r\n"


def _shown(code: int, text: bytes) -> str:
    return f"{code} {text.decode('utf-8', 'replace')}"[:300]
