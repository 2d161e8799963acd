"""Resolvers and name servers that fail while smilla asks: failover, restarts, dead domains, the cache in front."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING

import dns.rcode
import pytest

from smilla.adapters.places import Places, Turn
from smilla.model import DNSSECStatus, KeyLookup, KeyVerdict
from smilla.server.runtime import make_ports, make_resolver
from tests.lab import servers
from tests.lab.dns import Kind, smimea_owner
from tests.lab.processes import wait_until
from tests.lab.servers import MisbehavingServer
from tests.live.dnssec.bench import DAY, EXIT, NOW, Bench, certificate, look_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smilla.config import Config
    from smilla.ports import Ports

pytestmark = pytest.mark.live

SMIMEA = 53
GOOD = [f"ten{number}.test" for number in range(9)]
DEAD = "ten9.test"
ADDRESSES = 40
# Each is asked for once, since validators answer from their caches, also what they can conclude from NSEC records.
_LOCAL_PARTS = [
    *(f"{way}-beside-{number}" for way in ("resolver", "validate") for number in range(ADDRESSES)),
    *(f"{burst}-{way}" for burst in ("burst", "names") for way in ("resolver", "validate")),
    *(f"three-{way}" for way in ("resolver", "validate")),
    *(f"ttl-{way}" for way in ("resolver", "validate")),
    *(f"kept{number}" for number in range(5)),
    "first",
]


def _validators(bench: Bench, timeout_s: int = 20) -> dict[str, Config]:
    return {
        "resolver": bench.config("resolver", bench.lab.resolver, timeout_s=timeout_s),
        "validate": bench.config("validate", bench.lab.plain_resolver, timeout_s=timeout_s),
    }


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Nine good domains and one whose server is silent, in a laboratory of their own."""
    bench = Bench(tmp_path_factory.mktemp("ten"))
    anybodys = certificate()
    for domain in GOOD:
        zone = bench.zone(domain)
        for name in _LOCAL_PARTS:
            zone.add_smimea(f"{name}@{domain}", anybodys)
    bench.zone(DEAD, Kind.SILENT)
    bench.zone("forwarded.test").add_smimea("alice@forwarded.test", certificate("alice@forwarded.test"))
    bench.start()
    try:
        yield bench
    finally:
        bench.stop()


class Asked:
    """Counts the questions of each domain that were sent at once, and those that had to wait for a place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: Counter[str] = Counter()
        self.waited: Counter[str] = Counter()
        real = Places.take

        def take(places: Places[object], turn: Turn[object]) -> bool:
            is_sent = real(places, turn)
            domain = ".".join(turn.owner.rstrip(".").split(".")[-2:])
            (self.sent if is_sent else self.waited)[domain] += 1
            return is_sent

        monkeypatch.setattr(Places, "take", take)


@pytest.mark.parametrize("way", ["resolver", "validate"])
def test_one_dead_domain_of_ten_makes_no_question_of_the_other_nine_wait(
    ten: Bench, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: the dead domain has all the places that it can have, and nobody else waits for one."""
    config, hurried = _validators(ten)[way], _validators(ten, 2)[way]
    ports = make_ports(config)
    asked, ended = Asked(monkeypatch), threading.Event()
    for domain in GOOD:
        look_up(f"first@{domain}", ports, config)
    dead: list[KeyLookup] = []
    addresses = [f"{way}-beside-{number}@{domain}" for number in range(ADDRESSES) for domain in GOOD]
    with ThreadPoolExecutor(ADDRESSES) as askers, ThreadPoolExecutor(8) as pool:
        for number in range(ADDRESSES):
            askers.submit(_keep_asking, ports, hurried, str(number), ended, dead)
        try:
            assert wait_until(lambda: asked.waited[DEAD] > 0, 60)
            verdicts = pool.map(lambda address: look_up(address, ports, config).verdict, addresses)
            failed = next((verdict for verdict in verdicts if verdict is not KeyVerdict.USABLE), None)
        finally:
            ended.set()
            pool.shutdown(cancel_futures=True)  # after a failure, the others would take as long each
    assert failed is None
    assert {lookup.verdict for lookup in dead} == {KeyVerdict.UNREACHABLE}
    assert len(dead) >= ADDRESSES
    all_sent = [2 * (ADDRESSES + 1)] * len(GOOD)  # SMIMEA and OPENPGPKEY; who has one key does not wait for the other
    assert wait_until(lambda: [asked.sent[domain] for domain in GOOD] == all_sent, 60), asked.sent
    assert [asked.waited[domain] for domain in GOOD] == [0] * len(GOOD)


