"""The stage's worker, all of smilla, or the listener is killed by KILL at each step of a split message: in the end
everybody has one copy, in the form that is theirs, and no word of what all get encrypted was to be read anywhere.

A number of runs of all that there are belongs to the suite: SMILLA_KILLS=300 makes it 300.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.lab.client import SMTPClient
from tests.lab.processes import session_members, wait_until
from tests.live.mortal import SEALING_STEPS, STAGE_STEPS, WINDOW_STEPS
from tests.live.mta import CANARY
from tests.live.test_killed import LISTENER_STEPS, PATIENCE_S, RECIPIENTS, Mortal, compose, started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

RUNS = int(os.environ.get("SMILLA_KILLS", "14"))
WORD = b"some-of-them-read-it-in-the-clear-8823"
PLAIN = "n1@r.test"
PLACES = [
    *((step, victim) for step in (*SEALING_STEPS, *STAGE_STEPS, *WINDOW_STEPS) for victim in ("worker", "smilla")),
    *((step, "listener") for step in (*LISTENER_STEPS, *WINDOW_STEPS)),
]
# As few as there may be, they are from everywhere.
STRIDE = 23


class Run(NamedTuple):
    """Who is killed where, and whether one of the recipients gets plaintext."""

    step: str
    victim: str
    some_plain: bool


PLAN = [Run(*PLACES[number * STRIDE % len(PLACES)], number % 3 == 2) for number in range(RUNS)]


@pytest.fixture(scope="module")
def mortal(folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Mortal]:
    # master waits before it starts another smtpd where one was killed that had served nobody yet.
    parameters = {"service_throttle_time": "1s", "local_header_rewrite_clients": "permit_inet_interfaces"}
    with started(folder, lab, "stage", parameters) as running:
        yield running


@pytest.fixture(scope="module")
def counts() -> Iterator[Counter[str]]:
    """What became of all runs; ``pytest -s`` shows it."""
    found: Counter[str] = Counter()
    yield found
    print("\n" + ", ".join(f"{name} {count}" for name, count in sorted(found.items()) if count or " " not in name))


def kill_smilla(mortal: Mortal) -> None:
    """Waits for the step and kills every process of smilla, as a machine that is out of memory or power does."""
    smilla = mortal.chain.filters["outbound"]
    if wait_until((mortal.folder / "reached").exists, PATIENCE_S, 0.002):
        for pid in session_members(smilla.child.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                mortal.killed += 1
        smilla.stop()
        smilla.start()


def killed_at(mortal: Mortal, step: str, victim: str, message: bytes, to: list[str]) -> None:
    """Sends a message, as a client does that tries again, and has somebody killed on its way."""
    mortal.order(step, victim)
    end = {"smilla": kill_smilla, "listener": Mortal.kill_listener}.get(victim)
    killer = threading.Thread(target=end, args=(mortal,)) if end else None
    if killer is not None:
        killer.start()
    attempts, tail = 0, ""
    try:
        while not tail.startswith("250"):
            attempts += 1
            assert attempts < 1200, tail
            with contextlib.suppress(OSError, EOFError), SMTPClient(mortal.chain.port("outbound")) as client:
                tail = str(client.send("sender@s.test", to, message)[-1])
                assert tail[:3] == "250" or tail[:1] == "4", tail
            time.sleep(0 if tail.startswith("250") else 0.05)
    finally:
        if killer is not None:
            killer.join()
    assert attempts > 1 or step not in SEALING_STEPS


def readable(mortal: Mortal) -> list[Path]:
    """The files of all programs in which a word of the body stands that all get encrypted."""
    found = []
    for path in mortal.chain.folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError, OSError):  # it moves on, or is a socket
            if path.is_file() and CANARY in path.read_bytes():
                found.append(path)
    return found


@pytest.mark.parametrize("run", PLAN, ids=["-".join(map(str, run)) for run in PLAN])
def test_whoever_is_killed_everybody_has_their_copy_and_nobody_reads_what_is_not_theirs(
    mortal: Mortal, counts: Counter[str], run: Run
) -> None:
    step, victim, some_plain = run
    message, to, killed = compose(), list(RECIPIENTS), mortal.killed
    if some_plain:
        message, to = message.replace(CANARY, WORD), [*to, PLAIN]
    killed_at(mortal, step, victim, message, to)
    counts.update(messages=1, canaries=len(readable(mortal)))
    assert not readable(mortal)
    mortal.chain.mta.wait_until_empty()
    mark = message.partition(b"\r\n")[0] + b"\r\n"
    found = [mail for mail in mortal.chain.sink.messages if mark in mail.raw]
    got = Counter(address for mail in found for address in mail.rcpt_to)
    doubles = sum(got.values()) - len(got)
    counts.update({"copies": len(got), "doubles": doubles, f"doubles at {step}, {victim}": doubles})
    counts["canaries"] += len(readable(mortal))
    assert set(got) == set(to)
    assert not readable(mortal)
    for mail in found:
        assert (WORD in mail.raw) is (mail.rcpt_to == (PLAIN,))
        assert CANARY not in mail.raw
        assert b"X-Smilla-Stage" not in mail.raw
    assert doubles == 0 or step in WINDOW_STEPS
    assert not (mortal.folder / "order").exists(), "nobody has reached the step"
    assert victim == "worker" or mortal.killed > killed


@pytest.mark.parametrize("number", [1, 2])
def test_in_the_window_that_nobody_can_close_a_copy_may_come_twice_and_that_is_logged(
    mortal: Mortal, number: int
) -> None:
    message = compose()
    killed_at(mortal, f"unrecorded-{number}", "worker", message, RECIPIENTS)
    mortal.chain.mta.wait_until_empty()
    found = mortal.copies(message)
    twice = {address for address, count in found.items() if count == 2}
    assert set(found) == set(RECIPIENTS)
    assert len(twice) <= 2
    assert max(found.values()) == 2
    for address in twice:
        mortal.chain.filters["outbound"].wait_for_log(f"copy-unknown rcpt={address}")
