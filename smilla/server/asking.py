"""What the next hop says of each recipient at RCPT, so that the client hears it there and not at the end.

Promises: a transaction that asks never has content, and is over before the content comes; what the next hop says to the
copies still rules.  If it cannot be asked, or says anything but 250, 4yz or 5yz, nobody is turned away, and it is not
asked again for this message.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from smilla.errors import ReinjectError
from smilla.model import Recipient, Submission
from smilla.server.next_hop import NextHopConnection

Way = Callable[[], AbstractContextManager[NextHopConnection]]  # raises ReinjectError


class Asking:
    """The recipients of one message.  Nothing is sent before the first one is asked for."""

    def __init__(self, way: Way, submission: Submission) -> None:
        """``way`` connects anew, or gives the connection on which the client has logged in.  Of ``submission`` only the
        sender, the parameters and the client count."""
        self._way, self._submission = way, submission
        self._stack = ExitStack()
        self._connection: NextHopConnection | None = None
        self._has_failed = False

    def refusal(self, recipient: Recipient) -> str:
        """The next hop's reply if it refuses the recipient, for good (5yz) or for now (4yz); "" if it does not, or
        nobody knows.  Raises nothing."""
        if self._has_failed:
            return ""
        try:
            if self._connection is None:
                self._connection = self._stack.enter_context(self._way())
                self._connection.begin(self._submission)
            return self._connection.refusal(recipient)
        except ReinjectError:
            self._has_failed = True
            self._stack.close()
            return ""

    def close(self) -> None:
        """Ends the transaction.  Raises nothing: if that fails, a connection that is still needed fails when it is
        used."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None and not self._has_failed:
                connection.forget()
        except ReinjectError:
            self._has_failed = True
        self._stack.close()
