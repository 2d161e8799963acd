"""The journal of copies owed and accepted: one SQLite file in the spool, shared by the workers, which outlives them.

What stands in it: keyed digests of messages and mailboxes, queue IDs, instants, states, and the random token by which a
copy on its way is known.  No address, no plaintext, no ciphertext.  A change has returned once it is on the disk (WAL,
with an fsync at each commit); every failure is a JournalError that names the file and what to do.

An entry is locked by one byte of SPOOL/lock, each with a file description of its own: threads exclude each other as
processes do, the kernel frees it when its process dies, and nothing is left behind.

**A full disk.**  Before anything has left, a journal that cannot be written only defers the mail.  After a copy was
accepted, that must still be written: SPOOL/reserve takes up room which is given back at that moment, and nothing is
owed while it is not there.
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

from smilla.adapters.journal_store import Database, fill_reserve, lock, make_folder, told
from smilla.errors import JournalBusy, JournalError
from smilla.ports import Fingerprint, StageNote

_OWN_S = 3600
_EXPIRE_EVERY_S = 60
_OWED, _COMMITTING, _ACCEPTED = "owed", "committing", "accepted"
_SET = (
    "INSERT INTO copies VALUES(?, ?, ?, ?)"
    " ON CONFLICT(message, recipient) DO UPDATE SET state = excluded.state, at = excluded.at"
)
# What was begun keeps its first instant; a retry has a token and an instant of its own.
_OWE = (
    "INSERT INTO messages VALUES(?, ?, ?, ?, ?, ?, ?, NULL) ON CONFLICT(id) DO UPDATE SET"
    " queue_id = excluded.queue_id, token = excluded.token, tried_at = excluded.tried_at, finished_at = NULL"
)
_UNFINISHED = (
    "SELECT m.queue_id, m.begun_at, m.tried_at, sum(c.state = 'owed'), sum(c.state = 'committing'),"
    " sum(c.state = 'accepted'), {} FROM messages m JOIN copies c ON c.message = m.id {}"
    " WHERE m.finished_at IS NULL GROUP BY m.id ORDER BY m.begun_at"
)


_NOTES = "CREATE TABLE IF NOT EXISTS notes(message BLOB PRIMARY KEY, message_id TEXT, sealed_at REAL, answer TEXT)"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A message for which copies may be owed: the last queue ID, the first and the last attempt, copies by state; of a
    sealed one also what the stage noted."""

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
    """What the journal has, for the administrator."""

    unfinished: tuple[Unfinished, ...] = ()
    remembered: int = 0
    unknown_windows: int = 0


class SQLiteJournal:
    """The journal in the folder ``spool``, which remembers finished messages for ``remember_s``."""

    def __init__(self, spool: str, remember_s: int, clock: Callable[[], float] = time.time) -> None:
        self._spool = Path(spool)
        self._remember_s = remember_s
        self._clock = clock
        self._expired_at = 0.0
        # One a process: SQLite's locks and handles must not cross a fork.  setdefault is atomic.
        self._databases: dict[int, Database] = {}

    def prepare(self, user: str) -> None:
        """Makes the folder, as root for ``user``; one that is there already is left as it is.  Raises JournalError."""
        with told(self._spool):
            make_folder(self._spool, user)

    def is_there(self) -> bool:
        """Is there a file?  It is made when a copy is first owed."""
        with told(self._spool):
            return self._database.is_there()

    def known(self, fingerprint: Fingerprint) -> bool:
        """Does an entry have this ``quick``?  One look into an index; no file is made and no body is read."""
        with told(self._spool):
            query = "SELECT 1 FROM messages WHERE quick = ? LIMIT 1"
            return bool(self._database.read(query, lambda key: (_digest(key, b"quick", fingerprint.quick),)))

    def is_own(self, token: str, mailboxes: Collection[str]) -> bool:
        """Has an unfinished message, tried within the last hour, this token and all these recipients?  Raises
        JournalError."""
        since, database = self._clock() - _OWN_S, self._database
        query = (
            "SELECT m.id, c.recipient FROM messages m JOIN copies c ON c.message = m.id"
            " WHERE m.token = ? AND m.finished_at IS NULL AND m.tried_at > ?"
        )
        with told(self._spool):
            rows = database.read(query, lambda _: (_text(token), since)) if token else []
        owed = {recipient for _, recipient in rows}
        return bool(rows) and all(_recipient(database.key, rows[0][0], mailbox) in owed for mailbox in mailboxes)

    @contextmanager
    def open(self, fingerprint: Fingerprint) -> Iterator[SQLiteJournalEntry]:
        """The entry, locked until closed.  Raises JournalBusy where it is open elsewhere, JournalError."""
        database = self._database
        with told(self._spool):
            key = database.create()
        quick = _digest(key, b"quick", fingerprint.quick)
        identity = _digest(key, b"message", quick + fingerprint.content())
        with told(self._spool):
            descriptor = lock(self._spool, 1 + (int.from_bytes(identity[:8]) >> 2))
        if descriptor is None:
            raise JournalBusy(f"{self._spool}: another worker has the same message")
        try:
            with told(self._spool):
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
        """What is unfinished, remembered, and counted; creates nothing.  Raises JournalError."""
        with told(self._spool):
            has_notes = self._database.read("SELECT 1 FROM sqlite_master WHERE name = 'notes'")
            noted = ("n.message_id, n.sealed_at, n.answer", "LEFT JOIN notes n ON n.message = m.id")
            rows = self._database.read(_UNFINISHED.format(*(noted if has_notes else ("NULL, NULL, NULL", ""))))
            done = self._database.read("SELECT count(*) FROM messages WHERE finished_at IS NOT NULL")
            unknown = self._database.read("SELECT value FROM meta WHERE name = 'unknown'")
        return Summary(
            tuple(Unfinished(*row) for row in rows), *(rows[0][0] if rows else 0 for rows in (done, unknown))
        )

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

        # A disk too full to delete now must not hide what was accepted; any other fault meets the next statement, too.
        with suppress(sqlite3.OperationalError):
            self._database.change(work)


