"""The MTA's listener for further copies, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from smilla.errors import ReinjectError
from smilla.model import Handover, Recipient, Submission


@dataclass
class Listener:
    """What it was given, and how it fails."""

    refuses: dict[str, str] = field(default_factory=dict)  # its words, by mailbox
    is_away: bool = False
    fails: str = ""  # with whatever concerns all: MAIL FROM, DATA
    loses: bool = False  # the connection, after the final dot
    sent: list[tuple[Submission, bytes]] = field(default_factory=list)

    @contextmanager
    def connect(self) -> Iterator[Listener]:
        if self.is_away:
            raise ReinjectError("the listener is away")
        yield self

    def size_limit(self) -> int:
        return 0

    def send(
        self,
        submission: Submission,
        before_dot: Callable[[Sequence[Recipient]], None],
        waiting: Callable[[], object] = lambda: None,
    ) -> Handover:
        if self.fails:
            raise ReinjectError(self.fails)
        names = {recipient: recipient.raw.strip("<>") for recipient in submission.recipients}
        refused = tuple((r, self.refuses[name]) for r, name in names.items() if name in self.refuses)
        accepted = tuple(r for r, name in names.items() if name not in self.refuses)
        if accepted:
            before_dot(accepted)
            self.sent.append((replace(submission, recipients=accepted), b"".join(submission.octets())))
        if self.loses:
            return Handover((), (), unknown=True)
        return Handover(accepted, refused, reply="250 ok")

    def copies(self) -> dict[str, bytes]:
        """What each recipient got; a second copy is an error."""
        found: dict[str, bytes] = {}
        for submission, octets in self.sent:
            for recipient in submission.recipients:
                name = recipient.raw.strip("<>")
                assert name not in found
                found[name] = octets
        return found
