"""How long an MTA-STS policy is kept, when it is fetched, and that nothing but another policy takes its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from smilla.errors import FetchError, PolicyStoreError
from smilla.hops import policies, rdata
from smilla.hops.policies import Fetched, Policies
from smilla.hops.verified import Announced
from smilla.model import DNSAnswer, DNSSECStatus, HopVerdict, KeptPolicy
from tests.unit.hops.world import BOGUS, DOMAIN, INSECURE, SECURE, UNREACHABLE, World, text

REFUSED = FetchError("connection refused", temporary=True)
HOUR, DAY = 3600, 86400


class Sender:
    """One process that sends to the domain now and then."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.background: list[Callable[[], object]] = []
        self.waited_s, self.has_room = 0.0, True
        self.policies = Policies(world, world.fetch, lambda: world.now)

    def sends(self, after_s: float = 0) -> Announced:
        self.world.now += after_s
        txt = self.world.ask(f"_mta-sts.{DOMAIN}.", rdata.TXT).answer

        def ask_txt(most_s: float) -> DNSAnswer:
            self.waited_s = most_s
            return txt

        return self.policies.find(DOMAIN, ask_txt, lambda owner, kind: self.world.ask(owner, kind).answer, self._later)

    def _later(self, work: Callable[[], object]) -> bool:
        self.background.append(work)
        return self.has_room

    @property
    def fetches(self) -> int:
        return len(self.world.fetched)


@pytest.fixture
def sender() -> Sender:
    world = World()
    world.policy(max_age=10 * DAY)
    return Sender(world)


def _mode(announced: Announced) -> str:
    return announced.policy.mode.value if announced.policy else announced.verdict.value


def test_policy_is_fetched_once_and_remembered(sender: Sender) -> None:
    assert [_mode(sender.sends(60)) for _ in range(5)] == ["enforce"] * 5
    assert sender.fetches == 1
    assert sender.world.kept[DOMAIN].fetched_at == sender.world.now - 4 * 60


def test_changed_id_fetches_anew(sender: Sender) -> None:
    sender.sends()
    sender.world.policy("testing", max_age=DAY, sts_id="2")
    announced = sender.sends(60)
    assert (_mode(announced), announced.policy_id, sender.fetches) == ("testing", "2", 2)


@pytest.mark.parametrize("status", [SECURE, INSECURE, BOGUS, UNREACHABLE, DNSSECStatus.INDETERMINATE])
def test_remembered_policy_applies_whatever_happens_to_the_record(sender: Sender, status: DNSSECStatus) -> None:
    sender.sends()
    sender.world.add(f"_mta-sts.{DOMAIN}", rdata.TXT, status=status)
    assert _mode(sender.sends(9 * DAY)) == "enforce"
    assert sender.fetches == 1


@pytest.mark.parametrize("raw", [text("v=STSv1; id=!"), text("v=spf1"), b"\x05x"])
def test_remembered_policy_applies_where_the_record_is_none(sender: Sender, raw: bytes) -> None:
    sender.sends()
    sender.world.add(f"_mta-sts.{DOMAIN}", rdata.TXT, raw)
    assert _mode(sender.sends(60)) == "enforce"


def test_expired_policy_does_not_apply(sender: Sender) -> None:
    sender.sends()
    sender.world.add(f"_mta-sts.{DOMAIN}", rdata.TXT)
    assert _mode(sender.sends(10 * DAY + 1)) == "none"


def test_mode_none_ends_enforcement_only_once_it_is_fetched(sender: Sender) -> None:
    sender.sends()
    sender.world.policy("none", "", 10 * DAY, sts_id="2")
    none, sender.world.web[f"mta-sts.{DOMAIN}"] = sender.world.web[f"mta-sts.{DOMAIN}"], REFUSED
    assert _mode(sender.sends(60)) == "enforce"
    sender.world.web[f"mta-sts.{DOMAIN}"] = none
    assert _mode(sender.sends(301)) == "enforce"
    sender.background.pop()()
    assert _mode(sender.sends(1)) == "none"


@pytest.mark.parametrize(
    "broken",
    [REFUSED, Fetched(301, "text/plain", b""), Fetched(404, "text/html", b""), Fetched(200, "text/plain", b"x")],
)
def test_failure_keeps_the_remembered_policy_and_is_not_tried_again_for_five_minutes(
    sender: Sender, broken: Fetched | FetchError
) -> None:
    sender.sends()
    sender.world.policy("testing", sts_id="2")
    sender.world.web[f"mta-sts.{DOMAIN}"] = broken
    assert [_mode(sender.sends(after_s)) for after_s in (1, 100, 198)] == ["enforce"] * 3
    assert (sender.fetches, sender.background) == (2, [])
    assert _mode(sender.sends(100)) == "enforce"
    sender.background.pop()()  # nobody with a policy waits for a server that was not there before
    assert sender.fetches == 3


