"""PostgreSQL without a server; tests/live/test_store.py has one."""

from __future__ import annotations

import os
import pwd
import socket
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest

from smilla.adapters import learned_store, postgres_database, stores
from smilla.adapters.postgres_database import PostgresDatabase
from smilla.config import Config
from smilla.config.options import StoreOptions
from smilla.errors import DatabaseProblem, EngineMissing


def database(folder: Path) -> PostgresDatabase:
    return PostgresDatabase(f"postgresql:///mail?host={folder}", learned_store.SCHEMA)


def test_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(EngineMissing, match=r"pip install 'smilla\[postgres\]'"):
        stores.learned(Config(store=StoreOptions(url="postgresql:///mail?host=/nowhere")))
    (told,) = stores.look(Config(store=StoreOptions(url="postgresql:///mail?host=/nowhere")))
    assert "pip install" in told


def test_server_that_is_missing_is_named_and_asked_for_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_database, "_AGAIN_S", 3600.0)  # these ten may take longer than usual
    one, asked, connect = database(tmp_path), [], psycopg.connect

    def counted(**parameters: Any) -> object:
        asked.append(parameters["host"])
        return connect(**parameters)

    monkeypatch.setattr(psycopg, "connect", counted)
    for _ in range(10):
        with pytest.raises(DatabaseProblem, match=f"postgresql mail at {tmp_path}: .*No such file or directory"):
            one.read(lambda execute: execute("SELECT 1", ()), [])
    assert asked == [str(tmp_path)]
    monkeypatch.setattr(postgres_database, "_AGAIN_S", 0.0)
    with pytest.raises(DatabaseProblem, match="No such file or directory"):
        one.write(lambda execute: execute("SELECT 1", ()))
    assert len(asked) == 2


def test_folder_that_everybody_may_write_is_not_believed(tmp_path: Path) -> None:
    """Whoever listens there while the server is away says which keys were learned."""
    tmp_path.chmod(0o1777)
    with pytest.raises(DatabaseProblem, match="everybody may write that folder"):
        database(tmp_path).read(lambda execute: execute("SELECT 1", ()), [])


def test_name_that_nobody_resolves_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = threading.Event()

    def hang(*_: object, **__: object) -> NoReturn:
        is_over.wait()
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(postgres_database, "_CONNECT_S", 0.1)
    one = PostgresDatabase("postgresql://localhost/mail", learned_store.SCHEMA)
    try:
        with pytest.raises(DatabaseProblem, match="localhost: the name servers of this machine did not answer"):
            one.read(lambda execute: execute("SELECT 1", ()), [])
    finally:
        is_over.set()


def test_those_who_wait_for_others_do_not_wait_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = database(tmp_path)
    monkeypatch.setattr(postgres_database, "_PATIENCE_S", 0.1)
    with one._mutex, pytest.raises(DatabaseProblem, match="too slow for all who ask it"):
        one.read(lambda execute: execute("SELECT 1", ()), [])


def test_user_who_has_no_name_is_a_failure_and_not_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> NoReturn:
        raise KeyError(f"uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(DatabaseProblem, match="uid not found"):
        database(tmp_path).read(lambda execute: execute("SELECT 1", ()), [])


def test_what_a_server_says_is_cut(tmp_path: Path) -> None:
    assert postgres_database._in_words(OSError("a\n  b")) == "a b"
    assert len(postgres_database._in_words(OSError("x" * 100_000))) < 400


def test_variables_of_libpq_are_taken_away_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGSERVICE", "PGPASSWORD", "PGPPATH"):
        monkeypatch.setenv(name, "x")
    database(tmp_path)
    assert [name for name in os.environ if name.startswith("PG")] == ["PGPPATH"]


@pytest.mark.parametrize("only_looks", [False, True])
def test_the_database_takes_the_place_of_the_files(tmp_path: Path, *, only_looks: bool) -> None:
    settings = Config(store=StoreOptions(url=f"postgresql:///mail?host={tmp_path}"))
    assert stores.hops(settings, only_looks=only_looks).name == f"postgresql mail at {tmp_path}"
    assert stores.hops(Config(), only_looks=only_looks).name == Config().hop_store
