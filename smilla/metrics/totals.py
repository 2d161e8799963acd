"""Adds up what all processes send; the only place that knows the totals.

Promises: a datagram that is not understood changes nothing and raises nothing.  Memory is bounded: by the number of
series, keys and domains kept, and by the length of the rings.  Any number of threads may call.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from smilla.metrics.catalogue import BY_NAME, COUNTER, HISTOGRAM, SECONDS
from smilla.metrics.ring import Ring
from smilla.metrics.snapshot import (
    MINUTE_S,
    MINUTES,
    TEN_S,
    TENS,
    Cache,
    Count,
    Decryption,
    DomainCount,
    Expiring,
    Journal,
    Latency,
    Reloads,
    Resolver,
    Slot,
    Snapshot,
    Stage,
    Workers,
)

Series = tuple[str, ...]
_Fate = tuple[str, str, bool]  # action, reason, observed
_RECIPIENTS = {"recipients": False, "observed_recipients": True}
_LATENCIES = {
    "message_seconds": "message",
    "encryption_seconds": "encryption",
    "lookup_seconds": "lookup",
    "fetch_seconds": "fetch",
}
_MOST_SERIES, _MOST_KEYS, _MOST_PROCESSES = 5000, 10_000, 2000
_KEY_USED_S = 7 * 86400
_EXPIRES_DAYS = 30


@dataclass(frozen=True, slots=True)
class Facts:
    """What only the parent knows.  ``workers`` and ``reloads`` are as in the snapshot; the pids of those that run."""

    version: str = ""
    started_at: float = 0.0
    observing: bool = False
    workers: Workers = field(default_factory=Workers)
    reloads: Reloads = field(default_factory=Reloads)
    pids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Sample:
    """What the disk says: the journal and the stage."""

    journal: Journal = field(default_factory=Journal)
    stage: Stage = field(default_factory=Stage)


@dataclass(slots=True)
class _Key:
    ends_at: float
    used_at: float


@dataclass(slots=True)
class State:
    """A copy of all totals, for whoever shows them."""

    taken_at: float
    facts: Facts
    sample: Sample
    counts: dict[Series, int] = field(default_factory=dict)
    timings: dict[Series, list[float]] = field(default_factory=dict)
    gauges: dict[str, list[float]] = field(default_factory=dict)  # one number a process
    expiring: dict[int, int] = field(default_factory=dict)  # keys by days left

    def gauge(self, name: str) -> float:
        """The sum over all workers."""
        return sum(self.gauges.get(name, ()))

    @property
    def resolver(self) -> Resolver:
        """The proofs of the worker that has the fewest."""
        asked = self.gauges.get("resolvers_asked", [0])
        return Resolver(int(max(asked)), int(min(self.gauges.get("resolvers_proven", [0]))))


class Totals:
    """The totals since the start, and the rings of the last hour and day."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._counts: dict[Series, int] = {}
        self._timings: dict[Series, list[float]] = {}
        self._gauges: dict[int, dict[str, float]] = {}  # by process
        self._keys: dict[str, _Key] = {}
        self._minutes: Ring[_Fate] = Ring(MINUTE_S, MINUTES)
        self._tens: Ring[_Fate] = Ring(TEN_S, TENS)
        self._domains: Ring[tuple[str, str]] = Ring(TEN_S, TENS)
        self._facts, self._sample = Facts(), Sample()

    # --- what arrives

    def take(self, raw: bytes) -> None:
        """A datagram of ``Meter``.  Anything else is left out."""
        try:
            pid, kind, items = json.loads(raw)
            with self._lock:
                self._add(int(pid), kind, items)
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            return

    def _add(self, pid: int, kind: str, items: list[Any]) -> None:
        if kind == "gauges":
            self._add_gauges(pid, dict(items))
        for name, value in items:
            if kind == "counts":
                self._add_count(name, int(value))
            elif kind == "timings":
                self._add_timing(name, value)
            elif kind == "keys":
                self._add_key(str(name), float(value))
            elif kind == "domains":
                self._domains.add(self._clock(), (str(name[0]), str(name[1])), int(value))

    def tell(self, facts: Facts) -> None:
        """What the parent says; processes that are gone have no gauges any more."""
        with self._lock:
            self._facts = facts
            self._gauges = {pid: gauges for pid, gauges in self._gauges.items() if pid in facts.pids}

    def sampled(self, sample: Sample) -> None:
        """What the disk says now."""
        with self._lock:
            self._sample = sample

    def staged(self, stage: Stage) -> None:
        """What the disk says of the stage now, for somebody who asks just after the gate was opened."""
        with self._lock:
            self._sample = replace(self._sample, stage=stage)

    def _add_count(self, name: list[str], number: int) -> None:
        series = _series(name, COUNTER)
        if series not in self._counts and len(self._counts) >= _MOST_SERIES:
            return
        self._counts[series] = self._counts.get(series, 0) + number
        if series[0] in _RECIPIENTS:
            fate = series[1], series[-1], _RECIPIENTS[series[0]]
            self._minutes.add(self._clock(), fate, number)
            self._tens.add(self._clock(), fate, number)

    def _add_timing(self, name: list[str], timing: list[float]) -> None:
        series = _series(name, HISTOGRAM)
        before = self._timings.get(series, [0.0] * (len(SECONDS) + 2))
        if series in self._timings or len(self._timings) < _MOST_SERIES:
            self._timings[series] = [one + float(other) for one, other in zip(before, timing, strict=True)]

    def _add_key(self, name: str, ends_at: float) -> None:
        if name in self._keys or len(self._keys) < _MOST_KEYS:
            self._keys[name] = _Key(ends_at, self._clock())

    def _add_gauges(self, pid: int, gauges: Mapping[str, Any]) -> None:
        """None instead of a number: nobody knows it any more."""
        if pid in self._gauges or len(self._gauges) < _MOST_PROCESSES:
            found = {str(name): None if value is None else float(value) for name, value in gauges.items()}
            known = self._gauges.get(pid, {}) | found
            self._gauges[pid] = {name: value for name, value in known.items() if value is not None}

    # --- what is shown

    def state(self) -> State:
        """A copy of all totals now."""
        with self._lock:
            now = self._clock()
            state = State(now, self._facts, self._sample, dict(self._counts), dict(self._timings))
            for gauges in self._gauges.values():
                for name, number in gauges.items():
                    state.gauges.setdefault(name, []).append(number)
            state.expiring = self._expiring(now)
            return state

    def snapshot(self) -> Snapshot:
        """Everything, for people and pages."""
        state = self.state()
        with self._lock:
            minutes, tens = _slots(self._minutes, state.taken_at), _slots(self._tens, state.taken_at)
            domains = _domains(self._domains, state.taken_at)
        facts, counts = state.facts, state.counts
        return Snapshot(
            facts.version,
            state.taken_at,
            facts.started_at,
            facts.observing,
            facts.workers,
            state.resolver,
            state.sample.journal,
            state.sample.stage,
            facts.reloads,
            Cache(
                counts.get(("cache_requests", "hit"), 0),
                counts.get(("cache_requests", "miss"), 0),
                int(state.gauge("cache_entries")),
                int(state.gauge("cache_bytes")),
            ),
            int(state.gauge("spool_bytes")),
            tuple(_latencies(state.timings)),
            tuple(Expiring(days, keys) for days, keys in sorted(state.expiring.items())),
            tuple(sorted((series[1], number) for series, number in counts.items() if series[0] == "messages")),
            minutes,
            tens,
            domains,
            _decryption(counts),
        )

    def _expiring(self, now: float) -> dict[int, int]:
        self._keys = {
            name: key for name, key in self._keys.items() if key.ends_at > now and now - key.used_at < _KEY_USED_S
        }
        days = [int((key.ends_at - now) // 86400) for key in self._keys.values()]
        return {day: days.count(day) for day in set(days) if day < _EXPIRES_DAYS}


def _series(name: list[str], kind: str) -> Series:
    """The series of that name.  Raises KeyError or ValueError if the catalogue has none."""
    series = tuple(map(str, name))
    family = BY_NAME[series[0]]
    if family.kind != kind or len(family.labels) != len(series) - 1:
        raise ValueError(series)
    return series


def _slots(ring: Ring[_Fate], now: float) -> tuple[Slot, ...]:
    return tuple(
        Slot(began_at, tuple(Count(action, reason, n, observed) for (action, reason, observed), n in counts.items()))
        for began_at, counts in ring.slots(now)
    )


def _decryption(counts: Mapping[Series, int]) -> Decryption:
    left, signatures = dict[str, int](), dict[str, int]()
    decrypted = 0
    for series, number in counts.items():
        if series[0] == "decrypt_signatures":
            signatures[series[2]] = signatures.get(series[2], 0) + number
        elif series[0] == "decrypt_recipients" and series[1] == "left":
            left[series[2]] = left.get(series[2], 0) + number
        elif series[0] == "decrypt_recipients":
            decrypted += number
    return Decryption(decrypted, tuple(sorted(left.items())), tuple(sorted(signatures.items())))


def _domains(ring: Ring[tuple[str, str]], now: float) -> tuple[DomainCount, ...]:
    found: dict[tuple[str, str], int] = {}
    for _, counts in ring.slots(now):
        for name, number in counts.items():
            found[name] = found.get(name, 0) + number
    return tuple(DomainCount(*name, number) for name, number in sorted(found.items()))


def _latencies(timings: Mapping[Series, list[float]]) -> Iterator[Latency]:
    """One for each kind, whatever its labels."""
    for name, kind in _LATENCIES.items():
        rows = [timing for series, timing in timings.items() if series[0] == name]
        if rows:
            *buckets, total_s = (sum(column) for column in zip(*rows, strict=True))
            yield Latency(kind, int(sum(buckets)), total_s, _quantile(buckets, 0.5), _quantile(buckets, 0.95))


def _quantile(buckets: list[float], part: float) -> float:
    """The upper bound of the bucket in which this part of all lies; above the last bound, the last bound."""
    reached, wanted = 0.0, part * sum(buckets)
    for bound, number in zip(SECONDS, buckets, strict=False):
        reached += number
        if reached >= wanted:
            return bound
    return SECONDS[-1]
