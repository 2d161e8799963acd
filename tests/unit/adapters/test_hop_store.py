"""The file of the remembered policies."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smilla import log_hops
from smilla.adapters import sqlite_database
from smilla.adapters.hop_store import SCHEMA, HopStore
from smilla.adapters.sqlite_database import SQLiteDatabase
from smilla.errors import PolicyStoreError
from smilla.model import KeptPolicy

POLICY = KeptPolicy("1", b"version: STSv1\n", 1000.0)
FAILURE = KeptPolicy(tried_id="2", tried_at=2000.0, failure="refused", is_unclear=True)


def hop_store_of(path: str, *, makes: bool = True, **options: Any) -> HopStore:
    return HopStore(SQLiteDatabase(path, SCHEMA, makes=makes), only_looks=not makes, **options)


def database_of(store: HopStore) -> SQLiteDatabase:
    database = store._database
    assert isinstance(database, SQLiteDatabase)
    return database


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "spool" / "hops.sqlite")


def test_policy_is_there_again_after_a_restart(path: str) -> None:
    hop_store_of(path).keep("a.test", POLICY)
    assert hop_store_of(path).recall("a.test") == POLICY
    assert hop_store_of(path).recall("b.test") is None


def test_file_and_folder_are_for_the_owner_alone(path: str) -> None:
    hop_store_of(path).keep("a.test", POLICY)
    assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700
    files = list(Path(path).parent.iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_failure_leaves_the_policy_and_a_policy_forgets_the_failure(path: str) -> None:
    store = hop_store_of(path)
    store.keep("a.test", POLICY)
    store.failed("a.test", FAILURE)
    assert store.recall("a.test") == KeptPolicy("1", POLICY.raw, 1000.0, "2", 2000.0, "refused", is_unclear=True)
    store.failed("b.test", FAILURE)
    assert store.recall("b.test") == FAILURE
    store.keep("a.test", POLICY)
    assert store.recall("a.test") == POLICY


def test_what_was_not_used_for_longest_goes_first(path: str) -> None:
    now = [0.0]
    store = hop_store_of(path, most=3, clock=lambda: now[0])
    for number in range(3):
        now[0] += 10_000
        store.keep(f"d{number}.test", POLICY)
    now[0] += 10_000
    assert store.recall("d0.test") == POLICY  # used, so it stays
    now[0] += 10_000
    store.keep("d3.test", POLICY)
    assert [number for number in range(4) if store.recall(f"d{number}.test")] == [0, 2, 3]


def test_without_the_right_to_make_it_nothing_is_made_and_nothing_is_wrong(path: str) -> None:
    store = hop_store_of(path, makes=False)
    assert store.recall("a.test") is None
    store.keep("a.test", POLICY)
    assert not Path(path).parent.exists()
    assert store.problem == ""


@pytest.mark.parametrize("content", [b"no database at all" * 100, b""])
def test_damaged_file_is_logged_once_and_an_empty_one_is_filled(
    path: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(log_hops, "_event", lambda level, event, **fields: told.append(event))
    Path(path).parent.mkdir()
    Path(path).write_bytes(content)
    store = hop_store_of(path)
    for _ in range(3):
        store.keep("a.test", POLICY)
    if content:
        with pytest.raises(PolicyStoreError):
            store.recall("a.test")
    else:
        assert store.recall("a.test") == POLICY
    assert told == (["hop-store-failed"] if content else [])
    assert bool(store.problem) == bool(content)


def test_file_of_another_smilla_is_left_as_it_is(path: str) -> None:
    hop_store_of(path).keep("a.test", POLICY)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(PolicyStoreError, match="another smilla"):
        hop_store_of(path).recall("a.test")
    looking = hop_store_of(path, makes=False)
    assert looking.recall("a.test") is None
    assert "another smilla" in looking.problem


def test_file_that_may_be_read_alone_is_read(path: str) -> None:
    """A full disk is the same: that the policy was used is not written, and it applies."""
    hop_store_of(path, clock=lambda: 1000.0).keep("a.test", POLICY)
    store = hop_store_of(path, clock=lambda: 1e9)
    assert store.recall("b.test") is None
    newer = replace(POLICY, policy_id="2")
    works: list[Callable[[], object]] = [lambda: store.recall("a.test"), lambda: store.keep("a.test", newer)]
    for work in works:
        connection = database_of(store)._connection
        assert connection is not None
        connection.execute("PRAGMA query_only = ON")
        assert work() in (POLICY, None)
        assert store.recall("b.test") is None
    assert store.problem
    assert store.recall("a.test") == POLICY


def test_file_that_another_program_has_locked_tells_nothing_and_is_read_again_afterwards(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_database, "_BUSY_S", 0.01)
    store = hop_store_of(path)
    store.keep("a.test", POLICY)
    database_of(store)._drop()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("PRAGMA journal_mode = DELETE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(PolicyStoreError):
        store.recall("a.test")
    other.close()
    assert store.recall("a.test") == POLICY
    assert store.recall("b.test") is None


def test_failed_attempts_of_many_domains_push_no_policy_out(path: str) -> None:
    now = [0.0]
    store = hop_store_of(path, most=300, clock=lambda: now[0])
    for number in range(200):
        store.keep(f"d{number}.test", POLICY)
    for number in range(400):
        now[0] += 10
        store.failed(f"e{number}.test", FAILURE)
    assert all(store.recall(f"d{number}.test") == POLICY for number in range(200))
    assert store.recall("e399.test") == FAILURE
    assert store.recall("e0.test") is None


def test_store_that_works_again_is_used_again(path: str) -> None:
    Path(path).parent.mkdir()
    Path(path).mkdir()
    store = hop_store_of(path)
    store.keep("a.test", POLICY)
    assert store.problem
    Path(path).rmdir()
    store.keep("a.test", POLICY)
    assert store.recall("a.test") == POLICY


def test_several_processes_and_threads_share_the_file(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_database, "_BUSY_S", 60.0)  # a slow disk is no fault here

    def fill(number: int) -> None:
        store = hop_store_of(path)
        for one in range(20):
            store.keep(f"d{number}-{one}.test", POLICY)
        assert store.problem == ""

    children = []
    for number in range(3):
        if (pid := os.fork()) == 0:
            code = 1
            try:
                fill(number)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    threads = [threading.Thread(target=fill, args=(number,)) for number in (3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    store = hop_store_of(path)
    assert all(store.recall(f"d{number}-{one}.test") for number in range(5) for one in range(20))


def test_write_that_fails_in_the_middle_is_told_and_leaves_the_file_as_it_was(path: str) -> None:
    store = hop_store_of(path, most=1)
    store.keep("a.test", POLICY)
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TRIGGER none_goes BEFORE DELETE ON policies BEGIN SELECT RAISE(FAIL, 'none may go'); END"
        )
    store.keep("b.test", POLICY)  # one too many
    assert store.problem.startswith("none may go")
    assert (store.recall("a.test"), store.recall("b.test")) == (POLICY, None)


def test_child_opens_the_file_for_itself(path: str) -> None:
    """SQLite's connections must not be carried over a fork."""
    store = hop_store_of(path)
    store.keep("a.test", POLICY)
    database = database_of(store)
    inherited = database._connection
    if (pid := os.fork()) == 0:
        code = 1
        try:
            is_well = store.recall("a.test") == POLICY and database._connection is not inherited
            code = 0 if is_well else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert store.recall("a.test") == POLICY
    assert database._connection is inherited


