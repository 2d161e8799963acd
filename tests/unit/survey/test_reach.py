"""A blocked port is told from servers that are down."""

from __future__ import annotations

from dataclasses import replace

from smilla.survey.found import Found
from smilla.survey.reach import Reach, is_silent
from tests.unit.survey.samples import CLEAR, FOUND, HOST, SILENT, at


def silent(number: int) -> Found:
    server = replace(SILENT, address=f"192.0.2.{number}")
    return replace(FOUND, hosts=(replace(HOST, name=f"mx.p{number}.example", servers=(server,)),))


def test_one_provider_that_is_silent_proves_nothing() -> None:
    reach = Reach()
    reach.learn(at(SILENT, replace(SILENT, address="192.0.2.9")))
    assert (reach.is_in_doubt, reach.seems_blocked, reach.silent) == (True, False, 2)


def test_several_silent_providers_seem_blocked_and_many_make_it_hopeless() -> None:
    reach = Reach()
    for number in range(20):
        assert not reach.is_hopeless
        reach.learn(silent(number))
        assert reach.seems_blocked is (number >= 1)
    assert reach.is_hopeless


def test_one_answer_however_bad_proves_that_nothing_is_blocked() -> None:
    reach = Reach()
    for number in range(30):
        reach.learn(silent(number))
    reach.learn(at(CLEAR))
    assert not (reach.is_in_doubt or reach.seems_blocked or reach.is_hopeless)


def test_domain_without_servers_is_not_silent() -> None:
    assert is_silent(at(SILENT))
    assert not is_silent(at(SILENT, CLEAR))
    assert not is_silent(replace(FOUND, hosts=()))
