"""The client for the MTA's own listener, for re-injection, and for the next hop of the relay (RFC 5321).

Promises: the final dot is sent only after ``before_dot`` has returned.  If anything fails before that, the connection
is cut and nothing was accepted.  The octets are sent exactly as given, with leading dots doubled.  The client's ESMTP
parameters are passed on if the listener offers the extension.  The client's identity is passed on by XFORWARD before
each MAIL, since Postfix forgets it after each transaction; never by XCLIENT, since then the listener would judge the
client again.  Where TLS is asked for, nothing of a message is sent before the server has shown a valid certificate.
"""

from __future__ import annotations

import re
import select
import smtplib
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from smilla.adapters.smtp_words import bare_address, own_name, shown, stuffed, xtext
from smilla.errors import ReinjectError
from smilla.model import Client, Handover, Offer, Recipient, Submission

_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_FINAL_REPLY_S = 300.0
_WAITING_EVERY_S = 10
_LIMIT_S, _LIMIT_AGAIN_S, _LIMIT_TIMEOUT_S = 300.0, 30.0, 5.0
_OFFER_S, _OFFER_TIMEOUT_S = 60.0, 20.0
_WANT_READ = 2  # ssl.SSL_ERROR_WANT_READ: nothing is there to read
_TAKEN = (250, 251)
_EXTENSIONS = ("dsn", "8bitmime", "smtputf8", "xforward")


def problems(listener: str, timeout_s: float) -> list[tuple[str, str]]:
    """What is wrong with the listener at HOST:PORT: pairs of "error" or "warning" and a text."""
    try:
        with Listener(listener, timeout_s).connect() as connection:
            missing = [name for name in _EXTENSIONS if not connection.offers(name)]
    except ReinjectError as error:
        return [("error", str(error))]
    return [("warning", f"does not offer {name.upper()}, so it is not passed on") for name in missing]


def size_limit(listener: str, timeout_s: float) -> int | None:
    """The size in octets of the largest message that the listener at HOST:PORT takes, 0 if it does not say, None if it
    does not answer."""
    try:
        with Listener(listener, timeout_s).connect() as connection:
            return connection.size_limit
    except ReinjectError:
        return None


def stage_problem(socket_name: str, timeout_s: float) -> str:
    """What is wrong with the LMTP server (RFC 2033) at a socket in libmilter's notation, "" if it answers LHLO."""
    kind, _, place = socket_name.partition(":")
    port, _, host = place.partition("@")
    try:
        client = smtplib.LMTP(local_hostname=own_name(), timeout=timeout_s)
        code, text = client.connect(place) if kind in ("unix", "local") else client.connect(host.strip("[]"), int(port))
        with client:
            if code == 220:
                code, text = client.ehlo()
            return "" if code == 250 else shown(code, text)
    except (OSError, smtplib.SMTPException) as error:
        return f"does not answer as a stage: {error}"


class _RefusedError(ReinjectError):
    """The server refuses the whole copy for good."""


