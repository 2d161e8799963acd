"""The relay counts what it does, and answers smilla status and a scraper as the filter does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smilla.errors import SmillaError
from tests.lab.client import send_mail
from tests.lab.processes import LOOPBACK, free_port, processes_in, wait_until
from tests.lab.relay import Relay
from tests.lab.sink import Sink
from tests.milter.material import CANARY, NOBODY, Keys, assert_ended_well
from tests.milter.scraping import agree, recipients, reporter_of, samples, scraped, snapshot

ALICE, ZOE = "alice@r.test", "zoe@r.test"
LETTER = b"From: s@s.test\r\nTo: alice@r.test\r\n\r\n" + CANARY + b"\r\n"
Make = Callable[..., tuple[Relay, Sink, int]]


@pytest.fixture
def make(keys: Keys, folder: Path) -> Iterator[Make]:
    made: list[tuple[Relay, Sink, int]] = []

    def start(port: int = 0, **relay: Any) -> tuple[Relay, Sink, int]:
        place = Path(tempfile.mkdtemp(prefix="counts-", dir=folder))
        port = port or free_port()
        settings: dict[str, Any] = {
            "keys": {"sources": ["directory"], "directory": str(keys.directory)},
            "metrics": {"listen": f"{LOOPBACK}:{port}"},
            "relay": {"timeout_s": 5, **relay},
        }
        sink = Sink()
        made.append((Relay(place, NOBODY, sink.port, settings), sink, port))
        made[-1][0].start()
        return made[-1]

    yield start
    for relay, sink, _ in made:
        assert_ended_well(relay, sink)
        assert not (relay.folder / "spool" / "status.sock").exists()
        shutil.rmtree(relay.folder)


def send(relay: Relay, *to: str) -> int:
    return send_mail(relay.smtp_port, "s@s.test", to, LETTER).code


def status(relay: Relay, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "smilla", "status", "--config", str(relay.config), *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def test_scrape_says_what_the_log_says_and_status_that_all_is_well(make: Make) -> None:
    relay, sink, port = make()
    sink.answer = lambda line: b"550 5.1.1 no" if line.startswith(b"RCPT TO:<bob@") else None
    assert [send(relay, ALICE, ZOE), send(relay, ZOE)] == [250, 250]
    assert send(relay, "bob@r.test") == 550
    assert agree(relay, port), (recipients(port), relay.log)
    found = samples(port)
    assert sum(n for (name, labels), n in found.items() if name == "smilla_messages_total") == 2
    assert b"r.test" not in scraped(port)[0]
    assert wait_until(lambda: snapshot(relay).workers.running == 1, 20)
    done = status(relay, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["attention"], told["workers"]["running"]) == (0, [], 1)
    assert "encrypted" in status(relay).stdout


def test_reload_is_counted_whether_it_is_taken_or_not(make: Make) -> None:
    relay, _, _ = make()
    relay.reload()
    assert wait_until(lambda: snapshot(relay).reloads.done == 1, 20)
    settings: Any = dict(relay.settings)
    relay.write_config({**settings, "policy": {"no_key": "hold"}})
    relay.reload()
    assert wait_until(lambda: snapshot(relay).reloads.last_failed, 20)
    assert send(relay, ALICE) == 250


def test_process_that_adds_up_may_die_and_mail_goes_on(make: Make) -> None:
    relay, _, port = make()
    os.kill(reporter_of(relay), signal.SIGKILL)
    relay.wait_for_log("reporter-gone pid=")
    with pytest.raises(SmillaError):
        snapshot(relay)
    with pytest.raises(OSError, match="refused"):
        scraped(port)
    assert status(relay).returncode == 75
    assert send(relay, ALICE, ZOE) == 250
    relay.reload()
    assert send(relay, ALICE) == 250


def test_relay_that_is_killed_leaves_no_process(make: Make) -> None:
    relay, _, _ = make()
    os.kill(relay.child.pid, signal.SIGKILL)
    assert wait_until(lambda: processes_in(relay.folder) == [], 20)
    (relay.folder / "spool" / "status.sock").unlink()


def test_port_of_another_one_is_left_alone_and_mail_goes_on(make: Make) -> None:
    with Sink() as other:
        relay, _, _ = make(port=other.port)
        relay.wait_for_log(r"status-closed detail=.*\[metrics\]")
        assert send(relay, ALICE) == 250
        assert wait_until(lambda: snapshot(relay).workers.running == 1, 20)


def test_relay_beside_a_filter_leaves_the_sockets_to_it(make: Make) -> None:
    relay, _, port = make(metrics=False)
    with pytest.raises(OSError, match="refused"):
        scraped(port)
    with pytest.raises(SmillaError):
        snapshot(relay)
    assert send(relay, ALICE) == 250
