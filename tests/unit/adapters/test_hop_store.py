"""The file of the remembered policies."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from smilla import log_hops
from smilla.adapters.hop_store import HopStore
from smilla.model import KeptPolicy

POLICY = KeptPolicy("1", b"version: STSv1\n", 1000.0)
FAILURE = KeptPolicy(tried_id="2", tried_at=2000.0, failure="refused", is_unclear=True)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "spool" / "hops.sqlite")


def test_policy_is_there_again_after_a_restart(path: str) -> None:
    HopStore(path).keep("a.test", POLICY)
    assert HopStore(path).recall("a.test") == POLICY
    assert HopStore(path).recall("b.test") is None


def test_file_and_folder_are_for_the_owner_alone(path: str) -> None:
    HopStore(path).keep("a.test", POLICY)
    assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700
    files = list(Path(path).parent.iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_failure_leaves_the_policy_and_a_policy_forgets_the_failure(path: str) -> None:
    store = HopStore(path)
    store.keep("a.test", POLICY)
    store.failed("a.test", FAILURE)
    assert store.recall("a.test") == KeptPolicy("1", POLICY.raw, 1000.0, "2", 2000.0, "refused", is_unclear=True)
    store.failed("b.test", FAILURE)
    assert store.recall("b.test") == FAILURE
    store.keep("a.test", POLICY)
    assert store.recall("a.test") == POLICY


def test_what_was_not_used_for_longest_goes_first(path: str) -> None:
    now = [0.0]
    store = HopStore(path, most=3, clock=lambda: now[0])
    for number in range(3):
        now[0] += 10_000
        store.keep(f"d{number}.test", POLICY)
    now[0] += 10_000
    assert store.recall("d0.test") == POLICY  # used, so it stays
    now[0] += 10_000
    store.keep("d3.test", POLICY)
    assert [number for number in range(4) if store.recall(f"d{number}.test")] == [0, 2, 3]


def test_without_the_right_to_make_it_nothing_is_made_and_nothing_is_wrong(path: str) -> None:
    store = HopStore(path, makes=False)
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
    store = HopStore(path)
    for _ in range(3):
        store.keep("a.test", POLICY)
    assert store.recall("a.test") == (None if content else POLICY)
    assert told == (["hop-store-failed"] if content else [])
    assert bool(store.problem) == bool(content)


def test_file_of_another_smilla_is_left_as_it_is(path: str) -> None:
    HopStore(path).keep("a.test", POLICY)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    store = HopStore(path)
    assert store.recall("a.test") is None
    assert "another smilla" in store.problem


def test_store_that_works_again_is_used_again(path: str) -> None:
    Path(path).parent.mkdir()
    Path(path).mkdir()
    store = HopStore(path)
    store.keep("a.test", POLICY)
    assert store.problem
    Path(path).rmdir()
    store.keep("a.test", POLICY)
    assert store.recall("a.test") == POLICY


def test_several_processes_and_threads_share_the_file(path: str) -> None:
    def fill(number: int) -> None:
        store = HopStore(path)
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
    store = HopStore(path)
    assert all(store.recall(f"d{number}-{one}.test") for number in range(5) for one in range(20))
