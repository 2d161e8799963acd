"""smilla status and smilla top, run as an administrator would, against a running filter."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from smilla.adapters.postfix_lines import PostfixLines
from smilla.config.options import StageOptions
from smilla.metrics.snapshot import Resolver, without_resolver
from tests.certificates import make_certificate
from tests.lab.processes import wait_until
from tests.lab.programs import REPOSITORY
from tests.milter.dns_stub import Scripted
from tests.milter.material import directory_settings, plain_mail
from tests.milter.scraping import snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.smilla import Smilla
    from tests.milter.client import Clients
    from tests.milter.conftest import Starter
    from tests.milter.dns_stub import DNSStub
    from tests.milter.material import Keys

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", "TERM": "xterm"}


def status(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run("status", config, *words)


def run(name: str, config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smilla", name, "--config", str(config), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)


def delivered(smilla: Smilla) -> int:
    return sum(count.recipients for slot in snapshot(smilla).minutes for count in slot.counts)


def is_told(smilla: Smilla) -> bool:
    """Whether the parent has told who runs and since when: it does so just after it is ready."""
    return snapshot(smilla).workers.running == 1


def test_a_resolver_that_went_down_needs_attention_once_mail_waits_for_it_and_before_any_does(
    start: Starter, clients: Clients, keys: Keys, stub: DNSStub
) -> None:
    stub.default = Scripted(zone="r.test.")
    smilla = start({**directory_settings(keys), "keys": {"sources": ["smimea"]}}, resolver=stub.address)
    client = clients.open(smilla.milter)
    assert client.send(plain_mail(to="x@r.test"), ["<x@r.test>"]).verdict == "accept"
    assert wait_until(lambda: snapshot(smilla).resolver == Resolver(1, 1) and is_told(smilla), 30)
    assert status(smilla.config).returncode == 0
    stub.close()
    stub.cut_connections()
    assert wait_until(lambda: snapshot(smilla).resolver == Resolver(1, 0), 60)  # though nobody has sent anything
    done = status(smilla.config)
    assert done.returncode == 1
    assert "! no nameserver proves that it validates" in done.stdout
    assert client.send(plain_mail(to="y@r.test"), ["<y@r.test>"]).verdict != "accept"
    assert wait_until(lambda: without_resolver(snapshot(smilla)) == 1, 30)


def test_status_says_well_then_what_needs_attention_then_that_it_cannot_be_told(
    start: Starter, clients: Clients, keys: Keys
) -> None:
    smilla = start()
    clients.open(smilla.milter).send(plain_mail(), ["<alice@r.test>"])
    assert wait_until(lambda: delivered(smilla) == 1 and is_told(smilla), 30)
    done = status(smilla.config)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^encrypted +1 +1$", done.stdout, re.MULTILINE)
    good = smilla.config.read_text()
    smilla.config.write_text(good + "\n[nonsense]\nx = 1\n")
    smilla.reload()
    smilla.config.write_text(good)
    assert wait_until(lambda: snapshot(smilla).reloads.last_failed, 30)
    done = status(smilla.config, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["attention"][0]["hint"] == "smilla config check names the fault"
    smilla.stop()
    done = status(smilla.config)
    assert (done.returncode, done.stdout) == (75, "")
    assert "nobody answers there" in done.stderr


def test_expiring_counts_the_keys_that_the_filter_used(start: Starter, clients: Clients, keys: Keys) -> None:
    begins_at, ends_at = datetime.now(UTC) - timedelta(days=9), datetime.now(UTC) + timedelta(days=9)
    folder = keys.directory.with_name("ending")
    folder.mkdir()
    for who in ("ann", "bob"):
        _, raw = make_certificate("p256", email=f"{who}@r.test", not_before=begins_at, not_after=ends_at)
        (folder / f"{who}@r.test.cer").write_bytes(raw)
    smilla = start({**directory_settings(keys), "keys": {"sources": ["directory"], "directory": str(folder)}})
    assert run("expiring", smilla.config, "--used").returncode == 0
    assert clients.open(smilla.milter).send(plain_mail(to="ann@r.test"), ["<ann@r.test>"]).verdict == "accept"
    assert wait_until(lambda: bool(snapshot(smilla).expiring), 30)
    done = run("expiring", smilla.config, "--used")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("1 key ends within 30 days, the first in 8, of the keys that were used")
    assert run("expiring", smilla.config, "--used", "--days", "5").returncode == 0
    smilla.stop()
    done = run("expiring", smilla.config, "--used")
    assert (done.returncode, done.stdout) == (75, "")
    assert "only the running filter knows which keys it used: " in done.stderr


def test_a_configuration_that_was_changed_needs_attention_until_the_filter_has_read_it(start: Starter) -> None:
    smilla = start()
    smilla.config.write_text(smilla.config.read_text() + "\n# changed\n")
    done = status(smilla.config)
    assert done.returncode == 1
    assert "! the configuration was changed after the filter read it" in done.stdout
    smilla.reload()
    assert wait_until(lambda: snapshot(smilla).reloads.done == 1, 30)
    assert "was changed after" not in status(smilla.config).stdout


class Top:
    """smilla top on a terminal of 80 columns and 24 lines."""

    def __init__(self, config: Path, **environment: str) -> None:
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.written = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "smilla", "top", "--config", str(config), "--interval", "0.2"],
            stdin=self.slave,
            stdout=self.slave,
            stderr=subprocess.PIPE,
            env={**ENVIRONMENT, **environment},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self.master)
        os.close(self.slave)

    def read(self) -> None:
        """Takes what has been written."""
        while select.select([self.master], [], [], 0.05)[0]:
            self.written += os.read(self.master, 65536).decode()

    def screen(self) -> list[str]:
        """The newest screen that is whole, without colours."""
        self.read()
        whole = [part for part in self.written.split("\x1b[H")[1:] if "\x1b[J" in part]
        return re.sub(r"\x1b\[[\d?]*[A-Za-z]", "", whole[-1]).split("\r\n") if whole else []

    def shows(self, pattern: str, timeout_s: float = 60) -> bool:
        """Whether a line of the screen matches within the time."""
        return wait_until(lambda: any(re.search(pattern, line) for line in self.screen()), timeout_s)

    def press(self, key: bytes) -> None:
        os.write(self.master, key)


def test_top_shows_what_happens_as_it_happens_and_q_ends_it(start: Starter, clients: Clients) -> None:
    smilla = start()
    client = clients.open(smilla.milter)
    client.send(plain_mail(), ["<alice@r.test>"])
    with Top(smilla.config) as top:
        assert top.shows(r"^encrypted +1 +1$")
        assert top.shows(r"^workers +1 of 1 run, 0 died")
        client.send(plain_mail(), ["<alice@r.test>"])
        assert top.shows(r"^encrypted +2 +2$")
        assert top.shows(r"^all is well$")
        screen = top.screen()
        assert len(screen) <= 24
        assert max(map(len, screen)) <= 80
        assert screen[-1] == "q ends"
        top.press(b"q")
        assert wait_until(lambda: top.process.poll() == 0, 30)
        top.read()
        assert termios.tcgetattr(top.slave) == top.before
        assert top.written.startswith("\x1b[?1049h\x1b[?25l")
        assert top.written.endswith("\x1b[?25h\x1b[?1049l")


def test_top_says_that_smilla_has_stopped_and_shows_it_again_once_it_runs(start: Starter, keys: Keys) -> None:
    smilla = start(directory_settings(keys))
    with Top(smilla.config) as top:
        assert top.shows(r"^all is well$")
        smilla.stop()
        assert top.shows("nobody answers there")
        smilla.start()
        assert top.shows(r"^all is well$")
        top.process.send_signal(signal.SIGINT)  # Ctrl-C
        assert wait_until(lambda: top.process.poll() == 0, 30)
        assert termios.tcgetattr(top.slave) == top.before


def test_top_has_colours_unless_no_color_is_set(start: Starter) -> None:
    smilla = start()
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        with Top(smilla.config, **environment) as top:
            assert top.shows(r"^all is well$")
            assert ("\x1b[32mall is well" in top.written) is coloured


def test_top_shows_as_much_as_a_small_terminal_has_room_for(start: Starter) -> None:
    smilla = start()
    with Top(smilla.config) as top:
        fcntl.ioctl(top.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 30, 0, 0))
        assert wait_until(lambda: len(top.screen()) == 5, 60)
        assert top.shows(r"^q ends$")


def test_a_gate_that_was_opened_just_now_is_open_at_once(start: Starter, keys: Keys) -> None:
    smilla = start({**directory_settings(keys), "policy": {"mixed": "stage"}, "stage": {"check": True}})
    assert wait_until(lambda: snapshot(smilla).stage.used, 30)
    lines = PostfixLines(StageOptions(keys=str(smilla.folder / "seal")))
    os.kill(smilla.child.pid, signal.SIGSTOP)  # else it may look at Postfix meanwhile, and find something else
    try:
        for missing in (["a line is missing"], [], ["another is missing"], []):
            lines.keep("/etc/postfix", missing)
            assert snapshot(smilla).stage.problem == "".join(missing)
    finally:
        os.kill(smilla.child.pid, signal.SIGCONT)
