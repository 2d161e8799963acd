"""Asks a source over a network other than DNS in the background, and remembers what it said.

Promises: ``begin`` returns at once.  A search goes on, though the message that began it has run out of time, so that
the next attempt finds the result.  One search an address is under way in a process, and everybody shares it.  How many
run at once, of one domain and in all, is the concern of ``start`` (adapters/pool.py); who gets no place in time is
unreachable, like who does not answer.  An answer is kept no longer than a quarter of an hour and [dns] cache_ttl_s, a
failure for [dns] failure_ttl_s; entries and octets are bounded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from smilla.address import EmailAddress
from smilla.config.options import DNSOptions
from smilla.keys.discovery import cache
from smilla.keys.memory import Memory
from smilla.model import DNSSECStatus, SourceAnswer
from smilla.ports import Metrics, NetworkSource, PendingSource

_KEPT_S = 900.0
_LONGEST_S = 20.0  # one search
_STALE_S = 30.0  # who waited that long for a place is asked anew by the next message
_AN_ANSWER, _A_CANDIDATE = 800, 400  # octets besides those of the keys
_BUSY = "too many other questions are under way"

Find = Callable[[EmailAddress, float], SourceAnswer]
"""Asks about an address, until a deadline (monotonic seconds); raises nothing."""

Start = Callable[[str, Callable[[], bool]], None]
"""Runs something in the background when a domain has a place for it; what runs says whether the domain answered."""

_Question = tuple[str, str]


class Network:
    """smilla.ports.NetworkSource.  ``zone`` is what a place is taken for; "" means the address's domain."""

    def __init__(self, source: str, find: Find, start: Start, options: DNSOptions, zone: str = "") -> None:
        self._source, self._find, self._start, self._options, self._zone = source, find, start, options, zone
        self._lock = threading.Lock()
        self._pending: dict[_Question, _Search] = {}
        self._kept: Memory[_Question, tuple[SourceAnswer, float]] = Memory(
            options.cache_entries, cache.octets(options) // 2
        )

    def begin(self, address: EmailAddress) -> PendingSource:
        """See ports.NetworkSource."""
        question = (address.local_part, address.domain)
        kept = self._kept.recall(question)
        if kept is not None and kept[1] > time.monotonic():
            return _Known(kept[0])
        with self._lock:
            search = self._pending.get(question)
            if search is not None and not search.is_stale:
                return search
            search = self._pending[question] = _Search(self._source, address)
        self._start(self._zone or address.domain, lambda: self._run(question, search))
        return search

    def _run(self, question: _Question, search: _Search) -> bool:
        """Whether the domain answered."""
        answer = search.nothing("an error of smilla's ended the search")
        try:
            if search.is_stale:
                answer = search.nothing(_BUSY)
                return False
            answer = self._find(search.address, time.monotonic() + _LONGEST_S)
            self._keep(question, answer)
            return not _has_failed(answer)
        finally:
            self._end(question, search, answer)

    def _end(self, question: _Question, search: _Search, answer: SourceAnswer) -> None:
        with self._lock:
            if self._pending.get(question) is search:
                del self._pending[question]
        search.finish(answer)

    def _keep(self, question: _Question, answer: SourceAnswer) -> None:
        options = self._options
        is_known = not _has_failed(answer) and answer.unclear is None
        lasts_s = min(_KEPT_S, options.cache_ttl_s) if is_known else options.failure_ttl_s
        if lasts_s > 0:
            weight = _AN_ANSWER + sum(_A_CANDIDATE + len(candidate.raw) for candidate in answer.candidates)
            self._kept.remember(question, (answer, time.monotonic() + lasts_s), weight)


def counted(find: Find, source: str, metrics: Metrics) -> Find:
    """The same search; counts how it ended and how long it took."""

    def counting(address: EmailAddress, deadline: float) -> SourceAnswer:
        began = time.monotonic()
        answer = find(address, deadline)
        metrics.fetch(source, _result(answer), time.monotonic() - began)
        return answer

    return counting


def _result(answer: SourceAnswer) -> str:
    if _has_failed(answer):
        return "unreachable"
    if answer.unclear is not None:
        return "unclear"
    return "found" if answer.candidates else "absent"


class Partial:
    """A source that is asked about some addresses only.  ``unasked`` gives the answer for all others: it takes no
    place, so a server that hangs does not hold them up."""

    def __init__(self, asked: NetworkSource, unasked: Callable[[EmailAddress], SourceAnswer | None]) -> None:
        self._asked, self._unasked = asked, unasked

    def begin(self, address: EmailAddress) -> PendingSource:
        """See ports.NetworkSource."""
        known = self._unasked(address)
        return _Known(known) if known is not None else self._asked.begin(address)


def _has_failed(answer: SourceAnswer) -> bool:
    return answer.status not in (None, DNSSECStatus.SECURE, DNSSECStatus.INSECURE)


class _Known:
    """An answer that is already there."""

    __slots__ = ("_answer",)

    def __init__(self, answer: SourceAnswer) -> None:
        self._answer = answer

    def done(self) -> bool:
        """It is."""
        return True

    def result(self, deadline: float) -> SourceAnswer:
        """The answer, at once."""
        return self._answer


class _Search:
    """One search under way, shared by everyone who asks for the address."""

    def __init__(self, source: str, address: EmailAddress) -> None:
        self.address = address
        self._source = source
        self._over = threading.Event()
        self._answer: SourceAnswer | None = None
        self._asked_at = time.monotonic()

    @property
    def is_stale(self) -> bool:
        """Has it waited so long that nobody counts on it any more?"""
        return time.monotonic() - self._asked_at > _STALE_S

    def nothing(self, text: str) -> SourceAnswer:
        """The answer where nobody could be asked."""
        return SourceAnswer(self._source, str(self.address), detail=text, is_unreachable=True)

    def finish(self, answer: SourceAnswer) -> None:
        """The search is over."""
        self._answer = answer
        self._over.set()

    def done(self) -> bool:
        """Whether the answer is there."""
        return self._over.is_set()

    def result(self, deadline: float) -> SourceAnswer:
        """See ports.PendingSource."""
        self._over.wait(max(0.0, deadline - time.monotonic()))
        if self._answer is not None:
            return self._answer
        return self.nothing("the search was not over in time; it goes on, for the next attempt")
