"""The journal of smilla mailbox: what it keeps, and whose it is."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from smilla.adapters.moves import MoveJournal
from smilla.errors import FileProblem
from smilla.model.mailbox import Marks, Move, State

MOVE = Move("INBOX", "7", State.WRITING, "9", 100, b"\0" * 32, Marks(frozenset({"\\Seen", "Ärger"}), "1-Jan"))


def test_each_step_takes_the_place_of_the_one_before_and_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "below" / "journal"
    with MoveJournal(path, "test") as journal:
        journal.begin("INBOX", "17")
        journal.put([MOVE])
        journal.put([written := replace(MOVE, state=State.WRITTEN, new="9"), other := replace(MOVE, old="8")])
        for method in (journal.put, journal.drop, journal.done):
            method([])
    with MoveJournal(path, "test") as journal:
        assert journal.validity("INBOX") == "17"
        assert journal.pending("INBOX") == [written, other]
        assert journal.pending("Sent") == []
        journal.drop([other])
        journal.done([written])
        journal.know("INBOX", ["5"])
        journal.know("INBOX", ["5"])
    with MoveJournal(path, "test") as journal:
        assert journal.pending("INBOX") == []
        assert journal.known("INBOX") == {"9", "5"}
        assert journal.known("Sent") == frozenset()


def test_names_of_another_validity_are_forgotten(tmp_path: Path) -> None:
    with MoveJournal(tmp_path / "journal", "test") as journal:
        for folder in ("INBOX", "Sent"):
            journal.begin(folder, "17")
            journal.put([replace(MOVE, folder=folder)])
            journal.know(folder, ["5"])
        journal.begin("INBOX", "17")
        assert journal.pending("INBOX")
        journal.begin("INBOX", "18")
        assert (journal.validity("INBOX"), journal.pending("INBOX"), journal.known("INBOX")) == ("18", [], frozenset())
        assert journal.pending("Sent")
        assert journal.known("Sent")


def test_two_processes_never_use_it_at_once(tmp_path: Path) -> None:
    with (
        MoveJournal(tmp_path / "journal", "test"),
        pytest.raises(FileProblem, match="another process"),
        MoveJournal(tmp_path / "journal", "test"),
    ):
        pass
    with MoveJournal(tmp_path / "journal", "test"):
        pass


def test_file_of_another_purpose_or_version_or_kind_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with MoveJournal(path, "encrypt"):
        pass
    with pytest.raises(FileProblem, match="something else"):
        MoveJournal(path, "decrypt")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(FileProblem, match="version 7"):
        MoveJournal(path, "encrypt")
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(FileProblem, match="cannot be used"):
        MoveJournal(path, "encrypt")
    assert path.read_bytes().startswith(b"no database")
    with pytest.raises(FileProblem, match="cannot be used"):
        MoveJournal(Path("/proc/none/journal"), "encrypt")
