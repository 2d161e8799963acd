"""A log that nobody reads holds up neither mail nor the end of the filter."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from smilla import log
from smilla.adapters import log_target
from tests.lab.processes import session_members, wait_until
from tests.lab.programs import REPOSITORY
from tests.lab.smilla import to_toml
from tests.milter.material import directory_settings, plain_mail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.milter.client import Clients
    from tests.milter.material import Keys

RECIPIENTS = [f"<{number:03d}{'x' * 60}@{'y' * 60}.{'z' * 60}.test>" for number in range(100)]


@contextmanager
def running(keys: Keys, place: Path, stderr: int) -> Iterator[subprocess.Popen[bytes]]:
    """A filter that logs there."""
    settings = directory_settings(keys, milter={"socket": f"unix:{place}/s", "user": "", "workers": 1})
    (place / "smilla.toml").write_text(to_toml(settings))
    command = [sys.executable, "-m", "smilla", "milter", "--config", str(place / "smilla.toml")]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=stderr, start_new_session=True) as process:
        try:
            assert wait_until(lambda: (place / "s").exists() and len(session_members(process.pid)) == 2, 60)
            yield process
        finally:
            for pid in session_members(process.pid):
                os.kill(pid, signal.SIGKILL)


def fill(descriptor: int) -> None:
    """Writes until there is no room, by an open file description of its own."""
    own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            os.write(own, b"." * 4095 + b"\n")
    except BlockingIOError:
        os.close(own)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_mail_flows_and_sigterm_ends_it_though_nobody_reads_stderr(
    clients: Clients, keys: Keys, tmp_path: Path, kind: str
) -> None:
    if kind == "pipe":
        reading, writing = os.pipe()
        fill(writing)
    else:
        reading, writing = (end.detach() for end in socket.socketpair())
    with running(keys, tmp_path, writing) as process:
        client = clients.open(f"unix:{tmp_path}/s")
        for _ in range(30):
            assert client.send(plain_mail(), RECIPIENTS).verdict == "accept"
        process.terminate()
        assert process.wait(30) == 0
    assert os.get_blocking(writing)
    os.close(reading)
    os.close(writing)


def test_lines_that_found_no_room_are_counted_once_somebody_reads(clients: Clients, keys: Keys, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    size = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    fill(writing)
    said = bytearray()

    def read() -> None:
        while block := os.read(reading, 65536):
            said.extend(block)

    with running(keys, tmp_path, writing) as process:
        os.close(writing)
        client = clients.open(f"unix:{tmp_path}/s")
        for _ in range(80):  # some 25 KiB each
            assert client.send(plain_mail(), RECIPIENTS).verdict == "accept"
        reader = threading.Thread(target=read)
        reader.start()
        assert wait_until(lambda: b"log-dropped" in said, 60)
        assert client.send(plain_mail(), RECIPIENTS, queue_id="AFTER").verdict == "accept"
        assert wait_until(lambda: said.count(b"\nAFTER ") == 101, 60)
        process.terminate()
        assert process.wait(30) == 0
        reader.join(30)
    lines = bytes(said[size:]).decode().splitlines()
    dropped = sum(
        int(count)
        for count in re.findall(r"^- log-dropped lines=(\d+) severity=warning$", "\n".join(lines), re.MULTILINE)
    )
    about_mail = [line for line in lines if re.search(" (plain|message) ", line)]
    assert dropped > 0
    assert dropped + len(about_mail) == 81 * 101
    assert sum(line.startswith("AFTER ") for line in about_mail) == 101
    assert "- stopping signal=SIGTERM" in lines


def test_syslog_that_does_not_read_holds_up_nobody_and_is_found_again_where_it_began_anew(tmp_path: Path) -> None:
    place = tmp_path / "log"
    target = log_target.Target(log_target._Syslog(str(place)), joins=False)
    output = log._Output(20, target, as_json=False)
    output.write(20, "reloaded", "", {})  # nobody listens yet
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(place))
        daemon.settimeout(60)
        for number in range(100_000):
            output.write(20, "reloaded", "", {"number": number})
        assert daemon.recv(4096) == b"<20>smilla: - log-dropped lines=1 severity=warning\0"
        assert daemon.recv(4096) == b"<22>smilla: - reloaded number=0\0"
        waiting = wait_until(lambda: b"log-dropped" in daemon.recv(4096), 60, step_s=0)
        assert waiting
    place.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(place))
        output.write(20, "reloaded", "", {})
        assert wait_until(lambda: not target._late, 60)
        assert daemon.recv(4096) == b"<22>smilla: - reloaded\0"
