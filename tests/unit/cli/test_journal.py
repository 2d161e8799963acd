"""smilla journal: what is owed, and the exit codes that scripts rely on."""

from __future__ import annotations

from pathlib import Path

from smilla.adapters.journal import SQLiteJournal
from smilla.ports import Fingerprint, StageNote
from tests.unit.cli.conftest import CommandLine

ANN, BEN = "ann@example.org", "ben@example.org"


def spool(commands: CommandLine) -> tuple[Path, SQLiteJournal]:
    folder = commands.folder / "spool"
    return commands.config(f'[reinject]\nspool = "{folder}"\n'), SQLiteJournal(str(folder), 1000)


def message(name: bytes) -> Fingerprint:
    return Fingerprint(name, lambda: name, True)


def test_no_journal_owes_nothing_and_none_is_made(commands: CommandLine) -> None:
    path, _ = spool(commands)
    done = commands.run("journal", "--config", path, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json == {"unfinished": [], "remembered": 0, "unknown_windows": 0}
    assert not (commands.folder / "spool").exists()


def test_what_is_owed_exits_1_and_names_no_mailbox(commands: CommandLine) -> None:
    path, journal = spool(commands)
    with journal.open(message(b"one")) as entry:
        entry.owe([ANN, BEN, "c@example.org"], "f" * 32, "Q1")
        entry.committing([ANN, BEN])
        entry.settle([ANN], ())
    done = commands.run("journal", "--config", path, "--json")
    found = done.json["unfinished"][0]
    assert (done.code, found["queue_id"]) == (1, "Q1")
    assert (found["owed"], found["committing"], found["accepted"]) == (1, 1, 1)
    assert found["begun_at"].endswith("+00:00")
    words = commands.run("journal", "--config", path)
    assert (words.code, words.err) == (1, "")
    assert b"1 owed, 1 of unknown acceptance, 1 accepted" in words.out
    assert b"example" not in words.out
    with journal.open(message(b"one")) as entry:
        entry.owe([BEN], "f" * 32, "Q2")
        entry.finish()
    done = commands.run("journal", "--config", path, "--json")
    assert done.code == 0
    assert done.json == {"unfinished": [], "remembered": 1, "unknown_windows": 1}
    journal.close()


def test_sealed_message_says_what_the_stage_noted_and_no_mailbox(commands: CommandLine) -> None:
    path, journal = spool(commands)
    with journal.open(message(b"one")) as entry:
        entry.answered([ANN, BEN], (), StageNote("Q1", "ab" * 16, 0.0, "451 4.7.5 unreachable"))
    with journal.open(message(b"two")) as entry:
        entry.owe([ANN], "f" * 32, "Q2")
    done = commands.run("journal", "--config", path, "--json")
    one, two = done.json["unfinished"]
    assert done.code == 1
    assert (one["sealed_at"], one["message_id"]) == ("1970-01-01T00:00:00+00:00", "ab" * 16)
    assert (one["owed"], one["answer"]) == (2, "451 4.7.5 unreachable")
    assert (two["sealed_at"], two["message_id"], two["answer"]) == (None, None, None)
    words = commands.run("journal", "--config", path).out.decode()
    assert f"sealed 1970-01-01T00:00:00+00:00 as {'ab' * 16}, last answer 451 4.7.5 unreachable\n" in words
    assert "example" not in words
    journal.close()


def test_only_unfinished_acceptance_exits_0(commands: CommandLine) -> None:
    path, journal = spool(commands)
    with journal.open(message(b"one")) as entry:
        entry.owe([ANN], "f" * 32, "Q1")
        entry.settle([ANN], ())
    assert commands.run("journal", "--config", path).code == 0
    with journal.open(message(b"two")) as entry:
        entry.owe([ANN], "f" * 32, "Q2")
        entry.committing([ANN])
    assert commands.run("journal", "--config", path).code == 1
    journal.close()


def test_journal_that_cannot_be_read_exits_75(commands: CommandLine) -> None:
    path, _ = spool(commands)
    (commands.folder / "spool").mkdir()
    (commands.folder / "spool" / "journal.sqlite3").write_bytes(b"rubbish" * 1000)
    done = commands.run("journal", "--config", path)
    assert (done.code, done.out) == (75, b"")
    assert done.err.startswith("error: ") and "move journal.sqlite3*" in done.err
