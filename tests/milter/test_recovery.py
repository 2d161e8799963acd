"""The log says at the start what works, and later what works again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.lab.processes import free_port, wait_until
from tests.lab.sink import Sink
from tests.milter.dns_stub import DNSStub
from tests.milter.material import directory_settings, plain_mail
from tests.milter.test_handover import BOTH, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.smilla import Settings, Smilla
    from tests.milter.client import Clients
    from tests.milter.conftest import Starter
    from tests.milter.material import Keys

DNS: Settings = {"dns": {"timeout_s": 15, "probe": "probe.test."}, "policy": {"mixed": "defer"}}


@pytest.fixture
def sink() -> Iterator[Sink]:
    """The MTA's listener without the filter."""
    with Sink() as listener:
        yield listener


def words(smilla: Smilla) -> dict[str, str]:
    """The fields of ``started``."""
    line = smilla.wait_for_log(" started ")
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def test_started_says_that_resolver_journal_and_listener_work(
    start: Starter, stub: DNSStub, keys: Keys, sink: Sink
) -> None:
    said = words(start(settings(keys, sink), resolver=stub.address))
    assert (said["observe"], said["resolver"], said["journal"], said["listener"]) == ("false", "unused", "ok", "ok")
    assert words(start(DNS, resolver=stub.address))["resolver"] == "ok"


def test_started_says_what_does_not_work(start: Starter, stub: DNSStub, keys: Keys, sink: Sink) -> None:
    stub.validates = False
    said = words(start(DNS, resolver=stub.address))
    assert (said["resolver"], said["journal"], said["listener"]) == ("no-proof", "unused", "unused")
    assert words(start(DNS, resolver=f"127.0.0.1@{free_port()}"))["resolver"] == "unreachable"
    away = settings(keys, sink)
    sink.close()
    assert words(start(away))["listener"] == "unreachable"


def test_started_says_that_smilla_observes(start: Starter, keys: Keys) -> None:
    assert words(start(directory_settings(keys, observe=True)))["observe"] == "true"


def test_a_resolver_that_validates_again_is_an_event(start: Starter, stub: DNSStub, clients: Clients) -> None:
    stub.validates, stub.default = False, replace(stub.default, authenticated=False)
    smilla = start(DNS, resolver=stub.address)
    smilla.wait_for_log("resolver-not-validating .*severity=error$")
    stub.validates = True

    def is_over() -> bool:
        clients.open(smilla.milter).send(plain_mail(), ["<x@r.test>"])
        return " resolver-ok nameserver=" in smilla.log

    assert wait_until(is_over, 60)


def test_a_journal_that_can_be_written_again_is_an_event(
    start: Starter, clients: Clients, keys: Keys, sink: Sink
) -> None:
    smilla = start(settings(keys, sink))
    place = smilla.folder / "spool"
    place.rename(place.with_name("elsewhere"))
    place.write_bytes(b"")
    assert clients.open(smilla.milter).send(plain_mail(), BOTH, queue_id="ONE").reply.startswith("451 ")
    smilla.wait_for_log("ONE journal-failed ")
    place.unlink()
    place.with_name("elsewhere").rename(place)
    assert clients.open(smilla.milter).send(plain_mail(), BOTH, queue_id="TWO").verdict == "accept"
    smilla.wait_for_log("TWO journal-ok")
    assert clients.open(smilla.milter).send(plain_mail(), BOTH, queue_id="THREE").verdict == "accept"
    smilla.wait_for_log("THREE message ")
    assert smilla.log.count("journal-ok") == 1


def test_a_listener_that_answers_again_is_an_event(start: Starter, clients: Clients, keys: Keys, sink: Sink) -> None:
    smilla = start(settings(keys, sink))
    sink.answer = lambda line: b"421 4.3.2 not now" if line.upper().startswith(b"EHLO") else None
    assert clients.open(smilla.milter).send(plain_mail(), BOTH, queue_id="ONE").reply.startswith("451 ")
    smilla.wait_for_log("ONE copy-failed ")
    sink.answer = lambda line: None
    assert clients.open(smilla.milter).send(plain_mail(), BOTH, queue_id="TWO").verdict == "accept"
    smilla.wait_for_log("TWO listener-ok")