def test_failure_without_a_remembered_policy_is_no_absence_and_waits_too(sender: Sender) -> None:
    sender.world.web[f"mta-sts.{DOMAIN}"] = REFUSED
    for _ in range(3):
        announced = sender.sends(60)
        assert (announced.policy, announced.verdict) == (None, HopVerdict.UNREACHABLE)
        assert announced.reason is not None
        assert "connection refused" in announced.reason.text
    assert sender.fetches == 1
    sender.world.policy(sts_id="2")  # another id is tried at once
    assert _mode(sender.sends(1)) == "enforce"


def test_unclear_policy_stays_unclear_while_it_is_not_tried_again(sender: Sender) -> None:
    sender.world.web[f"mta-sts.{DOMAIN}"] = Fetched(404, "text/plain", b"")
    assert [sender.sends(60).verdict for _ in range(2)] == [HopVerdict.UNCLEAR] * 2


def test_policy_in_use_is_fetched_anew_in_the_background_once_a_day(sender: Sender) -> None:
    sender.sends()
    sender.sends(DAY - 1)
    assert sender.background == []
    assert _mode(sender.sends(2)) == "enforce"
    assert sender.fetches == 1  # nobody waited
    sender.background.pop()()
    assert sender.fetches == 2
    assert sender.world.kept[DOMAIN].fetched_at == sender.world.now
    sender.sends(HOUR)
    assert sender.background == []


def test_policy_that_lasts_for_less_than_a_day_is_fetched_anew_at_its_half(sender: Sender) -> None:
    sender.world.policy(max_age=HOUR)
    sender.sends()
    sender.sends(HOUR / 2 + 1)
    assert len(sender.background) == 1


def test_failed_refresh_keeps_the_policy_and_waits(sender: Sender) -> None:
    sender.sends()
    sender.world.web[f"mta-sts.{DOMAIN}"] = REFUSED
    sender.sends(DAY + 1)
    sender.background.pop()()
    assert _mode(sender.sends(60)) == "enforce"
    assert sender.background == []
    sender.sends(301)
    assert len(sender.background) == 1


def test_failure_never_puts_an_older_policy_back(sender: Sender) -> None:
    """Another process has fetched a newer one while this one tried."""
    sender.sends()
    sender.world.policy("testing", sts_id="2")
    newer = KeptPolicy("2", b"version: STSv1\nmode: testing\nmx: a.test\nmax_age: 86400\n", sender.world.now)

    def fetch(host: str, address: str) -> Fetched:
        sender.world.keep(DOMAIN, newer)
        raise REFUSED

    sender.policies = Policies(sender.world, fetch, lambda: sender.world.now)
    sender.sends(1)
    assert replace(sender.world.kept[DOMAIN], tried_id="", tried_at=0, failure="") == newer


def test_what_the_store_holds_and_is_no_policy_is_as_if_nothing_were_there(sender: Sender) -> None:
    sender.world.keep(DOMAIN, KeptPolicy("1", b"\xff", sender.world.now))
    assert _mode(sender.sends()) == "enforce"
    assert sender.fetches == 1


