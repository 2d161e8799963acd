"""libunbound in this process: anchors, threads, forks, its end."""

from __future__ import annotations

import gc
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from smilla.adapters.libunbound import ValidatingResolver
from smilla.adapters.resolver import LoopbackResolver
from smilla.model import DNSSECStatus
from smilla.server.runtime import make_resolver
from tests.lab.dns import smimea_owner
from tests.lab.processes import wait_until

if TYPE_CHECKING:
    from tests.live.dnssec.bench import Bench

pytestmark = pytest.mark.live

SMIMEA = 53
ALICE = smimea_owner("alice@nsec.test")
NOBODY = smimea_owner("nobody@nsec.test")
OPEN = smimea_owner("alice@open.test")


def status(resolver: ValidatingResolver | LoopbackResolver, owner: str, within_s: float = 20) -> DNSSECStatus:
    return resolver.ask(owner, SMIMEA).result(time.monotonic() + within_s).status


@pytest.mark.parametrize("way", ["resolver", "validate"])
def test_resolver_asked_before_a_fork_answers_on_both_sides_of_it(bench: Bench, way: str) -> None:
    resolver = make_resolver(bench.config(way, bench.lab.resolver))
    assert status(resolver, ALICE) is DNSSECStatus.SECURE
    child = os.fork()
    if child == 0:
        right = [status(resolver, name) for name in (ALICE, NOBODY)] == [DNSSECStatus.SECURE] * 2
        os._exit(0 if right else 1)
    assert status(resolver, NOBODY) is DNSSECStatus.SECURE
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert status(resolver, OPEN) is DNSSECStatus.INSECURE


@pytest.mark.parametrize("way", ["resolver", "validate"])
def test_child_that_drops_the_resolver_does_not_end_the_parent_s(bench: Bench, way: str) -> None:
    resolver = make_resolver(bench.config(way, bench.lab.resolver))
    assert status(resolver, ALICE) is DNSSECStatus.SECURE
    child = os.fork()
    if child == 0:
        del resolver
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    time.sleep(0.1)
    assert status(resolver, NOBODY) is DNSSECStatus.SECURE


@pytest.mark.parametrize("way", ["resolver", "validate"])
def test_resolvers_that_are_replaced_leave_no_thread_and_no_descriptor(bench: Bench, way: str) -> None:
    config = bench.config(way, bench.lab.resolver)

    def ask_and_drop() -> None:
        assert status(make_resolver(config), ALICE) is DNSSECStatus.SECURE
        gc.collect()

    def held() -> int:
        return len(list(Path("/proc/self/fd").iterdir())) + len(list(Path("/proc/self/task").iterdir()))

    ask_and_drop()
    time.sleep(0.5)
    before = held()
    for _ in range(4):
        ask_and_drop()
        assert wait_until(lambda: held() <= before, 60)


@pytest.mark.parametrize("way", ["resolver", "validate"])
def test_resolver_that_is_dropped_answers_what_was_asked_within_the_deadline(bench: Bench, way: str) -> None:
    resolver = make_resolver(bench.config(way, bench.lab.resolver))
    pending = [resolver.ask(smimea_owner(f"{number}@silent.test"), SMIMEA) for number in range(100)]
    time.sleep(0.2)
    del resolver
    gc.collect()
    deadline = time.monotonic() + 2
    assert {question.result(deadline).status for question in pending} == {DNSSECStatus.UNREACHABLE}


@pytest.mark.parametrize("way", ["resolver", "validate"])
def test_many_threads_ask_at_once(bench: Bench, way: str) -> None:
    resolver = make_resolver(bench.config(way, bench.lab.resolver))
    owners = [ALICE, NOBODY, OPEN, smimea_owner("alice@wrong-ds.test")] * 50
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda owner: status(resolver, owner), owners))
    assert found == [DNSSECStatus.SECURE, DNSSECStatus.SECURE, DNSSECStatus.INSECURE, DNSSECStatus.BOGUS] * 50


def test_anchor_of_an_unknown_algorithm_makes_nothing_insecure(bench: Bench, tmp_path: Path) -> None:
    """libunbound leaves such an anchor out, and says of all below it what it says of an unsigned zone."""
    anchor = tmp_path / "anchor"
    anchor.write_text(bench.lab.trust_anchor.read_text().replace(" 13 ", " 200 ", 1).replace("\t13 ", "\t200 ", 1))
    resolver = make_resolver(bench.config("validate", bench.lab.resolver, trust_anchor=anchor))
    for owner in (ALICE, NOBODY, OPEN):
        assert status(resolver, owner) in (DNSSECStatus.INDETERMINATE, DNSSECStatus.UNREACHABLE)
    assert resolver.probe(3)[0][1]


def test_wrong_anchor_makes_everything_bogus(bench: Bench, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    lines = bench.lab.trust_anchor.read_text().splitlines()
    anchor.write_text("".join(line[:-4] + ("0000" if line[-4:] != "0000" else "1111") + "\n" for line in lines))
    resolver = make_resolver(bench.config("validate", bench.lab.resolver, trust_anchor=anchor))
    assert {status(resolver, owner) for owner in (ALICE, NOBODY, OPEN)} == {DNSSECStatus.BOGUS}
    assert "bogus" in resolver.probe(3)[0][1]


def test_anchor_that_libunbound_cannot_read_is_no_absence(bench: Bench, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    anchor.write_text("test. IN DS this is not one\n")
    resolver = make_resolver(bench.config("validate", bench.lab.resolver, trust_anchor=anchor))
    answer = resolver.ask(NOBODY, SMIMEA).result(time.monotonic() + 2)
    assert answer.status is DNSSECStatus.UNREACHABLE
    assert answer.detail


def test_probe_says_that_it_validates(bench: Bench) -> None:
    for way, server in (("resolver", bench.lab.resolver), ("validate", bench.lab.plain_resolver)):
        assert [problem for _, problem in make_resolver(bench.config(way, server)).probe(3)] == [""]
    (problem,) = make_resolver(bench.config("resolver", bench.lab.plain_resolver)).probe(3)
    assert "does not prove that it validates" in problem[1]


def test_forwarder_that_strips_signatures_makes_a_signed_zone_bogus(bench: Bench) -> None:
    """What RFC 4035 section 5.5 is for: DNSSEC records that a middle box takes out are missed."""
    import dns.message
    import dns.rdatatype

    from tests.lab.servers import Ask, MisbehavingServer, rewriting

    def strip(query: dns.message.Message, ask: Ask) -> dns.message.Message:
        response = ask(query)
        for section in (response.answer, response.authority):
            section[:] = [rrset for rrset in section if rrset.rdtype != dns.rdatatype.RRSIG]
        return response

    with MisbehavingServer(rewriting(bench.lab.port, strip)) as front:
        resolver = make_resolver(bench.config("validate", front.name))
        assert {status(resolver, owner) for owner in (ALICE, NOBODY, OPEN)} <= {
            DNSSECStatus.BOGUS,
            DNSSECStatus.UNREACHABLE,
        }
