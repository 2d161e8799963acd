"""The totals: what is not understood changes nothing, and everything is bounded."""

from __future__ import annotations

import json

import pytest

from smilla.metrics.catalogue import SECONDS
from smilla.metrics.snapshot import Cache, Count, Expiring, Latency, Reloads, Resolver, Workers
from smilla.metrics.totals import Facts, Totals


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def totals(clock: Clock) -> Totals:
    return Totals(clock)


def sent(kind: str, *items: object, pid: int = 1) -> bytes:
    return json.dumps([pid, kind, items]).encode()


FATE = ["recipients", "encrypted", "smime", "smimea", "secure", "usable"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"{}",
        b"[1]",
        sent("counts", ["unknown", 1]),
        sent("counts", [["unknown"], 1]),
        sent("counts", [["recipients", "encrypted"], 1]),
        sent("counts", [["message_seconds"], 1]),
        sent("counts", [FATE, "x"]),
        sent("counts", 3),
        sent("timings", [["message_seconds"], [1.0, 2.0]]),
        sent("gauges", ["cache_entries", "x"]),
        sent("keys", ["name", "x"]),
        sent("domains", ["x", 1]),
        sent("facts", ["x", 1]),
    ],
)
def test_what_is_not_understood_changes_nothing(totals: Totals, raw: bytes) -> None:
    before = totals.snapshot()
    totals.take(raw)
    assert totals.snapshot() == before


def test_counts_add_up_over_processes(totals: Totals) -> None:
    totals.take(sent("counts", [FATE, 2], pid=1))
    totals.take(sent("counts", [FATE, 3], pid=2))
    assert totals.state().counts == {tuple(FATE): 5}


def test_recipients_stand_in_the_minute_and_the_ten_minutes_when_they_came(totals: Totals, clock: Clock) -> None:
    totals.take(sent("counts", [FATE, 2], [["messages", "250"], 1]))
    clock.now += 60
    totals.take(sent("counts", [["observed_recipients", *FATE[1:]], 4]))
    found = totals.snapshot()
    assert (len(found.minutes), len(found.tens)) == (60, 144)
    assert found.minutes[-2].counts == (Count("encrypted", "usable", 2),)
    assert found.minutes[-1].counts == (Count("encrypted", "usable", 4, observed=True),)
    assert sum(count.recipients for slot in found.tens for count in slot.counts) == 6
    assert found.replies == (("250", 1),)


def test_the_number_of_series_is_bounded(totals: Totals) -> None:
    for number in range(6000):
        totals.take(sent("counts", [["messages", str(number)], 1]))
    assert len(totals.state().counts) == 5000


def test_keys_are_counted_by_days_left_and_dropped_once_ended_or_unused(totals: Totals, clock: Clock) -> None:
    day = 86400.0
    for name, days in (("a", 0.5), ("b", 2.9), ("c", 2.1), ("d", 29.9), ("e", 30.5)):
        totals.take(sent("keys", [name, clock.now + days * day]))
    assert totals.snapshot().expiring == (Expiring(0, 1), Expiring(2, 2), Expiring(29, 1))
    clock.now += day
    assert totals.snapshot().expiring == (Expiring(1, 2), Expiring(28, 1), Expiring(29, 1))
    clock.now += 7 * day
    assert totals.snapshot().expiring == ()


def test_the_worker_with_the_fewest_proofs_counts(totals: Totals) -> None:
    assert totals.snapshot().resolver == Resolver(0, 0)
    totals.take(sent("gauges", ["resolvers_asked", 2], ["resolvers_proven", 2], pid=1))
    totals.take(sent("gauges", ["resolvers_asked", 2], ["resolvers_proven", 1], pid=2))
    assert totals.snapshot().resolver == Resolver(2, 1)


def test_the_cache_is_that_of_all_workers(totals: Totals) -> None:
    for pid in (1, 2):
        totals.take(sent("gauges", ["cache_entries", 3], ["cache_bytes", 100], pid=pid))
    totals.take(sent("counts", [["cache_requests", "hit"], 9], [["cache_requests", "miss"], 1]))
    assert totals.snapshot().cache == Cache(9, 1, 6, 200)


def test_what_the_parent_says_is_shown(totals: Totals) -> None:
    totals.tell(Facts("1.2.3", 5.0, observing=True, workers=Workers(2, 1, 3), reloads=Reloads(1, 2, last_failed=True)))
    found = totals.snapshot()
    assert (found.version, found.started_at, found.observing) == ("1.2.3", 5.0, True)
    assert (found.workers, found.reloads) == (Workers(2, 1, 3), Reloads(1, 2, last_failed=True))


def test_half_and_95_percent_are_bounds_of_buckets(totals: Totals) -> None:
    buckets = [0.0] * (len(SECONDS) + 2)
    buckets[0], buckets[3], buckets[len(SECONDS)], buckets[-1] = 50.0, 45.0, 5.0, 12.5
    totals.take(sent("timings", [["lookup_seconds", "secure"], buckets]))
    assert totals.snapshot().latencies == (Latency("lookup", 100, 12.5, SECONDS[0], SECONDS[3]),)
