"""A change has arrived when every authoritative server has it and the resolver proves it; and not before."""

from __future__ import annotations

from itertools import repeat

import pytest

from smilla.errors import PublishError
from smilla.model import DNSAnswer, DNSSECStatus
from smilla.records.spread import Authority, State, Verdict, look, wait

NEW, OLD = frozenset([b"new"]), frozenset([b"old"])


def answer(status: DNSSECStatus, rdata: frozenset[bytes], ttl_s: int = 0, malformed: int = 0) -> DNSAnswer:
    return DNSAnswer("x.", "SMIMEA", status, tuple(rdata), malformed, ttl_s, "why")


def never() -> DNSAnswer:
    raise AssertionError("the resolver would remember what it is told too early")


def failing() -> frozenset[bytes]:
    raise PublishError("ns: no answer", temporary=True)


HAS, LACKS, FAILS = Authority("a", lambda: NEW), Authority("b", lambda: OLD), Authority("c", failing)


@pytest.mark.parametrize("others", [[LACKS], [HAS, LACKS], [FAILS], [HAS, HAS, FAILS]])
def test_resolver_is_not_asked_before_every_server_has_it(others: list[Authority]) -> None:
    state = look(NEW, others, never)
    assert state.verdict is Verdict.WAITING
    assert f"{others.count(HAS)} of {len(others)} authoritative servers" in state.text


@pytest.mark.parametrize(
    ("status", "rdata", "verdict"),
    [
        (DNSSECStatus.SECURE, NEW, Verdict.DONE),
        (DNSSECStatus.SECURE, OLD, Verdict.WAITING),
        (DNSSECStatus.SECURE, NEW | OLD, Verdict.WAITING),
        (DNSSECStatus.SECURE, frozenset[bytes](), Verdict.WAITING),
        (DNSSECStatus.INSECURE, OLD, Verdict.WAITING),
        (DNSSECStatus.INSECURE, NEW, Verdict.NEVER),
        (DNSSECStatus.BOGUS, NEW, Verdict.WAITING),
        (DNSSECStatus.INDETERMINATE, NEW, Verdict.WAITING),
        (DNSSECStatus.UNREACHABLE, frozenset[bytes](), Verdict.WAITING),
    ],
)
def test_only_a_secure_answer_with_the_record_alone_is_done(
    status: DNSSECStatus, rdata: frozenset[bytes], verdict: Verdict
) -> None:
    assert look(NEW, [HAS], lambda: answer(status, rdata)).verdict is verdict


@pytest.mark.parametrize(
    ("status", "rdata", "malformed", "verdict"),
    [
        (DNSSECStatus.SECURE, frozenset[bytes](), 0, Verdict.DONE),
        (DNSSECStatus.INSECURE, frozenset[bytes](), 0, Verdict.DONE),
        (DNSSECStatus.SECURE, OLD, 0, Verdict.WAITING),
        (DNSSECStatus.SECURE, frozenset[bytes](), 1, Verdict.WAITING),
        (DNSSECStatus.UNREACHABLE, frozenset[bytes](), 0, Verdict.WAITING),
        (DNSSECStatus.BOGUS, frozenset[bytes](), 0, Verdict.WAITING),
    ],
)
def test_withdrawal_is_done_when_the_resolver_knows_that_nothing_is_there(
    status: DNSSECStatus, rdata: frozenset[bytes], malformed: int, verdict: Verdict
) -> None:
    empty = Authority("a", frozenset)
    assert look(frozenset(), [empty], lambda: answer(status, rdata, 0, malformed)).verdict is verdict


def test_what_the_resolver_remembers_is_told_with_its_time() -> None:
    assert "for up to 1200 s" in look(NEW, [HAS], lambda: answer(DNSSECStatus.SECURE, OLD, 1200)).text


class Time:
    def __init__(self) -> None:
        self.now, self.pauses = 0.0, list[float]()

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def test_waiting_ends_when_it_is_done() -> None:
    time, states = Time(), iter([State(Verdict.WAITING, "1"), State(Verdict.WAITING, "2"), State(Verdict.DONE, "3")])
    assert wait(lambda: next(states), lambda: time.now, time.sleep, 60).text == "3"
    assert len(time.pauses) == 2


def test_waiting_ends_at_once_where_it_helps_nothing() -> None:
    time = Time()
    assert wait(lambda: State(Verdict.NEVER, "no"), lambda: time.now, time.sleep, 60).text == "no"
    assert not time.pauses


def test_waiting_ends_at_the_deadline_and_looks_once_more_then() -> None:
    time, looks = Time(), list[float]()
    states = repeat(State(Verdict.WAITING, "still"))

    def looked() -> State:
        looks.append(time.now)
        return next(states)

    assert wait(looked, lambda: time.now, time.sleep, 60).verdict is Verdict.WAITING
    assert looks[0] == 0
    assert looks[-1] == pytest.approx(60)
    assert max(time.pauses) <= 5
    assert len(looks) < 30
