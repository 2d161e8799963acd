"""The keys that authenticated mail brought, in a database that all processes share.

It tells with whom people here exchange mail, so nobody but smilla may read it.  It is bounded, and nothing is used that
was not seen for ``keep_days``.  Where there are too many keys, the one of the newcomer's own domain that was not seen
for longest goes, which may be the newcomer: a stranger who sends from thousands of addresses pushes out no key of
anybody else, so that mail to them would be plain.  No domain has more than a tenth.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from smilla import log_learned
from smilla.adapters.database import Database, Execute, Schema
from smilla.address import EmailAddress
from smilla.config.options import LearnedOptions
from smilla.errors import DatabaseProblem
from smilla.model import Format, LearnedKey

_DAY_S = 86400.0
_A_FEW = 10  # that a domain may have in any case
SCHEMA = Schema(
    "learned",
    sqlite=(
        (
            "CREATE TABLE learned(domain TEXT NOT NULL, local_part TEXT NOT NULL, format TEXT NOT NULL,"
            " raw BLOB NOT NULL, fingerprint TEXT NOT NULL, way TEXT NOT NULL, sent_at REAL NOT NULL,"
            " PRIMARY KEY(domain, local_part, format)) WITHOUT ROWID",
            "CREATE INDEX learned_sent ON learned(sent_at)",
        ),
    ),
    postgres=(
        (
            "CREATE TABLE learned(domain TEXT NOT NULL, local_part TEXT NOT NULL, format TEXT NOT NULL,"
            " raw BYTEA NOT NULL, fingerprint TEXT NOT NULL, way TEXT NOT NULL, sent_at DOUBLE PRECISION NOT NULL,"
            " PRIMARY KEY(domain, local_part, format))",
            "CREATE INDEX learned_sent ON learned(sent_at)",
        ),
    ),
)
_ONE = (
    "SELECT domain, local_part, format, raw, fingerprint, way, sent_at FROM learned"
    " WHERE domain = ? AND local_part = ? AND sent_at >= ? ORDER BY format"
)
_ALL = (
    "SELECT domain, local_part, format, raw, fingerprint, way, sent_at FROM learned"
    " WHERE sent_at >= ? ORDER BY domain, local_part, format"
)
_KNOWN = "SELECT fingerprint, sent_at FROM learned WHERE domain = ? AND local_part = ? AND format = ?"
_KEEP = (
    "INSERT INTO learned(domain, local_part, format, raw, fingerprint, way, sent_at) VALUES(?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT(domain, local_part, format) DO UPDATE SET raw = excluded.raw, fingerprint = excluded.fingerprint,"
    " way = excluded.way, sent_at = excluded.sent_at WHERE excluded.sent_at > learned.sent_at"
)
_COUNT = "SELECT count(*) FROM learned"
# Not by our clock alone: one that goes wrong would forget the keys of all machines.
_OLD = "DELETE FROM learned WHERE sent_at < ? AND sent_at < (SELECT max(sent_at) FROM learned) - ?"
_COUNT_OF = "SELECT count(*) FROM learned WHERE domain = ?"
_TRIM = (
    "DELETE FROM learned WHERE (domain, local_part, format) IN"
    " (SELECT domain, local_part, format FROM learned WHERE domain = ? ORDER BY sent_at LIMIT ?)"
)
_FORGET = "DELETE FROM learned WHERE domain = ? AND local_part = ? RETURNING format"
_FORGET_DOMAIN = "DELETE FROM learned WHERE domain = ? RETURNING format"


class _New(Enum):
    """What a key changes: there is another key, the same was seen again, or nothing worth a write to the disk; or there
    is no room for it."""

    KEY, SEEN, NOTHING, FULL = range(4)


class LearnedStore:
    """ports_learned.LearnedKeys."""

    def __init__(self, database: Database, options: LearnedOptions, clock: Callable[[], float] = time.time) -> None:
        self._database, self._options, self._clock = database, options, clock

    def recall(self, address: EmailAddress) -> Sequence[LearnedKey]:
        """See ports_learned.LearnedKeys."""
        return self._keys(_ONE, (address.domain, address.local_part, self._oldest))

    def learn(self, key: LearnedKey) -> bool:
        """See ports_learned.LearnedKeys."""
        try:
            if self._database.read(lambda execute: _is_newer(execute, key), _New.KEY) is _New.NOTHING:
                return False
            is_new = self._database.write(lambda execute: self._kept(execute, key))
        except DatabaseProblem as problem:
            log_learned.store_failed(self._database.name, problem.detail)
            return False
        log_learned.store_works(self._database.name)
        if is_new is _New.FULL:
            log_learned.store_full(self._database.name, self._options.most)
        return is_new is _New.KEY

    def all(self) -> Sequence[LearnedKey]:
        """Every key that would be used.  Raises SmillaError."""
        return self._keys(_ALL, (self._oldest,))

    def _keys(self, statement: str, values: tuple[object, ...]) -> Sequence[LearnedKey]:
        nothing: tuple[LearnedKey, ...] = ()
        return self._database.read(lambda execute: tuple(map(_key, execute(statement, values))), nothing)

    def forget(self, address: EmailAddress) -> int:
        """Removes the keys of an address; how many there were.  Raises SmillaError."""
        return self._forgotten(_FORGET, (address.domain, address.local_part))

    def forget_domain(self, domain: str) -> int:
        """The same for all addresses of a domain."""
        return self._forgotten(_FORGET_DOMAIN, (domain,))

    def prepare(self, user: str) -> None:
        """Makes what ``user`` needs, if we have the rights."""
        self._database.prepare(user)

    @property
    def _oldest(self) -> float:
        return self._clock() - self._kept_s

    @property
    def _kept_s(self) -> float:
        return self._options.keep_days * _DAY_S

    def _forgotten(self, statement: str, values: tuple[object, ...]) -> int:
        if not self._database.read(lambda execute: execute(_COUNT, ())[0][0], 0):
            return 0
        return len(self._database.write(lambda execute: execute(statement, values)) or ())

    def _kept(self, execute: Execute, key: LearnedKey) -> _New:
        is_new = _is_newer(execute, key)
        if is_new is not _New.NOTHING:
            address = key.address
            named = (address.domain, address.local_part, key.format.value)
            execute(_KEEP, (*named, key.raw, key.fingerprint, key.way, key.sent_at))
            execute(_OLD, (self._oldest, self._kept_s))
            if self._trimmed(execute, key.address.domain) and not execute(_KNOWN, named):
                return _New.FULL
        return is_new

    def _trimmed(self, execute: Execute, domain: str) -> bool:
        """Makes room at the cost of this domain alone; whether that was needed."""
        most = self._options.most
        surplus = max(execute(_COUNT, ())[0][0] - most, execute(_COUNT_OF, (domain,))[0][0] - max(most // 10, _A_FEW))
        if surplus > 0:
            execute(_TRIM, (domain, surplus))
        return bool(surplus > 0)


def _is_newer(execute: Execute, key: LearnedKey) -> _New:
    """The message that was sent last decides (Autocrypt Level 1, "Updating Autocrypt Peer State").  That the same key
    was seen again is noted once a day."""
    rows = execute(_KNOWN, (key.address.domain, key.address.local_part, key.format.value))
    if not rows:
        return _New.KEY
    fingerprint, sent_at = rows[0]
    if fingerprint == key.fingerprint:
        return _New.SEEN if key.sent_at >= sent_at + _DAY_S else _New.NOTHING
    return _New.KEY if key.sent_at > sent_at else _New.NOTHING


def _key(row: tuple[Any, ...]) -> LearnedKey:
    domain, local_part, form, raw, fingerprint, way, sent_at = row
    address = EmailAddress(local_part, domain, f"{local_part}@{domain}")
    return LearnedKey(address, Format(form), bytes(raw), fingerprint, way, sent_at)
