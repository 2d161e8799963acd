"""A split message whose worker, or whose listener, is killed at each step, and a client that tries again as an MTA
does: in the end everybody has one copy.

16 steps, 20 times each.  The one window that nobody can close, between the final dot and the recorded reply, has a test
of its own: there a copy may come twice, and is logged.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.chain import Chain
from tests.lab.client import SMTPClient
from tests.lab.processes import session_members
from tests.live.mortal import STEPS
from tests.live.mta import CANARY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.lab.smilla import Settings
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

ROUNDS = 20
PATIENCE_S = 60  # of a client, and so of whoever waits for a step of its message
RECIPIENTS = ["alice@r.test", "anna@r.test", "bob@r.test", "dora@r.test"]
LISTENER_STEPS = STEPS[3:-1]
_numbers = itertools.count(1)


class Mortal:
    """Postfix with a filter that can be killed, and the folder in which it takes orders."""

    def __init__(self, chain: Chain, folder: Path) -> None:
        self.chain = chain
        self.folder = folder
        self.killed = 0

    def order(self, step: str, whom: str) -> None:
        for name in ("reached", "go"):
            (self.folder / name).unlink(missing_ok=True)
        (self.folder / "order.new").write_text(f"{step} {whom}")
        (self.folder / "order.new").rename(self.folder / "order")

    def kill_listener(self) -> None:
        """Waits for the step, kills every smtpd of the listener without a filter, and lets the worker go on."""
        deadline = time.monotonic() + PATIENCE_S
        while not (self.folder / "reached").exists():
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)
        port = b":%d" % self.chain.port("plain")
        for pid in session_members(self.chain.postfix.master):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"smtpd" in command and port in command:
                    os.kill(pid, signal.SIGKILL)
                    self.killed += 1
        (self.folder / "go").touch()

    def send_until_accepted(self, message: bytes) -> int:
        """As an MTA would: again and again, until 250; returns the number of attempts."""
        for attempt in range(1, 1200):
            with contextlib.suppress(OSError, EOFError), SMTPClient(self.chain.port("outbound")) as client:
                reply = client.send("sender@s.test", RECIPIENTS, message)[-1]
                assert reply.code == 250 or 400 <= reply.code < 500, reply
                if reply.code == 250:
                    return attempt
            time.sleep(0.05)
        raise TimeoutError(self.chain.filters["outbound"].log[-2000:])

    def copies(self, message: bytes) -> Counter[str]:
        """How many copies each recipient got in the end."""
        self.chain.mta.wait_until_empty()
        mark = message.partition(b"\r\n")[0] + b"\r\n"
        found = [mail for mail in self.chain.sink.messages if mark in mail.raw]
        assert not any(CANARY in mail.raw for mail in found)
        return Counter(address for mail in found for address in mail.rcpt_to)


@contextlib.contextmanager
def started(folder: Path, lab: DNSLab, mixed: str, parameters: dict[str, str] | None = None) -> Iterator[Mortal]:
    """A Postfix whose filter splits as ``mixed`` says, and dies where it is ordered to."""
    place = Path(tempfile.mkdtemp(prefix="killed-", dir=folder))
    orders = place / "orders"
    orders.mkdir()
    for path in (place, orders):
        path.chmod(0o777)
    settings: dict[str, Settings] = {"outbound": {"policy": {"mixed": mixed}, "reinject": {"timeout_s": 30}}}
    chain = Chain(place, lab.resolver, settings, parameters)
    child = chain.filters["outbound"].child
    child.argv[1:3] = ["-m", "tests.live.mortal"]
    child.environment = {**(child.environment or {}), "MORTAL": str(orders)}
    try:
        with chain:
            yield Mortal(chain, orders)
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def mortal(folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Mortal]:
    # master waits before it starts another smtpd where one was killed that had served nobody yet.
    with started(folder, lab, "reinject", {"service_throttle_time": "1s"}) as running:
        yield running


def compose() -> bytes:
    head = b"X-Mark: %d-\r\nFrom: sender@s.test\r\nTo: alice@r.test, anna@r.test, bob@r.test\r\n" % next(_numbers)
    return head + b"Message-ID: <%d@s.test>\r\n\r\n" % time.monotonic_ns() + CANARY + b"\r\n"


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_worker_neither_loses_nor_repeats_a_copy(mortal: Mortal, step: str) -> None:
    for _ in range(ROUNDS):
        message = compose()
        mortal.order(step, "worker")
        assert mortal.send_until_accepted(message) > 1
        assert mortal.copies(message) == Counter(RECIPIENTS)


@pytest.mark.parametrize("step", LISTENER_STEPS)
def test_a_killed_listener_neither_loses_nor_repeats_a_copy(mortal: Mortal, step: str) -> None:
    attempts = 0
    for _ in range(ROUNDS):
        message, killed = compose(), mortal.killed
        mortal.order(step, "listener")
        killer = threading.Thread(target=mortal.kill_listener)
        killer.start()
        try:
            attempts += mortal.send_until_accepted(message)
        finally:
            killer.join()
        assert (mortal.folder / "reached").exists()
        assert mortal.killed > killed
        assert mortal.copies(message) == Counter(RECIPIENTS)
    # After the last copy was accepted the listener's death is nobody's business.
    assert attempts == ROUNDS if step == LISTENER_STEPS[-1] else attempts > ROUNDS


@pytest.mark.parametrize("number", [1, 2])
def test_in_the_window_that_nobody_can_close_a_copy_may_come_twice_and_that_is_logged(
    mortal: Mortal, number: int
) -> None:
    message = compose()
    mortal.order(f"unrecorded-{number}", "worker")
    assert mortal.send_until_accepted(message) > 1
    found = mortal.copies(message)
    twice = {address for address, count in found.items() if count == 2}
    assert set(found) == set(RECIPIENTS)
    assert len(twice) == 1
    assert max(found.values()) == 2
    mortal.chain.filters["outbound"].wait_for_log(f"copy-unknown rcpt={twice.pop()}")