def _keep_asking(ports: Ports, config: Config, name: str, ended: threading.Event, found: list[KeyLookup]) -> None:
    """Looks up one address of the dead domain after another."""
    for number in itertools.count():
        found.append(look_up(f"dead{name}-{number}@{DEAD}", ports, config))
        if ended.is_set():
            return


@pytest.mark.parametrize(("burst", "domain"), [("burst", DEAD), ("names", f"a{{}}.{DEAD}")])
@pytest.mark.parametrize("way", ["resolver", "validate"])
def test_hundreds_of_questions_about_a_silent_zone_hold_up_no_other(
    ten: Bench, way: str, burst: str, domain: str
) -> None:
    resolver = make_resolver(_validators(ten)[way])
    asked = [resolver.ask(smimea_owner(f"{burst}{n}@{domain.format(n)}"), SMIMEA) for n in range(800)]
    time.sleep(0.5)
    began_at = time.monotonic()
    for good in GOOD:
        answer = resolver.ask(smimea_owner(f"{burst}-{way}@{good}"), SMIMEA).result(time.monotonic() + 15)
        assert answer.status is DNSSECStatus.SECURE, answer
    assert time.monotonic() - began_at < 15
    assert {question.result(time.monotonic()).status for question in asked} == {DNSSECStatus.UNREACHABLE}


def test_burst_of_questions_is_spread_over_connections(ten: Bench) -> None:
    front = MisbehavingServer(servers.silent)
    with front:
        resolver = make_resolver(ten.config("resolver", front.name))
        for number in range(200):
            resolver.ask(smimea_owner(f"a@d{number}.test"), SMIMEA)
        assert wait_until(lambda: front.connections >= 6, 60)
        time.sleep(0.5)
        assert front.connections == 6


def test_questions_of_one_domain_are_under_way_in_small_numbers(ten: Bench) -> None:
    with MisbehavingServer(servers.silent) as front:
        resolver = make_resolver(ten.config("resolver", front.name))
        for number in range(100):
            resolver.ask(smimea_owner(f"{number}@one.test"), SMIMEA)
        resolver.ask(smimea_owner("a@other.test"), SMIMEA)
        assert wait_until(lambda: front.asked >= 24 + 1, 60)
        time.sleep(0.3)
        assert front.asked == 24 + 1


# --- nameservers of smilla: failover


REFUSED = servers.says(dns.rcode.REFUSED)
SERVFAIL = servers.says(dns.rcode.SERVFAIL)
FIRST = {
    "refuses": (REFUSED, 10),
    "fails": (SERVFAIL, 10),
    "sends garbage": (servers.garbage, 10),
    "answers other questions": (servers.other_question, 10),
    "truncates": (servers.truncated, 10),
    "is silent": (servers.silent, 10),
}


@pytest.mark.parametrize("fault", FIRST)
def test_second_nameserver_answers_where_the_first(ten: Bench, fault: str) -> None:
    behaviour, within_s = FIRST[fault]
    with MisbehavingServer(behaviour) as first:
        config = ten.config("resolver", first.name, ten.lab.resolver, timeout_s=20)
        began_at = time.monotonic()
        found = look_up("alice@forwarded.test", make_ports(config), config)
        assert (found.status, found.verdict) == (DNSSECStatus.SECURE, KeyVerdict.USABLE)
        assert time.monotonic() - began_at < within_s


