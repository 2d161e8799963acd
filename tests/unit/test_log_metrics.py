"""What the log says of the metrics."""

from __future__ import annotations

import pytest

from smilla import log, log_metrics
from tests.unit.test_log_recovery import Keeper


def test_a_gauge_that_fails_is_told_with_the_place_and_without_the_words_of_the_exception(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keeper = Keeper()
    monkeypatch.setattr(log, "_output", None)
    log.configure("info", "text", keeper)
    try:
        raise ValueError("a piece of mail")
    except ValueError:
        log_metrics.gauge_failed("spool_bytes")
    [line] = keeper.lines
    assert b"gauge-failed gauge=spool_bytes error=ValueError" in line
    assert b"at=test_log_metrics.py:" in line
    assert line.endswith(b" severity=error\n")
    assert b"piece" not in line
