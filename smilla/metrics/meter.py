"""Counts in one process, and sends what was added to the reporter.

Promises: counting costs a few microseconds and never waits for anybody.  What was counted is sent at most once a
second, in datagrams that do not block; what does not fit now is kept and sent later.  Memory is bounded by the number
of label values.  A domain is counted only if ``keeps_domains``, and never as a label.  A gauge that cannot be measured
is left out, and its number before is forgotten; everything else is sent on.
"""

from __future__ import annotations

import json
import os
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from smilla.metrics.catalogue import EXPIRY_DAYS, OTHER, SECONDS
from smilla.metrics.reasons import KNOWN, LEFT
from smilla.model import Decision, DNSSECStatus
from smilla.ports import Metrics

Series = tuple[str, ...]  # the family's name and the labels' values
Measured = Callable[[str, Callable[[], float]], float | None]  # None: nobody knows the number now
_EVERY_S = 1.0
_GAUGES_EVERY_S = 15.0  # also when nothing was counted
_ITEMS = 200  # in one datagram, which is then far below what a socket takes
_AGAIN_S = 0.02
_KEYS_ANEW_S = 3600.0  # a key that is still used is told again
_MOST_KEYS, _MOST_DOMAINS = 10_000, 2000
_SOON = timedelta(days=EXPIRY_DAYS[-1] + 1)


