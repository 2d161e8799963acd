"""A PostgreSQL database that machines share.

Promises: bounded in time, also where the server is gone, stands still or has a name that nobody resolves; while it does
not answer, nobody waits for it more often than every few seconds.  Without its tables it fails, and never reads as
empty.  Only what [store] url says decides where it is: libpq would fill in the rest from the environment and from files
in a home, so both are kept from it.  One connection a process and store, made with the first use.
"""

from __future__ import annotations

import os
import pwd
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smilla.adapters.database import Execute, Result, Schema
from smilla.adapters.host_name import HostName
from smilla.config import database_url
from smilla.errors import DatabaseProblem, EngineMissing, SmillaError

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

_CONNECT_S = 2  # for the name, and for each address
_MOST_ADDRESSES = 2
_STATEMENT_MS = 2000
_PATIENCE_S = 4.0  # for a transaction, and for those before us: a server that stands still keeps no time-out of its own
_AGAIN_S = 5.0  # after a failure, everybody else fails at once for so long
_MOST_SHOWN = 300  # characters of what a server says
_MISSING = (
    "[store] url needs psycopg, which cannot be imported ({}): pip install 'smilla[postgres]' (the Debian "
    "package has it); or take url out of [store]"
)
_FIXED = {
    "passfile": "/nonexistent",
    "sslmode": "disable",
    "sslcert": "/nonexistent",
    "sslkey": "/nonexistent",
    "sslcrl": "/nonexistent",
    "gssencmode": "disable",
    "channel_binding": "prefer",
    "target_session_attrs": "read-write",
    "client_encoding": "UTF8",
    "connect_timeout": str(_CONNECT_S),
    "tcp_user_timeout": str(_STATEMENT_MS),
    "keepalives_idle": "60",  # a firewall in between forgets what is idle
    "application_name": "smilla",
}
# Said anew each time, and not in the connection's options: a pooler gives each transaction any of its sessions.  A
# server that only follows another one refuses READ WRITE; what it does not know yet is no proof that there is nothing.
_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL search_path = public;"
    f" SET LOCAL statement_timeout = {_STATEMENT_MS}; SET LOCAL idle_in_transaction_session_timeout = 10000"
)
_MAY_NOT_MAKE = "this user may not make tables there; it should own the database"
_LOCK = 0x736D696C6C61  # of the migrations: "smilla"
_VERSIONS = "CREATE TABLE IF NOT EXISTS smilla_schema(name TEXT PRIMARY KEY, version INTEGER NOT NULL)"
_SET_VERSION = (
    "INSERT INTO smilla_schema(name, version) VALUES(?, ?) ON CONFLICT(name) DO UPDATE SET version = excluded.version"
)