class Listener:
    """Connections to HOST:PORT; each reply may take ``timeout_s``, the one to the final dot five minutes.

    ``tls`` is none, starttls or tls; then ``context`` (an ssl.SSLContext) verifies that the server is HOST.  With
    ``is_foreign`` a 55z to MAIL or DATA refuses the copy; of the MTA's own listener it is a slip in its configuration.
    """

    def __init__(
        self, address: str, timeout_s: float, tls: str = "none", context: Any = None, *, is_foreign: bool = False
    ) -> None:
        self._is_foreign = is_foreign
        host, _, port = address.rpartition(":")
        self._host, self._port, self._timeout_s = host.strip("[]"), int(port), timeout_s
        if tls != "none" and context is None:  # smtplib would verify nothing
            raise ReinjectError("TLS is asked for, and nothing that verifies it is there")
        self._tls, self._context = tls, context
        self._limit, self._limit_until = 0, 0.0
        self._offer, self._offer_until = Offer(), 0.0

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

    def offer(self) -> Offer:
        """See next_hop.NextHop."""
        if time.monotonic() >= self._offer_until:
            with self._connected(min(self._timeout_s, _OFFER_TIMEOUT_S)) as connection:
                self._offer = connection.offer
            self._offer_until = time.monotonic() + _OFFER_S
        return self._offer

    def connect(self) -> AbstractContextManager[Connection]:
        """Raises ReinjectError."""
        return self._connected(self._timeout_s)

    def connect_to_ask(self) -> AbstractContextManager[Connection]:
        """See next_hop.NextHop."""
        return self._connected(min(self._timeout_s, _OFFER_TIMEOUT_S))

    @contextmanager
    def _connected(self, timeout_s: float) -> Iterator[Connection]:
        try:
            client, code, text = self._greeted(timeout_s)
        except (OSError, ValueError, smtplib.SMTPException) as error:
            raise ReinjectError(f"{self._host}:{self._port}: {error}") from error
        try:
            if code not in (220, 250):
                raise ReinjectError(f"{self._host}:{self._port}: {shown(code, text)}")
            if client.sock is not None:
                client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(client, is_foreign=self._is_foreign)
            yield connection
            if connection.idle:
                with suppress(OSError, smtplib.SMTPException):
                    client.docmd("QUIT")
        finally:
            client.close()

    def _greeted(self, timeout_s: float) -> tuple[smtplib.SMTP, int, bytes]:
        """A connection, and the server's last reply: to EHLO, if all went well.  Raises OSError (also where the
        certificate is not valid), SMTPException."""
        # We give a name, since smtplib would ask the name servers for one, however long they take.
        if self._tls == "tls":
            client: smtplib.SMTP = smtplib.SMTP_SSL(local_hostname=own_name(), timeout=timeout_s, context=self._context)
        else:
            client = smtplib.SMTP(local_hostname=own_name(), timeout=timeout_s)
        client._host = self._host  # type: ignore[attr-defined]  # what TLS verifies; smtplib knows it too late
        try:
            code, text = client.connect(self._host, self._port)
            if code == 220:
                code, text = client.ehlo()
            if code == 250 and self._tls == "starttls":
                client.starttls(context=self._context)  # raises unless the server agrees
                code, text = client.ehlo()
        except BaseException:
            client.close()
            raise
        return client, code, text


