"""What works again is told once, and only by who told of the failure."""

from __future__ import annotations

import pytest

from smilla import log, log_recovery
from smilla.log_line import Line


class Keeper:
    """Where lines go."""

    joins = False

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    @staticmethod
    def framed(line: Line) -> bytes:
        return line.raw

    def write(self, raw: bytes) -> None:
        self.lines.append(raw)

    def flush(self) -> None:
        """Nothing waits."""


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Keeper:
    found = Keeper()
    monkeypatch.setattr(log, "_output", None)
    log.failing.clear()
    log.configure("info", "text", found)
    return found


def test_what_never_failed_is_not_told_to_work_again(keeper: Keeper) -> None:
    log_recovery.resolver_works("127.0.0.1", ".")
    log_recovery.journal_works("4Xq")
    log_recovery.listener_works("4Xq")
    assert keeper.lines == []


def test_what_failed_is_told_once_to_work_again(keeper: Keeper) -> None:
    log.resolver_not_validating("127.0.0.1", ".", "no AD bit")
    log.journal_failed("the disk is full")
    log_recovery.listener_fails()
    del keeper.lines[:]
    for _ in range(2):
        log_recovery.resolver_works("127.0.0.2", ".")
        log_recovery.resolver_works("127.0.0.1", ".")
        log_recovery.journal_works("4Xq")
        log_recovery.listener_works("4Xq")
    assert keeper.lines == [
        b"- resolver-ok nameserver=127.0.0.1 probe=.\n",
        b"4Xq journal-ok\n",
        b"4Xq listener-ok\n",
    ]
    assert not log_recovery.journal_is_in_doubt()
