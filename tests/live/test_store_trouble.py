"""A PostgreSQL that restarts, stands still, is gone, is another one, or lets nobody in; and what says so."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from smilla.adapters import postgres_database
from smilla.adapters.as_user import User
from smilla.address import EmailAddress
from smilla.config import Config
from smilla.config.options import StoreOptions
from smilla.doctor import store_check
from smilla.doctor.rights import Service
from smilla.errors import DatabaseProblem, PolicyStoreError
from tests.lab.keys import make_openpgp_key
from tests.lab.postgres import PASSWORD
from tests.lab.processes import free_port
from tests.lab.programs import REPOSITORY
from tests.lab.smilla import to_toml
from tests.live.stores import (
    ANN,
    KEY,
    NOW,
    OTHER,
    POLICY,
    Databases,
    database,
    forget_failures,
    hops,
    learned,
    name_of,
)

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def _nothing_failed() -> None:
    forget_failures()


def test_session_that_the_server_has_ended_is_made_anew(databases: Databases) -> None:
    url = databases.url()
    one, store = learned(url), hops(url)
    one.learn(KEY)
    store.keep("a.test", POLICY)
    databases.server.end_sessions()
    assert list(one.recall(ANN)) == [KEY]
    assert store.recall("a.test") == POLICY
    databases.server.end_sessions()
    assert one.learn(replace(OTHER, sent_at=NOW + 1))
    store.keep("b.test", POLICY)
    assert store.recall("b.test") == POLICY


def test_server_that_is_gone_is_no_absence_and_holds_nobody_up(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = databases.url()
    one, store = learned(url), hops(url)
    one.learn(KEY)
    store.keep("a.test", POLICY)
    databases.server.stop()
    try:
        with pytest.raises(DatabaseProblem):
            one.recall(ANN)
        with pytest.raises(PolicyStoreError):
            store.recall("a.test")
        assert not one.learn(replace(OTHER, sent_at=NOW + 1))
        assert hops(url, only_looks=True).recall("a.test") is None
    finally:
        databases.server.start()
    monkeypatch.setattr(postgres_database, "_AGAIN_S", 0.0)
    assert list(one.recall(ANN)) == [KEY]
    assert store.recall("a.test") == POLICY


def test_server_that_stands_still_is_waited_for_once_and_not_for_long(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = learned(databases.url())
    one.learn(KEY)
    monkeypatch.setattr(postgres_database, "_PATIENCE_S", 0.5)
    monkeypatch.setattr(postgres_database, "_AGAIN_S", 3600.0)
    with databases.server.standing_still():
        with pytest.raises(DatabaseProblem, match=r"no answer within 0\.5 s"):
            one.recall(ANN)
        took_s = []
        for _ in range(50):
            started_at = time.monotonic()
            with pytest.raises(DatabaseProblem):
                one.recall(ANN)
            took_s.append(time.monotonic() - started_at)
        assert sorted(took_s)[25] < 0.5  # one may be slow on a busy machine
    monkeypatch.setattr(postgres_database, "_AGAIN_S", 0.0)
    monkeypatch.setattr(postgres_database, "_PATIENCE_S", 60.0)
    assert list(one.recall(ANN)) == [KEY]


def test_server_that_accepts_and_says_nothing_is_not_waited_for_long(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / ".s.PGSQL.5432"))
        silent.listen()
        with pytest.raises(DatabaseProblem, match="timeout"):
            learned(f"postgresql:///mail?host={tmp_path}").recall(ANN)


@pytest.mark.parametrize("password_asked_for", [0, 3], ids=["none", "in the clear"])
def test_impostor_on_loopback_gets_no_password_and_is_not_believed(tmp_path: Path, password_asked_for: int) -> None:
    """Anybody may listen on a high port of this machine while the database is away."""
    got: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            got.append(connection.recv(4096))
            connection.sendall(b"R" + (8).to_bytes(4, "big") + password_asked_for.to_bytes(4, "big"))
            connection.sendall(b"Z" + (5).to_bytes(4, "big") + b"I")
            while octets := connection.recv(4096):
                got.append(octets)

    (tmp_path / "passwords").write_text(f"*:*:*:*:{PASSWORD}\n")
    (tmp_path / "passwords").chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        url = f"postgresql://smilla@127.0.0.1:{listener.getsockname()[1]}/mail?passfile={tmp_path}/passwords"
        with pytest.raises(DatabaseProblem, match="scram-sha-256"):
            learned(url).recall(ANN)
        thread.join()
    assert PASSWORD.encode() not in b"".join(got)


def test_lock_of_somebody_else_is_waited_for_once_and_not_for_long(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = databases.url()
    one, holder = learned(url), database(url)
    one.learn(KEY)

    def hold(execute: Any) -> None:
        execute("LOCK TABLE learned IN ACCESS EXCLUSIVE MODE", ())
        with pytest.raises(DatabaseProblem, match="timeout"):
            one.recall(ANN)

    monkeypatch.setattr(postgres_database, "_PATIENCE_S", 60.0)
    monkeypatch.setattr(postgres_database, "_AGAIN_S", 3600.0)
    holder.write(hold)
    with pytest.raises(DatabaseProblem, match="timeout"):
        one.recall(ANN)
    monkeypatch.setattr(postgres_database, "_AGAIN_S", 0.0)
    assert list(one.recall(ANN)) == [KEY]


def test_database_without_its_tables_is_never_read_as_empty(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It belongs to another user, or another program has tables of these names: the first answer and all later ones are
    failures."""
    monkeypatch.setattr(postgres_database, "_AGAIN_S", 0.0)
    databases.server.sql("postgres", "CREATE DATABASE theirs")
    other = databases.url()
    for table in ("learned", "policies"):
        databases.server.sql(name_of(other), f"CREATE TABLE {table}(domain TEXT)")
    for url, told in ((databases.server.url("theirs"), "permission denied"), (other, "already exists")):
        one, store = learned(url), hops(url)
        for _ in range(3):
            with pytest.raises(DatabaseProblem, match=told):
                one.recall(ANN)
            assert not one.learn(KEY)
            with pytest.raises(PolicyStoreError, match=told):
                store.recall("a.test")


