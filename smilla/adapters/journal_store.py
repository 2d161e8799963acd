"""The journal's files: the database, the lock, the reserve, the folder; and the texts of their failures."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import sqlite3
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from smilla.adapters import synced_folder
from smilla.errors import JournalError

_BUSY_S = 5.0
_RESERVE = 256 * 1024
_VERSION = 1
_SCHEMA = (
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE messages(id BLOB PRIMARY KEY, quick BLOB NOT NULL, queue_id TEXT NOT NULL, token TEXT,"
    " identified INTEGER NOT NULL, begun_at REAL NOT NULL, tried_at REAL NOT NULL, finished_at REAL) WITHOUT ROWID",
    "CREATE INDEX messages_quick ON messages(quick)",
    "CREATE INDEX messages_token ON messages(token) WHERE token IS NOT NULL",
    "CREATE INDEX messages_age ON messages(coalesce(finished_at, tried_at))",
    "CREATE TABLE copies(message BLOB, recipient BLOB, state TEXT NOT NULL, at REAL NOT NULL,"
    " PRIMARY KEY(message, recipient)) WITHOUT ROWID",
    "INSERT INTO meta VALUES('secret', randomblob(32)), ('unknown', 0)",
    f"PRAGMA user_version = {_VERSION}",
)


class Database:
    """This process's connection, shared by its threads.  ``key`` is the key of the digests, known after the first read
    or ``create``.  Raises sqlite3.Error and OSError."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._path = spool / "journal.sqlite3"
        self._mutex = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self.key = b""
        self._file = (0, 0)

    def is_there(self) -> bool:
        """Is there a journal to read?"""
        with self._mutex:
            return self._existing() is not None

    def read(self, query: str, values: Callable[[bytes], tuple[object, ...]] = lambda _: ()) -> list[tuple[Any, ...]]:
        """The rows; ``values`` gets the key of the digests.  Without a journal there are no rows, and none is made."""
        with self._mutex:
            connection = self._existing()
            return connection.execute(query, values(self.key)).fetchall() if connection else []

    def change(self, work: Callable[[sqlite3.Cursor], object], last: bool = False) -> None:
        """One transaction; it is on the disk at return.  ``last``: it records something that has happened already, so
        on a full disk it may use the space of the reserve."""
        with self._mutex:
            try:
                self._transaction(work)
            except sqlite3.Error as error:
                if not (last and _is_full(error)):
                    raise
                (self._spool / "reserve").unlink(missing_ok=True)
                self._transaction(work)

    def create(self) -> bytes:
        """Makes the journal if it is missing; returns the key of the digests."""
        with self._mutex:
            if self._existing() is None:
                make_folder(self._spool, "")
                descriptor = lock(self._spool, 0, _BUSY_S)  # if two workers made it at once, SQLite would be locked
                if descriptor is None:
                    raise TimeoutError(errno.ETIMEDOUT, "another worker is still making it")
                try:
                    if self._existing() is None:
                        self._make()
                finally:
                    os.close(descriptor)
            return self.key

    def close(self) -> None:
        """Closes the connection; the next use opens another."""
        with self._mutex:
            self._drop()

    def _existing(self) -> sqlite3.Connection | None:
        """The connection to the file that has this name now, None if it is missing or empty."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 (asked for every message)
        except FileNotFoundError:
            self._drop()
            return None
        if self._connection is None or self._file != (found.st_dev, found.st_ino):
            self._drop()
            if found.st_size:
                self._connect((found.st_dev, found.st_ino))
        return self._connection

    def _connect(self, file: tuple[int, int]) -> None:
        connection = self._raw_connection()
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"it is of version {version}, from another smilla")
            if version == 0:  # another worker is making it, or was cut off
                connection.close()
                return
            ((self.key,),) = connection.execute("SELECT value FROM meta WHERE name = 'secret'").fetchall()
        except BaseException:
            connection.close()
            raise
        self._connection, self._file = connection, file

    def _raw_connection(self) -> sqlite3.Connection:
        uri = self._path.absolute().as_uri() + "?mode=rw"
        connection = sqlite3.connect(uri, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, uri=True)
        try:
            for pragma in ("synchronous = FULL", "secure_delete = ON", "wal_autocheckpoint = 100"):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _make(self) -> None:
        """Makes the file, with the mode and owner that SQLite copies to its other files."""
        with suppress(FileExistsError):
            os.mknod(self._path, 0o600 | stat.S_IFREG)  # not open(): closing it would lose SQLite's locks
            _give_to_owner(self._spool, self._path)
        connection = self._raw_connection()
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("COMMIT")
        finally:
            connection.close()
        synced_folder.sync(self._spool)
        if self._existing() is None:
            raise FileNotFoundError(errno.ENOENT, "it was removed again", str(self._path))

    def _transaction(self, work: Callable[[sqlite3.Cursor], object]) -> None:
        connection = self._existing()
        if connection is None:
            raise FileNotFoundError(errno.ENOENT, "it was removed while in use", str(self._path))
        try:
            connection.execute("BEGIN IMMEDIATE")
            work(connection.cursor())
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def lock(spool: Path, offset: int, wait_s: float = 0.0) -> int | None:
    """A descriptor that locks one byte of SPOOL/lock until it is closed (fcntl(2), open file description locks); None
    if somebody else holds the lock."""
    path, until = spool / "lock", time.monotonic() + wait_s
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        _give_to_owner(spool, path)
        while True:
            try:
                flock = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, flock)
                return descriptor
            except BlockingIOError:
                if time.monotonic() >= until:
                    os.close(descriptor)
                    return None
            time.sleep(0.01)
    except OSError:
        os.close(descriptor)
        raise


def fill_reserve(spool: Path) -> None:
    """Makes the reserve, unless it is complete.  Its octets are random, since some file systems store no zeros."""
    path = spool / "reserve"
    with suppress(FileNotFoundError):
        if path.stat().st_size == _RESERVE:
            return
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "wb") as file:  # noqa: PTH123
            file.write(os.urandom(_RESERVE))
            file.flush()
            os.fsync(file.fileno())
        _give_to_owner(spool, path)
        synced_folder.sync(spool)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def make_folder(folder: Path, user: str) -> None:
    """Makes the folder with mode 0700, as root for ``user``; leaves an existing one as it is."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(0o700)
        if user and os.geteuid() == 0:
            try:
                entry = pwd.getpwnam(user)
            except KeyError as error:
                folder.rmdir()
                raise JournalError(f"[milter] user {user}: there is no such user") from error
            os.chown(folder, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it is not a folder", str(folder))


def _give_to_owner(folder: Path, path: Path) -> None:
    """Root may run this (``smilla journal``), and the file must still be the filter user's."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _is_full(error: sqlite3.Error) -> bool:
    """Is the disk full?  SQLite says so for some of its files only; for the others, just that writing failed."""
    return _primary(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def _primary(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


_ADVICE = {
    sqlite3.SQLITE_FULL: "free some room",
    sqlite3.SQLITE_IOERR: "free some room, or see the kernel's log about the disk",
    sqlite3.SQLITE_BUSY: "another process has it open and writes",
    sqlite3.SQLITE_CANTOPEN: "folder and files must belong to the filter's user",
    sqlite3.SQLITE_READONLY: "folder and files must belong to the filter's user",
    sqlite3.SQLITE_PERM: "folder and files must belong to the filter's user",
}
_DAMAGED = "stop smilla and move journal.sqlite3* away; accepted copies are then forgotten and sent a second time"


@contextmanager
def journal_errors(spool: Path) -> Iterator[None]:
    """Turns failures into JournalError: what, where, what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise JournalError(f"{spool}/journal.sqlite3: {error}; {_ADVICE.get(_primary(error), _DAMAGED)}") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some room" if full else "[reinject] spool must be a folder that belongs to the filter's user"
        raise JournalError(f"{error.filename or spool}: {error.strerror}; {advice}") from error
