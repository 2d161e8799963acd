"""A machine that has no room for another process keeps the workers that run; at the start the error is a clear one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smilla.config import parse
from smilla.server.daemon import Daemon
from smilla.server.listener import is_listening
from tests.lab.processes import wait_until

# Nothing else makes fork fail for root, who has no limit of processes.
COMMAND = """
import errno, os, sys
from smilla.cli import main
fork, forks = os.fork, []
def no_room():
    forks.append(1)
    if os.path.exists(sys.argv[1]) and len(forks) > int(open(sys.argv[1]).read() or 0):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
    return fork()
os.fork = no_room
sys.exit(main(["milter", "--config", sys.argv[2]]))
"""


@contextmanager
def _filter(folder: Path, full: Path) -> Iterator[subprocess.Popen[bytes]]:
    configuration = folder / "smilla.toml"
    configuration.write_text(
        f'[milter]\nsocket = "unix:{folder}/s.sock"\nworkers = 2\n[policy]\nmixed = "defer"\n'
        f'[keys]\nsources = ["directory"]\ndirectory = "{folder}"\n[reinject]\nspool = "{folder}/spool"\n'
    )
    with (folder / "log").open("wb") as out:
        process = subprocess.Popen([sys.executable, "-c", COMMAND, full, configuration], stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("room", [0, 1, 2, 3])  # for the reporter, the look at what works, two workers
def test_a_start_without_room_for_a_process_is_one_clear_error_and_leaves_nothing_behind(
    tmp_path: Path, room: int
) -> None:
    full = tmp_path / "full"
    full.write_text(str(room))
    with _filter(tmp_path, full) as process:
        assert process.wait(60) == 1
        told = (tmp_path / "log").read_text()
        assert "Traceback" not in told
        assert told.splitlines()[-1].startswith("error: cannot start: the machine has no room for one of 2 processes (")
        assert "TasksMax=" in told
        assert not (tmp_path / "s.sock").exists()
    full.unlink()
    with _filter(tmp_path, full):
        assert wait_until(lambda: "started" in (tmp_path / "log").read_text(), 60)


def test_a_look_at_postfix_that_cannot_be_forked_ends_nothing_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    daemon = Daemon(tmp_path / "smilla.toml", parse(f'[stage]\nkeys = "{tmp_path}/keys"\n'))
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # what later tests start must hear signals
    told: list[str] = []
    monkeypatch.setattr("smilla.log.stage_not_ready", lambda _, text: told.append(text))

    def no_room() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr("smilla.adapters.look.os.fork", no_room)
        daemon._begin_look([""])
    assert daemon._look is None
    assert len(list(Path("/proc/self/fd").iterdir())) <= before  # what earlier tests left may end meanwhile
    assert told == ["no process to look at Postfix's lines: Resource temporarily unavailable"]


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_worker_that_cannot_be_replaced_at_once_ends_no_other(tmp_path: Path) -> None:
    full = tmp_path / "full"
    with _filter(tmp_path, full) as process:
        assert wait_until(lambda: "started" in (tmp_path / "log").read_text(), 60)
        reporter, *_, last = _children(process.pid)
        assert len(_children(process.pid)) == 3
        full.touch()
        os.kill(reporter, signal.SIGKILL)
        os.kill(last, signal.SIGKILL)
        assert wait_until(lambda: (tmp_path / "log").read_text().count("temporarily unavailable") >= 3, 60)
        assert process.poll() is None
        assert is_listening(tmp_path / "s.sock")
        full.unlink()
        assert wait_until(lambda: len(_children(process.pid)) == 3, 60)
