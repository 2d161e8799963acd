"""A source over a network is asked in the background, once, and its answer is remembered for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from smilla.address import EmailAddress, parse
from smilla.config.options import DNSOptions
from smilla.keys.discovery.network import Network, Partial, counted
from smilla.model import Candidate, DNSAnswer, DNSSECStatus, Format, Reason, SourceAnswer
from smilla.ports import Metrics

PIA, HUGH = parse("pia@example.org"), parse("hugh@example.net")
FOUND = SourceAnswer("wkd", "there", (Candidate("wkd", "there", Format.OPENPGP, b"key"),))
ABSENT = SourceAnswer("wkd", "there", detail="404")
DOWN = SourceAnswer("wkd", "there", detail="down", is_unreachable=True)
BOGUS = SourceAnswer("wkd", "there", dns=DNSAnswer("x.", "A", DNSSECStatus.BOGUS))
UNCLEAR = SourceAnswer("wkd", "there", unclear=Reason("web_unclear", "?"))


class Web:
    """Answers when it is told to, in the thread that calls ``run``."""

    def __init__(self, answer: SourceAnswer = FOUND, options: DNSOptions | None = None) -> None:
        self.answer = answer
        self.asked: list[EmailAddress] = []
        self.waiting: list[tuple[str, Callable[[], bool]]] = []
        self.network = Network("wkd", self.find, self.start, options or DNSOptions())

    def start(self, zone: str, work: Callable[[], bool]) -> None:
        self.waiting.append((zone, work))

    def find(self, address: EmailAddress, deadline: float) -> SourceAnswer:
        assert deadline > time.monotonic()
        self.asked.append(address)
        return self.answer

    def run(self) -> list[bool]:
        waiting, self.waiting = self.waiting, []
        return [work() for _, work in waiting]


def past(web: Web) -> SourceAnswer:
    return web.network.begin(PIA).result(0.0)


def test_nobody_waits_and_the_answer_is_there_once_it_comes() -> None:
    web = Web()
    pending = web.network.begin(PIA)
    assert not pending.done()
    assert pending.result(0.0).status is DNSSECStatus.UNREACHABLE
    web.run()
    assert pending.done()
    assert pending.result(0.0) is FOUND


def test_the_wait_ends_as_soon_as_the_answer_comes() -> None:
    web = Web()
    pending = web.network.begin(PIA)
    threading.Timer(0.05, web.run).start()
    assert pending.result(time.monotonic() + 60) is FOUND


def test_a_search_that_outlives_its_message_serves_the_next_one() -> None:
    web = Web()
    assert past(web).is_unreachable
    web.run()
    assert past(web) is FOUND
    assert len(web.asked) == 1


def test_everybody_who_asks_for_an_address_shares_one_search() -> None:
    web = Web()
    one, other = web.network.begin(PIA), web.network.begin(PIA)
    web.network.begin(HUGH)
    assert [zone for zone, _ in web.waiting] == ["example.org", "example.net"]
    web.run()
    assert one.result(0.0) is other.result(0.0) is FOUND


def test_a_source_with_one_server_takes_its_places_for_that() -> None:
    web = Web()
    web.network = Network("ldap", web.find, web.start, DNSOptions(), "ldap")
    web.network.begin(PIA)
    assert web.waiting[0][0] == "ldap"


@pytest.mark.parametrize(("answer", "lasts_s"), [(FOUND, 900), (ABSENT, 900), (DOWN, 10), (BOGUS, 10), (UNCLEAR, 10)])
def test_an_answer_is_kept_for_a_quarter_of_an_hour_and_a_failure_briefly(
    answer: SourceAnswer, lasts_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    web, now = Web(answer), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)  # it stands still, however slow the machine is
    past(web)
    web.run()
    monkeypatch.setattr(time, "monotonic", lambda: now + lasts_s - 1)
    assert past(web) is answer
    monkeypatch.setattr(time, "monotonic", lambda: now + lasts_s + 2)
    past(web)
    assert len(web.waiting) == 1


@pytest.mark.parametrize(
    ("answer", "options"),
    [
        (FOUND, DNSOptions(cache_ttl_s=0)),
        (FOUND, DNSOptions(cache_entries=0)),
        (FOUND, DNSOptions(cache_mib=0)),
        (DOWN, DNSOptions(failure_ttl_s=0)),
    ],
)
def test_nothing_is_kept_where_the_options_say_so(answer: SourceAnswer, options: DNSOptions) -> None:
    web = Web(answer, options)
    past(web)
    web.run()
    past(web)
    assert len(web.waiting) == 1


@pytest.mark.parametrize(("answer", "answered"), [(FOUND, True), (ABSENT, True), (UNCLEAR, True), (DOWN, False)])
def test_the_pool_is_told_whether_the_domain_answered(answer: SourceAnswer, answered: bool) -> None:
    web = Web(answer)
    past(web)
    assert web.run() == [answered]


def test_who_waited_too_long_for_a_place_is_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    web, now = Web(), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    late = web.network.begin(PIA)
    monkeypatch.setattr(time, "monotonic", lambda: now + 31)
    pending = web.network.begin(PIA)
    assert len(web.waiting) == 2
    assert web.run() == [False, True]
    assert late.result(0.0).is_unreachable
    assert pending.result(0.0) is FOUND
    assert past(web) is FOUND


def test_an_error_of_ours_is_unreachable_and_not_remembered() -> None:
    web = Web()
    pending = web.network.begin(PIA)

    def broken(address: EmailAddress, deadline: float) -> SourceAnswer:
        raise ZeroDivisionError

    web.network = Network("wkd", broken, web.start, DNSOptions())
    pending = web.network.begin(PIA)
    with pytest.raises(ZeroDivisionError):
        web.waiting[-1][1]()
    assert pending.done()
    assert pending.result(0.0).is_unreachable
    assert not web.network.begin(PIA).done()


def test_address_that_needs_no_search_waits_for_no_place() -> None:
    web = Web()
    partial = Partial(web.network, lambda address: ABSENT if address == HUGH else None)
    partial.begin(PIA)  # whose server hangs
    known = partial.begin(HUGH)
    assert known.done()
    assert known.result(0.0) is ABSENT
    assert [zone for zone, _ in web.waiting] == ["example.org"]


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (FOUND, "found"),
        (ABSENT, "absent"),
        (UNCLEAR, "unclear"),
        (DOWN, "unreachable"),
        (BOGUS, "unreachable"),
    ],
)
def test_each_answer_is_counted_by_its_result_and_passed_on(answer: SourceAnswer, result: str) -> None:
    told: list[tuple[str, str]] = []

    class Counting(Metrics):
        def fetch(self, source: str, result: str, seconds: float) -> None:
            assert 0 <= seconds < 60
            told.append((source, result))

    assert counted(lambda *_: answer, "wkd", Counting())(PIA, 0.0) is answer
    assert told == [("wkd", result)]