class Meter(Metrics):
    """smilla.ports.Metrics for this process.  After a fork, ``start`` makes it the child's own."""

    def __init__(self, measured: Measured, *, keeps_domains: bool = False) -> None:
        """``measured`` asks a gauge for its number, and raises nothing."""
        self.keeps_domains, self._measured = keeps_domains, measured
        self._salt = os.urandom(16)  # the same in all workers, so that a key counts once
        self._measures: dict[str, Callable[[], float]] = {}
        self._clear()

    def _clear(self) -> None:
        # Reentrant: garbage collection may end a resolver, whose last answers are counted here too.
        self._lock, self._sending = threading.RLock(), threading.Lock()
        self._something = threading.Event()
        self._counts: dict[Series, int] = {}
        self._timings: dict[Series, list[float]] = {}  # one number a bucket, then the sum
        self._gauges: dict[str, float] = {}
        self._domains: dict[tuple[str, str], int] = {}
        self._keys: dict[str, float] = {}
        self._told: set[str] = set()
        self._unsent: deque[bytes] = deque()
        self._send: Callable[[bytes], bool] | None = None
        self._hour()

    # --- smilla.ports.Metrics

    def recipient(self, decision: Decision | None, action: str, reason: str, *, observed: bool = False) -> None:
        """See ports.Metrics."""
        labels = ("", "", "")
        if decision is not None:
            key, lookup = decision.key, decision.lookup
            if lookup is not None:
                labels = (key.format.value if key else "", lookup.source, lookup.proof)
            if key is not None and key.expires_at is not None and key.expires_at < self._soon:
                self._expires(key.fingerprint, key.expires_at)
            if self.keeps_domains:
                self._domain(decision, action)
        name = "observed_recipients" if observed else "recipients"
        self._add((name, action, *labels, reason if reason in KNOWN else OTHER))

    def message(self, code: str, seconds: float) -> None:
        """See ports.Metrics."""
        self._add(("messages", code or "250"))
        self._time(("message_seconds",), seconds)

    def encrypting(self, form: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """See ports.Metrics."""
        spent = 0.0
        while True:
            began = time.perf_counter()
            block = next(blocks, None)
            spent += time.perf_counter() - began
            if block is None:
                break
            yield block
        self._time(("encryption_seconds", form), spent)

    def lookup(self, status: DNSSECStatus, seconds: float) -> None:
        """See ports.Metrics."""
        self._time(("lookup_seconds", status.value), seconds)

    def cache(self, *, hit: bool) -> None:
        """See ports.Metrics."""
        self._add(("cache_requests", "hit") if hit else ("cache_requests", "miss"))

    def hop(self, way: str, verdict: str) -> None:
        """See ports.Metrics."""
        self._add(("hops", way, verdict))

    def fetch(self, source: str, result: str, seconds: float) -> None:
        """See ports.Metrics."""
        self._time(("fetch_seconds", source, result), seconds)

    def decrypted(self, recipients: int, reason: str, signature: tuple[str, str] = ("", ""), *, observed: bool) -> None:
        """See ports.Metrics."""
        done = "observed" if observed else "decrypted"
        label = reason if reason in LEFT or not reason else OTHER
        self._add(("decrypt_recipients", "left" if reason else done, label), recipients)
        if signature[1]:
            self._add(("decrypt_signatures", *signature))

    def gauge(self, name: str, number: float) -> None:
        """See ports.Metrics."""
        with self._lock:
            self._gauges[name] = number
        self._something.set()

    # --- what is added

    def _add(self, series: Series, number: int = 1) -> None:
        with self._lock:
            self._counts[series] = self._counts.get(series, 0) + number
        if not self._something.is_set():
            self._something.set()

    def _time(self, series: Series, seconds: float) -> None:
        with self._lock:
            timing = self._timings.get(series)
            if timing is None:
                timing = self._timings[series] = [0.0] * (len(SECONDS) + 2)
            timing[bisect_left(SECONDS, seconds)] += 1
            timing[-1] += seconds
        if not self._something.is_set():
            self._something.set()

    def _expires(self, fingerprint: str, at: datetime) -> None:
        if fingerprint not in self._told and len(self._told) < _MOST_KEYS:
            name = blake2b(fingerprint.encode(), digest_size=8, key=self._salt).hexdigest()
            with self._lock:
                self._told.add(fingerprint)
                self._keys[name] = at.timestamp()

    def _domain(self, decision: Decision, action: str) -> None:
        address = decision.recipient.address
        if address is not None:
            with self._lock:
                name = address.domain, action
                if name in self._domains or len(self._domains) < _MOST_DOMAINS:
                    self._domains[name] = self._domains.get(name, 0) + 1

    def _hour(self) -> None:
        self._told.clear()
        self._tell_anew_at = time.monotonic() + _KEYS_ANEW_S
        self._soon = datetime.now(UTC) + _SOON

    # --- what is sent

    def measure(self, name: str, function: Callable[[], float]) -> None:
        """A gauge that ``function`` gives whenever something is sent."""
        self._measures[name] = function

    def start(self, send: Callable[[bytes], bool]) -> None:
        """In a new process: forgets what the parent counted, and sends from a thread.  ``send`` must not wait; it says
        whether the datagram was taken."""
        self._clear()
        self._send = send
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def _run(self) -> None:
        while True:
            if self._something.wait(_GAUGES_EVERY_S):
                time.sleep(_EVERY_S)
            self.flush()

    def flush(self, patience_s: float = 0.0) -> bool:
        """See ports.Metrics: what is not taken within ``patience_s`` is kept.  Says whether all is sent."""
        if self._send is None:
            return True
        deadline = time.monotonic() + patience_s
        with self._sending:
            if not self._unsent:
                self._something.clear()
                self._unsent.extend(self._taken())
            while self._unsent:
                if self._send(self._unsent[0]):
                    self._unsent.popleft()
                elif time.monotonic() >= deadline:
                    self._something.set()
                    return False
                else:
                    time.sleep(_AGAIN_S)
        return True

    def _taken(self) -> Iterator[bytes]:
        if time.monotonic() > self._tell_anew_at:
            with self._lock:
                self._hour()
        measured = {name: self._measured(name, function) for name, function in self._measures.items()}
        with self._lock:
            counts, self._counts = self._counts, {}
            timings, self._timings = self._timings, {}
            keys, self._keys = self._keys, {}
            domains, self._domains = self._domains, {}
            gauges = self._gauges | measured
        yield from _datagrams("gauges", list(gauges.items()))
        yield from _datagrams("counts", list(counts.items()))
        yield from _datagrams("timings", list(timings.items()))
        yield from _datagrams("keys", list(keys.items()))
        yield from _datagrams("domains", list(domains.items()))


def _datagrams(kind: str, items: list[tuple[object, object]]) -> Iterator[bytes]:
    for begin in range(0, len(items), _ITEMS):
        yield json.dumps([os.getpid(), kind, items[begin : begin + _ITEMS]]).encode("ascii")
