"""The journal of copies owed and accepted: one SQLite file in the spool; all workers share it and it outlives them.

It holds keyed digests of messages and mailboxes, queue IDs, times, states, and the random token that marks a copy on
its way.  No address, no plaintext, no ciphertext.  A change returns once it is on the disk (WAL, with an fsync at each
commit).  Every failure is a JournalError that names the file and what to do.

One byte of SPOOL/lock locks an entry, with a file description of its own.  So threads exclude each other as processes
do, the kernel releases the lock when the process dies, and nothing is left behind.

**A full disk.**  Before anything has left, a journal that cannot be written only defers the mail.  But an accepted copy
must still be recorded.  So SPOOL/reserve occupies space that is freed at that moment, and no copy is recorded as owed
unless the reserve is there.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from smilla.adapters.journal_store import Database, fill_reserve, journal_errors, lock, make_folder
from smilla.errors import JournalBusy, JournalError
from smilla.ports import Fingerprint, StageNote

_OWN_S = 3600
_EXPIRE_EVERY_S = 60
_OWED, _COMMITTING, _ACCEPTED = "owed", "committing", "accepted"
_SET = (
    "INSERT INTO copies VALUES(?, ?, ?, ?)"
    " ON CONFLICT(message, recipient) DO UPDATE SET state = excluded.state, at = excluded.at"
)
# A retry keeps begun_at, and sets its own token and tried_at.
_OWE = (
    "INSERT INTO messages VALUES(?, ?, ?, ?, ?, ?, ?, NULL) ON CONFLICT(id) DO UPDATE SET"
    " queue_id = excluded.queue_id, token = excluded.token, tried_at = excluded.tried_at, finished_at = NULL"
)
_UNFINISHED = (
    "SELECT m.queue_id, m.begun_at, m.tried_at, sum(c.state = 'owed'), sum(c.state = 'committing'),"
    " sum(c.state = 'accepted'), {} FROM messages m JOIN copies c ON c.message = m.id {}"
    " WHERE m.finished_at IS NULL GROUP BY m.id ORDER BY m.begun_at"
)
_BACKLOG = (
    "SELECT count(DISTINCT m.id), sum(c.state = 'owed'), sum(c.state = 'committing'), min(m.begun_at)"
    " FROM messages m JOIN copies c ON c.message = m.id WHERE m.finished_at IS NULL"
)
_NOTES = "CREATE TABLE IF NOT EXISTS notes(message BLOB PRIMARY KEY, message_id TEXT, sealed_at REAL, answer TEXT)"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A message for which copies may be owed: its last queue ID, its first and last attempt, and the copies by state.
    For a sealed message also what the stage noted."""

    queue_id: str
    begun_at: float
    tried_at: float
    owed: int
    committing: int
    accepted: int
    message_id: str | None = None
    sealed_at: float | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """The journal's content, for the administrator."""

    unfinished: tuple[Unfinished, ...] = ()
    remembered: int = 0
    unknown_windows: int = 0


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many messages are unfinished, their copies owed and of unknown acceptance, and when the oldest began."""

    messages: int = 0
    owed: int = 0
    unknown: int = 0
    oldest_at: float = 0.0


class SQLiteJournal:
    """The journal in the folder ``spool``; it remembers finished messages for ``remember_s``."""

    def __init__(self, spool: str, remember_s: int, clock: Callable[[], float] = time.time) -> None:
        self._spool = Path(spool)
        self._remember_s = remember_s
        self._clock = clock
        self._expired_at = 0.0
        # One per process: SQLite's locks and handles must not cross a fork.  setdefault is atomic.
        self._databases: dict[int, Database] = {}

    def prepare(self, user: str) -> None:
        """Makes the folder, as root for ``user``; leaves an existing one as it is.  Raises JournalError."""
        with journal_errors(self._spool):
            make_folder(self._spool, user)

    def is_there(self) -> bool:
        """Does the file exist?  It is made when a copy is first owed."""
        with journal_errors(self._spool):
            return self._database.is_there()

    def known(self, fingerprint: Fingerprint) -> bool:
        """Does an entry have this ``quick``?  One index look-up; makes no file and reads no body."""
        with journal_errors(self._spool):
            query = "SELECT 1 FROM messages WHERE quick = ? LIMIT 1"
            return bool(self._database.read(query, lambda key: (_digest(key, b"quick", fingerprint.quick),)))

    def is_own(self, token: str, mailboxes: Collection[str]) -> bool:
        """Does an unfinished message, tried within the last hour, have this token and all these recipients?  Raises
        JournalError."""
        since, database = self._clock() - _OWN_S, self._database
        query = (
            "SELECT m.id, c.recipient FROM messages m JOIN copies c ON c.message = m.id"
            " WHERE m.token = ? AND m.finished_at IS NULL AND m.tried_at > ?"
        )
        with journal_errors(self._spool):
            rows = database.read(query, lambda _: (_text(token), since)) if token else []
        owed = {recipient for _, recipient in rows}
        return bool(rows) and all(_recipient(database.key, rows[0][0], mailbox) in owed for mailbox in mailboxes)

    @contextmanager
    def open(self, fingerprint: Fingerprint) -> Iterator[SQLiteJournalEntry]:
        """The entry, locked until closed.  Raises JournalBusy if it is open elsewhere, JournalError."""
        database = self._database
        with journal_errors(self._spool):
            key = database.create()
        quick = _digest(key, b"quick", fingerprint.quick)
        identity = _digest(key, b"message", quick + fingerprint.content())
        with journal_errors(self._spool):
            descriptor = lock(self._spool, 1 + (int.from_bytes(identity[:8]) >> 2))
        if descriptor is None:
            raise JournalBusy(f"{self._spool}: another worker has the same message")
        try:
            with journal_errors(self._spool):
                self._expire(identity)
                rows = database.read("SELECT recipient, state FROM copies WHERE message = ?", lambda _: (identity,))
                tokens = database.read("SELECT token FROM messages WHERE id = ?", lambda _: (identity,))
            entry = SQLiteJournalEntry(self._spool, database, self._clock, key, identity, quick, fingerprint.identified)
            entry.states.update(rows)
            entry.token = tokens[0][0] or "" if tokens else ""
            try:
                yield entry
            finally:
                entry.is_open = False
        finally:
            os.close(descriptor)

    def summary(self) -> Summary:
        """The unfinished messages and the counts; creates nothing.  Raises JournalError."""
        with journal_errors(self._spool):
            has_notes = self._database.read("SELECT 1 FROM sqlite_master WHERE name = 'notes'")
            noted = ("n.message_id, n.sealed_at, n.answer", "LEFT JOIN notes n ON n.message = m.id")
            rows = self._database.read(_UNFINISHED.format(*(noted if has_notes else ("NULL, NULL, NULL", ""))))
            done = self._database.read("SELECT count(*) FROM messages WHERE finished_at IS NOT NULL")
            unknown = self._database.read("SELECT value FROM meta WHERE name = 'unknown'")
        return Summary(
            tuple(Unfinished(*row) for row in rows), *(rows[0][0] if rows else 0 for rows in (done, unknown))
        )

    def backlog(self) -> Backlog:
        """What is unfinished, counted, for whoever asks often; creates nothing.  Raises JournalError."""
        with journal_errors(self._spool):
            rows = self._database.read(_BACKLOG)
        return Backlog(*(number or 0 for number in rows[0])) if rows else Backlog()

    def close(self) -> None:
        """Closes this process's connection; the next use opens another."""
        self._database.close()

    @property
    def _database(self) -> Database:
        pid = os.getpid()
        return self._databases.get(pid) or self._databases.setdefault(pid, Database(self._spool))

    def _expire(self, kept: bytes) -> None:
        now = self._clock()
        if now - self._expired_at < _EXPIRE_EVERY_S:
            return
        self._expired_at = now
        old = "coalesce(finished_at, tried_at) < ? AND id <> ? ORDER BY coalesce(finished_at, tried_at) LIMIT 10000"

        def work(cursor: sqlite3.Cursor) -> None:
            found = cursor.execute(f"SELECT id FROM messages WHERE {old}", (now - self._remember_s, kept)).fetchall()  # noqa: S608
            cursor.executemany("DELETE FROM copies WHERE message = ?", found)
            cursor.executemany("DELETE FROM messages WHERE id = ?", found)

        # A disk too full for this must not hide which copies were accepted; other faults also hit the next statement.
        with suppress(sqlite3.OperationalError):
            self._database.change(work)


