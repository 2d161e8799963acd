"""What the tests of the journal share: messages, a delivery, a clock, and processes to kill."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from smilla.adapters.journal import SQLiteJournal
from smilla.ports import Fingerprint

ANN, BEN = "ann@example.org", "ben@example.org"
TOKEN = "0123456789abcdef" * 2


def message(name: bytes = b"one", identified: bool = True) -> Fingerprint:
    return Fingerprint(b"quick " + name, lambda: b"content " + name, identified)


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def rows(journal: SQLiteJournal) -> tuple[int, int]:
    database = sqlite3.connect(journal._spool / "journal.sqlite3")
    try:
        (found,) = database.execute("SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM copies)")
        return found[0], found[1]
    finally:
        database.close()


def deliver(journal: SQLiteJournal, fingerprint: Fingerprint, *mailboxes: str) -> None:
    with journal.open(fingerprint) as entry:
        entry.owe(mailboxes, TOKEN, "Q1")
        entry.committing(mailboxes)
        entry.settle(mailboxes, ())
        entry.finish()


def in_child(work: Callable[[], None]) -> int:
    """Runs ``work`` in a forked process; returns its pid once it says so by returning, and it then waits for ever."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(writer, b"1")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"1"
    finally:
        os.close(reader)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
