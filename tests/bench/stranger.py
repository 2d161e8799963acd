"""The first message to a stranger, when every DNS answer comes 50 ms late, against one whose key is remembered.

As with a real SMTP client, DATA, header and body follow the last RCPT 100 ms later (two round trips of 50 ms); what is
timed is the end of the message, from the body (10 KB, one chunk) to the last reply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench import driver, material
from tests.bench.stage import FORMATS, SMIME
from tests.bench.table import AT_MOST, Row, Target, differences, medians

if TYPE_CHECKING:
    from tests.bench.stage import Stage

_LATE_S, _PAUSE_MS, _MESSAGES = 0.05, 100, 12


def measure(stage: Stage) -> list[Row]:
    """Milliseconds: the median of each round's messages."""
    stage.stub.delay = lambda name: _LATE_S
    try:
        return [_row(stage, name) for name in FORMATS]
    finally:
        stage.stub.delay = lambda name: 0.0


def _row(stage: Stage, name: str) -> Row:
    first, again = [], []
    messages = stage.amount(_MESSAGES)
    options: driver.Options = {"messages": messages, "pause_ms": _PAUSE_MS, "canary": stage.canary}
    with stage.smilla(workers=1) as smilla:
        known = [[_publish(stage, name, "known.test")]]
        driver.measure(smilla.address, stage.letter, known, name, **options)
        for number in stage.rounds(5):
            strangers = [[_publish(stage, name, f"stranger-{number}-{each}.test")] for each in range(messages)]
            first.append(driver.measure(smilla.address, stage.letter, strangers, name, **options).end_ms.p50)
            again.append(driver.measure(smilla.address, stage.letter, known, name, **options).end_ms.p50)
    what = "first message to a stranger, DNS 50 ms late"
    target = Target(AT_MOST, 10.0)
    details = medians(stranger_ms=first, known_ms=again)
    return Row(f"stranger-{name}", what, "the key remembered", differences(first, again), target, "ms more", details)


def _publish(stage: Stage, name: str, domain: str) -> str:
    """Another address at another domain, with a certificate or key of its own."""
    address = f"{name}@{domain}"
    if name == SMIME:
        stage.stub.publish(address, certificate=material.certificate(address))
    else:
        stage.stub.publish(address, key=material.openpgp_key(address))
    return address
