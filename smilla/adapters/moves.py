"""The journal of ``smilla mailbox``: how far each message has come, in an SQLite file (0600).

Promises: what was noted survives a kill of the process and a crash of the machine.  Two processes never use the same
file.  A file that was made for another mailbox or purpose is not used.  It holds names of folders and messages, sizes,
digests, flags and dates, and nothing of what a message says.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from smilla.errors import FileProblem
from smilla.model.mailbox import Marks, Move, State

_VERSION = 1
_SCHEMA = (
    "CREATE TABLE meta(purpose TEXT NOT NULL)",
    "CREATE TABLE folders(name TEXT PRIMARY KEY, validity TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE moves(folder TEXT, old TEXT, state TEXT NOT NULL, place TEXT NOT NULL, size INTEGER NOT NULL,"
    " digest BLOB NOT NULL, flags TEXT NOT NULL, date TEXT NOT NULL, new TEXT NOT NULL, PRIMARY KEY(folder, old))"
    " WITHOUT ROWID",
    "CREATE TABLE known(folder TEXT, name TEXT, PRIMARY KEY(folder, name)) WITHOUT ROWID",
    f"PRAGMA user_version = {_VERSION}",
)
_PUT = "INSERT OR REPLACE INTO moves VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DROP = "DELETE FROM moves WHERE folder = ? AND old = ?"
_KNOW = "INSERT OR IGNORE INTO known VALUES(?, ?)"


class MoveJournal:
    """mailbox.store.Journal.  ``purpose`` says what is done to which mailbox."""

    def __init__(self, path: Path, purpose: str) -> None:
        """Opens the file, or makes it.  Raises FileProblem."""
        self._path = path
        with self._problems():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A lock of its own file: to close any descriptor of the database would lose SQLite's locks.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._lock = os.open(f"{path}.lock", flags, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._connection = self._opened(purpose)
            except BlockingIOError as error:
                os.close(self._lock)
                raise FileProblem(f"{path}: another process uses this journal") from error
            except BaseException:
                os.close(self._lock)
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        os.close(self._lock)

    def validity(self, folder: str) -> str | None:
        """See mailbox.store.Journal."""
        with self._problems():
            row = self._connection.execute("SELECT validity FROM folders WHERE name = ?", (folder,)).fetchone()
        return str(row[0]) if row else None

    def begin(self, folder: str, validity: str) -> None:
        """See mailbox.store.Journal."""
        if self.validity(folder) == validity:
            return
        with self._change():
            for table in ("moves", "known"):
                self._connection.execute(f"DELETE FROM {table} WHERE folder = ?", (folder,))  # noqa: S608
            self._connection.execute("INSERT OR REPLACE INTO folders VALUES(?, ?)", (folder, validity))

    def pending(self, folder: str) -> list[Move]:
        """See mailbox.store.Journal."""
        query = "SELECT old, state, place, size, digest, flags, date, new FROM moves WHERE folder = ? ORDER BY old"
        with self._problems():
            rows = self._connection.execute(query, (folder,)).fetchall()
            return [
                Move(folder, old, State(state), place, size, digest, Marks(frozenset(json.loads(flags)), date), new)
                for old, state, place, size, digest, flags, date, new in rows
            ]

    def put(self, moves: Iterable[Move]) -> None:
        """See mailbox.store.Journal."""
        self._many(_PUT, [(*_key(move), move.state.value, *_values(move), move.new) for move in moves])

    def drop(self, moves: Iterable[Move]) -> None:
        """See mailbox.store.Journal."""
        self._many(_DROP, list(map(_key, moves)))

    def done(self, moves: Iterable[Move]) -> None:
        """See mailbox.store.Journal."""
        moves = list(moves)
        if moves:
            with self._change():
                self._connection.executemany(_DROP, list(map(_key, moves)))
                self._connection.executemany(_KNOW, [(move.folder, move.new) for move in moves])

    def know(self, folder: str, names: Iterable[str]) -> None:
        """See mailbox.store.Journal."""
        self._many(_KNOW, [(folder, name) for name in names])

    def _many(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            with self._change():
                self._connection.executemany(statement, rows)

    def known(self, folder: str) -> frozenset[str]:
        """See mailbox.store.Journal."""
        with self._problems():
            rows = self._connection.execute("SELECT name FROM known WHERE folder = ?", (folder,)).fetchall()
        return frozenset(str(name) for (name,) in rows)

    # --- the file

    def _opened(self, purpose: str) -> sqlite3.Connection:
        with suppress(FileExistsError):
            os.mknod(self._path, 0o600 | stat.S_IFREG)
        uri = self._path.absolute().as_uri() + "?mode=rw"
        connection = sqlite3.connect(uri, isolation_level=None, uri=True)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"it is of version {version}, from another smilla")
            if version == 0:
                connection.execute("BEGIN IMMEDIATE")
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute("INSERT INTO meta VALUES(?)", (purpose,))
                connection.execute("COMMIT")
            ((known,),) = connection.execute("SELECT purpose FROM meta").fetchall()
            if known != purpose:
                raise FileProblem(f"{self._path}: is the journal of something else ({known}), not of this ({purpose})")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _change(self) -> Iterator[None]:
        """One transaction, which is on the disk at the end."""
        with self._problems():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _problems(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            raise FileProblem(f"{self._path}: the journal cannot be used: {error}") from error


def _key(move: Move) -> tuple[object, ...]:
    return move.folder, move.old


def _values(move: Move) -> tuple[object, ...]:
    return move.place, move.size, move.raw_digest, json.dumps(sorted(move.marks.flags)), move.marks.date
