"""Limits how many questions of one message are under way at once; the rest are asked as answers come.

Promises: a message to hundreds of unresponsive domains leaves room for other messages.  A domain that could not be
asked in time is UNREACHABLE, so its mail is tried again.  A message within the bound never waits for this.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from smilla.address import EmailAddress
from smilla.model import DNSAnswer, DNSSECStatus, SourceAnswer
from smilla.ports import NetworkSource, PendingAnswer, PendingSource, Resolver

MOST = 64  # half of the places that all unknown zones share (adapters/places.py)
_LOOK_S = 0.01  # how often we look, if a message has more
_NOT_ASKED = f"not asked, since {MOST} questions of this message were without an answer"
_Answer = TypeVar("_Answer")
_Answer_co = TypeVar("_Answer_co", covariant=True)


class _Pending(Protocol[_Answer_co]):
    """A PendingAnswer or a PendingSource."""

    def done(self) -> bool: ...

    def result(self, deadline: float) -> _Answer_co: ...


class MessageQuestions:
    """The questions of one message.  One thread at a time may use it."""

    def __init__(self) -> None:
        self._open: list[_Pending[object]] = []
        self._waiting: deque[_Question[DNSAnswer] | _Question[SourceAnswer]] = deque()

    def dns(self, question: _Question[DNSAnswer]) -> PendingAnswer:
        """Asks it now, or later if there are too many.  A question answered at once, from a cache, does not count."""
        return self._asked(question) or self._later(question)

    def source(self, question: _Question[SourceAnswer]) -> PendingSource:
        """The same."""
        return self._asked(question) or self._later(question)

    def _asked(self, question: _Question[_Answer]) -> _Pending[_Answer] | None:
        if self._waiting or len(self._open) >= MOST:
            return None
        pending = question.ask()
        if pending.done():
            return pending
        self._open.append(pending)
        return question

    def _later(self, question: _Q) -> _Q:
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

        def nothing() -> DNSAnswer:
            return DNSAnswer(owner, f"TYPE{rdtype}", DNSSECStatus.UNREACHABLE, detail=_NOT_ASKED)

        question = _Question(self._questions, lambda: self._resolver.ask(owner, rdtype), nothing)
        return self._questions.dns(question)


class BoundedSource:
    """A source over a network other than DNS, for one message."""

    def __init__(self, name: str, source: NetworkSource, questions: MessageQuestions) -> None:
        self._name, self._source, self._questions = name, source, questions

    def begin(self, address: EmailAddress) -> PendingSource:
        """The question, which may wait until others of the message have been answered."""

        def nothing() -> SourceAnswer:
            return SourceAnswer(self._name, str(address), detail=_NOT_ASKED, is_unreachable=True)

        question = _Question(self._questions, lambda: self._source.begin(address), nothing)
        return self._questions.source(question)


class _Question(Generic[_Answer]):
    """``ask`` asks; ``nothing`` is the answer where nobody was asked."""

    __slots__ = ("_ask", "_nothing", "_pending", "_questions")

    def __init__(
        self, questions: MessageQuestions, ask: Callable[[], _Pending[_Answer]], nothing: Callable[[], _Answer]
    ) -> None:
        self._questions, self._ask, self._nothing = questions, ask, nothing
        self._pending: _Pending[_Answer] | None = None

    def ask(self) -> _Pending[_Answer]:
        self._pending = self._ask()
        return self._pending

    def done(self) -> bool:
        """Whether the answer is there."""
        return self._pending is not None and self._pending.done()

    def result(self, deadline: float) -> _Answer:
        """The answer, or at the deadline (monotonic seconds) one that says UNREACHABLE.  Meanwhile other questions are
        asked."""
        while self._questions.go_on() and not self.done() and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        return self._pending.result(deadline) if self._pending is not None else self._nothing()


_Q = TypeVar("_Q", _Question[DNSAnswer], _Question[SourceAnswer])
