"""The cache before the resolver: a resolver that answers when the test says so, and a clock that the test turns."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smilla.config.options import DNSOptions
from smilla.keys.discovery import cache
from smilla.keys.discovery.cache import CachingResolver
from smilla.model import DNSAnswer, DNSSECStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

SECURE, INSECURE, BOGUS, INDETERMINATE, UNREACHABLE = DNSSECStatus
LATER = float("inf")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Question:
    """Answered by what the resolver says when the result is read, or UNREACHABLE where it says nothing yet."""

    def __init__(self, resolver: Resolver, owner: str) -> None:
        self.resolver, self.owner = resolver, owner

    def done(self) -> bool:
        return self.resolver.answers.get(self.owner, self.resolver.usual) is not None

    def result(self, deadline: float) -> DNSAnswer:
        answer = self.resolver.answers.get(self.owner, self.resolver.usual)
        if answer is None:
            return DNSAnswer(self.owner, "SMIMEA", UNREACHABLE, detail="no answer before the deadline")
        return replace(answer, owner=self.owner)


class Resolver:
    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.usual: DNSAnswer | None = answer()
        self.answers: dict[str, DNSAnswer | None] = {}

    def ask(self, owner: str, rdtype: int) -> Question:
        self.asked.append((owner, rdtype))
        return Question(self, owner)


def answer(status: DNSSECStatus = SECURE, ttl_s: int = 60, octets: int = 10) -> DNSAnswer:
    return DNSAnswer("a.", "SMIMEA", status, (bytes(octets),), ttl_s=ttl_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(cache, "time", made)
    yield made


@pytest.fixture
def resolver() -> Resolver:
    return Resolver()


def caching(resolver: Resolver, **options: int) -> CachingResolver:
    return CachingResolver(resolver, replace(DNSOptions(), **options))  # type: ignore[arg-type]


def look_up(cached: CachingResolver, owner: str = "a.", rdtype: int = 53) -> DNSAnswer:
    return cached.ask(owner, rdtype).result(LATER)


# --- how long


@pytest.mark.parametrize("status", [SECURE, INSECURE])
def test_answer_is_kept_for_its_ttl_and_no_longer(clock: Clock, resolver: Resolver, status: DNSSECStatus) -> None:
    resolver.usual = answer(status, ttl_s=60)
    cached = caching(resolver)
    look_up(cached)
    clock.now += 59.9
    assert look_up(cached).status is status
    assert len(resolver.asked) == 1
    clock.now += 0.1
    look_up(cached)
    assert len(resolver.asked) == 2


def test_answer_is_kept_no_longer_than_the_ceiling(clock: Clock, resolver: Resolver) -> None:
    resolver.usual = answer(ttl_s=86400)
    cached = caching(resolver, cache_ttl_s=100)
    look_up(cached)
    clock.now += 100
    look_up(cached)
    assert len(resolver.asked) == 2


def test_remembered_answer_shows_the_ttl_that_is_left(clock: Clock, resolver: Resolver) -> None:
    cached = caching(resolver)
    assert look_up(cached).ttl_s == 60
    clock.now += 45
    assert look_up(cached).ttl_s == 15


def test_ttl_counts_from_the_question_where_the_answer_lay_unread(clock: Clock, resolver: Resolver) -> None:
    """A slow upload: asked at RCPT, read at the end of the message."""
    cached = caching(resolver)
    question = cached.ask("a.", 53)
    clock.now += 50
    assert question.result(LATER).status is SECURE
    clock.now += 9.9
    look_up(cached)
    assert len(resolver.asked) == 1
    clock.now += 0.1
    look_up(cached)
    assert len(resolver.asked) == 2


def test_answer_read_after_its_ttl_is_not_kept(clock: Clock, resolver: Resolver) -> None:
    cached = caching(resolver)
    question = cached.ask("a.", 53)
    clock.now += 3600
    question.result(LATER)
    look_up(cached)
    assert len(resolver.asked) == 2


@pytest.mark.parametrize("ttl_s", [0, -1])
def test_answer_without_a_lifetime_is_not_kept(clock: Clock, resolver: Resolver, ttl_s: int) -> None:
    resolver.usual = answer(ttl_s=ttl_s)
    cached = caching(resolver)
    look_up(cached)
    look_up(cached)
    assert len(resolver.asked) == 2


@pytest.mark.parametrize("status", [BOGUS, INDETERMINATE, UNREACHABLE])
def test_failure_is_kept_for_seconds_whatever_its_ttl(clock: Clock, resolver: Resolver, status: DNSSECStatus) -> None:
    resolver.usual = answer(status, ttl_s=86400)
    cached = caching(resolver, failure_ttl_s=10)
    look_up(cached)
    clock.now += 9.9
    assert look_up(cached).status is status
    assert len(resolver.asked) == 1
    clock.now += 0.1
    resolver.usual = answer()
    assert look_up(cached).status is SECURE


def test_failure_counts_from_when_it_was_known(clock: Clock, resolver: Resolver) -> None:
    resolver.usual = None
    cached = caching(resolver, failure_ttl_s=10)
    question = cached.ask("a.", 53)
    clock.now += 30
    question.result(LATER)
    clock.now += 9
    look_up(cached)
    assert len(resolver.asked) == 1


def test_failure_is_not_kept_where_that_is_turned_off(clock: Clock, resolver: Resolver) -> None:
    resolver.usual = None
    cached = caching(resolver, failure_ttl_s=0)
    look_up(cached)
    look_up(cached)
    assert len(resolver.asked) == 2


def test_failure_takes_no_good_answer_s_place(clock: Clock, resolver: Resolver) -> None:
    """One message asked early and had no time left; another asked again meanwhile and was answered."""
    resolver.usual = None
    cached = caching(resolver, timeout_s=5)
    early = cached.ask("a.", 53)
    clock.now += 6
    late = cached.ask("a.", 53)
    resolver.usual = answer()
    assert late.result(LATER).status is SECURE
    resolver.usual = None
    assert early.result(LATER).status is UNREACHABLE
    assert look_up(cached).status is SECURE


def test_good_answer_takes_a_failure_s_place(clock: Clock, resolver: Resolver) -> None:
    resolver.usual = None
    cached = caching(resolver)
    hurried, patient = cached.ask("a.", 53), cached.ask("a.", 53)
    assert hurried.result(LATER).status is UNREACHABLE
    resolver.usual = answer()
    assert patient.result(LATER).status is SECURE
    assert look_up(cached).status is SECURE
    assert len(resolver.asked) == 1


# --- sharing


def test_questions_at_once_are_one(clock: Clock, resolver: Resolver) -> None:
    cached = caching(resolver)
    questions = [cached.ask("a.", 53) for _ in range(5)]
    assert {question.result(LATER).status for question in questions} == {SECURE}
    assert len(resolver.asked) == 1


def test_record_types_and_names_are_told_apart(clock: Clock, resolver: Resolver) -> None:
    cached = caching(resolver)
    for owner, rdtype in (("a.", 53), ("a.", 61), ("b.", 53)):
        assert look_up(cached, owner, rdtype).owner == owner
    assert resolver.asked == [("a.", 53), ("a.", 61), ("b.", 53)]


def test_question_that_nobody_read_serves_nobody_much_later(clock: Clock, resolver: Resolver) -> None:
    cached = caching(resolver, timeout_s=5)
    cached.ask("a.", 53)
    clock.now += 5.1
    look_up(cached)
    assert len(resolver.asked) == 2


def test_questions_that_nobody_reads_take_no_memory(clock: Clock, resolver: Resolver) -> None:
    cached = caching(resolver, timeout_s=5)
    for number in range(1000):
        cached.ask(f"{number}.", 53)
        clock.now += 1
    assert len(cached._pending) == 5


def test_reading_an_old_question_leaves_a_newer_one_shared(clock: Clock, resolver: Resolver) -> None:
    resolver.usual = answer(ttl_s=0)
    cached = caching(resolver, timeout_s=5)
    old = cached.ask("a.", 53)
    clock.now += 6
    cached.ask("a.", 53)
    old.result(LATER)
    cached.ask("a.", 53)
    assert len(resolver.asked) == 2


# --- bounds


def test_least_recently_used_entries_go_first(clock: Clock, resolver: Resolver) -> None:
    cached = caching(resolver, cache_entries=3)
    for owner in ("a.", "b.", "c.", "a.", "d."):
        look_up(cached, owner)
    resolver.asked.clear()
    for owner in ("a.", "c.", "d."):
        look_up(cached, owner)
    assert resolver.asked == []
    look_up(cached, "b.")
    assert resolver.asked == [("b.", 53)]


def test_octets_are_bounded(clock: Clock, resolver: Resolver) -> None:
    resolver.usual = answer(octets=150_000)
    cached = caching(resolver, cache_mib=1)
    for owner in ("a.", "b.", "c.", "d."):
        look_up(cached, owner)
    assert cached._octets <= 1 << 19
    assert len(cached._entries) == 3


def test_answer_larger_than_the_cache_is_answered_and_not_kept(clock: Clock, resolver: Resolver) -> None:
    resolver.usual = answer(octets=2 << 20)
    cached = caching(resolver, cache_mib=1)
    assert len(look_up(cached).raw_rdata[0]) == 2 << 20
    assert (len(cached._entries), cached._octets) == (0, 0)


def test_cache_of_no_entries_keeps_nothing(clock: Clock, resolver: Resolver) -> None:
    cached = caching(resolver, cache_entries=0)
    look_up(cached)
    look_up(cached)
    assert len(resolver.asked) == 2
    assert (len(cached._entries), cached._octets) == (0, 0)


_STEPS = st.tuples(
    st.sampled_from(["a.", "b.", "c.", "d."]),
    st.sampled_from([*DNSSECStatus]),
    st.integers(0, 30),
    st.integers(0, 400_000),
    st.floats(0, 20),
    st.booleans(),
)


@given(st.lists(_STEPS, max_size=40))
@settings(max_examples=150, deadline=None)
def test_whatever_happens_nothing_is_kept_too_long_and_the_sums_are_right(
    steps: list[tuple[str, DNSSECStatus, int, int, float, bool]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock, resolver = Clock(), Resolver()
        patch.setattr(cache, "time", clock)
        cached = caching(resolver, cache_entries=3, cache_mib=1, cache_ttl_s=20, failure_ttl_s=10, timeout_s=5)
        for owner, status, ttl_s, octets, passed_s, read in steps:
            resolver.answers[owner] = answer(status, ttl_s, octets)
            question = cached.ask(owner, 53)
            if read:
                question.result(LATER)
            assert all(
                until - clock.now < 20.001
                for _, until in ((entry.answer, entry.until) for entry in cached._entries.values())
            )
            assert cached._octets == sum(cache._size(entry.answer) for entry in cached._entries.values()) <= 1 << 19
            assert len(cached._entries) <= 3
            clock.now += passed_s


def test_many_threads_at_once_lose_no_count() -> None:
    resolver = Resolver()
    resolver.usual = answer(octets=1000)
    cached = caching(resolver, cache_entries=50)
    start = threading.Barrier(8)

    def work(seed: int) -> None:
        start.wait()
        for number in range(2000):
            assert look_up(cached, f"{(number * (seed + 3)) % 90}.").status is SECURE

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(cached._entries) == 50
    assert cached._octets == sum(cache._size(entry.answer) for entry in cached._entries.values())
    assert not cached._pending
