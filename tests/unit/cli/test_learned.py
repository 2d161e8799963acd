"""smilla learned: what is listed and forgotten, and the exit codes that scripts rely on."""

from __future__ import annotations

from pathlib import Path

import pytest

from smilla.adapters.learned_store import SCHEMA, LearnedStore
from smilla.adapters.sqlite_database import SQLiteDatabase
from smilla.config.options import LearnedOptions
from tests.unit.cli.conftest import CommandLine, Done
from tests.unit.test_log_recovery import Keeper
from tests.vectors.memory import NOW, learned_key, make_ports

PIA, QUINN = "pia@example.org", "quinn@example.net"
LOG = Keeper()


@pytest.fixture
def known(commands: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A command line with two learned keys, one of which has expired."""
    monkeypatch.setattr("smilla.cli.learned.make_ports", lambda _: make_ports())
    monkeypatch.setattr("smilla.cli.audit.log_target.opened", lambda _: LOG)
    monkeypatch.setattr("smilla.adapters.learned_store.time.time", NOW.timestamp)
    LOG.lines.clear()
    database = SQLiteDatabase(f"{commands.folder}/spool/learned.sqlite", SCHEMA)
    store = LearnedStore(database, LearnedOptions(), NOW.timestamp)
    assert store.learn(learned_key(PIA, "pia.pgp"))
    assert store.learn(learned_key(QUINN, "pgp-expired.pgp"))
    return commands


def learned(commands: CommandLine, *arguments: str, sources: str = '"smimea", "learned"') -> Done:
    action, *rest = arguments
    text = f'[keys]\nsources = [{sources}]\n[reinject]\nspool = "{commands.folder}/spool"\n'
    return commands.run("learned", action, "--config", commands.config(text), *rest)


def test_keys_are_listed_with_what_the_gate_says_today(known: CommandLine) -> None:
    done = learned(known, "list")
    assert (done.code, done.err) == (0, "")
    first, second = done.out.decode().splitlines()
    assert second.startswith(f"{PIA}: openpgp, autocrypt, last sent 2026-11-20T12:00:00+00:00: ECDH cv25519 key ")
    assert first.startswith(f"{QUINN}: openpgp, autocrypt, last sent 2026-11-20T12:00:00+00:00: unusable_key: ")
    assert "none of these keys is used" in learned(known, "list", sources='"smimea"').err


def test_json_is_one_document(known: CommandLine) -> None:
    first, second = learned(known, "list", "--json").json
    assert (second["address"], second["way"], second["verdict"]) == (PIA, "autocrypt", "usable")
    assert (first["address"], first["reason"]["code"]) == (QUINN, "expired")


def test_names_narrow_the_list(known: CommandLine) -> None:
    assert [one["address"] for one in learned(known, "list", "--json", "EXAMPLE.org").json] == [PIA]
    assert [one["address"] for one in learned(known, "list", "--json", QUINN).json] == [QUINN]
    assert learned(known, "list", "zoe@example.org").code == 1


def test_address_or_domain_is_forgotten_and_logged(known: CommandLine) -> None:
    done = learned(known, "forget", PIA)
    assert (done.code, done.out.decode()) == (0, f"{PIA}: 1 forgotten\n")
    assert f"key-forgotten rcpt={PIA} keys=1" in b"".join(LOG.lines).decode()
    assert learned(known, "forget", PIA).code == 1
    assert learned(known, "forget", "example.net").code == 0
    assert learned(known, "list").out == b""


def test_faulty_name_is_a_usage_error_and_nothing_is_forgotten(known: CommandLine) -> None:
    for names in (("a b",), (PIA, "a@@b"), ("",)):
        assert learned(known, "forget", *names).code == 2
    assert len(learned(known, "list", "--json").json) == 2


def test_store_that_cannot_be_read_is_a_temporary_failure(commands: CommandLine) -> None:
    spool = commands.folder / "spool"
    spool.mkdir(mode=0o700)
    (spool / "learned.sqlite").write_bytes(b"no database" * 100)
    for action in (("list",), ("forget", PIA)):
        assert learned(commands, *action).code == 75


def test_nothing_learned_is_nothing_listed(commands: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smilla.cli.learned.make_ports", lambda _: make_ports())
    assert (learned(commands, "list").code, learned(commands, "list").out) == (0, b"")
    assert not Path(commands.folder / "spool").exists()
