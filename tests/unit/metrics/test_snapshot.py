"""The snapshot: what the reporter writes, the commands and the page read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from smilla.metrics.snapshot import (
    Count,
    DomainCount,
    Expiring,
    Journal,
    Latency,
    Resolver,
    Slot,
    Snapshot,
    SnapshotError,
    Stage,
    Workers,
    failures,
    share_protected,
    total,
)

SLOTS = (
    Slot(60, (Count("encrypted", "wanted", 3), Count("plain", "no_key", 1), Count("deferred", "bogus", 2))),
    Slot(120, (Count("unchanged", "encrypted", 2), Count("refused", "expired", 5), Count("deferred", "bogus", 4))),
    Slot(180, (Count("encrypted", "wanted", 7, observed=True), Count("already-sent", "already_sent", 9))),
)
FULL = Snapshot(
    "1.0.0",
    1000.5,
    10.0,
    observing=True,
    workers=Workers(3, 2, 1),
    resolver=Resolver(2, 1),
    journal=Journal(1, 2, 3, 4.5, "no"),
    stage=Stage(used=True, problem="shut", keys=1, newest_key_at=3.0),
    spool_octets=5,
    latencies=(Latency("message", 3, 0.5, 0.1, 0.25),),
    expiring=(Expiring(3, 1),),
    replies=(("250", 3), ("451", 1)),
    minutes=SLOTS,
    tens=(Slot(0),),
    domains=(DomainCount("example.org", "encrypted", 3),),
)


def test_a_snapshot_reads_back_as_it_was_written() -> None:
    assert Snapshot.from_json(FULL.to_json()) == FULL
    assert Snapshot.from_json(FULL.to_json().encode()) == FULL


def test_a_whole_number_of_seconds_is_read_as_seconds() -> None:
    assert Snapshot.from_json(FULL.to_json().replace("1000.5", "1000")) == replace(FULL, taken_at=1000.0)


@pytest.mark.parametrize(
    "change",
    [
        {"smilla_snapshot": 2},
        {"version": 1},
        {"observing": 1},
        {"workers": {"wanted": 1, "running": 1}},
        {"workers": {"wanted": 1, "running": 1, "died": True}},
        {"expiring": {}},
        {"replies": [["250", 1, 2]]},
        {"minutes": [{"began_at": 1, "counts": [3]}]},
        {"more": 1},
    ],
)
def test_anything_else_is_no_snapshot(change: dict[str, object]) -> None:
    with pytest.raises(SnapshotError):
        Snapshot.from_json(json.dumps(json.loads(FULL.to_json()) | change))


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b"[" * 100_000, b"null"])
def test_what_is_no_json_object_is_no_snapshot(raw: bytes) -> None:
    with pytest.raises(SnapshotError):
        Snapshot.from_json(raw)


def test_the_share_counts_what_went_on_and_what_came_encrypted() -> None:
    assert share_protected(SLOTS) == 5 / 6
    assert share_protected(SLOTS, observed=True) == 1.0


def test_the_share_of_nothing_is_unknown() -> None:
    assert share_protected(SLOTS[:0]) is None
    assert share_protected((Slot(0, (Count("deferred", "bogus", 1),)),)) is None


def test_failures_are_counted_by_action_and_reason_the_most_frequent_first() -> None:
    assert failures(SLOTS) == (("deferred", "bogus", 6), ("refused", "expired", 5))
    assert failures(SLOTS, observed=True) == ()


def test_total_counts_what_was_only_observed_apart() -> None:
    assert total(SLOTS, ["encrypted"]) == 3
    assert total(SLOTS, ["encrypted"], observed=True) == 7