@pytest.mark.parametrize(("uid", "count"), [(0, 1), (1000, 0)])
def test_root_gives_a_new_file_to_whom_the_folder_belongs(
    path: str, uid: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(path).parent.mkdir(mode=0o700)
    owner = Path(path).parent.stat()
    given: list[tuple[object, ...]] = []
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "chown", lambda *words, **options: given.append((*words, options)))
    hop_store_of(path).keep("a.test", POLICY)
    assert given == [(Path(path), owner.st_uid, owner.st_gid, {"follow_symlinks": False})] * count


def test_last_use_is_written_once_an_hour_and_never_by_who_only_looks(path: str) -> None:
    now = [10_000.0]
    store = hop_store_of(path, clock=lambda: now[0])
    store.keep("a.test", POLICY)

    def used_at() -> float:
        with sqlite3.connect(path) as connection:
            return float(connection.execute("SELECT used_at FROM policies").fetchone()[0])

    for at, expected in ((13_000.0, 10_000.0), (14_000.0, 14_000.0), (1_000.0, 1_000.0)):
        now[0] = at
        assert hop_store_of(path, makes=False, clock=lambda: now[0]).recall("a.test") == POLICY
        assert used_at() != at
        assert store.recall("a.test") == POLICY
        assert used_at() == expected


def test_log_has_a_second_failure_once_the_store_has_worked_between(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(log_hops, "_event", lambda level, event, **fields: told.append(event))
    Path(path).parent.mkdir()
    Path(path).mkdir()
    store = hop_store_of(path)
    store.keep("a.test", POLICY)
    assert told == ["hop-store-failed"]
    Path(path).rmdir()
    store.keep("a.test", POLICY)
    database_of(store)._drop()
    Path(path).write_bytes(b"no database at all" * 100)
    store.keep("a.test", POLICY)
    assert told == ["hop-store-failed"] * 2
