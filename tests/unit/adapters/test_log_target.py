"""Lines that cannot be written hold up nobody: they wait, and what finds no room is counted."""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from smilla import log
from smilla.adapters import log_target

LINE = b"a line of the log " + b"x" * 80 + b"\n"
COMMAND = """
import os, sys
from smilla import log
from smilla.adapters import log_target
log.configure("info", "text", log_target.opened("stderr"))
"""


class Door:
    """A way that opens and shuts."""

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.open = threading.Event()
        self.broken = False
        self.at_once = 10**6

    def send(self, raw: bytes) -> int:
        if self.broken:
            raise BrokenPipeError
        if not self.open.is_set():
            raise BlockingIOError
        self.out.append(raw[: self.at_once])
        return len(self.out[-1])

    def push(self, raw: bytes) -> int:
        if not self.broken:
            self.open.wait()
        return self.send(raw)


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def target(door: Door) -> log_target.Target:
    return log_target.Target(door, joins=True)


def test_what_cannot_be_written_at_once_waits_and_keeps_its_order(door: Door, target: log_target.Target) -> None:
    lines = [b"%d\n" % number for number in range(100)]
    for line in lines:
        target.write(line)
    door.open.set()
    wait_for(lambda: not target._late)
    target.write(b"later\n")
    assert b"".join(door.out) == b"".join(lines) + b"later\n"


def test_what_finds_no_room_is_counted_where_it_would_have_stood(door: Door, target: log_target.Target) -> None:
    many = (1 << 20) // len(LINE) + 51
    for _ in range(many):
        target.write(LINE)
    door.open.set()
    wait_for(lambda: bool(door.out) and b"log-dropped" in door.out[-1])
    kept = b"".join(door.out).count(LINE)
    assert b"".join(door.out) == LINE * kept + b"- log-dropped lines=%d severity=warning\n" % (many - kept)
    assert many - kept >= 50


def test_lines_that_a_full_disk_refused_are_counted_in_the_next_that_it_takes(
    door: Door, target: log_target.Target
) -> None:
    door.broken = True
    for _ in range(3):
        target.write(LINE * 2)
        wait_for(lambda: has_settled(target))
    door.broken = False
    door.open.set()
    target.write(LINE)
    wait_for(lambda: not target._late)
    assert b"".join(door.out) == b"- log-dropped lines=6 severity=warning\n" + LINE


def test_a_line_of_which_a_part_was_taken_is_ended_first(door: Door, target: log_target.Target) -> None:
    door.open.set()
    door.at_once = 7
    for number in range(5):
        target.write(b"this is line %d\n" % number)
    wait_for(lambda: not target._late)
    assert b"".join(door.out) == b"".join(b"this is line %d\n" % number for number in range(5))


def test_a_child_does_not_write_what_waits_in_its_parent(door: Door, target: log_target.Target) -> None:
    target.write(LINE)
    pid = os.fork()
    if pid == 0:
        door.open = threading.Event()  # the parent's may have been locked by its thread at the fork
        door.open.set()
        target.write(b"the child\n")
        os._exit(door.out != [b"the child\n"])
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    door.open.set()
    wait_for(lambda: not target._late)
    assert door.out == [LINE]


def has_settled(target: log_target.Target) -> bool:
    with target._changed:  # between taking a piece and writing it, the thread has this lock
        return not target._waiting and not target._is_writing


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError


def run(program: str, stderr: int) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", COMMAND + program]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, timeout=60, check=False)


def test_a_pipe_that_nobody_reads_holds_up_nobody_and_stays_as_it_is_for_others() -> None:
    reading, writing = os.pipe()
    done = run("for _ in range(20000): log.reloaded()\nprint(os.get_blocking(2))", writing)
    assert (done.returncode, done.stdout) == (0, b"True\n")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().splitlines()
    assert set(lines) == {b"- reloaded"}


def test_a_pipe_of_another_user_holds_up_nobody_either() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    reading, writing = os.pipe()
    program = """os.setuid(65534)
log_target._opened.clear()
log.configure("info", "text", log_target.opened("stderr"))
for _ in range(20000): log.reloaded()
print(type(log_target.opened("stderr")._sink).__name__)
"""
    done = run(program, writing)
    assert (done.returncode, done.stdout) == (0, b"_Shared\n")
    os.close(writing)
    os.close(reading)


def test_no_line_is_lost_where_the_reader_is_slow() -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    program = (
        COMMAND
        + """
for number in range(20000): log.restart_needed(str(number))
while log_target.opened("stderr")._late: log.flush()
"""
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stderr=writing), os.fdopen(reading, "rb") as pipe:
        os.close(writing)
        lines = pipe.read().splitlines()
    assert lines == [b"- restart-needed option=%d severity=warning" % number for number in range(20000)]


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_is_longer_than_a_pipe_takes_at_once(form: str, tmp_path: Path) -> None:
    program = f"""log.configure("info", "{form}", log_target.opened("stderr"))
for letter in "x", "\\x01", "\\U0001f600":
    log.lookup_trouble(letter * 3000, letter * 3000, letter * 9000, letter * 9000)
    log.lookup_trouble("4F2x", "r@x.test", "smimea", letter * 900)
"""
    with (tmp_path / "log").open("wb") as file:
        assert run(program, file.fileno()).returncode == 0
    lines = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    assert len(lines) == 6
    assert max(map(len, lines)) <= select.PIPE_BUF
    assert b"x" * 900 in lines[1]


def test_log_has_one_target_for_good() -> None:
    assert log_target.opened("syslog") is log_target.opened("syslog")
    assert log.lines_dropped(3)[1] == b"- log-dropped lines=3 severity=warning\n"


def test_lock_that_a_thread_held_during_a_fork_stops_nobody(tmp_path: Path) -> None:
    sink = log_target._Syslog(str(tmp_path / "nobody"))
    with sink._opening:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if sink._opening.acquire(blocking=False) else 1)
    assert os.waitpid(pid, 0)[1] == 0
