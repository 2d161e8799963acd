"""Reads from /proc which processes of a Postfix instance run, and since when.

``postfix reload`` restarts the queue manager, pickup and every idle daemon (measured with 3.7.11); each reads main.cf
and its tables when it starts.  A busy daemon ends later: an smtpd, when its client leaves.  So a process that started
after a file was changed has read the new one.  The queue manager ends for nothing else, so its start shows when master
last read master.cf.  A process older than the queue manager has the old options.

Promises: if something cannot be found out, it raises PostfixUnclear.  It waits for no lock.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from smilla.errors import PostfixUnclear

PROC = Path("/proc")
_AT_ONCE_S, _ATTEMPTS = 0.001, 100
QUEUE_MANAGERS = ("qmgr", "oqmgr", "nqmgr")


@dataclass(frozen=True, slots=True)
class Process:
    """master or one of its children: the program, and when it started (seconds since 1970, at most a tick early)."""

    pid: int
    name: str
    started_at: float


def processes(queue_directory: str, proc: Path = PROC) -> list[Process] | None:
    """The master of this queue and its children, None if no master runs.  Raises PostfixUnclear."""
    master = _master(Path(queue_directory) / "pid/master.pid", proc)
    if master is None:
        return None
    offset = _booted_at()
    ticks = os.sysconf("SC_CLK_TCK")
    return [
        Process(pid, name, offset + start / ticks)
        for pid, name, state, parent, start in _all(proc)
        if master in (pid, parent) and state not in "ZX"
    ]


def runs(queue_directory: str) -> bool:
    """Does a master run for this queue?  True, too, if nobody can tell."""
    try:
        return processes(queue_directory) is not None
    except PostfixUnclear:
        return True


def _master(path: Path, proc: Path) -> int | None:
    """master's process ID.  It locks this file while it runs, and everybody can see that in /proc/locks."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PostfixUnclear(f"{path}: {error.strerror}, so nobody can tell whether Postfix runs") from error
    is_of_this_boot = found.st_mtime >= _booted_at()
    lockers = {pid: is_here for pid, is_here in _lockers(found, proc) if _is_master(pid, proc)}
    written = _written(path) if is_of_this_boot else ""  # after a boot, another process has that ID
    if lockers:
        return _only(lockers, written)
    if written and _is_master(written, proc):
        return int(written)
    # We see none: it may be in another container, or hidden.
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PostfixUnclear("Postfix runs where its processes cannot be seen from here") from error
    except OSError as error:
        if not is_of_this_boot:
            return None
        what = "no process of Postfix can be seen from here, and only root can tell whether there is one"
        raise PostfixUnclear(what) from error
    return None


def _booted_at() -> float:
    """By the clock on the wall, which is read between two looks at the other one: a process that had to wait for the
    processor meanwhile would take everybody for older than they are."""
    for _ in range(_ATTEMPTS):
        before, now = time.clock_gettime(time.CLOCK_BOOTTIME), time.time()
        after = time.clock_gettime(time.CLOCK_BOOTTIME)
        if after - before < _AT_ONCE_S:
            return now - after
    raise PostfixUnclear("this machine is too busy to tell since when Postfix's processes run")


def _is_master(pid: str, proc: Path) -> bool:
    with suppress(OSError):
        return (proc / pid / "comm").read_text().strip() == "master"
    return False


def _only(lockers: Mapping[str, bool], written: str) -> int:
    """The master that holds the lock.  On some file systems stat(2) gives another device than /proc/locks, so the
    masters of other instances may lock a file of the same inode elsewhere.  One on our device is ours; otherwise the
    one whose ID is in the file, or the only one.  Raises PostfixUnclear."""
    here = [pid for pid, is_here in lockers.items() if is_here]
    named = [pid for pid in lockers if pid == written]
    for found in (here, named, list(lockers)):
        if len(found) == 1:
            return int(found[0])
    masters = " and ".join(sorted(lockers, key=int))
    raise PostfixUnclear(f"nobody can tell which master of Postfix is that of this instance: process {masters}")


def _lockers(file: os.stat_result, proc: Path) -> Iterator[tuple[str, bool]]:
    """Who locks a file of this inode: process ID, and whether the device is ours, too.  A line looks like
    ``6: FLOCK  ADVISORY  WRITE 5494 fe:00:2941507 0 EOF``."""
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}"
    try:
        lines = (proc / "locks").read_text().splitlines()
    except OSError:
        return
    for words in map(str.split, lines):
        if len(words) > 5 and words[5].rpartition(":")[2] == str(file.st_ino):
            yield words[4], words[5].rpartition(":")[0] == device


def _written(path: Path) -> str:
    try:
        word = path.read_text("ascii", "replace").strip()
    except OSError:
        return ""
    return word if word.isdecimal() else ""


def _all(proc: Path) -> Iterator[tuple[int, str, str, int, int]]:
    """Process ID, program, state, parent and start (ticks since boot) of each process we can see."""
    for place in proc.iterdir():
        if place.name.isdecimal():
            try:
                text = (place / "stat").read_text("utf-8", "replace")
            except OSError:
                continue  # it has ended, or is hidden
            words = text.rpartition(")")[2].split()
            yield int(place.name), text[text.index("(") + 1 : text.rindex(")")], words[0], int(words[1]), int(words[19])
