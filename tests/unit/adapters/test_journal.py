"""The journal: what is remembered, by whom it is locked, and that it survives kill -9."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smilla.adapters import journal_store
from smilla.adapters.journal import SQLiteJournal, Summary
from smilla.adapters.journal_store import Database
from smilla.errors import JournalBusy, JournalError
from smilla.ports import Fingerprint, Journal
from tests.unit.adapters.spool import ANN, BEN, TOKEN, Clock, deliver, in_child, kill, message, rows


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Iterator[SQLiteJournal]:
    found = SQLiteJournal(str(tmp_path / "lib" / "spool"), 1000, clock)
    yield found
    found.close()


def test_it_is_a_journal(journal: SQLiteJournal) -> None:
    port: Journal = journal
    assert not port.known(message())


def test_asking_makes_no_file(journal: SQLiteJournal, tmp_path: Path) -> None:
    assert not journal.known(message())
    assert not journal.is_own(TOKEN, [ANN])
    assert journal.summary() == Summary()
    assert list(tmp_path.iterdir()) == []


def test_known_reads_no_body(journal: SQLiteJournal) -> None:
    deliver(journal, message(), ANN)

    def content() -> bytes:
        raise AssertionError("the body was read")

    assert journal.known(Fingerprint(b"quick one", content, True))
    assert not journal.known(Fingerprint(b"quick two", content, True))


def test_states_go_from_owed_to_accepted_and_are_on_the_disk(journal: SQLiteJournal, tmp_path: Path) -> None:
    with journal.open(message()) as entry:
        assert not entry.is_accepted(ANN) and not entry.is_unknown(ANN)
        entry.owe([ANN, BEN], TOKEN, "Q1")
        assert not entry.is_unknown(ANN)
        entry.committing([ANN, BEN])
        entry.settle([ANN], [BEN])
        assert entry.is_accepted(ANN) and not entry.is_accepted(BEN) and not entry.is_unknown(BEN)
    other = SQLiteJournal(str(tmp_path / "lib" / "spool"), 1000)
    with other.open(message()) as entry:
        assert entry.is_accepted(ANN) and not entry.is_accepted(BEN) and not entry.is_unknown(BEN)
    other.close()


def test_content_tells_messages_with_the_same_head_apart(journal: SQLiteJournal) -> None:
    deliver(journal, message(), ANN)
    with journal.open(Fingerprint(b"quick one", lambda: b"another body", True)) as entry:
        assert not entry.is_accepted(ANN)


def test_nothing_owed_leaves_nothing(journal: SQLiteJournal) -> None:
    with journal.open(message()) as entry:
        entry.owe((), TOKEN, "Q1")
    with journal.open(message()) as entry:
        entry.finish()
    assert rows(journal) == (0, 0)


def test_committing_needs_owe_and_an_open_entry(journal: SQLiteJournal) -> None:
    with journal.open(message()) as entry:
        with pytest.raises(JournalError, match="nothing is owed"):
            entry.committing([ANN])
        entry.owe([ANN], TOKEN, "Q1")
    with pytest.raises(JournalError, match="closed"):
        entry.committing([ANN])
    with pytest.raises(JournalError, match="closed"):
        entry.owe([ANN], TOKEN, "Q1")
    with pytest.raises(JournalError, match="closed"):
        entry.settle([ANN], ())


def test_finished_message_is_remembered_and_its_token_is_wiped(journal: SQLiteJournal) -> None:
    deliver(journal, message(), ANN)
    assert journal.summary() == Summary((), 1, 0)
    assert not journal.is_own(TOKEN, [ANN])
    with journal.open(message()) as entry:
        assert entry.is_accepted(ANN)
        entry.owe([ANN, BEN], "f" * 32, "Q2")
        assert entry.is_accepted(ANN)
    assert journal.summary().unfinished[0].queue_id == "Q2"


def test_finish_after_closing_touches_no_later_attempt(journal: SQLiteJournal) -> None:
    with journal.open(message(identified=False)) as first:
        first.owe([ANN], TOKEN, "Q1")
    with journal.open(message()) as second:
        second.owe([ANN], "f" * 32, "Q2")
        first.finish()
        assert journal.is_own("f" * 32, [ANN])
    second.finish()
    assert journal.summary() == Summary((), 1, 0)


def test_message_without_a_name_is_forgotten(journal: SQLiteJournal) -> None:
    deliver(journal, message(identified=False), ANN)
    assert rows(journal) == (0, 0)
    assert not journal.known(message(identified=False))


def test_token_is_own_for_an_hour_after_each_attempt(journal: SQLiteJournal, clock: Clock) -> None:
    with journal.open(message()) as entry:
        entry.owe([ANN], TOKEN, "Q1")
        assert journal.is_own(TOKEN, [ANN]) and not journal.is_own("", [ANN]) and not journal.is_own("\udcff\0", [ANN])
    clock.now += 3599
    assert journal.is_own(TOKEN, [ANN])
    clock.now += 1
    assert not journal.is_own(TOKEN, [ANN])
    with journal.open(message()) as entry:
        entry.owe([ANN], "f" * 32, "Q2")
    assert journal.is_own("f" * 32, [ANN]) and not journal.is_own(TOKEN, [ANN])
    assert journal.summary().unfinished[0].begun_at == clock.now - 3600


def test_token_is_own_for_those_only_whom_the_message_is_for(journal: SQLiteJournal) -> None:
    with journal.open(message()) as entry:
        entry.owe([ANN, BEN], TOKEN, "Q1")
    assert journal.is_own(TOKEN, [ANN, BEN]) and journal.is_own(TOKEN, [BEN])
    assert not journal.is_own(TOKEN, [ANN, "somebody@else.example"])


def test_expiry_at_most_once_a_minute(journal: SQLiteJournal, clock: Clock) -> None:
    deliver(journal, message(b"old"), ANN)
    clock.now += 1001
    with journal.open(message(b"other")):
        assert not journal.known(message(b"old"))
        assert rows(journal) == (0, 0)
    deliver(journal, message(b"young"), ANN)
    clock.now += 900
    with journal.open(message(b"other")):
        assert journal.known(message(b"young"))
    clock.now += 59
    journal._remember_s = 1
    with journal.open(message(b"other")):
        assert journal.known(message(b"young"))


def test_kill_between_committing_and_settle_is_unknown_and_counted(journal: SQLiteJournal) -> None:
    def work() -> None:
        opened = journal.open(message())
        _kept.append(opened)
        entry = opened.__enter__()
        entry.owe([ANN, BEN], TOKEN, "Q1")
        entry.committing([ANN])

    kill(in_child(work))
    assert journal.summary().unfinished[0].committing == 1
    with journal.open(message()) as entry:
        assert entry.is_unknown(ANN) and not entry.is_unknown(BEN)
        assert journal.summary().unknown_windows == 0
        entry.owe([ANN, BEN], "f" * 32, "Q2")
        assert entry.is_unknown(ANN)
        assert journal.summary().unknown_windows == 1
        entry.committing([ANN])
        entry.settle([ANN], ())
        assert not entry.is_unknown(ANN)


def test_lock_excludes_processes_and_ends_with_kill(journal: SQLiteJournal) -> None:
    held = journal.open(message(b"two"))
    held.__enter__()
    pid = in_child(lambda: _hold(journal))
    try:
        with pytest.raises(JournalBusy):
            journal.open(message()).__enter__()
        with journal.open(message(b"three")):
            pass
    finally:
        kill(pid)
    with journal.open(message()):
        pass
    held.__exit__(None, None, None)
    assert {path.name for path in journal._spool.iterdir()} <= {
        "lock",
        *map("journal.sqlite3{}".format, ("", "-wal", "-shm")),
    }


_kept: list[object] = []


def _hold(journal: SQLiteJournal) -> None:
    """An entry that stays open as long as the process lives; and the connection of before the fork is not used."""
    before = set(journal._databases)
    opened = journal.open(message())
    opened.__enter__()
    _kept.append(opened)
    assert set(journal._databases) - before == {os.getpid()}


def test_threads_exclude_each_other_and_share_the_connection(journal: SQLiteJournal) -> None:
    faults: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                deliver(journal, message(b"%d-%d" % (number, turn)), ANN)
                assert journal.known(message(b"%d-%d" % (number, turn)))
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    with journal.open(message()):
        for thread in threads:
            thread.start()
        with pytest.raises(JournalBusy):
            journal.open(message()).__enter__()
        for thread in threads:
            thread.join()
    assert faults == []
    assert rows(journal) == (80, 80)


def test_processes_make_the_journal_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_store, "_BUSY_S", 60.0)  # a slow disk is no fault here
    for attempt in range(5):
        spool = str(tmp_path / str(attempt))
        pids = [os.fork() or _deliver_and_exit(spool, n) for n in range(6)]
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 6
        fresh = SQLiteJournal(spool, 1000)
        assert fresh.summary().remembered == 6
        fresh.close()


def _deliver_and_exit(spool: str, number: int) -> int:
    code = 1
    try:
        deliver(SQLiteJournal(spool, 1000), message(b"%d" % number), ANN)
        code = 0
    finally:
        os._exit(code)


# --- what a mutation run (make mutants) left alive ---------------------------------------------------------


def test_reserve_is_for_what_has_happened_and_never_for_what_has_not(
    journal: SQLiteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    real = Database.change

    def change(self: Database, work: Callable[[sqlite3.Cursor], object], last: bool = False) -> None:
        told.append(last)
        real(self, work, last)

    with journal.open(message()) as entry:
        monkeypatch.setattr(Database, "change", change)
        entry.owe([ANN], TOKEN, "Q1")
        entry.committing([ANN])
        entry.settle([ANN], ())
        entry.finish()
    assert told == [False, False, True, True]


@pytest.mark.parametrize("identified", [True, False])
def test_after_finish_nothing_is_owed_and_only_a_message_with_a_name_stays_known(
    journal: SQLiteJournal, identified: bool
) -> None:
    with journal.open(message(identified=identified)) as entry:
        entry.owe([ANN], TOKEN, "Q1")
        entry.committing([ANN])
        entry.settle([ANN], ())
        entry.finish()
        assert entry.is_accepted(ANN) is identified
        with pytest.raises(JournalError, match="nothing is owed"):
            entry.committing([ANN])


def test_attempt_that_owed_nothing_new_finishes_what_the_one_before_it_left(journal: SQLiteJournal) -> None:
    with journal.open(message(identified=False)) as entry:
        entry.owe([ANN], TOKEN, "Q1")
        entry.committing([ANN])
        entry.settle([ANN], ())
    with journal.open(message(identified=False)) as entry:
        assert entry.is_accepted(ANN)
    entry.finish([ANN])
    assert rows(journal) == (0, 0)
