"""The stage's worker is killed at each step of a split message: in the end everybody has one copy."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.client import SMTPClient
from tests.live.mortal import STEPS
from tests.live.test_killed import RECIPIENTS, Mortal, compose, started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

ROUNDS = 6


@pytest.fixture(scope="module")
def mortal(folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Mortal]:
    with started(folder, lab, "stage") as running:
        yield running


def send(mortal: Mortal, message: bytes) -> None:
    with SMTPClient(mortal.chain.port("outbound")) as client:
        reply = client.send("sender@s.test", RECIPIENTS, message)[-1]
    assert reply.code == 250, reply


@pytest.mark.parametrize("step", [step for step in STEPS if step != "before-reply"])
def test_a_killed_stage_neither_loses_nor_repeats_a_copy(mortal: Mortal, step: str) -> None:
    for _ in range(ROUNDS):
        message = compose()
        mortal.order(step, "worker")
        send(mortal, message)
        assert mortal.copies(message) == Counter(RECIPIENTS)
        assert not (mortal.folder / "order").exists()


@pytest.mark.parametrize("number", [1, 2])
def test_in_the_window_that_nobody_can_close_a_copy_may_come_twice_and_that_is_logged(
    mortal: Mortal, number: int
) -> None:
    message = compose()
    mortal.order(f"unrecorded-{number}", "worker")
    send(mortal, message)
    found = mortal.copies(message)
    twice = {address for address, count in found.items() if count == 2}
    assert set(found) == set(RECIPIENTS)
    assert len(twice) <= 2
    assert max(found.values()) == 2
    for address in twice:
        mortal.chain.filters["outbound"].wait_for_log(f"copy-unknown rcpt={address}")
