"""A process counts and sends: nothing is lost, nothing waits, nothing names anybody."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from smilla import log_metrics
from smilla.metrics.catalogue import OTHER, SECONDS
from smilla.metrics.meter import Meter
from smilla.metrics.totals import Facts, State, Totals
from smilla.model import Action, DNSSECStatus, PGPKey, X509Key
from smilla.server.reporter import Measuring
from tests.unit.decisions import certificate, decision, openpgp_key


class Wire:
    """Hands datagrams on to the totals, unless it is full; keeps what went over it."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.is_full = False
        self.sent: list[bytes] = []

    def send(self, raw: bytes) -> bool:
        if not self.is_full:
            self.sent.append(raw)
            self.totals.take(raw)
        return not self.is_full

    @property
    def state(self) -> State:
        return self.totals.state()


@pytest.fixture
def wire() -> Wire:
    return Wire()


def meter(wire: Wire, *, keeps_domains: bool = False) -> Meter:
    made = Meter(Measuring(), keeps_domains=keeps_domains)
    made._send = wire.send  # without the thread, so that the test says when
    return made


ENCRYPTED = decision("ann@example.org", Action.ENCRYPT, certificate(), "usable")


def test_a_recipient_is_counted_under_the_words_of_its_line(wire: Wire) -> None:
    counting = meter(wire)
    counting.recipient(ENCRYPTED, "encrypted", "usable")
    counting.recipient(ENCRYPTED, "encrypted", "usable")
    counting.recipient(None, "deferred", "internal")
    assert counting.flush()
    assert wire.state.counts == {
        ("recipients", "encrypted", "smime", "smimea", "secure", "usable"): 2,
        ("recipients", "deferred", "", "", "", "internal"): 1,
    }


def test_what_is_only_observed_is_counted_apart(wire: Wire) -> None:
    counting = meter(wire)
    counting.recipient(ENCRYPTED, "encrypted", "usable", observed=True)
    counting.flush()
    assert [series[0] for series in wire.state.counts] == ["observed_recipients"]


def test_a_reason_that_nobody_knows_makes_no_series_of_its_own(wire: Wire) -> None:
    counting = meter(wire)
    for reason in ("x1", "x2", "ann@example.org"):
        counting.recipient(ENCRYPTED, "deferred", reason)
    counting.flush()
    assert wire.state.counts == {("recipients", "deferred", "smime", "smimea", "secure", OTHER): 3}


def test_what_the_other_side_does_not_take_is_kept_and_sent_later(wire: Wire) -> None:
    counting = meter(wire)
    counting.message("", 0.01)
    wire.is_full = True
    assert not counting.flush()
    counting.message("451", 0.01)
    assert not counting.flush()
    wire.is_full = False
    assert counting.flush()
    assert counting.flush()
    assert wire.state.counts == {("messages", "250"): 1, ("messages", "451"): 1}


def test_many_series_are_sent_in_several_datagrams_and_none_is_lost(wire: Wire) -> None:
    counting = meter(wire)
    for number in range(450):
        counting.message(str(number), 0.0)
    counting.flush()
    assert len([raw for raw in wire.sent if b'"counts"' in raw]) == 3
    assert sum(wire.state.counts.values()) == 450


def test_a_time_falls_into_its_bucket_and_the_last_one_takes_the_rest(wire: Wire) -> None:
    counting = meter(wire)
    for seconds in (SECONDS[0], SECONDS[0] + 0.0001, 1000.0):
        counting.message("", seconds)
    counting.flush()
    timing = wire.state.timings["message_seconds",]
    assert timing[:2] == [1, 1]
    assert timing[len(SECONDS)] == 1
    assert timing[-1] == pytest.approx(1000.0 + 2 * SECONDS[0] + 0.0001)


def test_the_blocks_of_a_copy_go_on_as_they_are_and_only_making_them_is_timed(wire: Wire) -> None:
    counting = meter(wire)
    assert list(counting.encrypting("smime", iter([b"a", b"", b"b"]))) == [b"a", b"", b"b"]
    counting.flush()
    assert sum(wire.state.timings["encryption_seconds", "smime"][:-1]) == 1


def test_an_encryption_that_fails_raises_on(wire: Wire) -> None:
    def broken() -> Iterator[bytes]:
        yield b"a"
        raise ValueError("broken")

    blocks = meter(wire).encrypting("smime", broken())
    assert next(blocks) == b"a"
    with pytest.raises(ValueError, match="broken"):
        next(blocks)


def test_look_ups_and_the_cache_are_counted(wire: Wire) -> None:
    counting = meter(wire)
    counting.lookup(DNSSECStatus.BOGUS, 0.2)
    counting.cache(hit=True)
    counting.cache(hit=False)
    counting.cache(hit=True)
    counting.flush()
    assert wire.state.counts == {("cache_requests", "hit"): 2, ("cache_requests", "miss"): 1}
    assert ("lookup_seconds", "bogus") in wire.state.timings


def test_searches_for_a_hop_are_counted(wire: Wire) -> None:
    counting = meter(wire)
    counting.hop("dane", "verified")
    counting.hop("", "none")
    counting.hop("dane", "verified")
    counting.flush()
    assert wire.state.counts == {("hops", "dane", "verified"): 2, ("hops", "", "none"): 1}


def test_questions_to_web_servers_and_directories_are_counted(wire: Wire) -> None:
    counting = meter(wire)
    counting.fetch("wkd", "absent", 0.2)
    counting.fetch("ldap", "unreachable", 6.0)
    counting.flush()
    assert set(wire.state.timings) == {("fetch_seconds", "wkd", "absent"), ("fetch_seconds", "ldap", "unreachable")}
    (fetches,) = wire.totals.snapshot().latencies
    assert (fetches.of, fetches.count) == ("fetch", 2)


