"""The relay's server for SMTP (RFC 5321) or LMTP (RFC 2033): takes what a client hands over, and answers once the next
hop has every copy.

Promises: no message is stored; if the connection breaks or smilla fails, the client keeps it.  Only CRLF ends a line.
What is not as the protocol says is refused, and a client that goes on is cut off; every wait has an end.  One message
harms no other.  This module decides nothing about mail.  Extensions: those of SIZE, 8BITMIME, SMTPUTF8 and DSN that the
next hop offers, ENHANCEDSTATUSCODES, PIPELINING, STARTTLS (RFC 3207), and Postfix's XFORWARD, which is believed of this
machine only.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from smilla import log, log_relay
from smilla.answer import reply
from smilla.errors import ReinjectError, words_of
from smilla.formats import esmtp
from smilla.formats.esmtp import CommandRefused
from smilla.handover.reinject import finish
from smilla.model import Client, Offer
from smilla.server import relay_client
from smilla.server.content import received
from smilla.server.lines import CutOffError, Lines
from smilla.server.login import Login
from smilla.server.relay_client import Callers
from smilla.server.relay_message import RelayedMessage, RelayRuntime
from smilla.server.service import InFlight

_MOST_ERRORS, _MOST_OF_ONE = 20, 50
_REFUSED_WITHIN_S, _REFUSED_AFAR_WITHIN_S = 1.0, 5.0  # by a system of this machine, and by one on a network
_OFFERED = ("8BITMIME", "SMTPUTF8", "DSN")
_OURS = ("ENHANCEDSTATUSCODES", "PIPELINING")
_XFORWARD = f"XFORWARD {' '.join(esmtp.FORWARDED)}"
_AFTER_GREETING = ("MAIL", "RCPT", "DATA", "XFORWARD", "AUTH", "STARTTLS")
_WITHIN_TLS = ("MAIL", "RCPT", "DATA", "XFORWARD", "AUTH", "VRFY")  # RFC 3207 section 4
# A browser can be made to send these to a port of this machine, with commands of SMTP in what follows.
_FOREIGN = re.compile(r"(?:GET|POST|PUT|HEAD|OPTIONS|CONNECT|PATCH|DELETE|TRACE)\b|[A-Za-z-]+:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Relay:
    """What all connections share; ``protocol`` is smtp or lmtp, and stays, as does whether clients have to log in.
    ``callers`` bounds the connections of one other machine."""

    state: InFlight[RelayRuntime]
    own_name: str
    protocol: str
    auth: bool = False
    callers: Callers = field(default_factory=lambda: Callers(_MOST_OF_ONE))


def serve_one(relay: Relay, connection: socket.socket, done: Callable[[], object]) -> None:
    """One connection, to its end."""
    try:
        with connection:  # as long as it has not gone into TLS
            _Dialogue(relay, connection).run()
    except (OSError, EOFError):
        pass  # the client is gone, or was silent for too long; it keeps what was not answered
    except Exception:
        log.internal_error("", "relay")
    finally:
        done()


class _Dialogue:
    """One connection.  A message is judged by one configuration, that of its MAIL."""

    def __init__(self, relay: Relay, connection: socket.socket) -> None:
        self._relay, self._own_name, self._callers = relay.state, relay.own_name, relay.callers
        self._is_lmtp = relay.protocol == "lmtp"
        self._lines = Lines(connection)
        self._login = Login(self._lines) if relay.auth else None
        self._runtime = relay.state.runtime
        self._offer = Offer()
        self._client = Client(ip=relay_client.peer(connection), mta=relay.own_name)
        self._is_here = relay_client.is_here(self._client.ip)
        self._has_greeted = self._ended = self._had_ended = False
        self._errors = 0
        self._forwarded: dict[str, str] = {}
        self._current: RelayedMessage | None = None
        self._unfinished: list[tuple[Callable[[], None], str]] = []

    def run(self) -> None:
        """Serves the connection until QUIT, until the client is gone, or until smilla stops."""
        is_welcome = self._callers.enter(self._client.ip) or self._is_here
        try:
            if not self._may_send():
                log_relay.client_refused(self._client.ip)
                self._lines.say("554", "5.7.1", "This client may not send here")
                return
            if not is_welcome:
                raise CutOffError("Too many connections from there")
            self._lines.say("220", "", f"{self._own_name} {'LMTP' if self._is_lmtp else 'ESMTP'} smilla")
            while not self._ended:
                line = self._lines.line()
                if not self._lines.is_early:  # as QUIT mostly is, which comes in one group with the dot (RFC 2920)
                    self._settle()
                self._obey(line)
        except EOFError:
            here_s = _REFUSED_WITHIN_S if self._had_ended else 0.0
            self._settle_if_heard(here_s if self._is_here else _REFUSED_AFAR_WITHIN_S)
        except CutOffError as error:
            self._lines.say("421", "4.7.0", str(error))
        finally:
            self._callers.leave(self._client.ip)
            self._drop()
            if self._login is not None:
                self._login.close()
            self._lines.close()

    def _may_send(self) -> bool:
        return self._is_here or relay_client.may_send(self._client.ip, self._relay.runtime.config.relay.clients)

    def _obey(self, line: str) -> None:
        if _FOREIGN.match(line):
            raise CutOffError("This is not SMTP")
        verb, _, rest = line.partition(" ")
        handler = _COMMANDS.get(verb.upper())
        if verb.upper() in self._hidden():
            handler = None
        try:
            if handler is None:
                raise CommandRefused("502", "5.5.1", "This command is not known here")
            if not self._has_greeted and verb.upper() in _AFTER_GREETING:
                raise CommandRefused("503", "5.5.1", f"Say {'LHLO' if self._is_lmtp else 'EHLO'} first")
            if self._needs_tls and self._current is None and verb.upper() in _WITHIN_TLS:
                raise CommandRefused("530", "5.7.0", "Say STARTTLS first")
            handler(self, rest)
        except CommandRefused as refused:
            self._errors += 1
            if self._errors > _MOST_ERRORS:
                raise CutOffError("Too many errors") from refused
            self._lines.say(*refused.reply)

    def _hidden(self) -> set[str]:
        """The commands that are not offered to this client."""
        hidden = {"EHLO", "HELO"} if self._is_lmtp else {"LHLO"}  # RFC 2033 section 4.1
        if self._login is not None or not self._is_here:
            hidden.add("XFORWARD")
        if self._login is None:
            hidden.add("AUTH")
        if self._relay.runtime.tls is None:
            hidden.add("STARTTLS")
        return hidden

    @property
    def _needs_tls(self) -> bool:
        return self._relay.runtime.needs_tls and not self._lines.is_encrypted

    # --- commands

    def _ehlo(self, rest: str) -> None:
        self._greet(rest)
        try:
            self._offer = self._runtime.next_hop.offer()
        except ReinjectError as error:
            log_relay.next_hop_gone(str(error))
            self._lines.say("421", "4.4.1", "The next hop does not answer; try again later")
            self._ended = True
            return
        size = f"SIZE {self._offer.size_limit}" if self._offer.size_limit else "SIZE"
        sized = [size] if "SIZE" in self._offer.keywords else []
        hidden = self._hidden()
        ours = [_XFORWARD] if "XFORWARD" not in hidden else []
        if "STARTTLS" not in hidden and not self._lines.is_encrypted:
            ours.append("STARTTLS")
        if self._login is None:
            self._offer = replace(self._offer, keywords=self._offer.keywords - {"AUTH"})
        elif not self._needs_tls and (mechanisms := self._login.offered(self._offer)):
            ours.append(f"AUTH {' '.join(mechanisms)}")
        offered = (name for name in _OFFERED if name in self._offer.keywords)
        lines = [self._own_name, *sized, *offered, *_OURS, *ours]
        self._lines.send("".join(f"250{' ' if line is lines[-1] else '-'}{line}\r\n" for line in lines))

    def _helo(self, rest: str) -> None:
        self._greet(rest)
        self._offer = Offer()
        self._lines.say("250", "", self._own_name)

    def _greet(self, rest: str) -> None:
        if self._lines.has_more:  # RFC 2920 section 3.1: EHLO is the last of a group
            raise CutOffError("Wait for the answer to EHLO")
        if not rest.strip() or len(rest) > 255:
            raise CommandRefused("501", "5.5.4", "Say who you are")
        self._drop()
        self._forwarded = {}
        self._runtime = self._relay.runtime
        self._client = replace(self._client, helo=rest.strip())
        self._has_greeted = True

    def _starttls(self, rest: str) -> None:
        if self._lines.has_more:  # RFC 2920 section 3.1, RFC 3207 section 6
            raise CutOffError("Wait for the answer to STARTTLS")
        tls = self._relay.runtime.tls
        if rest:
            raise CommandRefused("501", "5.5.4", "STARTTLS has no parameters")
        if tls is None or self._lines.is_encrypted or self._current is not None:
            raise CommandRefused("503", "5.5.1", "TLS is on" if self._lines.is_encrypted else "Not within a message")
        self._lines.say("220", "2.0.0", "Go on")
        try:
            self._lines.encrypt(tls)
        except OSError as error:
            log_relay.tls_failed(self._client.ip, words_of(error))
            raise
        # RFC 3207 section 4.2: nothing that was said before counts.
        self._has_greeted, self._forwarded, self._offer = False, {}, Offer()
        self._client = replace(self._client, helo="")
        if self._login is not None:
            self._login.close()

    def _xforward(self, rest: str) -> None:
        """Postfix sends this anew for each message."""
        if self._current is not None:
            raise CommandRefused("503", "5.5.1", "Not within a message")
        self._forwarded |= esmtp.xforward(rest)
        self._lines.say("250", "2.0.0", "Ok")

    def _auth(self, rest: str) -> None:
        if self._lines.has_more:
            raise CutOffError("Wait for the answer to AUTH")
        if self._login is None or self._current is not None:
            raise CommandRefused("503", "5.5.1", "Not within a message")
        self._login.auth(rest, self._offer, self._runtime.next_hop)

    def _mail(self, rest: str) -> None:
        if self._current is not None:
            raise CommandRefused("503", "5.5.1", "A message has begun already")
        if not self._may_send():  # any more, after a reload
            raise CommandRefused("554", "5.7.1", "This client may not send here")
        if self._login is not None and not self._is_logged_in(self._login):
            return
        sender, parameters = esmtp.mail(rest, self._offer)
        if self._relay.draining:
            self._lines.say("421", "4.3.2", "smilla is restarting; try again later")
            self._ended = True
            return
        self._relay.begin()
        self._runtime = self._relay.runtime
        forwarded, self._forwarded = self._forwarded, {}
        client = relay_client.described(self._client, forwarded)
        if self._login is not None:
            client = replace(client, authenticated_as=self._login.user)
            mailer = self._login.mailer
            ports = replace(self._runtime.ports, mailer=mailer, size_limit=mailer.size_limit)
            self._runtime = replace(self._runtime, ports=ports, ask=mailer.connect)
        self._current = RelayedMessage(self._runtime, client, sender, parameters, forwarded.get("IDENT", ""))
        self._lines.say("250", "2.1.0", "Ok")

    def _is_logged_in(self, login: Login) -> bool:
        """Otherwise says so.  Raises CommandRefused."""
        if not login.user:
            raise CommandRefused("530", "5.7.0", "Authentication is required")
        try:
            login.check()
        except ReinjectError as error:
            log_relay.next_hop_gone(str(error))
            self._lines.say("421", "4.4.2", "The next hop has ended the connection; log in again")
            self._ended = True
        return not self._ended

    def _rcpt(self, rest: str) -> None:
        if self._current is None:
            raise CommandRefused("503", "5.5.1", "MAIL comes first")
        is_utf8 = esmtp.is_utf8(self._current.envelope.parameters)
        away = self._current.recipient(*esmtp.rcpt(rest, self._offer, utf8=is_utf8))
        if away is not None:
            self._answer(away)
        else:
            self._lines.say("250", "2.1.5", "Ok")

    def _data(self, _: str) -> None:
        if self._current is None or not self._current.envelope.recipients:
            raise CommandRefused("503", "5.5.1", "No recipient")
        if self._lines.has_more:  # RFC 2920 section 3.1
            raise CutOffError("Wait for the answer to DATA")
        content = self._current.content()
        self._lines.say("354", "", "Go on")
        try:
            problem = received(self._lines, content, self._offer.size_limit, self._keep)
            if problem is None:
                answers = self._current.answers(content)
                if self._current.unfinished is not None:
                    self._unfinished.append(self._current.unfinished)
            else:
                answers = (reply.Reply(reply.Verb.REJECT, *problem),)
            self._had_ended = self._lines.has_ended()
            count = self._current.answer_count
            for answer in answers if len(answers) == count else answers * count:
                self._answer(answer)
        finally:
            self._drop()

    def _rset(self, _: str) -> None:
        self._drop()
        self._lines.say("250", "2.0.0", "Ok")

    def _noop(self, _: str) -> None:
        self._lines.say("250", "2.0.0", "Ok")

    def _vrfy(self, _: str) -> None:
        self._lines.say("252", "2.5.0", "The next hop knows")

    def _quit(self, _: str) -> None:
        # Before this answer: Postfix leaves it unread (smtp_skip_quit_response), so its system refuses it.
        self._settle_if_heard(_REFUSED_WITHIN_S)
        self._lines.say("221", "2.0.0", "Bye")
        self._ended = True

    # --- the message

    def _keep(self) -> None:
        """While a message comes, the next hop is to keep its connection; if it does not, the end says so."""
        if self._login is not None:
            with suppress(ReinjectError):
                self._login.keep()

    def _settle(self) -> None:
        """The client has its answer: the journal may forget what was for a retry."""
        while self._unfinished:
            finish(*self._unfinished.pop(0))

    def _settle_if_heard(self, wait_s: float) -> None:
        """The client says nothing more.  One that dies with an answer unread resets the connection.  If it had ended
        before the answer was there, its system refuses the answer; if just now, it has refused it already."""
        ended, here = self._had_ended, self._is_here
        if self._unfinished and not self._lines.is_refused(wait_s, has_ended=ended, is_here=here):
            self._settle()

    def _drop(self) -> None:
        """Lets go of the message, whose body may be large."""
        if self._current is not None:
            self._current.close()
            self._current = None
            self._relay.end()

    def _answer(self, answer: reply.Reply) -> None:
        self._lines.say(answer.code, answer.enhanced, answer.text)


_COMMANDS: dict[str, Callable[[_Dialogue, str], None]] = {
    "EHLO": _Dialogue._ehlo,
    "LHLO": _Dialogue._ehlo,
    "HELO": _Dialogue._helo,
    "STARTTLS": _Dialogue._starttls,
    "XFORWARD": _Dialogue._xforward,
    "AUTH": _Dialogue._auth,
    "MAIL": _Dialogue._mail,
    "RCPT": _Dialogue._rcpt,
    "DATA": _Dialogue._data,
    "RSET": _Dialogue._rset,
    "NOOP": _Dialogue._noop,
    "VRFY": _Dialogue._vrfy,
    "QUIT": _Dialogue._quit,
}
