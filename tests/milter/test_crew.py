"""Commands that come all at once are taken up at once, though the callbacks before them wait."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from smilla.server.crew import _address
from tests.milter.dns_stub import Fault, Scripted

if TYPE_CHECKING:
    from tests.lab.smilla import Settings
    from tests.milter.client import Clients
    from tests.milter.conftest import Starter
    from tests.milter.dns_stub import DNSStub

SLOW, ROUNDS = 24, 3


def test_no_command_is_forgotten_while_others_wait(start: Starter, clients: Clients, stub: DNSStub) -> None:
    """All wait side by side: were some forgotten, they would have to wait for the first to end, and so on."""
    stub.default = Scripted(fault=Fault.SILENCE)
    settings: Settings = {"dns": {"timeout_s": 4}, "milter": {"workers": 1}, "policy": {"mixed": "defer"}}
    smilla = start(settings, resolver=stub.address)
    for number in range(ROUNDS):
        slow = [clients.open(smilla.milter) for _ in range(SLOW)]
        for index, client in enumerate(slow):
            client.envelope([f"<{number}-{index}@r.test>"])
            client.header(b"To", b" somebody")
            client.end_of_headers()
        with ThreadPoolExecutor(SLOW) as pool:
            answers = list(pool.map(lambda client: client.end_of_message(), slow))
        assert {answer.reply[:9] for answer in answers} == {"451 4.7.5"}
    took = [int(line.rpartition(" ms=")[2]) for line in smilla.log.splitlines() if " ms=" in line]
    assert len(took) == SLOW * ROUNDS
    assert max(took) < 3 * 4000  # were they forgotten: five times and more


@pytest.mark.parametrize(
    ("specification", "address"),
    [
        ("unix:/run/s", (socket.AF_UNIX, "/run/s")),
        ("local:/run/s", (socket.AF_UNIX, "/run/s")),
        ("inet:8895@192.0.2.1", (socket.AF_INET, ("192.0.2.1", 8895))),
        ("inet:8895@0.0.0.0", (socket.AF_INET, ("127.0.0.1", 8895))),
        ("inet6:8895@[::]", (socket.AF_INET6, ("::1", 8895))),
        ("inet6:8895@::1", (socket.AF_INET6, ("::1", 8895))),
    ],
)
def test_the_socket_is_found_again(specification: str, address: tuple[int, object]) -> None:
    assert _address(specification) == address