@pytest.mark.parametrize("way", ["resolver", "validate"])
def test_second_nameserver_answers_where_the_first_is_dead(ten: Bench, way: str) -> None:
    dead = MisbehavingServer(servers.silent)  # never started
    config = ten.config(way, dead.name, ten.lab.resolver)
    found = look_up("alice@forwarded.test", make_ports(config), config)
    assert (found.status, found.verdict) == (DNSSECStatus.SECURE, KeyVerdict.USABLE)


def test_second_nameserver_is_asked_where_the_first_does_not_validate(ten: Bench) -> None:
    config = ten.config("resolver", ten.lab.plain_resolver, ten.lab.resolver)
    ports = make_ports(config)
    assert look_up("alice@forwarded.test", ports, config).verdict is KeyVerdict.USABLE
    nobody = look_up("nobody@forwarded.test", ports, config)
    assert (nobody.status, nobody.verdict) == (DNSSECStatus.SECURE, KeyVerdict.NO_KEY)


@pytest.mark.parametrize("way", ["resolver", "validate"])
@pytest.mark.parametrize("fault", FIRST)
def test_only_nameserver_at_fault_is_never_taken_for_absence(ten: Bench, way: str, fault: str) -> None:
    with MisbehavingServer(FIRST[fault][0]) as only:
        config = ten.config(way, only.name, timeout_s=1)
        found = look_up("alice@forwarded.test", make_ports(config), config)
        assert found.key is None
        assert EXIT[found.verdict] == 75


@pytest.mark.parametrize("way", ["resolver", "validate"])
def test_dead_nameserver_defers_and_answers_again_when_it_is_back(ten: Bench, way: str) -> None:
    front = MisbehavingServer(servers.passing_to(ten.lab.port))
    config, hurried = (ten.config(way, front.name, failure_ttl_s=0, timeout_s=seconds) for seconds in (20, 2))
    with front:
        ports = make_ports(config)
        assert look_up("alice@forwarded.test", ports, config).verdict is KeyVerdict.USABLE
    for name in ("one", "two"):
        assert look_up(f"{name}@ten0.test", ports, hurried).verdict is KeyVerdict.UNREACHABLE
    with front:
        found = look_up(f"three-{way}@ten0.test", ports, config)
        assert (found.status, found.verdict) == (DNSSECStatus.SECURE, KeyVerdict.USABLE), found


def test_connection_that_is_closed_while_it_waits_is_replaced(ten: Bench) -> None:
    """Kept connections end all the time: an idle resolver closes them."""
    front = MisbehavingServer(servers.passing_to(ten.lab.port))
    with front:
        resolver = make_resolver(ten.config("resolver", front.name))
        for number in range(5):
            front.close_connections()
            answer = resolver.ask(smimea_owner(f"kept{number}@ten1.test"), SMIMEA).result(time.monotonic() + 15)
            assert answer.status is DNSSECStatus.SECURE, answer


def test_connection_that_ends_in_the_middle_of_a_question_is_replaced(ten: Bench) -> None:
    front = MisbehavingServer(servers.silent)
    passing = servers.passing_to(ten.lab.port)

    def end_once(query: bytes, transport: str) -> None:
        front.behaviour = passing
        front.close_connections()

    front.behaviour = end_once
    with front:
        resolver = make_resolver(ten.config("resolver", front.name))
        answer = resolver.ask(smimea_owner("alice@forwarded.test"), SMIMEA).result(time.monotonic() + 15)
        assert (answer.status, front.asked) == (DNSSECStatus.SECURE, 2)


def test_connection_that_brings_another_answer_is_not_trusted_with_the_question_again(ten: Bench) -> None:
    front = MisbehavingServer(servers.silent)
    passing = servers.passing_to(ten.lab.port)

    def mislead_once(query: bytes, transport: str) -> bytes:
        front.behaviour = passing
        return servers.other_question(query, transport)

    front.behaviour = mislead_once
    with front:
        resolver = make_resolver(ten.config("resolver", front.name))
        answer = resolver.ask(smimea_owner("alice@forwarded.test"), SMIMEA).result(time.monotonic() + 15)
        assert (answer.status, front.connections) == (DNSSECStatus.SECURE, 2)


