"""What the disk says: the journal's backlog, the seal keys, and what cannot be read."""

from __future__ import annotations

from pathlib import Path

from smilla import config
from smilla.adapters.journal import SQLiteJournal
from smilla.adapters.seal_keys import SealKeys
from smilla.metrics.snapshot import Journal, Stage
from smilla.ports import Fingerprint
from smilla.server.sampler import Places, sample


def places(folder: Path, text: str = "") -> Places:
    keys = f'[reinject]\nspool = "{folder}/spool"\n[stage]\nkeys = "{folder}/seal"\ncheck = false\n'
    return Places.of(config.parse(text + keys))


def owe(folder: Path, name: bytes, at: float, *mailboxes: str, committing: tuple[str, ...] = ()) -> None:
    journal = SQLiteJournal(str(folder / "spool"), 1000, lambda: at)
    with journal.open(Fingerprint(name, lambda: name, True)) as entry:
        entry.owe(mailboxes, "f" * 32, "Q1")
        entry.committing(committing)
    journal.close()


def test_where_nothing_was_ever_written_nothing_is_owed_and_nothing_is_made(tmp_path: Path) -> None:
    found = sample(places(tmp_path))
    assert found.journal == Journal()
    assert list(tmp_path.iterdir()) == []


def test_the_backlog_counts_messages_copies_and_the_oldest(tmp_path: Path) -> None:
    owe(tmp_path, b"one", 100.0, "a@x.org", "b@x.org", "c@x.org", committing=("a@x.org",))
    owe(tmp_path, b"two", 400.0, "d@x.org")
    assert sample(places(tmp_path), lambda: 1000.0).journal == Journal(2, 3, 1, 900.0)


def test_a_journal_that_cannot_be_read_is_a_problem_and_not_empty(tmp_path: Path) -> None:
    owe(tmp_path, b"one", 100.0, "a@x.org")
    (database,) = (path for path in (tmp_path / "spool").iterdir() if path.read_bytes().startswith(b"SQLite format"))
    for path in (tmp_path / "spool").iterdir():
        if path.name.startswith(database.name):
            path.write_bytes(b"this is no database, and long enough to be read as one" * 100)
    assert sample(places(tmp_path)).journal.problem


def test_a_filter_that_only_observes_needs_no_journal(tmp_path: Path) -> None:
    owe(tmp_path, b"one", 100.0, "a@x.org")
    assert sample(places(tmp_path, "observe = true\n")).journal == Journal()


def test_the_seal_keys_are_counted_and_the_newest_is_dated(tmp_path: Path) -> None:
    for at in (100.0, 300.0):
        store = SealKeys(str(tmp_path / "seal"), lambda at=at: at)  # type: ignore[misc]
        store.prepare("", 0)
    assert sample(places(tmp_path, '[policy]\nmixed = "stage"\n')).stage == Stage(True, "", 2, 300)


def test_a_seal_key_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "seal").mkdir()
    (tmp_path / "seal" / "00.key").write_text("no key")
    assert "is no seal key" in sample(places(tmp_path, '[policy]\nmixed = "stage"\n')).stage.problem


def test_places_read_back_as_they_were_written(tmp_path: Path) -> None:
    found = places(tmp_path)
    assert Places.from_dict(found.as_dict()) == found