class Connection:
    """One connection, for several messages."""

    def __init__(self, client: smtplib.SMTP, *, is_foreign: bool = False) -> None:
        self._client, self._is_foreign = client, is_foreign
        self.idle = True  # between transactions, so QUIT is allowed

    def offers(self, extension: str) -> bool:
        """Was the extension in the answer to EHLO?"""
        return bool(self._client.has_extn(extension))

    @property
    def offer(self) -> Offer:
        """What the server said to EHLO."""
        features = self._client.esmtp_features
        mechanisms = frozenset(features.get("auth", "").upper().split())
        return Offer(frozenset(name.upper() for name in features), self.size_limit, mechanisms)

    @property
    def size_limit(self) -> int:
        """The SIZE in the answer to EHLO (RFC 1870), 0 if it has none."""
        size = self._client.esmtp_features.get("size", "")
        return int(size) if re.fullmatch("[0-9]{1,18}", size) else 0

    def exchange(self, line: str) -> tuple[int, str]:
        """See next_hop.NextHopConnection."""
        try:
            code, text = self._command(line)
        except (OSError, smtplib.SMTPException) as error:
            self._client.close()
            raise ReinjectError(f"the connection ended while somebody logged in: {type(error).__name__}") from None
        self.idle = code != 334
        return code, text.partition(b"\n")[0].decode("utf-8", "replace")

    def keep(self) -> None:
        """See next_hop.NextHopConnection."""
        try:
            code, text = self._command("NOOP")
        except (OSError, smtplib.SMTPException) as error:
            self._client.close()
            raise ReinjectError(f"the connection has ended: {error}") from error
        if code != 250:
            raise ReinjectError(shown(code, text))

    def begin(self, submission: Submission) -> None:
        """See next_hop.NextHopConnection."""
        self.idle = False
        with self._asking():
            self._mail(submission)

    def refusal(self, recipient: Recipient) -> str:
        """See next_hop.NextHopConnection."""
        with self._asking():
            code, text = self._rcpt(recipient)
            if code == 421 or (code not in _TAKEN and not 400 <= code <= 599):
                raise ReinjectError(shown(code, text))
        return "" if code in _TAKEN else shown(code, text)

    def forget(self) -> None:
        """See next_hop.NextHopConnection."""
        with self._asking():
            code, text = self._command("RSET")
            if code != 250:
                raise ReinjectError(shown(code, text))
        self.idle = True

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """What fails leaves nobody knowing where the transaction stands, so it ends the connection."""
        try:
            yield
        except (OSError, smtplib.SMTPException) as error:
            self._client.close()
            raise ReinjectError(f"the connection to the listener failed: {error}") from error
        except _RefusedError:  # in order, and there is no transaction
            self.idle = True
            raise
        except ReinjectError:
            self._client.close()
            raise

    def send(
        self,
        submission: Submission,
        before_dot: Callable[[Sequence[Recipient]], None],
        waiting: Callable[[], object] = lambda: None,
    ) -> Handover:
        """See ports.MailerConnection."""
        self.idle = False
        refused: tuple[tuple[Recipient, str], ...] = ()
        try:
            accepted, refused = self._envelope(submission)
            if not accepted:
                self._command("RSET")
                self.idle = True
                return Handover((), refused)
            code, text = self._command("DATA")
            if code != 354:
                raise self._no(code, text)
            for block in stuffed(submission.octets()):
                self._client.send(block)
            if self._has_said_more():
                raise ReinjectError("the listener ended the connection or sent an unexpected reply")
            before_dot(accepted)
        except _RefusedError as error:
            self.forget()
            told = {recipient for recipient, _ in refused}
            return Handover((), (*refused, *((r, str(error)) for r in submission.recipients if r not in told)))
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
            return Handover(accepted, refused, reply=shown(code, text))
        return Handover((), refused + tuple((recipient, shown(code, text)) for recipient in accepted))

    def _has_said_more(self) -> bool:
        """Is there anything to read before the final dot?  There should not be: an early reply (a 421, for instance)
        would be taken for the answer to the dot."""
        sock, file = self._client.sock, self._client.file
        if sock is None or file is None or self._is_readable(0):
            return True
        sock.settimeout(0)
        try:
            return bool(file.peek(1))  # type: ignore[attr-defined, unused-ignore]
        except OSError as error:
            if error.errno != _WANT_READ:
                raise
            return False
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
        self._mail(submission)
        accepted, refused = [], []
        for recipient in submission.recipients:
            code, text = self._rcpt(recipient)
            if code in _TAKEN:
                accepted.append(recipient)
            else:
                refused.append((recipient, shown(code, text)))
        return tuple(accepted), tuple(refused)

    def _mail(self, submission: Submission) -> None:
        self._forward(submission.client, submission.queue_id)
        code, text = self._command(f"MAIL FROM:<{bare_address(submission.sender)}>{self._mail_parameters(submission)}")
        if code != 250:
            raise self._no(code, text)

    def _no(self, code: int, text: bytes) -> ReinjectError:
        is_final = self._is_foreign and 550 <= code <= 559
        return (_RefusedError if is_final else ReinjectError)(shown(code, text))

    def _rcpt(self, recipient: Recipient) -> tuple[int, bytes]:
        path = bare_address(recipient.raw)
        return self._command(f"RCPT TO:<{path}>{self._words(recipient.parameters, ('NOTIFY', 'ORCPT'))}")

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
        words = [f"{name}={xtext(values[name])}" for name in offered if name in values]
        if words:
            self._command("XFORWARD " + " ".join(words))

    def _command(self, line: str) -> tuple[int, bytes]:
        self._client.send(line.encode("utf-8", "surrogateescape") + b"\r\n")
        return self._client.getreply()