def test_server_that_only_follows_another_one_is_not_believed(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has not yet been told is no proof that there is nothing.  A pooler hides what a session is at first."""
    url = databases.url()
    learned(url).learn(KEY)
    signal = databases.server.folder / "data" / "standby.signal"
    try:
        databases.server.stop()
        signal.touch()
        databases.server.start()
        with pytest.raises(DatabaseProblem, match="session is read-only"):
            learned(url).recall(ANN)
        monkeypatch.setitem(postgres_database._FIXED, "target_session_attrs", "any")
        with pytest.raises(DatabaseProblem, match="read-write mode during recovery"):
            learned(url).recall(ANN)
    finally:
        databases.server.stop()
        signal.unlink(missing_ok=True)
        databases.server.start()
    assert list(learned(url).recall(ANN)) == [KEY]


def test_disk_that_is_full_hides_nothing_that_is_known(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_database, "_AGAIN_S", 3600.0)
    url = databases.url()
    one = learned(url)
    one.learn(KEY)
    for statement in (
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql"
        " AS $$BEGIN RAISE 'no space left' USING ERRCODE = 'disk_full'; END$$",
        "CREATE TRIGGER full_disk BEFORE INSERT ON learned EXECUTE FUNCTION full_disk()",
    ):
        databases.server.sql(name_of(url), statement)
    assert not one.learn(replace(OTHER, sent_at=NOW + 1))
    assert list(one.recall(ANN)) == [KEY]


def test_network_asks_for_the_right_server_and_password(databases: Databases) -> None:
    url = databases.url()
    learned(url).learn(KEY)
    assert list(learned(databases.over_tls(url)).recall(ANN)) == [KEY]
    wrong: dict[str, dict[str, Any]] = {
        "certificate verify failed": {"sslrootcert": str(databases.stranger.file)},
        "does not match host name": {"host": "127.0.0.1"},
        "password authentication failed": {"password": "loud"},
        "no password supplied": {"passfile": ""},
        "no pg_hba.conf entry|no encryption": {"sslmode": "disable"},
    }
    for words, options in wrong.items():
        with pytest.raises(DatabaseProblem, match=words) as raised:
            learned(databases.over_tls(url, **options)).recall(ANN)
        assert PASSWORD not in str(raised.value)


def test_environment_and_files_of_the_user_change_nothing(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = databases.url()
    learned(url).learn(KEY)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".pgpass").write_text(f"*:*:*:*:{PASSWORD}\n")
    (tmp_path / ".pgpass").chmod(0o600)
    elsewhere = {
        "PGHOST": "/nowhere",
        "PGHOSTADDR": "192.0.2.1",
        "PGPORT": str(free_port()),
        "PGDATABASE": "postgres",
        "PGUSER": "owner",
        "PGPASSWORD": PASSWORD,
        "PGSSLMODE": "require",
        "PGSSLROOTCERT": str(databases.stranger.file),
        "PGOPTIONS": "-c search_path=pg_catalog",
        "PGSERVICE": "none",
        "PGSERVICEFILE": "/nowhere",
        "PGCLIENTENCODING": "LATIN1",
        "PGREQUIREAUTH": "none",
        "PGTARGETSESSIONATTRS": "standby",
        "PGCONNECT_TIMEOUT": "9999",
    }
    for name, setting in elsewhere.items():
        monkeypatch.setenv(name, setting)
    assert list(learned(url).recall(ANN)) == [KEY]
    assert list(learned(databases.over_tls(url)).recall(ANN)) == [KEY]
    with pytest.raises(DatabaseProblem, match="no password supplied"):
        learned(databases.over_tls(url, passfile="")).recall(ANN)


def test_text_that_the_database_cannot_have_is_a_failure_and_not_a_crash(databases: Databases) -> None:
    one = learned(databases.url())
    for local in ("a\0b", "a\udc80b"):
        who = EmailAddress(local, "x.test", "x")
        with pytest.raises(DatabaseProblem):
            one.recall(who)
        assert not one.learn(replace(KEY, address=who))
    assert one.learn(KEY)


def test_check_tries_the_database_as_the_user_of_the_filter_and_makes_nothing(databases: Databases) -> None:
    databases.server.sql("postgres", "CREATE ROLE nobody LOGIN")
    databases.server.sql("postgres", "CREATE ROLE root LOGIN")
    databases.server.sql("postgres", "CREATE DATABASE peer OWNER nobody")
    url = f"postgresql:///peer?host={databases.server.socket_folder}&port={databases.server.port}"
    settings = Config(store=StoreOptions(url=url))

    def found(user: str, options: Config = settings) -> list[tuple[str, str]]:
        service = Service(User(user), drops_rights=False)
        return [(one.severity, one.text) for one in store_check.problems(options, service)]

    assert found("nobody") == [("", "serves nobody")]
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    assert databases.server.sql("peer", tables) == "0"
    ((severity, text),) = found("root")
    assert severity == "error"
    assert "may not make tables" in text
    ((severity, text),) = found("daemon")
    assert severity == "error"
    assert 'role "daemon" does not exist' in text
    ((severity, text),) = found("nobody", Config(store=StoreOptions(url=f"{url}&user=root")))
    assert severity == "error"
    assert "Peer authentication failed" in text
    assert found("no-such-user")[0][0] == "hint"
    assert found("nobody", Config()) == []


class Command:
    """smilla, with a configuration that has the database."""

    def __init__(self, folder: Path, url: str) -> None:
        self._path = folder / "smilla.toml"
        settings: dict[str, Any] = {
            "keys": {"sources": ["openpgpkey", "learned"]},
            "learned": {"accept": ["autocrypt"]},
            "transport": {"authserv_id": "mx.home.test"},
            "reinject": {"spool": str(folder / "spool")},
            "store": {"url": url},
        }
        self._path.write_text(to_toml(settings))

    def __call__(self, *words: str) -> tuple[int, Any]:
        """Exit code and document."""
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "smilla", *words, "--config", str(self._path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, json.loads(done.stdout) if "--json" in words else done.stderr


def test_commands_use_the_database_and_say_where_it_is(databases: Databases, tmp_path: Path) -> None:
    url = databases.url()
    with make_openpgp_key(databases.folder, "ann@x.test") as key:  # the agent's socket wants a short path
        learned(url).learn(replace(KEY, raw=key.raw, fingerprint="F", sent_at=time.time()))
    smilla = Command(tmp_path, url)
    assert [one["address"] for one in smilla("learned", "list", "--json")[1]] == ["ann@x.test"]
    databases.server.stop()
    try:
        code, told = smilla("learned", "list")
        assert code == 75
        assert "postgresql mail" in str(told)
    finally:
        databases.server.start()
    assert smilla("learned", "forget", "ann@x.test")[0] == 0
    assert list(learned(url, time.time()).all()) == []
    assert not (tmp_path / "spool").exists()
