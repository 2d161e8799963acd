"""Remembers DNS answers, so that no look-up is paid for twice.

Promises: an answer is kept no longer than its TTL and ``cache_ttl_s``.  Bogus and unreachable answers are kept only for
``failure_ttl_s``, so that an unresponsive domain delays few messages and is soon asked again (RFC 7929 section 5.1
warns of both).  Entries and octets are bounded; the least recently used go first.  Messages that ask the same question
within ``timeout_s`` share one answer; after that, the questions of an aborted message are forgotten.  Whether a key is
usable is judged again after a minute: an expired key inside its TTL is still expired.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from smilla.config.options import DNSOptions
from smilla.model import DNSAnswer, DNSSECStatus
from smilla.ports import Metrics, PendingAnswer, Resolver

_Question = tuple[str, int]
_KNOWN = (DNSSECStatus.SECURE, DNSSECStatus.INSECURE)
_OVERHEAD, _A_RECORD = 600, 50  # octets of an entry besides those of its records, as measured


def octets(options: DNSOptions) -> int:
    """Half of ``cache_mib`` is for the answers, the other half for what is derived from them (ports.Judgements)."""
    return options.cache_mib << 19


class CachingResolver:
    """A resolver in front of another one."""

    def __init__(self, resolver: Resolver, options: DNSOptions, metrics: Metrics | None = None) -> None:
        self._resolver = resolver
        self._metrics = metrics or Metrics()
        self._options = options
        self._lock = threading.Lock()
        self._entries: OrderedDict[_Question, _Entry] = OrderedDict()
        self._octets = 0
        self._pending: OrderedDict[_Question, _Shared] = OrderedDict()  # the oldest first

    def ask(self, owner: str, rdtype: int) -> PendingAnswer:
        """A remembered answer, a question already under way, or a new one."""
        question = (owner, rdtype)
        with self._lock:
            remembered = self._remembered(question)
            self._metrics.cache(hit=remembered is not None)
            if remembered is not None:
                return _Known(remembered)
            self._drop_abandoned()
            shared = self._pending.get(question)
            if shared is None:
                shared = self._pending[question] = _Shared(self, question, self._resolver.ask(owner, rdtype))
            return shared

    def _drop_abandoned(self) -> None:
        """Nobody reads the answer to an aborted message's question; it must not serve anybody much later."""
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
            entry.answer = replace(entry.answer, ttl_s=ttl_s)
        return entry.answer

    def _forget(self, question: _Question) -> None:
        self._octets -= _size(self._entries.pop(question).answer)

    def keep(self, shared: _Shared, answer: DNSAnswer) -> None:
        """Remembers an answer that has come, for as long as its status allows.

        The TTL counts from when the question was asked: the answer may have waited unread while its message was
        uploaded.  A failure does not replace a good answer: it may belong to a message that asked earlier and had less
        time.
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
            while len(self._entries) > options.cache_entries or self._octets > octets(options):
                self._forget(next(iter(self._entries)))
            self._metrics.gauge("cache_entries", len(self._entries))
            self._metrics.gauge("cache_bytes", self._octets)


@dataclass(slots=True)
class _Entry:
    """An answer, whose ``ttl_s`` shrinks as time passes, and when it ends (monotonic seconds)."""

    answer: DNSAnswer
    until: float


class _Known:
    """An answer that is already there."""

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
    """A question under way, shared by everyone who asks it."""

    __slots__ = ("_cache", "_pending", "asked_at", "question")

    def __init__(self, cache: CachingResolver, question: _Question, pending: PendingAnswer) -> None:
        self._cache, self.question, self._pending = cache, question, pending
        self.asked_at = time.monotonic()

    def done(self) -> bool:
        """Whether the answer is there."""
        return self._pending.done()

    def result(self, deadline: float) -> DNSAnswer:
        """The answer, or at the deadline one that says UNREACHABLE; either is remembered."""
        answer = self._pending.result(deadline)
        self._cache.keep(self, answer)
        return answer


def _size(answer: DNSAnswer) -> int:
    return _OVERHEAD + _A_RECORD * len(answer.raw_rdata) + sum(map(len, answer.raw_rdata))
