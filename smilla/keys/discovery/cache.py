"""Remembers DNS answers, so that a look-up costs nothing twice.

Promises: an answer is kept no longer than its TTL and ``cache_ttl_s``; bogus and unreachable for ``failure_ttl_s``
only, so that a domain which does not answer delays few messages and is soon asked again (RFC 7929 section 5.1 warns
of both); entries and octets are bounded, the least recently used go first; messages that ask the same question within
``timeout_s`` share one answer, and what a message that was broken off has asked is forgotten after that.  Whether a
key is usable is judged anew after a minute: an expired key inside its TTL is still expired.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from smilla.config.options import DNSOptions
from smilla.model import DNSAnswer, DNSSECStatus
from smilla.ports import PendingAnswer, Resolver

_Question = tuple[str, int]
_KNOWN = (DNSSECStatus.SECURE, DNSSECStatus.INSECURE)
# Octets that an entry takes, as measured: without records, then with what is remembered of them (DNSAnswer.memory).
_OVERHEAD, _WITH_RECORDS, _A_RECORD, _AN_OCTET = 500, 6000, 1000, 3


class CachingResolver:
    """A resolver in front of another one."""

    def __init__(self, resolver: Resolver, options: DNSOptions) -> None:
        self._resolver = resolver
        self._options = options
        self._lock = threading.Lock()
        self._entries: OrderedDict[_Question, _Entry] = OrderedDict()
        self._octets = 0
        self._pending: OrderedDict[_Question, _Shared] = OrderedDict()  # the oldest first

    def ask(self, owner: str, rdtype: int) -> PendingAnswer:
        """A remembered answer, a question that is under way already, or a new one."""
        question = (owner, rdtype)
        with self._lock:
            if (remembered := self._remembered(question)) is not None:
                return _Known(remembered)
            self._drop_abandoned()
            shared = self._pending.get(question)
            if shared is None:
                shared = self._pending[question] = _Shared(self, question, self._resolver.ask(owner, rdtype))
            return shared

    def _drop_abandoned(self) -> None:
        """A question whose message was broken off is never read; its answer must not serve anybody much later."""
        too_old = time.monotonic() - self._options.timeout_s
        while self._pending:
            oldest = next(iter(self._pending.values()))
            if oldest.asked_at > too_old and len(self._pending) < self._options.cache_entries:
                return
            self._pending.popitem(last=False)

    def _remembered(self, question: _Question) -> DNSAnswer | None:
        entry = self._entries.get(question)
        if entry is None:
            return None
        left_s = entry.until - time.monotonic()
        if left_s <= 0:
            self._forget(question)
            return None
        self._entries.move_to_end(question)
        if (ttl_s := round(left_s)) < entry.answer.ttl_s:
            # What was judged stays; what was read has the TTL of its time, and is read anew.
            memory = {name: known for name, known in entry.answer.memory.copy().items() if isinstance(known, tuple)}
            entry.answer = replace(entry.answer, ttl_s=ttl_s, memory=memory)
        return entry.answer

    def _forget(self, question: _Question) -> None:
        self._octets -= _size(self._entries.pop(question).answer)

    def keep(self, shared: _Shared, answer: DNSAnswer) -> None:
        """Remembers an answer that has come, as long as its status allows.

        The TTL counts from when it was asked for: the answer may have lain unread while its message was uploaded.  A
        failure takes no good answer's place: it may be that of a message which asked earlier and had less time.
        """
        question = shared.question
        failed = answer.status not in _KNOWN
        options = self._options
        lasts_s = options.failure_ttl_s if failed else min(answer.ttl_s, options.cache_ttl_s)
        now = time.monotonic()
        until = (now if failed else shared.asked_at) + lasts_s
        with self._lock:
            if self._pending.get(question) is shared:
                del self._pending[question]
            before = self._remembered(question)
            if until <= now or (failed and before is not None and before.status in _KNOWN):
                return
            if before is not None:
                self._forget(question)
            self._entries[question] = _Entry(answer, until)
            self._octets += _size(answer)
            while len(self._entries) > options.cache_entries or self._octets > options.cache_mib << 20:
                self._forget(next(iter(self._entries)))


@dataclass(slots=True)
class _Entry:
    """An answer, whose ``ttl_s`` shrinks as time goes by, and when it ends (monotonic seconds)."""

    answer: DNSAnswer
    until: float


class _Known:
    """An answer that is there."""

    __slots__ = ("_answer",)

    def __init__(self, answer: DNSAnswer) -> None:
        self._answer = answer

    def done(self) -> bool:
        """It is."""
        return True

    def result(self, deadline: float) -> DNSAnswer:
        """The answer, at once."""
        return self._answer


class _Shared:
    """A question under way, for all that ask it."""

    __slots__ = ("_cache", "_pending", "asked_at", "question")

    def __init__(self, cache: CachingResolver, question: _Question, pending: PendingAnswer) -> None:
        self._cache, self.question, self._pending = cache, question, pending
        self.asked_at = time.monotonic()

    def done(self) -> bool:
        """Whether the answer is there."""
        return self._pending.done()

    def result(self, deadline: float) -> DNSAnswer:
        """The answer, or at the deadline one that says UNREACHABLE; remembered either way."""
        answer = self._pending.result(deadline)
        self._cache.keep(self, answer)
        return answer


def _size(answer: DNSAnswer) -> int:
    if not answer.raw_rdata:
        return _OVERHEAD
    records, octets = len(answer.raw_rdata), sum(map(len, answer.raw_rdata))
    return _OVERHEAD + _WITH_RECORDS + _A_RECORD * records + _AN_OCTET * octets
