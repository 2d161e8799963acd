"""smilla status: its exit codes and its JSON.  The snapshot is made up here; tests/milter/test_status.py asks a
running filter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smilla.adapters import status
from smilla.errors import SmillaError
from smilla.metrics.snapshot import Decryption, Reloads, Snapshot, Workers
from tests.unit.cli.conftest import CommandLine
from tests.unit.metrics.test_attention import WELL

_LATER = 2.0**40  # than the file of any test


def answering(
    monkeypatch: pytest.MonkeyPatch,
    found: Snapshot,
    path: str = "/var/lib/smilla/status.sock",
    read_at: float = _LATER,
) -> None:
    def ask(asked: str) -> Snapshot:
        assert asked == path
        return replace(found, reloads=replace(found.reloads, read_at=read_at))

    monkeypatch.setattr(status, "ask", ask)


def test_all_well_is_0_and_what_needs_attention_1(commands: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, WELL)
    done = commands.run("status", "--config", commands.config())
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(b"all is well\n")
    assert b"\x1b" not in done.out
    answering(monkeypatch, replace(WELL, workers=Workers(2, 1)))
    done = commands.run("status", "--config", commands.config())
    assert done.code == 1
    assert b"! 1 of 2 workers run\n" in done.out


def test_json_has_the_snapshot_the_shares_and_what_needs_attention(
    commands: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, replace(WELL, workers=Workers(2, 1)))
    done = commands.run("status", "--config", commands.config(), "--json")
    assert done.code == 1
    assert done.json["workers"] == {"wanted": 2, "running": 1, "died": 0}
    assert done.json["share_encrypted"] == {"last_hour": 1.0, "last_day": None}
    [told] = done.json["attention"]
    assert (told["cause"], told["text"]) == ("workers", "1 of 2 workers run")
    assert told["hint"].startswith("journalctl ")


def test_a_file_that_was_changed_after_the_filter_read_it_is_told(
    commands: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = commands.config()
    changed_at = path.stat().st_mtime
    for started_at, read_at, told in (
        (1.0, 0.0, 1),
        (1.0, changed_at - 1, 1),
        (changed_at, 0.0, 0),
        (1.0, changed_at, 0),
    ):
        answering(monkeypatch, replace(WELL, started_at=started_at), read_at=read_at)
        done = commands.run("status", "--config", path)
        assert (done.code, done.out.count(b"! the configuration was changed after")) == (told, told)
    answering(monkeypatch, replace(WELL, reloads=Reloads(1, 1, last_failed=True)), read_at=0.0)
    assert b"was changed" not in commands.run("status", "--config", path).out


def test_the_socket_is_that_of_the_configuration(commands: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, WELL, "/run/here.sock")
    assert commands.run("status", "--config", commands.config('[metrics]\nstatus = "/run/here.sock"\n')).code == 0
    answering(monkeypatch, WELL, "/srv/spool/status.sock")
    assert commands.run("status", "--config", commands.config('[reinject]\nspool = "/srv/spool"\n')).code == 0


def test_a_faulty_configuration_is_78_where_no_filter_goes_on_with_the_one_before(
    commands: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(_: str) -> Snapshot:
        raise SmillaError("nobody answers there")

    monkeypatch.setattr(status, "ask", nobody)
    assert commands.run("status", "--config", commands.config("x = 1\n")).code == 78


def test_a_filter_that_goes_on_with_the_configuration_before_is_asked_at_the_usual_socket(
    commands: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, WELL)
    done = commands.run("status", "--config", commands.config("x = 1\n"))
    assert done.code == 0
    assert "has a fault" in done.err


RULE = '[decrypt]\nsocket = "unix:/run/d/decrypt.sock"\n[[decrypt_rule]]\nrecipient = "*"\nkey_files = ["/k"]\n'
DECRYPTING = replace(WELL, decryption=Decryption(12, (("engine", 1), ("other_recipients", 3)), (("pass", 5),)))


def both_answering(monkeypatch: pytest.MonkeyPatch, *silent: str) -> None:
    def ask(path: str) -> Snapshot:
        if path in silent:
            raise SmillaError(f"{path}: nobody answers there")
        found = DECRYPTING if path == "/run/d/status.sock" else WELL
        return replace(found, reloads=replace(found.reloads, read_at=_LATER))

    monkeypatch.setattr(status, "ask", ask)


def test_what_smilla_decrypt_did_is_shown_where_it_has_a_rule(
    commands: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_answering(monkeypatch)
    done = commands.run("status", "--config", commands.config(RULE))
    assert done.code == 0
    assert b"decrypt     12 decrypted, 4 left" in done.out
    assert b"left        other_recipients: 3, engine: 1\nsignatures  pass: 5\n" in done.out
    done = commands.run("status", "--config", commands.config(RULE), "--json")
    assert done.json["decrypt"]["decryption"]["decrypted"] == 12
    done = commands.run("status", "--config", commands.config())
    assert b"decrypt " not in done.out


def test_smilla_decrypt_that_does_not_answer_needs_attention(
    commands: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_answering(monkeypatch, "/run/d/status.sock")
    done = commands.run("status", "--config", commands.config(RULE))
    assert done.code == 1
    assert b"! smilla decrypt cannot be asked: /run/d/status.sock: nobody" in done.out


def test_where_only_smilla_decrypt_runs_its_counts_are_shown_all_the_same(
    commands: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_answering(monkeypatch, "/var/lib/smilla/status.sock")
    done = commands.run("status", "--config", commands.config(RULE))
    assert (done.code, done.out.startswith(b"decrypt     12 decrypted")) == (75, True)
