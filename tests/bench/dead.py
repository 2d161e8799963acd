"""One domain in ten is dead (its questions are never answered): what becomes of the messages to the others.

Two drivers run at once: four connections send to nine domains as fast as they can, and beside them every tenth message
goes to the tenth domain, over up to 96 further connections (with the four, Postfix's usual limit of 100 processes).
In turn the tenth domain is dead, alive, and not written to at all; only the others' messages are counted.

Then twelve messages at a time go to 99 names of one silent zone each, never the same, through a resolver that works on
32 questions of a connection at once, as unbound does: which part of the messages to nine other domains, each to an
address that nobody asked for before, is deferred meanwhile?
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from tests.bench import material
from tests.bench.driver import Load, Options
from tests.bench.stage import SMIME
from tests.bench.table import AT_LEAST, AT_MOST, Row, Target, medians, ratios
from tests.milter.material import make_certificate_for_anybody

if TYPE_CHECKING:
    from tests.bench.stage import Filter, Stage

_SECONDS, _WAITING, _ADDRESSES = 8, 96, 200
_DEAD, _ALIVE, _NONE = "dead.test", "alive.test", ""
_RATE_LIMIT = 150.0
_AT_ONCE, _MESSAGES, _NAMES, _STRANGERS_A_SECOND = 32, 12, 99, 100


def measure(stage: Stage) -> list[Row]:
    """Messages a second to the nine domains; then the part that is deferred."""
    return [*_dead_domain(stage), _silent_names(stage)]


def _dead_domain(stage: Stage) -> list[Row]:
    others = [[f"somebody@domain-{number}.test"] for number in range(9)]
    tenth = {name: [[f"person-{number}@{name}"] for number in range(_ADDRESSES)] for name in (_DEAD, _ALIVE)}
    for (address,) in [*others, *tenth[_ALIVE]]:
        stage.stub.publish(address, certificate=material.certificate(address))
    stage.stub.delay = lambda name: None if name.endswith(_DEAD) else 0.0
    expected = {_DEAD: "tempfail", _ALIVE: SMIME}
    rates: dict[str, list[float]] = {_DEAD: [], _ALIVE: [], _NONE: []}
    sent: list[int] = []
    try:
        with stage.smilla() as smilla:
            with _others(stage, smilla, others, 2) as good:
                alone = good.go().result().rate
            offered = min(alone / 10, _RATE_LIMIT)
            for name in stage.turns(3, rates):
                with _others(stage, smilla, others, _SECONDS) as good:
                    if name == _NONE:
                        rates[name].append(good.go().result().rate)
                        continue
                    with Load(
                        smilla.address,
                        stage.letter,
                        tenth[name],
                        expected[name],
                        connections=_WAITING,
                        seconds=_SECONDS,
                        rate=offered,
                        canary=stage.canary,
                    ) as tenths:
                        tenths.wait_until_ready().go()
                        rates[name].append(good.go().result().rate)
                        sent.append(tenths.result().messages)
    finally:
        stage.stub.delay = lambda name: 0.0
    what = "one domain in ten dead, the others' mail"
    details = medians(dead_per_second=rates[_DEAD], alive_per_second=rates[_ALIVE], none_per_second=rates[_NONE])
    told = {**details, "sent_to_the_tenth": sent}
    return [
        Row("dead", what, "all ten alive", ratios(rates[_DEAD], rates[_ALIVE]), Target(AT_LEAST, 0.95), details=told),
        Row("dead-none", what, "nobody writes to the tenth", ratios(rates[_DEAD], rates[_NONE]), details=told),
    ]


def _silent_names(stage: Stage) -> Row:
    anybody = make_certificate_for_anybody()
    deferred: list[float] = []
    stage.stub.at_once = _AT_ONCE
    stage.stub.delay = lambda name: None if name.endswith(".silent.test") else 0.0
    try:
        for turn in stage.rounds(3):
            strangers = [[f"{turn}-{n}@stranger-{n % 9}.test"] for n in range(_STRANGERS_A_SECOND * (_SECONDS + 2))]
            for (address,) in strangers:
                stage.stub.publish(address, certificate=anybody)
            silent = [[f"x@a{turn}-{line}-{n}.silent.test" for n in range(_NAMES)] for line in range(_MESSAGES * 8)]
            with stage.smilla() as smilla, _silent_load(stage, smilla, silent) as load:
                load.wait_until_ready().go()
                time.sleep(1)
                options: Options = {"connections": 4, "seconds": _SECONDS, "rate": _STRANGERS_A_SECOND}
                with Load(smilla.address, stage.letter, strangers, SMIME, canary=stage.canary, **options) as good:
                    deferred.append(100 * good.wait_until_ready().go().wrong())
                load.result()
    finally:
        stage.stub.at_once, stage.stub.delay = 0, lambda name: 0.0
    what = "names of one zone silent, others' mail deferred"
    return Row("dead-names", what, "all of the others' mail", deferred, Target(AT_MOST, 0.0), "%")


def _silent_load(stage: Stage, smilla: Filter, recipients: list[list[str]]) -> Load:
    options: Options = {"connections": _MESSAGES, "seconds": _SECONDS}
    return Load(smilla.address, stage.letter, recipients, "tempfail", canary=stage.canary, **options)


def _others(
    stage: Stage, smilla: Filter, recipients: list[list[str]], seconds: float
) -> contextlib.AbstractContextManager[Load]:
    options: Options = {"connections": 4, "warm": 20, "seconds": seconds}
    return stage.spread_evenly(smilla, recipients, SMIME, **options)
