"""The search: one a domain at a time, bounded, remembered, and never over its deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from smilla.config import Config
from smilla.config.options import DNSOptions
from smilla.hops import rdata, search, verified
from smilla.hops.search import Finder
from smilla.model import Hop
from smilla.ports import Metrics
from tests.unit.hops.world import BOGUS, DOMAIN, SECURE, World, mx, tlsa

PATIENT = 30.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Until it is set, no answer comes."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def world(gate: threading.Event) -> World:
    found = World(waits=lambda deadline: gate.wait(max(0.0, deadline - time.monotonic())))
    found.add(DOMAIN, rdata.MX, *mx("mx.example.org"))
    found.host("mx.example.org", tlsa())
    return found


def _result(finder: Finder, domain: str = DOMAIN) -> Hop:
    return finder.begin(domain).result(time.monotonic() + PATIENT)


def test_search_begins_at_once_and_is_unreachable_at_the_deadline_and_goes_on(
    world: World, gate: threading.Event
) -> None:
    finder = world.finder()
    pending = finder.begin(DOMAIN)
    hop = pending.result(time.monotonic())
    assert (hop.verdict, hop.reason.code) == ("unreachable", "hop_deadline")
    assert {(f"{DOMAIN}.", rdata.MX), (f"_mta-sts.{DOMAIN}.", rdata.TXT)} >= set(world.asked)
    gate.set()
    assert pending.result(time.monotonic() + PATIENT).is_verified
    assert _result(finder).is_verified


def test_one_search_is_shared_by_all_who_ask_for_the_domain(world: World, gate: threading.Event) -> None:
    finder = world.finder()
    pending = [finder.begin(domain) for domain in (DOMAIN, "EXAMPLE.org.", DOMAIN)]
    gate.set()
    assert all(one.result(time.monotonic() + PATIENT).is_verified for one in pending)
    assert world.asked.count((f"{DOMAIN}.", rdata.MX)) == 1


def test_result_is_remembered_with_the_time_that_is_left(world: World, gate: threading.Event) -> None:
    gate.set()
    finder = world.finder()
    first, asked = _result(finder), len(world.asked)
    second = _result(finder)
    assert second.is_verified
    assert second.ttl_s <= first.ttl_s
    assert len(world.asked) == asked


def test_remembered_hop_ends_and_is_asked_for_anew(
    world: World, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A domain that has got a policy, or lost one, is not taken for what it was."""
    gate.set()
    began_at, later_s = time.monotonic(), [0.0]
    clock = SimpleNamespace(monotonic=lambda: began_at + later_s[0])  # it stands still, however slow the machine is
    monkeypatch.setattr(search, "time", clock)
    finder = world.finder()

    def found() -> Hop:
        return finder.begin(DOMAIN).result(clock.monotonic() + PATIENT)

    ttl_s = found().ttl_s
    assert ttl_s > 20
    later_s[0] = ttl_s - 10
    assert 0 < found().ttl_s <= 10
    assert world.asked.count((f"{DOMAIN}.", rdata.MX)) == 1
    later_s[0] = ttl_s + 10
    assert found().ttl_s == ttl_s
    assert world.asked.count((f"{DOMAIN}.", rdata.MX)) == 2


@pytest.mark.parametrize("options", [DNSOptions(cache_ttl_s=0), DNSOptions(cache_entries=0)])
def test_nothing_is_remembered_where_the_options_say_so(
    world: World, gate: threading.Event, options: DNSOptions
) -> None:
    gate.set()
    finder = world.finder(replace(Config(), dns=options))
    _result(finder)
    _result(finder)
    assert world.asked.count((f"{DOMAIN}.", rdata.MX)) == 2


@pytest.mark.parametrize(("failure_ttl_s", "times"), [(0, 2), (300, 1)])
def test_failure_is_remembered_as_long_as_a_failed_question(
    world: World, gate: threading.Event, failure_ttl_s: int, times: int
) -> None:
    gate.set()
    world.add(DOMAIN, rdata.MX, status=BOGUS, ttl_s=0)
    finder = world.finder(replace(Config(), dns=DNSOptions(failure_ttl_s=failure_ttl_s)))
    assert [_result(finder).verdict for _ in range(2)] == ["bogus"] * 2
    assert world.asked.count((f"{DOMAIN}.", rdata.MX)) == times


def test_memory_is_bounded(world: World, gate: threading.Event) -> None:
    gate.set()
    finder = world.finder(replace(Config(), dns=DNSOptions(cache_entries=3)))
    for number in range(9):
        _result(finder, f"d{number}.test")
    assert list(finder._remembered) == ["d6.test", "d7.test", "d8.test"]


def test_memory_is_bounded_in_octets_too(world: World, gate: threading.Event) -> None:
    """Each of these domains has thousands of MX hosts."""
    gate.set()
    world.host("mx.other.test", tlsa())
    for number in range(9):
        hosts = [f"a-rather-long-name-of-a-host-{one}.d{number}.test" for one in range(3000)]
        world.add(f"d{number}.test", rdata.MX, *mx("mx.other.test", *hosts), status=SECURE)
    finder = world.finder(replace(Config(), dns=DNSOptions(cache_mib=4)))
    for number in range(9):
        assert _result(finder, f"d{number}.test").is_verified
    assert 1 <= len(finder._remembered) < 9
    assert 0 < finder._octets <= 2 << 20
    finder._forget("d8.test")
    for domain in list(finder._remembered):
        finder._forget(domain)
    assert finder._octets == 0


def test_when_all_places_are_taken_a_further_search_is_unreachable_and_not_remembered(
    world: World, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_PLACES", 2)
    finder = world.finder()
    taken = [finder.begin(f"slow{number}.test") for number in range(2)]
    hop = finder.begin(DOMAIN).result(time.monotonic() + PATIENT)
    assert (hop.verdict, hop.reason.code) == ("unreachable", "hop_busy")
    gate.set()
    assert all(one.result(time.monotonic() + PATIENT).verdict == "none" for one in taken)
    while not finder._places.acquire(timeout=PATIENT):
        raise AssertionError("no place was given back")
    finder._places.release()
    assert _result(finder).is_verified


def test_without_a_thread_the_domain_is_unreachable_at_once_and_no_place_is_lost(
    world: World, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_PLACES", 1)
    gate.set()
    finder = world.finder()
    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", _no_more_threads)
        for _ in range(3):
            hop = finder.begin(DOMAIN).result(time.monotonic())
            assert (hop.verdict, hop.reason.code) == ("unreachable", "hop_busy")
    assert _result(finder).is_verified


def _no_more_threads(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_error_of_ours_ends_the_search_and_nobody_waits(
    world: World, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    monkeypatch.setattr(verified, "exchanges", lambda *_: 1 / 0)
    gate.set()
    hop = _result(world.finder())
    assert (hop.verdict, hop.reason.code) == ("unreachable", "internal")


def test_what_was_found_is_counted_without_a_domain(world: World, gate: threading.Event) -> None:
    class Counting(Metrics):
        def __init__(self) -> None:
            self.counted: list[tuple[str, str]] = []

        def hop(self, way: str, verdict: str) -> None:
            self.counted.append((way, verdict))

    gate.set()
    metrics = Counting()
    finder = Finder(world, world.finder()._policies, Config(), metrics)
    _result(finder)
    _result(finder)
    _result(finder, "none.test")
    assert metrics.counted == [("dane", "verified"), ("", "none")]