def test_memory_that_cannot_be_read_is_no_absence_of_a_policy(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody withholds the record, and the file is locked: the policy in force is in neither."""

    def fails(domain: str) -> None:
        raise PolicyStoreError("database is locked")

    monkeypatch.setattr(sender.world, "recall", fails)
    assert _mode(sender.sends()) == "enforce"  # what is announced can be fetched
    sender.world.add(f"_mta-sts.{DOMAIN}", rdata.TXT)
    announced = sender.sends()
    assert (announced.policy, announced.verdict) == (None, HopVerdict.UNREACHABLE)
    assert announced.reason is not None
    assert announced.reason.code == "mta_sts_unreachable"
    assert "database is locked" in announced.reason.text


def test_policy_that_was_remembered_and_is_damaged_is_no_absence_either_while_it_could_apply(sender: Sender) -> None:
    sender.world.keep(DOMAIN, KeptPolicy("1", b"\xff", sender.world.now))
    sender.world.add(f"_mta-sts.{DOMAIN}", rdata.TXT)
    assert sender.sends().verdict is HopVerdict.UNREACHABLE
    assert sender.sends(366 * DAY).verdict is HopVerdict.NONE


def test_crowd_of_slow_web_servers_leaves_no_trace_at_other_domains(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "_MOST_FETCHES", 1)
    inner: list[Announced] = []

    def slow(host: str, address: str) -> Fetched:
        if len(sender.world.fetched) == 1:
            inner.append(sender.policies.find(DOMAIN, lambda _: txt, ask, sender._later))
        return sender.world.fetch(host, address)

    def ask(owner: str, kind: int) -> DNSAnswer:
        return sender.world.ask(owner, kind).answer

    txt = ask(f"_mta-sts.{DOMAIN}.", rdata.TXT)
    sender.policies = Policies(sender.world, slow, lambda: sender.world.now)
    sender.world.fetched.append("another domain's")
    assert _mode(sender.sends()) == "enforce"
    (busy,) = inner
    assert (busy.policy, busy.verdict) == (None, HopVerdict.UNREACHABLE)
    assert busy.reason is not None
    assert "too many other policies" in busy.reason.text
    assert sender.world.kept[DOMAIN].tried_id == ""
    sender.world.policy(sts_id="2")
    assert sender.sends().policy_id == "2"  # the place was given back


def test_clock_that_was_put_back_keeps_no_failure_for_longer(sender: Sender) -> None:
    web = sender.world.web.copy()
    sender.world.web[f"mta-sts.{DOMAIN}"] = REFUSED
    sender.sends(10 * 365 * DAY)
    sender.world.web.update(web)
    assert _mode(sender.sends(-10 * 365 * DAY)) == "enforce"


def test_clock_that_was_put_back_makes_a_policy_last_its_time_from_now_on(sender: Sender) -> None:
    sender.sends(10 * 365 * DAY)
    sender.world.add(f"_mta-sts.{DOMAIN}", rdata.TXT)
    assert _mode(sender.sends(-10 * 365 * DAY)) == "enforce"
    assert _mode(sender.sends(9 * DAY)) == "enforce"
    assert _mode(sender.sends(DAY + 1)) == "none"


def test_clock_that_was_put_back_delays_no_refresh(sender: Sender) -> None:
    sender.sends(10 * 365 * DAY)
    sender.sends(-10 * 365 * DAY)
    sender.sends(DAY + 1)
    assert len(sender.background) == 1


def test_text_of_a_very_long_policy_is_not_kept_with_each_result(sender: Sender) -> None:
    sender.world.policy(mx="\nmx: ".join(f"mx{number}.example.org" for number in range(900)))
    announced = sender.sends()
    assert announced.policy is not None
    assert len(announced.policy.mx) == 900
    assert announced.lines == ()
    assert sum(map(len, announced.steps)) < 2000


def test_several_addresses_of_the_web_server_are_tried_and_not_very_many(sender: Sender) -> None:
    tried: list[str] = []

    def fetch(host: str, address: str) -> Fetched:
        tried.append(address)
        raise REFUSED

    octets = [bytes([192, 0, 2, number]) for number in range(1, 9)]
    sender.world.add(f"mta-sts.{DOMAIN}", rdata.A, *octets)
    sender.policies = Policies(sender.world, fetch, lambda: sender.world.now)
    assert sender.sends().verdict is HopVerdict.UNREACHABLE
    assert tried == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]


def test_addresses_that_are_not_known_are_no_absence_of_a_policy(sender: Sender) -> None:
    unknown = DNSAnswer(f"mta-sts.{DOMAIN}.", "A", UNREACHABLE, detail="SERVFAIL")
    sender.world.answers[f"mta-sts.{DOMAIN}.", rdata.A] = unknown
    assert sender.sends().verdict is HopVerdict.UNREACHABLE


def test_who_has_a_policy_does_not_wait_long_for_the_record(sender: Sender) -> None:
    sender.sends()
    assert sender.waited_s == float("inf")
    sender.world.add(f"_mta-sts.{DOMAIN}", rdata.TXT, status=UNREACHABLE, ttl_s=0)
    announced = sender.sends(60)
    assert sender.waited_s < 5  # [dns] timeout_s
    assert announced.ttl_s > 0  # so that the next mail does not wait at all


def test_one_background_fetch_of_a_domain_at_a_time(sender: Sender) -> None:
    sender.sends()
    for _ in range(3):
        sender.sends(DAY + 1)
    assert len(sender.background) == 1
    sender.background.pop()()
    sender.sends(DAY + 1)
    assert len(sender.background) == 1


def test_background_fetch_without_room_is_tried_again(sender: Sender) -> None:
    sender.sends()
    sender.has_room = False
    sender.sends(DAY + 1)
    sender.background.clear()
    sender.sends(60)
    assert len(sender.background) == 1
