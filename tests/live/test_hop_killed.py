"""Killed by KILL while a bound copy is under way: the worker or all of smilla at each step of sealing, of the stage and
of binding anew, the listener that binds, and every process of smilla again and again while Postfix asks how it must
protect connections.  In the end everybody has one copy, over TLS or encrypted, and nothing has travelled in the clear
(tests/live/hops.py).

A number of runs of all that there are belongs to the suite: SMILLA_KILLS=100 makes it 100.
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

from tests.lab.client import SMTPClient
from tests.lab.postfix import queue_id
from tests.lab.processes import session_members, wait_until
from tests.live.conftest import cannot
from tests.live.hops import CANARY, SENDER, world
from tests.live.mortal import SEALING_STEPS, STAGE_STEPS, STEPS, WINDOW_STEPS
from tests.live.mta import letter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.smilla import Smilla
    from tests.live.hops import World

pytestmark = pytest.mark.live

RUNS = int(os.environ.get("SMILLA_KILLS", "10"))
TO = ["alice@r.test", "frank@dane.test", "fred@dane.test", "frank@enforce.test", "frank@inside.test"]
AGAIN_STEPS = ("before-journal", "before-owe", "after-owe", "before-copy-1", "committing-1", "settled-1", "reply-1")
WINDOWS = ("dotted-1", "unrecorded-1")
VICTIMS = ("worker", "smilla")
PLACES = [
    *((step, victim) for step in (*SEALING_STEPS, *STAGE_STEPS, *WINDOW_STEPS) for victim in VICTIMS),
    *((step, "listener") for step in (*STEPS[6:-1], "dotted-2", "unrecorded-2")),  # the second copy is the bound one
]
PLACES_AGAIN = [(step, victim) for step in (*AGAIN_STEPS, *WINDOWS) for victim in VICTIMS]
STRIDE = 7


class Mortal:
    """The world, with a smilla that is killed where it is ordered to be (tests/live/mortal.py)."""

    def __init__(self, hops: World, orders: Path) -> None:
        self.hops, self.orders = hops, orders
        self.sealed = ""  # the queue ID of the letter that was sent last

    def order(self, step: str, victim: str) -> None:
        for name in ("reached", "go"):
            (self.orders / name).unlink(missing_ok=True)
        (self.orders / "order.new").write_text(f"{step} {victim}")
        (self.orders / "order.new").rename(self.orders / "order")

    @contextlib.contextmanager
    def killed_at(self, step: str, victim: str) -> Iterator[None]:
        """Somebody is killed once the step is reached, which must happen meanwhile."""
        self.order(step, victim)
        end = {"smilla": self.kill_smilla, "listener": self.kill_listener}.get(victim)
        killer = threading.Thread(target=end) if end else None
        if killer is not None:
            killer.start()
        try:
            yield
        finally:
            if killer is not None:
                killer.join()
        # Postfix may be ahead of who carries it out: a copy is under way before it is recorded.
        assert wait_until(lambda: not (self.orders / "order").exists(), 30), "nobody has reached the step"

    def kill_smilla(self) -> None:
        """Every process, as a machine that is out of memory or power does; then smilla starts again."""
        if wait_until((self.orders / "reached").exists, 30, 0.002):
            kill(session_members(self.hops.smilla.child.pid))
            self.hops.smilla.stop()
            self.hops.smilla.start()

    def kill_listener(self) -> None:
        """The smtpd that binds copies."""
        if wait_until((self.orders / "reached").exists, 30, 0.002):
            kill([pid for pid in session_members(self.hops.postfix.master) if is_smtpd(pid, b":10027")])
            (self.orders / "go").touch()

    def send(self, to: list[str]) -> bytes:
        """A letter, sent as a client does that tries again; its mark."""
        self.hops.sent += 1
        mark = b"X-Mark: %d-\r\n" % self.hops.sent
        raw = mark + letter(b"Message-ID: <%d@s.test>" % self.hops.sent, body=CANARY + b"\r\n", to=to[0].encode())
        for _ in range(600):
            with contextlib.suppress(OSError, EOFError), SMTPClient(587) as client:
                reply = client.send(SENDER, to, raw)[-1]
                assert reply.code == 250 or reply.code // 100 == 4, reply
                if reply.code == 250:
                    self.sealed = queue_id(reply.text) or ""
                    return mark
            time.sleep(0.05)
        raise TimeoutError(self.hops.smilla.log[-2000:])

    def arrived(self, mark: bytes, to: list[str]) -> Counter[str]:
        """How many copies each has, once nothing is queued; each as it must be."""
        self.hops.postfix.wait_until_empty(120)
        found = self.hops.everywhere(mark)
        got = Counter(address for mail in found for address in mail.rcpt_to)
        assert set(got) == set(to), (got, self.hops.log[-3000:], self.hops.smilla.log[-3000:])
        for mail in found:
            assert (CANARY in mail.raw) is mail.over_tls is (mail.rcpt_to != ("alice@r.test",))
            assert b"x-smilla-" not in mail.raw.lower()
        return got

    def in_clear(self) -> list[Path]:
        """The files of all that is not queued in which the text stands."""
        found = []
        for path in self.hops.smilla.folder.rglob("*"):
            with contextlib.suppress(OSError):  # it moves on, or is a socket
                if path.is_file() and CANARY in path.read_bytes():
                    found.append(path)
        return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def is_smtpd(pid: int, port: bytes) -> bool:
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"smtpd" in command and port in command
    return False


@pytest.fixture(scope="module")
def mortal(folder: Path) -> Iterator[Mortal]:
    if os.geteuid() != 0:
        cannot("a network of its own needs root: run 'make test'")
    orders = Path(tempfile.mkdtemp(prefix="orders-", dir=folder))
    orders.chmod(0o777)

    def prepare(smilla: Smilla) -> None:
        smilla.child.argv[1:3] = ["-m", "tests.live.mortal"]
        smilla.child.environment = {**(smilla.child.environment or {}), "MORTAL": str(orders)}

    try:
        with world(folder, prepare=prepare) as running:
            yield Mortal(running, orders)
    finally:
        shutil.rmtree(orders)


@pytest.fixture(autouse=True)
def nothing_in_clear(mortal: Mortal) -> Iterator[None]:
    yield
    mortal.hops.nothing_in_clear()
    assert not mortal.in_clear()


@pytest.mark.parametrize(("step", "victim"), [PLACES[number * STRIDE % len(PLACES)] for number in range(RUNS)])
def test_whoever_is_killed_everybody_has_one_copy_over_the_way_that_is_theirs(
    mortal: Mortal, step: str, victim: str
) -> None:
    with mortal.killed_at(step, victim):
        mark = mortal.send(TO)
        got = mortal.arrived(mark, TO)
    assert max(got.values()) == 1 or step in WINDOW_STEPS


def _is_bound_anew(hops: World, before: str) -> bool:
    """Postfix skips a message that it still delivers, so it is told to try until it does."""
    hops.postfix.flush()
    try:
        return hops.waits("dane.test", timeout_s=3) != before
    except AssertionError:
        return False


@pytest.mark.parametrize(
    ("step", "victim"), [PLACES_AGAIN[number * STRIDE % len(PLACES_AGAIN)] for number in range(max(4, RUNS // 2))]
)
def test_whoever_is_killed_while_a_requeued_copy_is_bound_anew_it_comes_once_and_as_it_must(
    mortal: Mortal, step: str, victim: str
) -> None:
    hops = mortal.hops
    with hops.busy("dane.test"):
        mark = mortal.send(["frank@dane.test"])
        found = hops.waits("dane.test", "later")
        # Smilla has recorded the copy: what is ordered is not for the first transaction.
        hops.told(rf"postfix/smilla/lmtp\[\d+\]: {mortal.sealed}: .*status=sent")
        with mortal.killed_at(step, victim):
            hops.postfix.postsuper("-r", found)
            assert wait_until(lambda: _is_bound_anew(hops, found), 60), hops.log[-4000:]
    got = mortal.arrived(mark, ["frank@dane.test"])
    assert got.total() == 1 or step in WINDOWS


def test_smilla_that_is_killed_again_and_again_while_postfix_asks_lets_nothing_out_in_the_clear(
    mortal: Mortal,
) -> None:
    """The process that answers Postfix, too: a question without an answer is no leave to deliver."""
    hops, over = mortal.hops, threading.Event()
    parent = hops.smilla.child.pid

    def storm() -> None:
        for number in itertools.count():
            # Longer and longer now and then, so that a message gets through, however slow the machine is.
            if over.wait(1.0 + number / 10 if number % 4 == 3 else 0.15):
                return
            kill([pid for pid in session_members(parent) if pid != parent])

    killer = threading.Thread(target=storm)
    killer.start()
    try:
        marks = [mortal.send([f"frank@{domain}"]) for domain in ("dane.test", "enforce.test", "inside.test") * 2]
        marks.append(mortal.send(["frank@stripped.test"]))
    finally:
        over.set()
        killer.join()
    hops.waits("stripped.test", "TLS is required, but was not offered")
    hops.postfix.postsuper("-d", *hops.bound("stripped.test"))
    assert not hops.everywhere(marks.pop())
    for number, mark in enumerate(marks):
        domain = ("dane.test", "enforce.test", "inside.test")[number % 3]
        mortal.arrived(mark, [f"frank@{domain}"])
