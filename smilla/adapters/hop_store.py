"""The MTA-STS policies that are remembered, so that a restart is no downgrade.

They tell to which domains mail was sent, and nothing else about mail.  All workers share them.  When there are more
than ``most`` domains, those go first of which nothing but a failed attempt is known, then what was not used for
longest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from smilla import log_hops
from smilla.adapters.database import Database, Execute, Result, Schema
from smilla.errors import DatabaseProblem, PolicyStoreError
from smilla.model import KeptPolicy

_USED_EVERY_S = 3600.0  # how exactly the last use is known
_MOST = 100_000
SCHEMA = Schema(
    "hops",
    sqlite=(
        (
            "CREATE TABLE policies(domain TEXT PRIMARY KEY, id TEXT NOT NULL DEFAULT '',"
            " raw BLOB NOT NULL DEFAULT x'', fetched_at REAL NOT NULL DEFAULT 0, tried_id TEXT NOT NULL DEFAULT '',"
            " tried_at REAL NOT NULL DEFAULT 0, failure TEXT NOT NULL DEFAULT '',"
            " is_unclear INTEGER NOT NULL DEFAULT 0, used_at REAL NOT NULL) WITHOUT ROWID",
            "CREATE INDEX policies_used ON policies(used_at)",
        ),
    ),
    postgres=(
        (
            "CREATE TABLE policies(domain TEXT PRIMARY KEY, id TEXT NOT NULL DEFAULT '',"
            " raw BYTEA NOT NULL DEFAULT '', fetched_at DOUBLE PRECISION NOT NULL DEFAULT 0,"
            " tried_id TEXT NOT NULL DEFAULT '', tried_at DOUBLE PRECISION NOT NULL DEFAULT 0,"
            " failure TEXT NOT NULL DEFAULT '', is_unclear INTEGER NOT NULL DEFAULT 0,"
            " used_at DOUBLE PRECISION NOT NULL)",
            "CREATE INDEX policies_used ON policies(used_at)",
        ),
    ),
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
# Failed attempts go first: anybody can announce policies for as many domains as they like, and have none.
_TRIM = "DELETE FROM policies WHERE domain IN (SELECT domain FROM policies ORDER BY length(raw) > 0, used_at LIMIT ?)"
_COUNT = "SELECT count(*) FROM policies"
_USED = "UPDATE policies SET used_at = ? WHERE domain = ?"


class HopStore:
    """hops.policies.PolicyStore.  ``only_looks``: whoever asks gets no failure, but nothing."""

    def __init__(
        self, database: Database, *, only_looks: bool = False, most: int = _MOST, clock: Callable[[], float] = time.time
    ) -> None:
        self._database, self._only_looks, self._most, self._clock = database, only_looks, most, clock
        self.name, self.problem = database.name, ""  # the problem is that of the last use that failed

    def recall(self, domain: str) -> KeptPolicy | None:
        """See hops.policies.PolicyStore; who only looks gets None where it cannot be read, and ``problem``."""
        try:
            return self._tried(lambda: self._recalled(domain))
        except PolicyStoreError:
            if not self._only_looks:
                raise
            return None

    def keep(self, domain: str, kept: KeptPolicy) -> None:
        """See hops.policies.PolicyStore."""
        values = (domain, kept.policy_id, kept.raw, kept.fetched_at, self._clock())
        with suppress(PolicyStoreError):
            self._tried(lambda: self._database.write(lambda execute: self._write(execute, _KEEP, values)))

    def failed(self, domain: str, kept: KeptPolicy) -> None:
        """See hops.policies.PolicyStore."""
        failure = kept.failure.replace("\0", " ")  # a web server's own words, which PostgreSQL would not take
        values = (domain, kept.tried_id, kept.tried_at, failure, int(kept.is_unclear), self._clock())
        with suppress(PolicyStoreError):
            self._tried(lambda: self._database.write(lambda execute: self._write(execute, _FAILED, values)))

    def prepare(self, user: str) -> None:
        """Makes what ``user`` needs, if we have the rights.  A failure shows with the first use."""
        self._database.prepare(user)

    def _recalled(self, domain: str) -> KeptPolicy | None:
        nothing: list[Any] = []
        rows = self._database.read(lambda execute: execute(_READ, (domain,)), nothing)
        if not rows:
            return None
        policy_id, raw, fetched_at, tried_id, tried_at, failure, is_unclear, used_at = rows[0]
        if not self._only_looks and abs(self._clock() - used_at) > _USED_EVERY_S:
            with suppress(DatabaseProblem):  # a full disk, or a file that may not be written, forgets nothing
                self._database.write(lambda execute: execute(_USED, (self._clock(), domain)))
        return KeptPolicy(policy_id, bytes(raw), fetched_at, tried_id, tried_at, failure, bool(is_unclear))

    def _write(self, execute: Execute, statement: str, values: tuple[object, ...]) -> None:
        execute(statement, values)
        ((count,),) = execute(_COUNT, ())
        if count > self._most:
            execute(_TRIM, (count - self._most + self._most // 100,))

    def _tried(self, work: Callable[[], Result]) -> Result:
        """What ``work`` gives.  Raises PolicyStoreError and tells the log, if the store cannot be used."""
        try:
            result = work()
        except DatabaseProblem as problem:
            self.problem = problem.detail
            log_hops.store_failed(self.name, problem.detail)
            raise PolicyStoreError(self.problem) from problem
        log_hops.store_works(self.name)
        return result
