"""How a mail program logs in at its provider through the relay: AUTH (RFC 4954), passed on as it is.

Promises: a name or password goes to the next hop of the configuration only, over TLS that was verified; it is neither
kept nor logged.  What the client sends then goes over the very connection that the provider has accepted it on.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack, nullcontext

from smilla import log_relay
from smilla.errors import ParseError, ReinjectError
from smilla.formats import sasl
from smilla.formats.esmtp import CommandRefused
from smilla.model import Offer
from smilla.server.lines import Lines
from smilla.server.next_hop import NextHop, NextHopConnection

_MOST_STEPS = 10
_KEEP_S = 60.0  # a server may end a connection that is silent for five minutes


class Login:
    """One client, and its connection to the next hop once it has begun to log in.  ``user`` is "" until it has."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._stack = ExitStack()
        self._hop: NextHopConnection | None = None
        self._used_at = 0.0
        self.user = ""

    @staticmethod
    def offered(offer: Offer) -> list[str]:
        """The mechanisms of the next hop that can be passed on."""
        return [name for name in sasl.MECHANISMS if name in offer.mechanisms]

    def auth(self, rest: str, offer: Offer, next_hop: NextHop) -> None:
        """The command AUTH and all that belongs to it.  Raises CommandRefused."""
        mechanism, _, initial = rest.strip().partition(" ")
        mechanism = mechanism.upper()
        if self.user:
            raise CommandRefused("503", "5.5.1", "You are logged in already")
        if mechanism not in self.offered(offer):
            raise CommandRefused("504", "5.5.4", "This mechanism is not offered")
        self.close()
        try:
            self._hop = self._stack.enter_context(next_hop.connect())
            user, code, text = self._exchanged(self._hop, mechanism, initial)
            if code != 235:
                log_relay.auth_failed(mechanism, code)
                raise CommandRefused(str(code), "", text)
            self.user = user
        except ReinjectError as error:
            log_relay.next_hop_gone(str(error))
            raise CommandRefused("454", "4.7.0", "The next hop does not answer; try again later") from None
        finally:
            if not self.user:
                self.close()
        log_relay.authenticated(user, mechanism)
        self._lines.say("235", "", text)

    def _exchanged(self, hop: NextHopConnection, mechanism: str, initial: str) -> tuple[str, int, str]:
        """The name, and the next hop's last reply.  Raises CommandRefused, ReinjectError."""
        name = self._named(mechanism, initial) if initial else ""
        code, text = hop.exchange(f"AUTH {mechanism}{' ' if initial else ''}{initial}")
        for _ in range(_MOST_STEPS):
            if code != 334:
                break
            self._lines.say("334", "", text or " ")
            answer = self._lines.line()
            if answer != "*":
                name = name or self._named(mechanism, answer)
            code, text = hop.exchange(answer)
        if not 400 <= code <= 599 and (code != 235 or not name):
            raise CommandRefused("501", "5.5.2", "This is not as AUTH should be")
        return name, code, text

    @staticmethod
    def _named(mechanism: str, answer: str) -> str:
        try:
            return sasl.user(mechanism, answer)
        except ParseError as error:
            raise CommandRefused("501", "5.5.2", str(error)) from None

    # --- the connection

    @property
    def mailer(self) -> Held:
        """The way for what this client sends.  Raises ReinjectError if there is none."""
        if self._hop is None or not self.user:
            raise ReinjectError("nobody has logged in")
        return Held(self._hop)

    def check(self) -> None:
        """Is the next hop still there?  Raises ReinjectError."""
        if self._hop is None:
            raise ReinjectError("nobody has logged in")
        self._hop.keep()
        self._used_at = time.monotonic()

    def keep(self) -> None:
        """Called again and again while a message comes, so that the next hop does not end the connection.  Raises
        ReinjectError."""
        if self._hop is not None and time.monotonic() >= self._used_at + _KEEP_S:
            self.check()

    def close(self) -> None:
        """Ends the connection to the next hop."""
        self._stack.close()
        self._hop, self._used_at, self.user = None, 0.0, ""


class Held:
    """A connection that is there already, as a mailer (ports.Mailer)."""

    def __init__(self, hop: NextHopConnection) -> None:
        self._hop = hop

    def connect(self) -> AbstractContextManager[NextHopConnection]:
        """See ports.Mailer."""
        return nullcontext(self._hop)

    def size_limit(self) -> int:
        """See ports.Mailer."""
        return self._hop.offer.size_limit