def test_gauges_are_sent_each_time_also_those_that_are_measured(wire: Wire) -> None:
    counting = meter(wire)
    counting.measure("spool_bytes", lambda: 7.0)
    counting.gauge("cache_entries", 3)
    counting.flush()
    counting.flush()
    assert (wire.state.gauge("cache_entries"), wire.state.gauge("spool_bytes")) == (3.0, 7.0)
    assert len(wire.sent) == 2


def _broken() -> float:
    raise KeyError("broken")


@pytest.mark.parametrize("broken", [_broken, lambda: float("nan"), lambda: "no number", lambda: None])
def test_a_gauge_that_fails_is_told_once_and_left_out_and_all_else_is_sent_on(
    wire: Wire, broken: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(log_metrics, "gauge_failed", told.append)
    counting = meter(wire)
    counting.measure("spool_bytes", broken)
    counting.measure("cache_bytes", lambda: 5.0)
    counting.gauge("cache_entries", 3)
    for _ in range(2):
        counting.message("", 0.1)
        assert counting.flush()
    assert told == ["spool_bytes"]
    assert wire.state.counts == {("messages", "250"): 2}
    assert wire.state.gauges == {"cache_entries": [3.0], "cache_bytes": [5.0]}


def test_the_thread_goes_on_sending_after_a_gauge_has_failed(wire: Wire) -> None:
    counting = meter(wire)
    sent = queue.SimpleQueue[bytes]()
    counting.measure("spool_bytes", _broken)

    def send(raw: bytes) -> bool:
        sent.put(raw)
        return True

    counting.start(send)
    for code in ("250", "451"):
        counting.message(code, 0.1)
        while code.encode() not in sent.get(timeout=60):
            pass


def test_an_old_number_of_a_gauge_that_fails_is_not_shown_any_more_until_it_works_again(wire: Wire) -> None:
    counting = meter(wire)
    numbers = iter([7.0, None, 9.0])
    counting.measure("spool_bytes", lambda: next(numbers))  # type: ignore[arg-type, return-value]
    for shown in ([7.0], [], [9.0]):
        counting.flush()
        assert wire.state.gauges.get("spool_bytes", []) == shown


def _ending(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days, hours=1)


def test_a_key_that_ends_soon_is_told_once_and_without_a_name(wire: Wire) -> None:
    counting = meter(wire)
    keys: list[X509Key | PGPKey] = [
        replace(certificate(), expires_at=_ending(3)),
        replace(openpgp_key(), expires_at=_ending(12)),
    ]
    for key in (*keys, *keys, replace(certificate(), fingerprint="other", expires_at=_ending(300))):
        counting.recipient(decision("ann@example.org", Action.ENCRYPT, key), "encrypted", "usable")
    counting.flush()
    assert wire.state.expiring == {3: 1, 12: 1}
    for key in keys:
        assert key.fingerprint.encode() not in b"".join(wire.sent)


def test_a_key_that_never_ends_is_not_told(wire: Wire) -> None:
    counting = meter(wire)
    key = replace(openpgp_key(), expires_at=None)
    counting.recipient(decision("ann@example.org", Action.ENCRYPT, key), "encrypted", "usable")
    counting.flush()
    assert wire.state.expiring == {}


def test_one_key_counts_once_though_several_workers_use_it(wire: Wire) -> None:
    first = meter(wire)
    key = replace(certificate(), expires_at=_ending(3))
    second = meter(wire)
    second._salt = first._salt  # as after a fork
    for counting in (first, second):
        counting.recipient(decision("ann@example.org", Action.ENCRYPT, key), "encrypted", "usable")
        counting.flush()
    assert wire.state.expiring == {3: 1}


def test_no_address_and_no_domain_leaves_the_process(wire: Wire) -> None:
    counting = meter(wire)
    counting.recipient(ENCRYPTED, "encrypted", "usable")
    counting.recipient(decision("ann@example.org", Action.DEFER), "deferred", "bogus")
    counting.flush()
    assert b"example" not in b"".join(wire.sent)
    assert wire.totals.snapshot().domains == ()


def test_domains_are_counted_only_where_somebody_asks_and_never_as_a_label(wire: Wire) -> None:
    counting = meter(wire, keeps_domains=True)
    counting.recipient(ENCRYPTED, "encrypted", "usable")
    counting.flush()
    (found,) = wire.totals.snapshot().domains
    assert (found.domain, found.action, found.recipients) == ("example.org", "encrypted", 1)
    assert all("example.org" not in series for series in wire.state.counts)


def test_a_child_begins_with_nothing_of_what_its_parent_counted(wire: Wire) -> None:
    counting = meter(wire)
    counting.message("", 0.0)
    counting.start(wire.send)
    counting.flush()
    assert wire.state.counts == {}


def test_the_buckets_ascend() -> None:
    assert all(one < other for one, other in pairwise(SECONDS))


def test_gauges_of_a_worker_that_is_gone_are_forgotten(wire: Wire) -> None:
    counting = meter(wire)
    counting.gauge("cache_entries", 3)
    counting.flush()
    wire.totals.tell(Facts(pids=frozenset({1})))
    assert wire.state.gauge("cache_entries") == 0


def test_before_a_process_ends_it_waits_a_moment_until_its_last_counts_are_taken(wire: Wire) -> None:
    counting = meter(wire)
    refusals = iter([False, False, False])
    counting._send = lambda raw: next(refusals, True) and wire.send(raw)
    counting.message("", 0.0)
    assert counting.flush(60.0)
    assert wire.state.counts == {("messages", "250"): 1}