def test_proof_of_a_resolver_ends_with_its_connection(ten: Bench) -> None:
    """What answers on the same port after a restart may not validate: its silence about AD proves no absence."""
    front = MisbehavingServer(servers.passing_to(ten.lab.port))
    with front:
        config = ten.config("resolver", front.name)
        ports = make_ports(config)
        assert look_up("alice@forwarded.test", ports, config).verdict is KeyVerdict.USABLE
    front.behaviour = servers.passing_to(int(ten.lab.plain_resolver.partition("@")[2]))
    with front:
        found = look_up("nobody@forwarded.test", ports, config)
        assert (found.status, found.verdict) == (DNSSECStatus.INDETERMINATE, KeyVerdict.BOGUS)


# --- the cache in front of both


@pytest.mark.parametrize("way", ["resolver", "validate"])
def test_failure_is_remembered_for_seconds_and_then_asked_again(
    ten: Bench, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, now = MisbehavingServer(SERVFAIL), [time.monotonic()]
    monkeypatch.setattr("smilla.keys.discovery.cache.time", SimpleNamespace(monotonic=lambda: now[0]))
    with front:
        config = ten.config(way, front.name, failure_ttl_s=2, timeout_s=20)
        ports = make_ports(config)
        assert look_up("alice@forwarded.test", ports, config).verdict is KeyVerdict.UNREACHABLE
        asked = front.asked
        front.behaviour = servers.passing_to(ten.lab.port)
        assert look_up("alice@forwarded.test", ports, config).verdict is KeyVerdict.UNREACHABLE
        assert front.asked == asked
        deadline = time.monotonic() + 40  # libunbound itself remembers a failure for five seconds
        now[0] += 3
        while (found := look_up("alice@forwarded.test", ports, config)).verdict is not KeyVerdict.USABLE:
            assert time.monotonic() < deadline
            time.sleep(0.2)
            now[0] += 3
        assert found.status is DNSSECStatus.SECURE


@pytest.mark.parametrize("way", ["resolver", "validate"])
def test_second_look_up_asks_nobody_and_its_ttl_is_shorter(ten: Bench, way: str) -> None:
    front = MisbehavingServer(servers.passing_to(ten.lab.port))
    with front:
        config = ten.config(way, front.name)
        ports = make_ports(config)
        first = look_up(f"ttl-{way}@ten2.test", ports, config)
        time.sleep(1.1)
        asked = front.asked  # the other questions of the first look-up may have come after its answer
        second = look_up(f"ttl-{way}@ten2.test", ports, config)
        assert front.asked == asked
        assert 0 < second.findings[0].ttl_s < first.findings[0].ttl_s <= 60


@pytest.mark.parametrize("way", ["resolver", "validate"])
def test_negative_answer_has_the_ttl_of_its_soa(ten: Bench, way: str) -> None:
    config = _validators(ten)[way]
    found = look_up(f"nobody-{uuid.uuid4().hex}@forwarded.test", make_ports(config), config)
    assert found.verdict is KeyVerdict.NO_KEY
    assert 0 < found.findings[0].ttl_s <= 5


@pytest.mark.parametrize("way", ["resolver", "validate"])
def test_key_that_expires_within_its_ttl_is_expired_all_the_same(ten: Bench, way: str) -> None:
    config = _validators(ten)[way]
    ports = make_ports(config)
    assert look_up("alice@forwarded.test", ports, config, NOW).verdict is KeyVerdict.USABLE
    later = look_up("alice@forwarded.test", ports, config, NOW + 31 * DAY)
    assert (later.status, later.verdict) == (DNSSECStatus.SECURE, KeyVerdict.UNUSABLE_KEY)
    assert "expired on" in later.reason.text