@dataclass(slots=True)
class SQLiteJournalEntry:
    """One message's entry.  ``states`` is what is on the disk, by the digest of the mailbox.  ``token`` is the last
    attempt's until ``owe`` sets our own."""

    _spool: Path
    _database: Database
    _clock: Callable[[], float]
    _key: bytes
    _identity: bytes
    _quick: bytes
    _identified: bool
    token: str = ""
    has_begun: bool = False
    states: dict[bytes, str] = field(default_factory=dict)
    is_open: bool = True

    def is_accepted(self, mailbox: str) -> bool:
        """Was a copy for them accepted?"""
        return self.states.get(self._name(mailbox)) == _ACCEPTED

    def is_unknown(self, mailbox: str) -> bool:
        """Was an earlier copy for them cut off after the final dot?  True until it is settled."""
        return self.states.get(self._name(mailbox)) == _COMMITTING

    def owe(self, mailboxes: Iterable[str], token: str, queue_id: str) -> None:
        """Records who is owed a copy, and reserves space for what follows.  Accepted and unknown stay as they are."""
        self._check_open()
        names = {self._name(mailbox) for mailbox in mailboxes}
        if not names:
            return
        now = self._clock()
        row = (self._identity, self._quick, _text(queue_id), _text(token), self._identified, now, now)
        states = dict.fromkeys(names, _OWED) | self.states
        unknown = sum(states[name] == _COMMITTING for name in names)

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.execute(_OWE, row)
            # Write all states: an old entry may have expired since it was opened.
            cursor.executemany(_SET, [(self._identity, name, state, now) for name, state in states.items()])
            cursor.execute("UPDATE meta SET value = value + ? WHERE name = 'unknown'", (unknown,))
            fill_reserve(self._spool)

        with journal_errors(self._spool):
            self._database.change(work)
        self.states.update(states)
        self.token, self.has_begun = _text(token), True

    def committing(self, mailboxes: Iterable[str]) -> None:
        """Records that the final dot of a copy for these is sent next."""
        self._check_open()
        if not self.has_begun:
            raise JournalError(f"{self._spool}: nothing is owed yet for this message")
        self._set({self._name(mailbox): _COMMITTING for mailbox in mailboxes}, last=False)

    def settle(self, accepted: Iterable[str], owed: Iterable[str]) -> None:
        """Records the reply to the final dot; if the disk is full, with the space of the reserve."""
        self._check_open()
        refused = {self._name(mailbox): _OWED for mailbox in owed}
        self._set(refused | {self._name(mailbox): _ACCEPTED for mailbox in accepted}, last=True)

    def answered(self, owed: Collection[str], gone: Collection[str], note: StageNote) -> None:
        """Records the stage's answers to the MTA, and its note about the message."""
        self._check_open()
        now, token = self._clock(), self.token
        dropped = [name for name in map(self._name, gone) if self.states.get(name) == _OWED]
        kept = dict.fromkeys(map(self._name, owed), _OWED) | {k: v for k, v in self.states.items() if k not in dropped}
        row = (self._identity, self._quick, _text(note.queue_id), token, self._identified, now, now)

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.execute(_OWE, row)
            cursor.executemany(_SET, [(self._identity, name, state, now) for name, state in kept.items()])
            cursor.executemany(
                "DELETE FROM copies WHERE message = ? AND recipient = ?", [(self._identity, name) for name in dropped]
            )
            cursor.execute(_NOTES)
            cursor.execute("DELETE FROM notes WHERE message NOT IN (SELECT id FROM messages)")
            noted = (self._identity, note.message_id, note.sealed_at, _text(note.answer))
            cursor.execute("INSERT OR REPLACE INTO notes VALUES(?, ?, ?, ?)", noted)

        with journal_errors(self._spool):
            self._database.change(work)
        self.states = kept

    @property
    def has_owed(self) -> bool:
        """Is a copy owed to anybody?"""
        return any(state != _ACCEPTED for state in self.states.values())

    def finish(self, names: Iterable[str] | None = None) -> None:
        """Records that no copy is owed any more to ``names``; None means to anybody.

        An identified message is marked finished as a whole.  Any other message forgets the names, and is forgotten with
        its last name.  Once the entry is closed, does nothing if another attempt has begun, which finishes itself.
        """
        now, token = self._clock(), None if self.is_open else self.token
        gone = [(self._identity, self._name(name)) for name in names] if names is not None else None

        def work(cursor: sqlite3.Cursor) -> None:
            mine = "id = ? AND (? IS NULL OR token = ?)"
            values = (self._identity, token, token)
            if self._identified:
                cursor.execute(f"UPDATE messages SET finished_at = ?, token = NULL WHERE {mine}", (now, *values))  # noqa: S608
                return
            if not cursor.execute(f"SELECT 1 FROM messages WHERE {mine}", values).fetchone():  # noqa: S608
                return
            if gone is None:
                cursor.execute("DELETE FROM copies WHERE message = ?", (self._identity,))
            else:
                cursor.executemany("DELETE FROM copies WHERE message = ? AND recipient = ?", gone)
            if not cursor.execute("SELECT 1 FROM copies WHERE message = ?", (self._identity,)).fetchone():
                cursor.execute("DELETE FROM messages WHERE id = ?", (self._identity,))

        with journal_errors(self._spool):
            self._database.change(work, last=True)
        if not self._identified:
            self.states.clear()
        self.token, self.has_begun = "", False

    def _set(self, states: dict[bytes, str], last: bool) -> None:
        rows = [(self._identity, name, state, self._clock()) for name, state in states.items()]
        with journal_errors(self._spool):
            self._database.change(lambda cursor: cursor.executemany(_SET, rows), last)
        self.states.update(states)

    def _name(self, mailbox: str) -> bytes:
        return _recipient(self._key, self._identity, mailbox)

    def _check_open(self) -> None:
        if not self.is_open:
            raise JournalError(f"{self._spool}: the entry of this message is closed")


def _digest(key: bytes, kind: bytes, raw: bytes) -> bytes:
    return blake2b(raw, key=key, person=kind, digest_size=32).digest()


def _recipient(key: bytes, identity: bytes, mailbox: str) -> bytes:
    """A mailbox has another digest in each message, so that the file does not reveal who gets mail often."""
    return _digest(key, b"recipient", identity + mailbox.encode("utf-8", "surrogatepass"))


def _text(raw: str) -> str:
    return raw.encode("ascii", "replace").decode("ascii")
