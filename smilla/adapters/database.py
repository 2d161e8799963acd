"""What the stores need of a database: an SQLite file, or PostgreSQL ([store] url)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from smilla.value import value

Result = TypeVar("Result")
Execute = Callable[[str, Sequence[Any]], list[Any]]
"""Runs one statement with its values, each a question mark in it, and gives the rows."""


@value
class Schema:
    """The tables of one store, under its ``name``: for each kind of database the statements of every version, the first
    one first.  A version is never changed once it was released; the next one says what becomes of its tables."""

    name: str
    sqlite: tuple[tuple[str, ...], ...]
    postgres: tuple[tuple[str, ...], ...]


class Database(Protocol):
    """One database, shared by all processes; each opens it for itself, and brings its tables up to the newest version.
    Bounded in time.  What fails is a DatabaseProblem, and the next use tries anew."""

    name: str

    def read(self, work: Callable[[Execute], Result], nothing: Result) -> Result:
        """What ``work`` gives; ``nothing`` where there is no database yet."""

    def write(self, work: Callable[[Execute], Result]) -> Result | None:
        """The same in one transaction, whose result is kept; None where there is no database and none is to be
        made."""

    def prepare(self, user: str) -> None:
        """Makes what ``user`` needs, if we have the rights.  A failure shows with the first use."""
