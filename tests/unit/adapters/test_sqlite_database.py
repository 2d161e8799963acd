"""An SQLite file: its versions, and what several processes do to it at once."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from smilla.adapters.database import Schema
from smilla.adapters.sqlite_database import SQLiteDatabase
from smilla.errors import DatabaseProblem

FIRST = ("CREATE TABLE things(name TEXT PRIMARY KEY)",)
SECOND = ("ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 7",)
OLD, NEW = Schema("things", (FIRST,), (FIRST,)), Schema("things", (FIRST, SECOND), (FIRST, SECOND))


def add(database: SQLiteDatabase, name: str) -> None:
    database.write(lambda execute: execute("INSERT INTO things(name) VALUES(?)", (name,)))


def names(database: SQLiteDatabase) -> list[str]:
    return database.read(lambda execute: [row[0] for row in execute("SELECT name FROM things ORDER BY name", ())], [])


def test_newer_version_takes_over_what_the_older_one_wrote(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sqlite")
    add(SQLiteDatabase(path, OLD), "a")
    newer = SQLiteDatabase(path, NEW)
    add(newer, "b")
    assert names(newer) == ["a", "b"]
    assert newer.read(lambda execute: execute("SELECT size FROM things", ()), []) == [(7,), (7,)]
    with pytest.raises(DatabaseProblem, match="version 2, from another smilla"):
        names(SQLiteDatabase(path, OLD))


def test_version_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sqlite")
    add(SQLiteDatabase(path, OLD), "a")
    broken = Schema("things", (FIRST, ("CREATE TABLE more(x)", "nonsense")), ())
    with pytest.raises(DatabaseProblem):
        names(SQLiteDatabase(path, broken))
    assert names(SQLiteDatabase(path, OLD)) == ["a"]
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'more'").fetchone() == (0,)


def test_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    database = SQLiteDatabase(str(tmp_path / "x.sqlite"), OLD)
    add(database, "a")

    def fail(execute: object) -> None:
        add_one = execute
        assert callable(add_one)
        add_one("INSERT INTO things(name) VALUES(?)", ("b",))
        add_one("INSERT INTO things(name) VALUES(?)", ("a",))

    with pytest.raises(DatabaseProblem):
        database.write(fail)
    assert names(database) == ["a"]


def test_what_is_not_to_be_made_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    database = SQLiteDatabase(str(path), OLD, makes=False)
    assert names(database) == []
    assert database.write(lambda execute: execute("SELECT 1", ())) is None
    assert not path.exists()
    add(SQLiteDatabase(str(path), OLD), "a")
    add(database, "b")
    assert names(database) == ["a", "b"]
