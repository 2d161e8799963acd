"""What the relay needs of the server to which it hands every copy, as protocols; adapters.smtp implements them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from smilla.model import Offer, Recipient, Submission
from smilla.ports import Mailer, MailerConnection


class NextHopConnection(MailerConnection, Protocol):
    """A connection to the next hop, over which a client may log in."""

    @property
    def offer(self) -> Offer:
        """What the server offers."""

    def exchange(self, line: str) -> tuple[int, str]:
        """One line of AUTH (RFC 4954), and the reply: code and text.  Nothing of the line is logged, nor stands in an
        error.  Raises ReinjectError."""

    def keep(self) -> None:
        """Asks whether the server is still there (NOOP).  Raises ReinjectError."""

    def begin(self, submission: Submission) -> None:
        """Begins a transaction that never gets content (MAIL), so its recipients and octets do not count.  If it
        raises, as any of the two below, the connection is at its end.  Raises ReinjectError."""

    def refusal(self, recipient: Recipient) -> str:
        """RCPT within it: the server's reply in one line (4yz or 5yz), "" if it takes the recipient.  Raises
        ReinjectError, also where the server says that it ends the connection (421)."""

    def forget(self) -> None:
        """Ends it (RSET).  Raises ReinjectError."""


class NextHop(Mailer, Protocol):
    """The server to which the relay hands every copy."""

    def connect(self) -> AbstractContextManager[NextHopConnection]:
        """Raises ReinjectError."""

    def connect_to_ask(self) -> AbstractContextManager[NextHopConnection]:
        """The same, but whoever waits at RCPT does not wait for long.  Raises ReinjectError."""

    def offer(self) -> Offer:
        """What it offers; remembered for a while.  Raises ReinjectError if it cannot be asked."""
