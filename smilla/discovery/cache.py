"""Remembers DNS answers, so that a look-up costs nothing twice.

Promises: an answer is kept no longer than its TTL and ``cache_ttl_s``; bogus and unreachable for ``failure_ttl_s``
only, so that a domain which does not answer delays few messages and is soon asked again (RFC 7929 section 5.1 warns
of both); entries and octets are bounded, the least recently used go first; two messages that ask the same question
at once share one answer.  Whether a key is usable is judged anew for every message: an expired key inside its TTL is
still expired.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import replace

from smilla.config import DNSOptions
from smilla.model import DNSAnswer, DNSSECStatus
from smilla.ports import PendingAnswer, Resolver

_Question = tuple[str, int]
_OVERHEAD = 500  # octets that an entry takes besides its records, roughly


class CachingResolver:
    """A resolver in front of another one."""

    def __init__(self, resolver: Resolver, options: DNSOptions) -> None:
        self._resolver = resolver
        self._options = options
        self._lock = threading.Lock()
        self._entries: OrderedDict[_Question, tuple[DNSAnswer, float]] = OrderedDict()
        self._octets = 0
        self._pending: dict[_Question, _Shared] = {}

    def ask(self, owner: str, rdtype: int) -> PendingAnswer:
        """A remembered answer, a question that is under way already, or a new one."""
        question = (owner, rdtype)
        with self._lock:
            if (remembered := self._remembered(question)) is not None:
                return _Known(remembered)
            shared = self._pending.get(question)
            if shared is None:
                shared = self._pending[question] = _Shared(self, question, self._resolver.ask(owner, rdtype))
            return shared

    def _remembered(self, question: _Question) -> DNSAnswer | None:
        entry = self._entries.get(question)
        if entry is None:
            return None
        answer, until = entry
        left_s = until - time.monotonic()
        if left_s <= 0:
            self._forget(question)
            return None
        self._entries.move_to_end(question)
        return replace(answer, ttl_s=min(answer.ttl_s, round(left_s)))

    def _forget(self, question: _Question) -> None:
        answer, _ = self._entries.pop(question)
        self._octets -= _size(answer)

    def keep(self, question: _Question, answer: DNSAnswer) -> None:
        """Remembers an answer that has come, as long as its status allows."""
        failed = answer.status not in (DNSSECStatus.SECURE, DNSSECStatus.INSECURE)
        options = self._options
        lasts_s = options.failure_ttl_s if failed else min(answer.ttl_s, options.cache_ttl_s)
        with self._lock:
            self._pending.pop(question, None)
            if question in self._entries:
                self._forget(question)
            if lasts_s <= 0:
                return
            self._entries[question] = (answer, time.monotonic() + lasts_s)
            self._octets += _size(answer)
            while len(self._entries) > options.cache_entries or self._octets > options.cache_mib << 20:
                self._forget(next(iter(self._entries)))


class _Known:
    """An answer that is there."""

    __slots__ = ("_answer",)

    def __init__(self, answer: DNSAnswer) -> None:
        self._answer = answer

    def result(self, deadline: float) -> DNSAnswer:
        """The answer, at once."""
        return self._answer


class _Shared:
    """A question under way, for all that ask it."""

    __slots__ = ("_cache", "_pending", "_question")

    def __init__(self, cache: CachingResolver, question: _Question, pending: PendingAnswer) -> None:
        self._cache, self._question, self._pending = cache, question, pending

    def result(self, deadline: float) -> DNSAnswer:
        """The answer, or at the deadline one that says UNREACHABLE; remembered either way."""
        answer = self._pending.result(deadline)
        self._cache.keep(self._question, answer)
        return answer


def _size(answer: DNSAnswer) -> int:
    return _OVERHEAD + sum(map(len, answer.raw_rdata))
