"""One line of the log explains why the hop to a domain is verified, or is not."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from smilla import log_hops
from smilla.model import Hop, HopVerdict, HopWay, Reason

Told = list[tuple[int, str, dict[str, Any]]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    found: Told = []
    monkeypatch.setattr(log_hops, "_event", lambda level, event, **fields: found.append((level, event, fields)))
    monkeypatch.setattr(log_hops, "_failing", set())
    return found


@pytest.mark.parametrize(
    ("verdict", "level"),
    [
        (HopVerdict.VERIFIED, logging.INFO),
        (HopVerdict.NONE, logging.INFO),
        (HopVerdict.BOGUS, logging.WARNING),
        (HopVerdict.UNREACHABLE, logging.WARNING),
        (HopVerdict.UNCLEAR, logging.WARNING),
    ],
)
def test_what_nobody_knows_is_a_warning_and_what_is_proven_is_none(told: Told, verdict: HopVerdict, level: int) -> None:
    way = HopWay.MTA_STS if verdict is HopVerdict.VERIFIED else None
    hop = Hop("a.test", verdict, Reason("code", "in words"), way, ("mx.a.test", "mx2.a.test"), policy_id="7")
    log_hops.hop(hop)
    [(found, event, fields)] = told
    assert (found, event) == (level, "hop")
    assert fields == {
        "domain": "a.test",
        "verdict": verdict.value,
        "way": "mta-sts" if way else "",
        "reason": "code",
        "names": "mx.a.test,mx2.a.test",
        "policy_id": "7",
        "detail": "" if way else "in words",
    }


def test_store_that_fails_is_told_of_once_until_it_works_again(told: Told) -> None:
    for _ in range(3):
        log_hops.store_failed("/a", "full")
    log_hops.store_failed("/b", "full")
    log_hops.store_works("/a")
    log_hops.store_failed("/a", "full")
    assert [(event, fields["file"]) for _, event, fields in told] == [
        ("hop-store-failed", "/a"),
        ("hop-store-failed", "/b"),
        ("hop-store-failed", "/a"),
    ]
