"""The MTA-STS policies that are remembered, in an SQLite file, so that a restart is no downgrade.

The file tells to which domains mail was sent (it is 0600, in the folder of the journal), and holds nothing else about
mail.  All workers share it.  What is not used for long goes first when it has more than ``most`` domains.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from smilla import log_hops
from smilla.adapters.journal_store import make_folder
from smilla.errors import JournalError
from smilla.model import KeptPolicy

_BUSY_S = 2.0
_VERSION = 1
_USED_EVERY_S = 3600.0  # how exactly the last use is known
_MOST = 100_000
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS policies(domain TEXT PRIMARY KEY, id TEXT NOT NULL DEFAULT '',"
    " raw BLOB NOT NULL DEFAULT x'', fetched_at REAL NOT NULL DEFAULT 0, tried_id TEXT NOT NULL DEFAULT '',"
    " tried_at REAL NOT NULL DEFAULT 0, failure TEXT NOT NULL DEFAULT '', is_unclear INTEGER NOT NULL DEFAULT 0,"
    " used_at REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS policies_used ON policies(used_at)",
    f"PRAGMA user_version = {_VERSION}",
)
_READ = "SELECT id, raw, fetched_at, tried_id, tried_at, failure, is_unclear, used_at FROM policies WHERE domain = ?"
_KEEP = (
    "INSERT INTO policies(domain, id, raw, fetched_at, used_at) VALUES(?, ?, ?, ?, ?)"
    " ON CONFLICT(domain) DO UPDATE SET id = excluded.id, raw = excluded.raw, fetched_at = excluded.fetched_at,"
    " used_at = excluded.used_at, tried_id = '', tried_at = 0, failure = '', is_unclear = 0"
)
_FAILED = (
    "INSERT INTO policies(domain, tried_id, tried_at, failure, is_unclear, used_at) VALUES(?, ?, ?, ?, ?, ?)"
    " ON CONFLICT(domain) DO UPDATE SET tried_id = excluded.tried_id, tried_at = excluded.tried_at,"
    " failure = excluded.failure, is_unclear = excluded.is_unclear, used_at = excluded.used_at"
)
_TRIM = (
    "DELETE FROM policies WHERE domain IN (SELECT domain FROM policies ORDER BY used_at"
    " LIMIT max(0, (SELECT count(*) FROM policies) - ?))"
)
_Result = TypeVar("_Result")


class HopStore:
    """hops.policies.PolicyStore.  ``makes``: the file is made where it is missing.  Each process opens it for itself,
    with the first use."""

    def __init__(
        self, path: str, *, makes: bool = True, most: int = _MOST, clock: Callable[[], float] = time.time
    ) -> None:
        self._path, self._makes, self._most, self._clock = Path(path), makes, most, clock
        self._mutex = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self.problem = ""  # of the last use that failed

    def recall(self, domain: str) -> KeptPolicy | None:
        """See hops.policies.PolicyStore."""
        return self._tried(lambda connection: self._recalled(connection, domain))

    def keep(self, domain: str, kept: KeptPolicy) -> None:
        """See hops.policies.PolicyStore."""
        values = (domain, kept.policy_id, kept.raw, kept.fetched_at, self._clock())
        self._tried(lambda connection: self._write(connection, _KEEP, values))

    def failed(self, domain: str, kept: KeptPolicy) -> None:
        """See hops.policies.PolicyStore."""
        values = (domain, kept.tried_id, kept.tried_at, kept.failure, int(kept.is_unclear), self._clock())
        self._tried(lambda connection: self._write(connection, _FAILED, values))

    def prepare(self, user: str) -> None:
        """Makes the folder for ``user``, if we have the rights.  A failure shows with the first use."""
        with suppress(OSError, JournalError):
            make_folder(self._path.parent, user)

    # --- the file

    def _recalled(self, connection: sqlite3.Connection, domain: str) -> KeptPolicy | None:
        row = connection.execute(_READ, (domain,)).fetchone()
        if row is None:
            return None
        policy_id, raw, fetched_at, tried_id, tried_at, failure, is_unclear, used_at = row
        if self._makes and abs(self._clock() - used_at) > _USED_EVERY_S:
            connection.execute("UPDATE policies SET used_at = ? WHERE domain = ?", (self._clock(), domain))
        return KeptPolicy(policy_id, raw, fetched_at, tried_id, tried_at, failure, bool(is_unclear))

    def _write(self, connection: sqlite3.Connection, statement: str, values: tuple[object, ...]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(statement, values)
            connection.execute(_TRIM, (self._most,))
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _tried(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result | None:
        """What ``work`` gives; None, and a line in the log, if the store cannot be used."""
        with self._mutex:
            try:
                connection = self._opened()
                result = work(connection) if connection is not None else None
            except (sqlite3.Error, OSError, TypeError, JournalError) as error:
                self._drop()
                self.problem = str(error)
                advice = "its folder and it must belong to smilla's user, with room left; a damaged file may be removed"
                log_hops.store_failed(str(self._path), f"{error}; {advice}")
                return None
            log_hops.store_works(str(self._path))
            return result

    def _opened(self) -> sqlite3.Connection | None:
        """The connection of this process; None without a file that we are not to make."""
        if self._pid != os.getpid():
            self._connection, self._pid = None, os.getpid()
        if self._connection is None:
            if not self._path.exists():
                if not self._makes:
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
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"it is of version {version}, from another smilla")
            if version == 0:
                connection.execute("BEGIN IMMEDIATE")
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
