"""A snapshot as a busy day leaves it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from smilla.metrics.snapshot import (
    MINUTE_S,
    MINUTES,
    TEN_S,
    TENS,
    Count,
    DomainCount,
    Expiring,
    Journal,
    Resolver,
    Slot,
    Snapshot,
    Stage,
    Workers,
)

NOW = 1_800_000_000


def slots(step_s: int, number: int, counts: dict[int, tuple[Count, ...]]) -> tuple[Slot, ...]:
    """Empty slots but for these; the last one is the current one."""
    newest = NOW // step_s * step_s
    return tuple(Slot(newest - (number - 1 - each) * step_s, counts.get(each, ())) for each in range(number))


def snapshot(*, observing: bool = False, **changes: Any) -> Snapshot:
    """Three fates in the last minute of the hour and of the day."""
    counts = (
        Count("encrypted", "usable", 6, observing),
        Count("plain", "no_key", 2, observing),
        Count("deferred", "unreachable", 1, observing),
    )
    made = Snapshot(
        "1.0.0",
        NOW,
        NOW - 86400,
        observing,
        workers=Workers(2, 2, 0),
        resolver=Resolver(1, 1),
        journal=Journal(),
        stage=Stage(used=True, keys=1, newest_key_at=NOW - 100),
        minutes=slots(MINUTE_S, MINUTES, {59: counts}),
        tens=slots(TEN_S, TENS, {143: counts}),
        expiring=(Expiring(0, 1), Expiring(12, 3)),
        domains=(DomainCount("example.net", "encrypted", 6), DomainCount("<b>.example", "plain", 2)),
    )
    return replace(made, **changes)
