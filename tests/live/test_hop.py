"""secure-hop between real mail servers: who gets what, what the log says, and what the sender is told
(tests/live/hops.py)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.live.hops import OPEN, World, world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root"),
]


@pytest.fixture(scope="module")
def hops(folder: Path) -> Iterator[World]:
    with world(folder) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_in_clear(hops: World) -> Iterator[None]:
    yield
    hops.nothing_in_clear()


def test_the_sniffer_sees_what_travels_in_the_clear(hops: World) -> None:
    reply, _, mark = hops.send(["open@none.test"], body=OPEN)
    assert reply.code == 250
    hops.postfix.wait_until_empty()
    assert len(hops.at_relay(mark)) == 1
    assert OPEN in hops.sniffer.to("127.0.0.9")


VERIFIED = {
    "dane.test": "dane",
    "anchor.test": "dane",
    "rolling.test": "dane",
    "expired-dane.test": "dane",
    "enforce.test": "mta_sts",
    "unsigned-sts.test": "mta_sts",
    "inside.test": "circle",
}


@pytest.mark.parametrize("domain", VERIFIED)
def test_verified_hop_takes_the_message(hops: World, domain: str) -> None:
    reply, _, mark = hops.send([f"frank@{domain}"])
    assert reply.code == 250, (reply, hops.smilla.log[-3000:])
    mail = hops.delivered(domain, mark)
    assert mail.rcpt_to == (f"frank@{domain}",)
