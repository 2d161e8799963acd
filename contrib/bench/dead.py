"""One domain in ten is dead (its questions are never answered): what becomes of the messages to the others.

Two drivers run at once: four connections send to nine domains as fast as they can, and beside them every tenth message
goes to the tenth domain, over up to 96 further connections (with the four, Postfix's usual limit of 100 processes).
In turn the tenth domain is dead, alive, and not written to at all; only the others' messages are counted.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import material
from driver import Load, Options
from stage import SMIME
from table import AT_LEAST, Row, Target, medians, ratios

if TYPE_CHECKING:
    from stage import Filter, Stage

_SECONDS, _WAITING, _ADDRESSES = 8, 96, 200
_DEAD, _ALIVE, _NONE = "dead.test", "alive.test", ""
_RATE_LIMIT = 150.0


def measure(stage: Stage) -> list[Row]:
    """Messages a second to the nine domains."""
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


def _others(
    stage: Stage, smilla: Filter, recipients: list[list[str]], seconds: float
) -> contextlib.AbstractContextManager[Load]:
    options: Options = {"connections": 4, "warm": 20, "seconds": seconds}
    return stage.spread_evenly(smilla, recipients, SMIME, **options)
