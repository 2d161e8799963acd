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
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from smilla.errors import PostfixUnclear

PROC = Path("/proc")
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
    offset = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    ticks = os.sysconf("SC_CLK_TCK")
    return [
        Process(pid, name, offset + start / ticks)
        for pid, name, state, parent, start in _all(proc)
        if master in (pid, parent) and state not in "ZX"
    ]


def _master(path: Path, proc: Path) -> int | None:
    """master's process ID.  It locks this file while it runs, and everybody can see that in /proc/locks."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PostfixUnclear(f"{path}: {error.strerror}, so nobody can tell whether Postfix runs") from error
    named = {name for name in (*_lockers(found.st_ino, proc), _written(path)) if name}
    for pid in named:
        with suppress(OSError):
            if (proc / pid / "comm").read_text().strip() == "master":
                return int(pid)
    # We see none: it may be in another container, or hidden.
    if found.st_mtime < time.time() - time.clock_gettime(time.CLOCK_BOOTTIME):
        return None  # master wrote it before this machine booted
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PostfixUnclear("Postfix runs where its processes cannot be seen from here") from error
    except OSError as error:
        what = "no process of Postfix can be seen from here, and only root can tell whether there is one"
        raise PostfixUnclear(what) from error
    return None


def _lockers(inode: int, proc: Path) -> Iterator[str]:
    """Process IDs from lines like ``6: FLOCK  ADVISORY  WRITE 5494 fe:00:2941507 0 EOF``.  The device is not compared:
    on some file systems stat(2) gives another one, and the process must be a master anyway."""
    try:
        lines = (proc / "locks").read_text().splitlines()
    except OSError:
        return
    for words in map(str.split, lines):
        if len(words) > 5 and words[5].rpartition(":")[2] == str(inode):
            yield words[4]


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