@dataclass(slots=True)
class SQLiteJournalEntry:
    """One message's entry; ``states`` is what is on the disk, by the digest of the mailbox, ``token`` that of the last
    attempt, until there is one of ours."""

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
        """Was a copy for them on its way when all ended?  True until it is settled."""
        return self.states.get(self._name(mailbox)) == _COMMITTING

    def owe(self, mailboxes: Iterable[str], token: str, queue_id: str) -> None:
        """Writes who is owed a copy, with room kept for what follows.  Who was accepted or unknown stays so."""
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
            # All of them: an entry as old as remember_s may have been expired since it was opened.
            cursor.executemany(_SET, [(self._identity, name, state, now) for name, state in states.items()])
            cursor.execute("UPDATE meta SET value = value + ? WHERE name = 'unknown'", (unknown,))
            fill_reserve(self._spool)

        with told(self._spool):
            self._database.change(work)
        self.states.update(states)
        self.token, self.has_begun = _text(token), True

    def committing(self, mailboxes: Iterable[str]) -> None:
        """Writes that the final dot of a copy for these is sent next."""
        self._check_open()
        if not self.has_begun:
            raise JournalError(f"{self._spool}: nothing is owed yet for this message")
        self._set({self._name(mailbox): _COMMITTING for mailbox in mailboxes}, last=False)

    def settle(self, accepted: Iterable[str], owed: Iterable[str]) -> None:
        """Writes the reply to the final dot, from the reserve where the disk is full."""
        self._check_open()
        refused = {self._name(mailbox): _OWED for mailbox in owed}
        self._set(refused | {self._name(mailbox): _ACCEPTED for mailbox in accepted}, last=True)

    def answered(self, owed: Collection[str], gone: Collection[str], note: StageNote) -> None:
        """Writes what the stage told the MTA, and what it knows of the message."""
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

        with told(self._spool):
            self._database.change(work)
        self.states = kept

    @property
    def has_owed(self) -> bool:
        """Is a copy owed to anybody?"""
        return any(state != _ACCEPTED for state in self.states.values())

    def finish(self, names: Iterable[str] | None = None) -> None:
        """Writes that no copy is owed any more; of a message that does not name itself these are forgotten, and with
        the last of them the message.  None stands for all.

        After closing it does so only while no other attempt has begun, which then finishes itself.
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

        with told(self._spool):
            self._database.change(work, last=True)
        if not self._identified:
            self.states.clear()
        self.token, self.has_begun = "", False

    def _set(self, states: dict[bytes, str], last: bool) -> None:
        rows = [(self._identity, name, state, self._clock()) for name, state in states.items()]
        with told(self._spool):
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
    """A digest of its own in each message, so that the file does not tell who gets mail often."""
    return _digest(key, b"recipient", identity + mailbox.encode("utf-8", "surrogatepass"))


def _text(raw: str) -> str:
    return raw.encode("ascii", "replace").decode("ascii")
