"""The journal's files: private, made once, and what a full disk, rubbish and missing rights do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from smilla.adapters import journal as module
from smilla.adapters import journal_store as module_store
from smilla.adapters.journal import SQLiteJournal, Summary
from smilla.errors import JournalError
from tests.unit.adapters.spool import ANN, BEN, TOKEN, deliver, in_child, kill, message


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SQLiteJournal]:
    found = SQLiteJournal(str(tmp_path / "lib" / "spool"), 1000)
    yield found
    found.close()


def test_no_address_and_no_content_stands_in_the_spool(journal: SQLiteJournal) -> None:
    annabel = "annabel@example.org"  # three letters would stand in some hash by chance
    with journal.open(message()) as entry:
        entry.owe([annabel, BEN], TOKEN, "Q1")
        entry.committing([annabel])
        octets = b"".join(path.read_bytes() for path in journal._spool.iterdir())
        entry.settle([annabel], [BEN])
    deliver(journal, message(b"two"), annabel)
    octets += b"".join(path.read_bytes() for path in journal._spool.iterdir())
    assert b"Q1" in octets
    for secret in (b"annabel", b"example", b"content", b"quick one"):
        assert secret not in octets
    database = sqlite3.connect(journal._spool / "journal.sqlite3")
    assert database.execute("SELECT count(DISTINCT recipient) FROM copies").fetchone() == (3,)
    database.close()


def test_folder_and_files_are_private(journal: SQLiteJournal) -> None:
    old = os.umask(0)
    try:
        deliver(journal, message(), ANN)
    finally:
        os.umask(old)
    assert journal._spool.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in journal._spool.iterdir()} == {0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_folder_belongs_to_the_user_also_where_root_makes_the_files(journal: SQLiteJournal) -> None:
    journal.prepare("nobody")
    deliver(journal, message(), ANN)
    assert {path.stat().st_uid for path in (journal._spool, *journal._spool.iterdir())} == {65534}
    assert journal._spool.parent.stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_owner_of_what_a_link_points_to_is_not_changed(tmp_path: Path) -> None:
    folder, target, link = tmp_path / "spool", tmp_path / "target", tmp_path / "spool" / "lock"
    folder.mkdir()
    target.touch()
    link.symlink_to(target)
    os.chown(folder, 65534, 65534)
    module_store._give_to_owner(folder, link)
    assert (target.stat().st_uid, link.lstat().st_uid) == (0, 65534)


def test_folder_is_made_with_all_that_is_above_it(tmp_path: Path) -> None:
    journal = SQLiteJournal(str(tmp_path / "a" / "b" / "spool"), 1000)
    journal.prepare("")
    assert journal._spool.is_dir()


def test_folder_that_is_there_is_left_as_it_is(journal: SQLiteJournal) -> None:
    journal._spool.mkdir(parents=True)
    journal._spool.chmod(0o755)
    journal.prepare("nobody")
    deliver(journal, message(), ANN)
    assert (journal._spool.stat().st_mode & 0o777, journal._spool.stat().st_uid) == (0o755, os.geteuid())


def test_unknown_user_or_a_file_in_place_of_the_folder(journal: SQLiteJournal) -> None:
    if os.geteuid() == 0:
        with pytest.raises(JournalError, match="no such user"):
            journal.prepare("nobody-of-this-name")
    journal._spool.write_bytes(b"") if journal._spool.parent.is_dir() else journal._spool.parent.write_bytes(b"")
    with pytest.raises(JournalError, match=r"spool must be a folder|Not a directory"):
        journal.prepare("")
    with pytest.raises(JournalError):
        journal.known(message())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_folder_without_permission(journal: SQLiteJournal, tmp_path: Path) -> None:
    deliver(journal, message(), ANN)
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(folder.stat().st_mode | 0o111)

    def work() -> None:
        os.setuid(65534)
        with pytest.raises(JournalError, match=r"Permission denied.*belongs to the filter's user"):
            journal.known(message())
        with pytest.raises(JournalError, match="Permission denied"):
            journal.open(message()).__enter__()

    kill(in_child(work))


@pytest.mark.parametrize("octets", [b"rubbish" * 1000, b"SQLite format 3\0" + bytes(5000)])
def test_corrupt_file_says_what_to_do(journal: SQLiteJournal, octets: bytes) -> None:
    journal.prepare("")
    (journal._spool / "journal.sqlite3").write_bytes(octets)
    with pytest.raises(JournalError, match=r"journal\.sqlite3: file is not a database; stop smilla and move"):
        journal.known(message())
    with pytest.raises(JournalError, match="stop smilla and move"):
        journal.open(message()).__enter__()
    with pytest.raises(JournalError):
        journal.summary()


def test_other_version_is_refused_and_a_removed_file_is_made_anew(journal: SQLiteJournal) -> None:
    deliver(journal, message(), ANN)
    for path in journal._spool.glob("journal.sqlite3*"):
        path.unlink()
    assert not journal.known(message())
    deliver(journal, message(), ANN)
    assert journal.known(message())
    journal.close()
    database = sqlite3.connect(journal._spool / "journal.sqlite3")
    database.execute("PRAGMA user_version = 7")
    database.close()
    with pytest.raises(JournalError, match="version 7"):
        journal.known(message())


@pytest.mark.parametrize("statement", ["", "PRAGMA journal_mode = WAL"])
def test_making_that_was_cut_off_is_done_again(journal: SQLiteJournal, statement: str) -> None:
    journal.prepare("")
    database = sqlite3.connect(journal._spool / "journal.sqlite3")
    database.execute(statement)
    database.close()
    (journal._spool / "journal.sqlite3").touch(0o600)
    assert not journal.known(message())
    deliver(journal, message(), ANN)
    assert journal.known(message())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs root, and leave to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    with pytest.raises(OSError), (folder / "fill").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_full_disk_after_acceptance_is_still_written(small_disk: Path) -> None:
    journal = SQLiteJournal(str(small_disk / "spool"), 1000)
    many = [f"{number}@example.org" for number in range(300)]
    with journal.open(message()) as entry:
        entry.owe(many, TOKEN, "Q1")
        entry.committing(many)
        fill(small_disk)
        entry.settle(many, ())
        assert not (journal._spool / "reserve").exists()
        entry.finish()
    with journal.open(message()) as entry:
        assert all(entry.is_accepted(mailbox) for mailbox in many)
    journal.close()


def test_full_disk_before_anything_left_owes_nothing(small_disk: Path) -> None:
    journal = SQLiteJournal(str(small_disk / "spool"), 1000)
    deliver(journal, message(), ANN)
    (journal._spool / "reserve").unlink()
    fill(small_disk)
    with (small_disk / "fill").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 128 * 1024)
    with journal.open(message(b"two")) as entry, pytest.raises(JournalError, match="free some room"):
        entry.owe([ANN], TOKEN, "Q2")
    assert not (journal._spool / "reserve").exists()
    assert journal.summary() == Summary((), 1, 0)
    (small_disk / "fill").unlink()
    deliver(journal, message(b"two"), ANN)
    assert (journal._spool / "reserve").stat().st_blocks * 512 >= 256 * 1024
    journal.close()


def test_full_disk_before_the_final_dot_leaves_the_reserve_to_what_has_happened(small_disk: Path) -> None:
    journal = SQLiteJournal(str(small_disk / "spool"), 1000)
    many = [f"{number}@example.org" for number in range(300)]
    with journal.open(message()) as entry:
        entry.owe(many, TOKEN, "Q1")
        fill(small_disk)
        with pytest.raises(JournalError, match="free some room"):
            entry.committing(many)
        assert (journal._spool / "reserve").stat().st_size == 256 * 1024
    journal.close()


def test_reserve_is_made_whole_again(journal: SQLiteJournal) -> None:
    deliver(journal, message(), ANN)
    (journal._spool / "reserve").write_bytes(b"part")
    with journal.open(message()) as entry:
        entry.owe([BEN], TOKEN, "Q1")
        assert (journal._spool / "reserve").stat().st_size == 256 * 1024


_PRAGMAS = ("synchronous", "journal_mode", "secure_delete", "wal_autocheckpoint")


def test_commits_reach_the_disk(journal: SQLiteJournal) -> None:
    deliver(journal, message(), ANN)
    read = journal._database.read
    found = [read(f"PRAGMA {name}")[0][0] for name in _PRAGMAS]
    assert found == [2, "wal", 1, 100]


def test_no_exception_of_sqlite_leaves_it(journal: SQLiteJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    with journal.open(message()) as entry:
        entry.owe([ANN], TOKEN, "Q\udcff")
        monkeypatch.setattr(module, "_SET", "no SQL")
        with pytest.raises(JournalError, match="syntax error"):
            entry.owe([BEN], TOKEN, "Q")
        with pytest.raises(JournalError, match="syntax error"):
            entry.settle([ANN], ())
        assert not entry.is_accepted(ANN)


def test_token_is_wiped_from_the_table(journal: SQLiteJournal) -> None:
    deliver(journal, message(), ANN)
    assert journal._database.read("SELECT token FROM messages") == [(None,)]


def test_another_file_of_that_name_is_opened(journal: SQLiteJournal, tmp_path: Path) -> None:
    """A restored backup counts at once; and digests have a key of their own in each file."""
    other = SQLiteJournal(str(tmp_path / "other"), 1000)
    for each in (journal, other):
        deliver(each, message(b"same"), ANN)
    digests = [each._database.read("SELECT quick FROM messages")[0][0] for each in (journal, other)]
    assert digests[0] != digests[1]
    deliver(other, message(b"restored"), ANN)
    other.close()
    for path in journal._spool.glob("journal.sqlite3-*"):
        path.unlink()
    (tmp_path / "other" / "journal.sqlite3").replace(journal._spool / "journal.sqlite3")
    assert journal.known(message(b"restored"))


# --- what a mutation run (make mutants) left alive ---------------------------------------------------------


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_file_that_was_removed_or_emptied_is_used_no_longer(journal: SQLiteJournal) -> None:
    """What is written into a file without a name is lost."""
    deliver(journal, message(), ANN)
    file = journal._spool / "journal.sqlite3"
    with journal.open(message(b"two")) as entry:
        entry.owe([ANN], TOKEN, "Q2")
        for path in journal._spool.glob("journal.sqlite3*"):
            path.unlink()
        with pytest.raises(JournalError, match="removed while in use"):
            entry.committing([ANN])
    assert journal._database._connection is None
    deliver(journal, message(), ANN)
    for path in journal._spool.glob("journal.sqlite3*"):
        path.unlink()
    file.touch(0o600)
    assert not journal.is_there()
    assert journal._database._connection is None


def test_file_that_is_removed_while_it_is_made_is_an_error(
    journal: SQLiteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.prepare("")
    monkeypatch.setattr("smilla.adapters.synced_folder.sync", lambda folder: (folder / "journal.sqlite3").unlink())
    with pytest.raises(JournalError, match="removed again"):
        journal.open(message()).__enter__()


def test_closed_journal_has_no_connection_and_opens_another(journal: SQLiteJournal) -> None:
    deliver(journal, message(), ANN)
    journal.close()
    assert journal._database._connection is None
    assert journal.known(message())


def test_making_waits_for_another_worker_and_then_gives_up(
    journal: SQLiteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.prepare("")
    monkeypatch.setattr(module_store, "_BUSY_S", 0.05)
    held = module_store.lock(journal._spool, 0)
    assert held is not None
    with pytest.raises(JournalError, match="another worker is still making it"):
        journal.open(message()).__enter__()
    os.close(held)
    deliver(journal, message(), ANN)
    again = module_store.lock(journal._spool, 0)
    assert again is not None
    os.close(again)


def test_lock_is_waited_for(journal: SQLiteJournal) -> None:
    journal.prepare("")
    held = module_store.lock(journal._spool, 0)
    assert held is not None
    freeing = threading.Timer(0.1, os.close, [held])
    freeing.start()
    descriptor = module_store.lock(journal._spool, 0, 600.0)
    freeing.join()
    assert descriptor is not None
    os.close(descriptor)


def test_change_spends_the_reserve_only_where_that_is_said(
    journal: SQLiteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullError(sqlite3.OperationalError):
        sqlite_errorcode = sqlite3.SQLITE_FULL

    def full(*_: object) -> None:
        raise FullError

    deliver(journal, message(), ANN)
    monkeypatch.setattr(module_store.Database, "_transaction", full)
    for options, left in (({}, True), ({"last": True}, False)):
        with pytest.raises(FullError):
            journal._database.change(full, **options)
        assert (journal._spool / "reserve").exists() is left


def test_version_of_the_file_is_that_of_the_files_that_are_there(journal: SQLiteJournal) -> None:
    deliver(journal, message(), ANN)
    assert journal._database.read("PRAGMA user_version") == [(1,)]


def test_lock_and_reserve_leave_no_descriptor_open(journal: SQLiteJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver(journal, message(), ANN)
    held = module_store.lock(journal._spool, 5)
    assert held is not None
    before = open_files()
    assert module_store.lock(journal._spool, 5) is None
    (journal._spool / "reserve").unlink()
    module_store.fill_reserve(journal._spool)

    def fail(*_: object) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(module_store, "_give_to_owner", fail)
    with pytest.raises(PermissionError):
        module_store.lock(journal._spool, 6)
    assert open_files() == before
    os.close(held)
