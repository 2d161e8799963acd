"""A hundred recipients who share one S/MIME message, against one recipient; keys remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench import driver, material
from tests.bench.stage import SMIME
from tests.bench.table import AT_MOST, Row, Target, medians, ratios

if TYPE_CHECKING:
    from tests.bench.stage import Stage

_RECIPIENTS, _KEYS = 100, 4


def publish(stage: Stage, count: int) -> list[str]:
    """So many addresses at one domain, each with a certificate of its own."""
    everybody = [f"person-{number}@many.test" for number in range(count)]
    for number, address in enumerate(everybody):
        stage.stub.publish(address, certificate=material.certificate(address, number=1 + number % _KEYS))
    return everybody


def measure(stage: Stage) -> list[Row]:
    """Milliseconds at the end of the message: the median of each round's messages."""
    everybody = publish(stage, _RECIPIENTS)
    one, many = [], []
    options: driver.Options = {"messages": stage.amount(60), "warm": 3, "canary": stage.canary}
    settings = {"reinject": {"max_copies": 2 * _RECIPIENTS}}
    with stage.smilla(workers=1, settings=settings) as smilla:
        for _ in stage.rounds(7):
            one.append(driver.measure(smilla.address, stage.letter, [everybody[:1]], SMIME, **options).end_ms.p50)
            many.append(driver.measure(smilla.address, stage.letter, [everybody], SMIME, **options).end_ms.p50)
    what = "100 recipients of one S/MIME message, 10 KB"
    details = medians(hundred_ms=many, one_ms=one)
    return [Row("recipients", what, "one recipient", ratios(many, one), Target(AT_MOST, 8.0), details=details)]
