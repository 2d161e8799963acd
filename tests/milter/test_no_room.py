"""A machine that has no room for another process keeps the workers that run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smilla.server.listener import is_listening
from tests.lab.processes import wait_until

# Nothing else makes fork fail for root, who has no limit of processes.
COMMAND = """
import errno, os, sys
from smilla.cli import main
fork = os.fork
def no_room():
    if os.path.exists(sys.argv[1]):
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
