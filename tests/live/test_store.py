"""What learned keys and MTA-STS policies are in a PostgreSQL that several machines share."""

from __future__ import annotations

import gc
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from smilla.adapters import hop_store, learned_store
from smilla.adapters.hop_store import HopStore
from smilla.adapters.postgres_database import PostgresDatabase
from smilla.address import EmailAddress, parse
from smilla.errors import DatabaseProblem
from smilla.model import KeptPolicy
from tests.lab.processes import wait_until
from tests.live.stores import (
    ANN,
    DAY,
    FAILURE,
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
    from collections.abc import Callable

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def _nothing_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_long(monkeypatch)
    forget_failures()


def test_learned_key_is_there_again_for_another_machine(databases: Databases) -> None:
    url = databases.url()
    assert list(learned(url).recall(ANN)) == []
    assert learned(url).forget(ANN) == 0
    assert learned(url).learn(KEY)
    assert list(learned(url).recall(ANN)) == [KEY]
    assert list(learned(url).recall(parse("Ann@x.test"))) == []
    for local in ('"x"', "a b", "%s", "100%", "j\u00f6rg", "a'; DROP TABLE learned; --"):
        who = EmailAddress(local, "x.test", f"{local}@x.test")
        assert learned(url).learn(replace(KEY, address=who))
        assert [key.address.local_part for key in learned(url).recall(who)] == [local]
    assert learned(url).forget(ANN) == 1
    assert learned(url).forget_domain("x.test") == 6
    assert list(learned(url).all()) == []


def test_stranger_with_many_addresses_pushes_out_nobody_elses_key(databases: Databases) -> None:
    one = learned(databases.url(), most=30)
    for number in range(20):
        assert one.learn(replace(KEY, address=parse(f"pal@friend{number}.test"), sent_at=NOW - 9))
    for number in range(20):
        one.learn(replace(KEY, address=parse(f"x{number}@evil.test")))
        one.learn(replace(KEY, address=parse(f"x@sub{number}.evil.test")))
    kept = [key.address for key in one.all()]
    assert (len(kept), len([who for who in kept if who.local_part == "pal"])) == (30, 20)


def test_message_that_was_sent_last_decides_and_what_is_old_goes(databases: Databases) -> None:
    url = databases.url()
    one = learned(url, most=2)
    assert one.learn(KEY)
    assert not one.learn(replace(OTHER, sent_at=NOW - 1))
    assert one.learn(replace(OTHER, sent_at=NOW + 1))
    assert [key.fingerprint for key in one.recall(ANN)] == ["F2"]
    for number in (2, 3):
        assert one.learn(replace(KEY, address=parse(f"n{number}@x.test"), sent_at=NOW + number))
    assert [str(key.address) for key in one.all()] == ["n2@x.test", "n3@x.test"]
    assert list(learned(url, NOW + 3000 * DAY).all()) == []


def test_message_that_was_sent_last_decides_also_between_machines(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen an empty store, and the older one writes last."""
    url = databases.url()
    late = learned(url)
    unseen = learned_store._New.KEY
    assert learned(url).learn(replace(OTHER, sent_at=NOW + 1))
    monkeypatch.setattr(learned_store, "_is_newer", lambda *_: unseen)
    late.learn(KEY)
    assert [key.fingerprint for key in late.recall(ANN)] == ["F2"]


def test_policies_and_failures_are_remembered_and_trimmed(databases: Databases) -> None:
    url = databases.url()
    store = hops(url, most=3)
    store.keep("a.test", POLICY)
    store.failed("a.test", FAILURE)
    known = hops(url).recall("a.test")
    assert known == KeptPolicy("1", POLICY.raw, 1000.0, "2", 2000.0, FAILURE.failure, is_unclear=True)
    for number in range(5):
        store.failed(f"f{number}.test", replace(FAILURE, failure="refused\0"))
    assert store.problem == ""
    store.keep("b.test", POLICY)
    assert hops(url).recall("f0.test") is None
    assert hops(url).recall("a.test") == known
    assert hops(url).recall("b.test") == POLICY
    assert hops(url, only_looks=True).recall("b.test") == POLICY


def test_use_of_a_policy_is_noted_where_we_do_more_than_look(databases: Databases) -> None:
    url = databases.url()
    hops(url, clock=lambda: NOW).keep("a.test", POLICY)
    used = "SELECT used_at FROM policies"
    name = name_of(url)
    hops(url, clock=lambda: NOW + 2 * DAY, only_looks=True).recall("a.test")
    assert float(databases.server.sql(name, used)) == NOW
    hops(url, clock=lambda: NOW + 2 * DAY).recall("a.test")
    assert float(databases.server.sql(name, used)) == NOW + 2 * DAY


def test_many_processes_and_threads_make_the_tables_and_fill_them(databases: Databases) -> None:
    url = databases.url()

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
    threads = [threading.Thread(target=store.keep, args=(f"t{number}.test", POLICY)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.problem == ""
    assert all(store.recall(f"d{number}-{one}.test") == POLICY for number in range(6) for one in range(10))
    assert all(store.recall(f"t{number}.test") == POLICY for number in range(8))
    assert len(keys.all()) == 60


def test_child_has_a_connection_of_its_own(databases: Databases) -> None:
    one = learned(databases.url())
    one.learn(KEY)

    def recall() -> bool:
        return all(list(one.recall(ANN)) == [KEY] for _ in range(100))

    assert apart(*[recall] * 3) == [0] * 3
    assert recall()


def test_store_that_a_reload_replaces_leaves_no_session(databases: Databases) -> None:
    gc.collect()
    assert wait_until(lambda: databases.server.sessions == 0, 60)  # what earlier tests let go of
    one = learned(databases.url())
    one.learn(KEY)
    assert databases.server.sessions == 1
    del one
    gc.collect()
    assert wait_until(lambda: databases.server.sessions == 0, 60)


def test_tables_of_an_older_version_are_brought_up_and_of_a_newer_one_left(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = databases.url()
    learned(url).learn(KEY)
    two = replace(
        learned_store.SCHEMA,
        postgres=(*learned_store.SCHEMA.postgres, ("ALTER TABLE learned ADD COLUMN more INTEGER NOT NULL DEFAULT 7",)),
    )

    def more() -> bool:
        return PostgresDatabase(url, two).read(lambda execute: execute("SELECT more FROM learned", ()), []) == [(7,)]

    assert apart(*[more] * 5) == [0] * 5
    with pytest.raises(DatabaseProblem, match="version 2, from another smilla"):
        learned(url).recall(ANN)
    three = replace(two, postgres=(*two.postgres, ("SELECT 1",)))
    with pytest.raises(DatabaseProblem, match="version 2, from another smilla"):
        PostgresDatabase(url, three, makes=False).read(lambda execute: execute("SELECT more FROM learned", ()), [])
    hops(url).keep("a.test", POLICY)
    assert hops(url).recall("a.test") == POLICY


def test_migration_that_fails_leaves_nothing_half_done(databases: Databases) -> None:
    url = databases.url()
    learned(url).learn(KEY)
    before = learned_store.SCHEMA.postgres
    broken = replace(learned_store.SCHEMA, postgres=(*before, ("ALTER TABLE learned ADD COLUMN more INTEGER", "NO")))
    with pytest.raises(DatabaseProblem, match="syntax"):
        PostgresDatabase(url, broken).read(lambda execute: None, None)
    assert list(learned(url).recall(ANN)) == [KEY]
    name = name_of(url)
    columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'learned' AND column_name = 'more'"
    assert databases.server.sql(name, columns) == "0"


def test_who_only_looks_makes_no_tables(databases: Databases) -> None:
    url = databases.url()
    name = name_of(url)
    looks = HopStore(PostgresDatabase(url, hop_store.SCHEMA, makes=False), only_looks=True)
    assert looks.recall("a.test") is None
    looks.keep("a.test", POLICY)
    assert looks.problem == ""
    assert databases.server.sql(name, "SELECT to_regclass('policies') IS NULL") == "t"
    hops(url).keep("a.test", POLICY)
    assert HopStore(PostgresDatabase(url, hop_store.SCHEMA, makes=False), only_looks=True).recall("a.test") == POLICY
