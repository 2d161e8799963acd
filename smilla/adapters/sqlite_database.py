"""An SQLite file that all processes of smilla share: made where it is missing, opened by each process for itself.

The file is 0600, and belongs to whoever owns its folder.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from smilla.adapters.database import Execute, Result, Schema
from smilla.adapters.journal_store import make_folder
from smilla.errors import DatabaseProblem, JournalError

_BUSY_S = 2.0
_ADVICE = "its folder and it must belong to smilla's user, with room left; a damaged file may be removed"


class SQLiteDatabase:
    """adapters.database.Database.  ``makes``: the file is made where it is missing."""

    def __init__(self, path: str, schema: Schema, *, makes: bool = True) -> None:
        self.name = path
        self._path, self._schema, self._makes = Path(path), schema, makes
        self._mutex = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0

    def read(self, work: Callable[[Execute], Result], nothing: Result) -> Result:
        """See adapters.database.Database."""
        with self._tried(makes=False) as execute:
            return work(execute) if execute is not None else nothing

    def write(self, work: Callable[[Execute], Result]) -> Result | None:
        """See adapters.database.Database."""
        with self._tried(makes=self._makes) as execute:
            return _in_transaction(execute, work) if execute is not None else None

    def prepare(self, user: str) -> None:
        """Makes the folder for ``user``, if we have the rights."""
        with suppress(OSError, JournalError):
            make_folder(self._path.parent, user)

    @contextmanager
    def _tried(self, *, makes: bool) -> Iterator[Execute | None]:
        with self._mutex:
            try:
                connection = self._opened(makes=makes)
                if connection is None:
                    yield None
                else:
                    yield lambda statement, values: connection.execute(statement, values).fetchall()
            except (sqlite3.Error, OSError, TypeError, JournalError) as error:
                self._drop()
                raise DatabaseProblem(self.name, f"{error}; {_ADVICE}") from error

    def _opened(self, *, makes: bool) -> sqlite3.Connection | None:
        """The connection of this process; None without a file that we are not to make."""
        if self._pid != os.getpid():
            self._connection, self._pid = None, os.getpid()
        if self._connection is None:
            if not self._path.exists():
                if not makes:
                    return None
                self._make()
            self._connection = self._connected()
        return self._connection

    def _make(self) -> None:
        """An empty file with the mode that SQLite copies to its other files; root gives it to the folder's owner."""
        make_folder(self._path.parent, "")
        with suppress(FileExistsError):
            os.mknod(self._path, 0o600 | stat.S_IFREG)
            if os.geteuid() == 0:
                owner = self._path.parent.stat()
                os.chown(self._path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def _connected(self) -> sqlite3.Connection:
        uri = self._path.absolute().as_uri() + "?mode=rw"
        connection = sqlite3.connect(uri, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, uri=True)
        try:
            with suppress(sqlite3.OperationalError):  # another process does it at this moment
                connection.execute("PRAGMA journal_mode = WAL")
            if _version(connection) != len(self._schema.sqlite):
                self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Another process may have done it meanwhile."""
        connection.execute("BEGIN IMMEDIATE")
        versions, version = self._schema.sqlite, _version(connection)
        if version > len(versions):
            raise sqlite3.DatabaseError(f"it is of version {version}, from another smilla")
        for statements in versions[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(versions)}")
        connection.execute("COMMIT")

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _in_transaction(execute: Execute, work: Callable[[Execute], Result]) -> Result:
    execute("BEGIN IMMEDIATE", ())
    try:
        result = work(execute)
        execute("COMMIT", ())
    except BaseException:
        with suppress(sqlite3.Error):
            execute("ROLLBACK", ())
        raise
    return result
