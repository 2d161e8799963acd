"""The stores of a configuration: in PostgreSQL if [store] url says so, otherwise each in an SQLite file of its own."""

from __future__ import annotations

from smilla.adapters import hop_store, learned_store
from smilla.adapters.database import Database, Schema
from smilla.adapters.hop_store import HopStore
from smilla.adapters.learned_store import LearnedStore
from smilla.adapters.postgres_database import PostgresDatabase
from smilla.adapters.sqlite_database import SQLiteDatabase
from smilla.config import Config
from smilla.errors import DatabaseProblem, EngineMissing

_SCHEMAS = (hop_store.SCHEMA, learned_store.SCHEMA)


def hops(config: Config, *, only_looks: bool = False) -> HopStore:
    """The MTA-STS policies that are remembered.  Raises EngineMissing."""
    database = _database(config, hop_store.SCHEMA, config.hop_store, makes=not only_looks)
    return HopStore(database, only_looks=only_looks)


def learned(config: Config) -> LearnedStore:
    """The keys that authenticated mail brought.  Raises EngineMissing."""
    return LearnedStore(_database(config, learned_store.SCHEMA, config.learned_store), config.learned)


def look(config: Config) -> tuple[str, ...]:
    """Tries the database of [store] url with the rights of this process, and changes nothing: the texts of what
    fails."""
    found = []
    for schema in _SCHEMAS:
        try:
            PostgresDatabase(config.store.url, schema, makes=False).look()
        except DatabaseProblem as problem:
            found.append(problem.detail)
        except EngineMissing as missing:
            found.append(str(missing))
    return tuple(dict.fromkeys(found))


def _database(config: Config, schema: Schema, path: str, *, makes: bool = True) -> Database:
    if config.store.url:
        return PostgresDatabase(config.store.url, schema, makes=makes)
    return SQLiteDatabase(path, schema, makes=makes)
