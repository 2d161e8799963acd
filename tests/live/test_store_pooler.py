"""The stores through PgBouncer, which gives each transaction any of its sessions (pool_mode = transaction)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from smilla.adapters import postgres_database
from smilla.address import parse
from smilla.errors import DatabaseProblem, PolicyStoreError
from tests.lab.pgbouncer import PgBouncer
from tests.lab.processes import wait_until
from tests.lab.programs import require_servers
from tests.live.stores import (
    ANN,
    KEY,
    NOW,
    OTHER,
    POLICY,
    Databases,
    apart,
    forget_failures,
    hops,
    learned,
    name_of,
    wait_long,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from smilla.adapters.learned_store import LearnedStore

pytestmark = pytest.mark.live


@pytest.fixture
def pooler(databases: Databases) -> Iterator[PgBouncer]:
    require_servers("pgbouncer")
    with PgBouncer(databases.folder / "pooler", databases.server) as one:
        yield one


@pytest.fixture(autouse=True)
def _nothing_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_database, "_AGAIN_S", 0.0)
    forget_failures()


def answers(store: LearnedStore) -> bool:
    """PgBouncer tries a server again after a while."""
    with suppress(DatabaseProblem):
        store.recall(ANN)
        return True
    return False


def test_many_processes_make_the_tables_and_fill_them(
    databases: Databases, pooler: PgBouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_long(monkeypatch)
    url = pooler.url(name_of(databases.url()))

    def fill(number: int) -> Callable[[], bool]:
        def work() -> bool:
            store, keys = hops(url), learned(url)
            for one in range(10):
                store.keep(f"d{number}-{one}.test", POLICY)
                keys.learn(replace(KEY, address=parse(f"a{number}-{one}@x.test")))
            return store.problem == ""

        return work

    assert apart(*map(fill, range(6))) == [0] * 6
    store, keys = hops(url), learned(url)
    assert all(store.recall(f"d{number}-{one}.test") == POLICY for number in range(6) for one in range(10))
    assert len(keys.all()) == 60
    assert keys.forget_domain("x.test") == 60


def test_what_a_session_was_told_before_counts_for_nothing(
    databases: Databases, pooler: PgBouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others use the same sessions, and may have left settings behind."""
    wait_long(monkeypatch)
    name = name_of(databases.url())
    assert learned(pooler.url(name)).learn(KEY)
    databases.server.sql(name, "ALTER ROLE smilla SET search_path = pg_catalog")
    databases.server.sql(name, "ALTER ROLE smilla SET default_transaction_isolation = serializable")
    try:
        databases.server.end_sessions()
        one = learned(pooler.url(name))
        assert list(one.recall(ANN)) == [KEY]
        assert one.learn(replace(OTHER, sent_at=NOW + 1))
    finally:
        databases.server.sql(name, "ALTER ROLE smilla RESET ALL")
        databases.server.end_sessions()


def test_server_or_pooler_that_is_gone_is_no_absence(databases: Databases, pooler: PgBouncer) -> None:
    url = pooler.url(name_of(databases.url()))
    one, store = learned(url), hops(url)
    one.learn(KEY)
    store.keep("a.test", POLICY)
    for gone in (databases.server, pooler):
        gone.stop()
        try:
            with pytest.raises(DatabaseProblem):
                one.recall(ANN)
            with pytest.raises(PolicyStoreError):
                store.recall("a.test")
        finally:
            gone.start()
        assert wait_until(lambda: answers(one), 60)
        assert list(one.recall(ANN)) == [KEY]
        assert store.recall("a.test") == POLICY


def test_server_that_follows_another_one_by_now_is_not_believed(databases: Databases, pooler: PgBouncer) -> None:
    """The pooler has let us in before, and does not say that the server is another one."""
    url = pooler.url(name_of(databases.url()))
    one = learned(url)
    one.learn(KEY)
    signal = databases.server.folder / "data" / "standby.signal"
    told = set()

    def is_refused() -> bool:
        with pytest.raises(DatabaseProblem) as raised:
            one.recall(ANN)
        told.add(raised.value.detail)
        return "read-only" in raised.value.detail or "read-write mode" in raised.value.detail

    try:
        databases.server.stop()
        signal.touch()
        databases.server.start()
        assert wait_until(is_refused, 60), told
        assert is_refused(), told
    finally:
        databases.server.stop()
        signal.unlink(missing_ok=True)
        databases.server.start()
    assert wait_until(lambda: answers(one), 60)
    assert list(one.recall(ANN)) == [KEY]