class PostgresDatabase:
    """adapters.database.Database.  ``makes``: the tables are made, or brought up, where that is wanted."""

    def __init__(self, url: str, schema: Schema, *, makes: bool = True) -> None:
        """Raises EngineMissing, or ValueError for a URL that the configuration would not take."""
        try:
            import psycopg  # noqa: PLC0415 - needed only where [store] url is set
        except ImportError as missing:  # also if there is no libpq
            raise EngineMissing(_MISSING.format(missing)) from missing
        self._psycopg = psycopg
        for known in psycopg.pq.Conninfo.get_defaults():
            os.environ.pop((known.envvar or b"").decode(), None)
        place = database_url.read(url)
        self._parameters, self._is_over_tcp = {**_FIXED, **dict(place.parameters)}, place.is_over_tcp
        self._host = HostName(self._parameters["host"])
        self.name = place.named
        self._schema, self._makes = schema, makes
        self._mutex = threading.Lock()
        self._connection: Connection | None = None
        self._pid, self._has_tables = 0, False
        self._failed_at, self._failure = float("-inf"), ""

    def read(self, work: Callable[[Execute], Result], nothing: Result) -> Result:
        """See adapters.database.Database."""
        return self._run(lambda execute: work(execute) if self._has_tables else nothing)

    def write(self, work: Callable[[Execute], Result]) -> Result | None:
        """See adapters.database.Database."""
        return self._run(lambda execute: work(execute) if self._has_tables else None)

    def prepare(self, user: str) -> None:
        """Nothing: an administrator makes the database."""

    def look(self) -> None:
        """Makes nothing.  Raises DatabaseProblem, also if there are no tables and this user could not make them."""
        self._run(self._looked)

    def _looked(self, execute: Execute) -> None:
        if not self._has_tables and not execute("SELECT has_schema_privilege('public', 'CREATE')", ())[0][0]:
            raise self._psycopg.OperationalError(_MAY_NOT_MAKE)

    def _run(self, work: Callable[[Execute], Result]) -> Result:
        """In one transaction.  Raises DatabaseProblem."""
        if not self._mutex.acquire(timeout=_PATIENCE_S):
            raise DatabaseProblem(self.name, "it is too slow for all who ask it")
        try:
            return self._tried(work)
        except (self._psycopg.DataError, ValueError) as error:  # of these values, which the database cannot have
            raise DatabaseProblem(self.name, _in_words(error)) from error
        except (self._psycopg.Error, SmillaError, OSError, LookupError) as error:
            # A refusal in time, say of a full disk, holds nobody up.
            is_away = self._connection is None or self._connection.closed
            if (is_away or isinstance(error, self._psycopg.errors.QueryCanceled)) and not self._is_resting:
                self._failed_at, self._failure = time.monotonic(), _in_words(error)
            self._drop()
            raise DatabaseProblem(self.name, _in_words(error)) from error
        finally:
            self._mutex.release()

    def _tried(self, work: Callable[[Execute], Result]) -> Result:
        """A connection that the server has closed since is made anew, once: what the stores write may be written
        twice."""
        connection, is_new = self._opened()
        try:
            return _in_transaction(connection, work)
        except self._psycopg.OperationalError:
            if is_new or not connection.closed:
                raise
        self._drop()
        return _in_transaction(self._opened()[0], work)

    @property
    def _is_resting(self) -> bool:
        return time.monotonic() - self._failed_at < _AGAIN_S

    def _opened(self) -> tuple[Connection, bool]:
        """The connection of this process, with the tables that are needed; and whether it is a new one."""
        if self._pid != os.getpid():
            self._connection, self._pid = None, os.getpid()
            self._host = HostName(self._parameters["host"])
        if self._connection is not None:
            return self._connection, False
        if self._is_resting:
            raise self._psycopg.OperationalError(self._failure)
        # Nothing is prepared, because of poolers again.
        connection = self._psycopg.connect(**self._where(), autocommit=True, prepare_threshold=None)
        try:
            self._has_tables = _in_transaction(connection, self._migrated)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection, True

    def _where(self) -> dict[str, Any]:
        known = {**self._parameters, "user": self._parameters["user"] or pwd.getpwuid(os.geteuid()).pw_name}
        if self._is_over_tcp:
            found = self._host.addresses(time.monotonic() + _CONNECT_S)[:_MOST_ADDRESSES]
            known |= {"host": ",".join([known["host"]] * len(found)), "hostaddr": ",".join(found)}
        elif Path(known["host"]).stat().st_mode & stat.S_IWOTH:
            raise OSError("everybody may write that folder, and so listen there while the server is away")
        return known

    def _migrated(self, execute: Execute) -> bool:
        """Whether the tables are there; False only for who is not to make them.  Whoever comes first makes them; the
        others wait."""
        versions = self._schema.postgres
        known = execute("SELECT to_regclass('public.smilla_schema') IS NOT NULL", ())[0][0]
        version = self._version(execute) if known else 0
        if version < len(versions) and self._makes:
            execute("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
            execute(_VERSIONS, ())
            version = self._version(execute)
            for statement in (one for statements in versions[version:] for one in statements):
                execute(statement, ())
            if version < len(versions):
                execute(_SET_VERSION, (self._schema.name, len(versions)))
                version = len(versions)
        if version not in (0, len(versions)):
            raise self._psycopg.OperationalError(f"its tables are of version {version}, from another smilla")
        return version > 0

    def _version(self, execute: Execute) -> int:
        rows = execute("SELECT version FROM smilla_schema WHERE name = ?", (self._schema.name,))
        return int(rows[0][0]) if rows else 0

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(self._psycopg.Error, OSError):
                connection.close()


def _in_transaction(connection: Connection, work: Callable[[Execute], Result]) -> Result:
    """Raises TimeoutError, besides what psycopg raises."""

    def execute(statement: str, values: Any) -> list[Any]:
        # Statements are constants of ours; none has a per cent sign of its own.
        cursor = connection.execute(statement.replace("?", "%s").encode(), tuple(values))
        return cursor.fetchall() if cursor.description else []

    with _hung_up_after(_PATIENCE_S, connection.fileno()):
        try:
            connection.execute(_BEGIN.encode())
            result = work(execute)
            connection.execute("COMMIT")
        except BaseException:
            if not connection.closed:
                connection.execute("ROLLBACK")
            raise
    return result


@contextmanager
def _hung_up_after(seconds: float, descriptor: int) -> Iterator[None]:
    """Shuts a connection down that is still busy then.  Raises TimeoutError."""
    is_over = threading.Event()

    def hang_up() -> None:
        is_over.set()
        with suppress(OSError):  # the server did
            copy.shutdown(socket.SHUT_RDWR)

    with socket.socket(fileno=os.dup(descriptor)) as copy:
        timer = threading.Timer(seconds, hang_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception as error:
            if is_over.is_set():
                raise TimeoutError(f"no answer within {seconds:g} s") from error
            raise
        finally:
            timer.cancel()
            timer.join()


def _in_words(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= _MOST_SHOWN else f"{words[:_MOST_SHOWN]} ..."
