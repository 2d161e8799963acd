"""Who of Postfix runs, by a /proc of our own; the real one is looked at in tests/live/test_postfix_reload.py."""

from __future__ import annotations

import fcntl
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from smilla.adapters.postfix_running import Process, processes
from smilla.errors import PostfixUnclear


class Machine:
    """A queue directory, and processes."""

    def __init__(self, folder: Path) -> None:
        self.queue, self.proc = folder / "queue", folder / "proc"
        self.proc.mkdir()
        (self.proc / "locks").write_text("")
        self.file = self.queue / "pid/master.pid"
        self.file.parent.mkdir(parents=True)
        self.file.write_text("                             100\n")

    def process(self, pid: int, name: str, parent: int, *, start: int = 0, state: str = "S") -> None:
        place = self.proc / str(pid)
        place.mkdir()
        (place / "comm").write_text(f"{name}\n")
        (place / "stat").write_text(f"{pid} ({name}) {state} {parent} {'1 ' * 17}{start} 0 0\n")

    def locks(self, *pids: int, device: str = "00:1f") -> None:
        """These hold locks on files of this inode, on a device as /proc shows it."""
        lines = [f"1: FLOCK  ADVISORY  WRITE {pid} {device}:{self.file.stat().st_ino} 0 EOF\n" for pid in pids]
        if not (self.proc / "locks").read_text():
            lines.insert(0, "2: OFDLCK ADVISORY  WRITE -1 fe:00:1 0 0\nrubbish\n")
        with (self.proc / "locks").open("a") as file:
            file.writelines(lines)

    @property
    def device(self) -> str:
        """Where the file is."""
        number = self.file.stat().st_dev
        return f"{os.major(number):02x}:{os.minor(number):02x}"

    def two_masters(self) -> None:
        """Two instances, with one child each."""
        for pid, child in ((200, "qmgr"), (300, "smtpd")):
            self.process(pid, "master", 1)
            self.process(pid + 1, child, pid)

    def found(self) -> list[Process] | None:
        return processes(str(self.queue), self.proc)

    def names(self) -> list[str]:
        return sorted(process.name for process in self.found() or [])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_whoever_holds_the_lock_and_its_children_are_found(machine: Machine) -> None:
    machine.file.write_text("rubbish")
    machine.process(200, "master", 1)
    machine.process(201, "qmgr", 200)
    machine.process(202, "smt) d", 200)
    machine.process(203, "qmgr", 300)
    machine.process(204, "cleanup", 200, state="Z")
    machine.locks(200)
    assert machine.names() == ["master", "qmgr", "smt) d"]


def test_where_no_locks_are_shown_the_file_says_who_it_is(machine: Machine) -> None:
    (machine.proc / "locks").unlink()
    machine.process(100, "master", 1)
    machine.process(101, "qmgr", 100)
    assert machine.names() == ["master", "qmgr"]


def test_start_is_told_by_the_clock_on_the_wall(machine: Machine) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    machine.process(100, "master", 1)
    before, since_boot, after = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), time.time()
    machine.process(101, "qmgr", 100, start=int(since_boot * ticks) - 10 * ticks)
    (process,) = [one for one in machine.found() or [] if one.name == "qmgr"]
    assert before - 11 < process.started_at < after - 9


def test_pause_between_a_look_at_one_clock_and_at_the_other_makes_nobody_older(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    since_boot, pauses = [0.0], iter([0.0, 3.0])

    def wall() -> float:
        now = 1000 + since_boot[0]
        since_boot[0] += next(pauses, 0.0)
        return now

    clocks = SimpleNamespace(time=wall, clock_gettime=lambda _: since_boot[0], CLOCK_BOOTTIME=time.CLOCK_BOOTTIME)
    monkeypatch.setattr("smilla.adapters.postfix_running.time", clocks)
    machine.process(100, "master", 1, start=50 * os.sysconf("SC_CLK_TCK"))
    assert [process.started_at for process in machine.found() or []] == [1050.0]
    assert next(pauses, None) is None


def test_machine_that_pauses_each_time_tells_no_start(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    since_boot = itertools.count(0.0, 3.0)
    clocks = SimpleNamespace(
        time=lambda: 1000.0, clock_gettime=lambda _: next(since_boot), CLOCK_BOOTTIME=time.CLOCK_BOOTTIME
    )
    monkeypatch.setattr("smilla.adapters.postfix_running.time", clocks)
    machine.process(100, "master", 1)
    with pytest.raises(PostfixUnclear, match="too busy to tell since when"):
        machine.found()


@pytest.mark.parametrize("stop", [lambda m: m.file.unlink(), lambda m: m.process(100, "bash", 1), lambda _: None])
def test_postfix_that_is_stopped_has_no_processes(machine: Machine, stop: Callable[[Machine], None]) -> None:
    stop(machine)
    assert machine.found() is None


def test_postfix_that_runs_in_another_container_is_unclear(machine: Machine) -> None:
    with machine.file.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(PostfixUnclear, match="cannot be seen from here"):
            machine.found()


def test_who_may_not_read_the_file_and_sees_nobody_cannot_tell(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(PostfixUnclear, match="only root can tell"):
        machine.found()
    os.utime(machine.file, (1, 1))  # before this machine was started
    assert machine.found() is None


def test_of_several_masters_whose_file_has_this_inode_the_one_on_this_device_is_ours(machine: Machine) -> None:
    machine.two_masters()
    machine.file.write_text("200\n")
    machine.locks(200)
    machine.locks(300, device=machine.device)
    assert machine.names() == ["master", "smtpd"]


def test_of_several_masters_on_other_devices_the_one_named_in_the_file_is_ours(machine: Machine) -> None:
    machine.two_masters()
    machine.locks(200, 300)
    machine.file.write_text("300\n")
    assert machine.names() == ["master", "smtpd"]
    machine.file.write_text("200\n")
    assert machine.names() == ["master", "qmgr"]


def test_several_masters_of_which_none_is_known_to_be_ours_are_unclear(machine: Machine) -> None:
    machine.two_masters()
    machine.locks(200, 300)
    with pytest.raises(PostfixUnclear, match="process 200 and 300"):
        machine.found()


def test_a_master_that_has_the_number_of_one_from_before_the_boot_is_not_ours(machine: Machine) -> None:
    machine.process(100, "master", 1)
    os.utime(machine.file, (1, 1))
    assert machine.found() is None
    machine.locks(100)  # the clock was set after it began
    assert machine.names() == ["master"]


def test_a_lock_tells_that_postfix_runs_however_old_the_file_is(machine: Machine) -> None:
    os.utime(machine.file, (1, 1))
    with machine.file.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(PostfixUnclear, match="cannot be seen from here"):
            machine.found()
