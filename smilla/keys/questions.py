"""Limits how many DNS questions of one message are under way at once; the rest are asked as answers come.

Promises: a message to hundreds of unresponsive domains leaves room for other messages.  A domain that could not be
asked in time is UNREACHABLE, so its mail is tried again.  A message within the bound never waits for this.
"""

from __future__ import annotations

import time
from collections import deque

from smilla.model import DNSAnswer, DNSSECStatus
from smilla.ports import PendingAnswer, Resolver

MOST = 64  # half of the places that all unknown zones share (adapters/places.py)
_LOOK_S = 0.01  # how often we look, if a message has more


class MessageQuestions:
    """The questions of one message.  One thread at a time may use it."""

    def __init__(self) -> None:
        self._open: list[PendingAnswer] = []
        self._waiting: deque[_Question] = deque()

    def add(self, question: _Question) -> PendingAnswer:
        """Asks it now, or later if there are too many.  A question answered at once, from a cache, does not count."""
        if not self._waiting and len(self._open) < MOST:
            pending = question.ask()
            if pending.done():
                return pending
            self._open.append(pending)
            return question
        self._waiting.append(question)
        self.go_on()
        return question

    def go_on(self) -> bool:
        """Asks as many questions as there is now room for; returns whether any still wait."""
        self._open = [pending for pending in self._open if not pending.done()] if self._waiting else self._open
        while self._waiting and len(self._open) < MOST:
            self._open.append(self._waiting.popleft().ask())
        return bool(self._waiting)


class BoundedResolver:
    """A resolver for one message."""

    def __init__(self, resolver: Resolver, questions: MessageQuestions) -> None:
        self._resolver, self._questions = resolver, questions

    def ask(self, owner: str, rdtype: int) -> PendingAnswer:
        """The question, which may wait until others of the message have been answered."""
        question = _Question(self._resolver, self._questions, owner, rdtype)
        return self._questions.add(question)


class _Question:
    __slots__ = ("_owner", "_pending", "_questions", "_rdtype", "_resolver")

    def __init__(self, resolver: Resolver, questions: MessageQuestions, owner: str, rdtype: int) -> None:
        self._resolver, self._questions, self._owner, self._rdtype = resolver, questions, owner, rdtype
        self._pending: PendingAnswer | None = None

    def ask(self) -> PendingAnswer:
        self._pending = self._resolver.ask(self._owner, self._rdtype)
        return self._pending

    def done(self) -> bool:
        """Whether the answer is there."""
        return self._pending is not None and self._pending.done()

    def result(self, deadline: float) -> DNSAnswer:
        """The answer, or at the deadline (monotonic seconds) one that says UNREACHABLE.  Meanwhile other questions are
        asked."""
        while self._questions.go_on() and not self.done() and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        if self._pending is not None:
            return self._pending.result(deadline)
        detail = f"not asked, since {MOST} questions of this message were without an answer"
        return DNSAnswer(self._owner, f"TYPE{self._rdtype}", DNSSECStatus.UNREACHABLE, detail=detail)
