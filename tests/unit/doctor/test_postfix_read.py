"""Has the running Postfix read its files?  A real one is reloaded in tests/live/test_postfix_reload.py."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from smilla.adapters.postfix import File
from smilla.adapters.postfix_running import Process
from smilla.doctor import postfix_read
from smilla.doctor.finding import Kind
from smilla.errors import PostfixUnclear

FILES = {"/p/main.cf": File("1 1", 1000.0), "/p/table": File("1 1", 900.0)}


def found(*looks: Iterable[Process] | None, wait_s: float = 0.0) -> list[tuple[str, str]]:
    """The findings, where the processes are those of ``looks``, one after the other, the last for ever."""
    left = list(looks)

    def processes(queue: str) -> list[Process] | None:
        assert queue == "/q"
        look = left.pop(0) if len(left) > 1 else left[0]
        return None if look is None else list(look)

    told = postfix_read.problems("/q", "/p", FILES, processes, wait_s)
    return [(each.severity, each.line.removeprefix("postfix: ")) for each in told]


QMGR = Process(10, "qmgr", 1001.0)


def test_processes_that_are_newer_than_the_files_have_read_them() -> None:
    assert found([QMGR, Process(11, "cleanup", 1002.0), Process(12, "smtp", 1.0)]) == []


def test_queue_manager_that_is_older_than_a_file_was_not_told_to_read_it() -> None:
    ((severity, text),) = found([Process(10, "qmgr", 950.0), Process(11, "cleanup", 1.0)])
    assert severity == "error"
    assert text == "was not told to read /p/main.cf, changed since; postfix -c /p reload"
    assert "/p/main.cf, /p/table" in found([Process(10, "oqmgr", 1.0)])[0][1]


def test_one_that_started_in_the_same_tick_may_not_have_read_it() -> None:
    assert found([Process(10, "qmgr", 1000.005)])
    assert not found([Process(10, "qmgr", 1000.02)])


@pytest.mark.parametrize("name", ["smtpd", "cleanup", "pickup"])
def test_one_that_is_still_at_work_after_a_reload_is_named(name: str) -> None:
    ((severity, text),) = found([QMGR, Process(11, name, 950.0)])
    assert severity == "error"
    assert text == (
        f"{name} (process 11) goes on with what it read before the last reload; wait until it has ended, or: kill 11"
    )


def test_one_that_was_made_between_a_change_and_the_reload_has_the_options_of_before() -> None:
    master, late = Process(1, "master", 500.0), Process(11, "smtpd", 1002.0)
    ((_, text),) = found([master, late, Process(10, "qmgr", 1003.0)])
    assert text.startswith("smtpd (process 11) goes on")
    assert found([master, late, Process(10, "qmgr", 1002.01)]) == []
    assert found([Process(1, "master", 1001.5), late, Process(10, "qmgr", 1002.2)]) == []


def test_a_pickup_that_a_busy_reload_started_well_before_the_queue_manager_is_of_that_reload() -> None:
    master = Process(1, "master", 500.0)
    for started_at, told in ((1002.1, 0), (1001.9, 1)):
        assert len(found([master, Process(11, "pickup", started_at), Process(10, "qmgr", 1003.0)])) == told


def test_one_that_ends_in_time_is_waited_for() -> None:
    assert found([Process(9, "qmgr", 1.0)], [], [QMGR, Process(11, "cleanup", 1.0)], [QMGR], wait_s=20) == []


def test_without_its_queue_manager_nobody_knows_what_was_read() -> None:
    ((severity, text),) = found([Process(11, "cleanup", 1001.0)])
    assert (severity, text.endswith("postfix -c /p reload")) == ("error", True)


def test_postfix_that_does_not_run_reads_all_as_it_starts() -> None:
    assert found(None) == [("hint", "Postfix does not run; it reads its files as it starts")]


def test_what_cannot_be_told_is_a_warning() -> None:
    def unclear(_: str) -> list[Process] | None:
        raise PostfixUnclear("it hides")

    (told,) = postfix_read.problems("/q", "/p", FILES, unclear)
    assert (told.severity, told.kind) == ("warning", Kind.POSTFIX_NOT_TOLD)
    assert "it hides" in told.line
    assert "postfix -c /p reload" in told.line


def test_a_finding_that_rests_on_processes_is_known_as_one() -> None:
    (told,) = postfix_read._late([], {}, "/x")
    assert told.kind is Kind.POSTFIX_NOT_READ
