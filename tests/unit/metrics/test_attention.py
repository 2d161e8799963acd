"""What needs attention: each fault alone is named, with what to do; the usual is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smilla.metrics.attention import Cause, findings, of_decrypt, of_file
from smilla.metrics.snapshot import (
    Count,
    Expiring,
    Journal,
    Reloads,
    Resolver,
    Slot,
    Snapshot,
    Stage,
    Workers,
)

WELL = Snapshot(
    "1.0.0",
    1000.0,
    10.0,
    observing=False,
    workers=Workers(2, 2, 5),
    resolver=Resolver(2, 2),
    journal=Journal(1, 1, 0, 599.0),
    stage=Stage(used=True),
    reloads=Reloads(1, 1),
    expiring=(Expiring(14, 3),),
    minutes=(Slot(0, (Count("encrypted", "usable", 90), Count("deferred", "bogus", 10))),),
)


def test_the_usual_needs_no_attention() -> None:
    assert findings(WELL) == ()
    assert findings(replace(WELL, resolver=Resolver(), stage=Stage(problem="not used here"))) == ()


FAULTS: list[tuple[dict[str, object], str, Cause]] = [
    ({"workers": Workers(2, 1)}, "1 of 2 workers", Cause.WORKERS),
    ({"resolver": Resolver(2, 0)}, "no nameserver proves", Cause.NO_PROOF),
    ({"resolver": Resolver(2, 1)}, "1 of 2 nameservers", Cause.SOME_PROOF),
    (
        {"minutes": (Slot(0, (Count("deferred", "resolver_down", 1),)),)},
        "no resolver answered for 1 recipients",
        Cause.NO_RESOLVER,
    ),
    (
        {"minutes": (Slot(0, (Count("deferred", "resolver_down", 2, observed=True),)),)},
        "for 2 recipients",
        Cause.NO_RESOLVER,
    ),
    ({"stage": Stage(used=True, problem="no smtp_lmtp line")}, "no smtp_lmtp line", Cause.STAGE),
    ({"reloads": Reloads(1, 1, last_failed=True)}, "reload failed", Cause.RELOAD),
    ({"journal": Journal(problem="not readable")}, "not readable", Cause.JOURNAL),
    ({"journal": Journal(1, 2, 3, 601.0)}, "5 copies of 1 messages", Cause.BACKLOG),
    ({"expiring": (Expiring(3, 1), Expiring(13, 2), Expiring(20, 9))}, "3 keys in use end within 14 days", Cause.KEYS),
    (
        {"minutes": (Slot(0, (Count("plain", "no_key", 80), Count("refused", "expired", 10))),)},
        "reason expired",
        Cause.FAILURES,
    ),
]


@pytest.mark.parametrize(("change", "word", "cause"), FAULTS)
def test_each_fault_is_named_alone_and_says_what_to_do(change: dict[str, object], word: str, cause: Cause) -> None:
    (found,) = findings(replace(WELL, **change))  # type: ignore[arg-type]
    assert word in found.why
    assert found.cause is cause
    assert found.mend.startswith(("smilla ", "journalctl ", "man "))
    assert found.gives


def test_a_resolver_that_failed_minutes_ago_is_no_alarm_any_more() -> None:
    failed, later = Slot(0, (Count("deferred", "resolver_down", 2),)), Slot(60)
    assert len(findings(replace(WELL, minutes=(failed, *[later] * 4)))) == 1
    assert findings(replace(WELL, minutes=(failed, *[later] * 5))) == ()
    assert findings(replace(WELL, minutes=(Slot(0, (Count("encrypted", "resolver_down", 2),)),))) == ()


def test_a_resolver_without_proof_is_told_once() -> None:
    failed = Slot(0, (Count("deferred", "resolver_down", 2),))
    assert len(findings(replace(WELL, resolver=Resolver(1, 0), minutes=(failed,)))) == 1


def test_a_few_failures_are_no_alarm_though_they_are_all_there_is() -> None:
    assert findings(replace(WELL, minutes=(Slot(0, (Count("deferred", "bogus", 9),)),))) == ()


def test_every_cause_has_a_fault_here() -> None:
    assert {cause for _, _, cause in FAULTS} == set(Cause) - {Cause.FILE, Cause.DECRYPT}
    (found,) = of_file(WELL, 1001.0)
    assert found.cause is Cause.FILE


def test_a_copy_may_be_owed_for_ten_minutes_and_then_the_age_is_told() -> None:
    assert findings(replace(WELL, journal=Journal(1, 1, 0, 600.0))) == ()
    (found,) = findings(replace(WELL, journal=Journal(1, 1, 0, 7200.0)))
    assert found.why.endswith("the oldest for 120 min")


def test_keys_that_end_are_told_with_the_days_of_the_first() -> None:
    (found,) = findings(replace(WELL, expiring=(Expiring(3, 1), Expiring(7, 1), Expiring(13, 2))))
    assert found.why.endswith("the first in 3")


def test_of_many_failures_the_most_frequent_reason_is_told() -> None:
    counts = (Count("refused", "expired", 4), Count("deferred", "bogus", 20), Count("deferred", "unreachable", 5))
    (found,) = findings(replace(WELL, minutes=(Slot(0, counts),)))
    assert found.why == "100% of the last hour's recipients failed, most often deferred, reason bogus"
    assert "bogus" in found.hint


def test_smilla_decrypt_needs_attention_where_it_is_silent_or_not_whole() -> None:
    assert of_decrypt(WELL) == ()
    told = [
        of_decrypt(None, "nobody answers there"),
        of_decrypt(replace(WELL, workers=Workers(2, 1))),
        of_decrypt(replace(WELL, reloads=Reloads(0, 1, last_failed=True))),
    ]
    assert [
        (one.cause, word in one.why) for (one,), word in zip(told, ("answers", "1 of 2", "reload"), strict=True)
    ] == [(Cause.DECRYPT, True)] * 3
