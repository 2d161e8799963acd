"""The parent's side of the reporter, where the machine has no room for another process."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from smilla.config import Config
from smilla.server.reporter import Reporter


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_fork_that_fails_is_tried_again_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    reporter = Reporter()
    monkeypatch.setattr("smilla.server.reporter.os.fork", no_room)
    before = _descriptors()
    reporter.start([])
    assert 0 < reporter.see(Config(), 1, [], []) < 1
    assert _descriptors() <= before  # what earlier tests left may end meanwhile
    reporter.stop()


def test_a_day_of_failures_is_no_number_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Reporter()
    reporter._failures = 5000
    monkeypatch.setattr("smilla.server.reporter.os.fork", lambda: os.open("/nowhere", os.O_RDONLY))
    reporter.start([])
    assert reporter.see(Config(), 1, [], []) <= 30
