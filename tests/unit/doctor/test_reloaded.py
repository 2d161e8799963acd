"""A reload that nobody has made, by what the running filter says of itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smilla.adapters.as_user import User
from smilla.config import parse
from smilla.doctor import reloaded
from smilla.doctor.rights import Service
from smilla.errors import SmillaError
from smilla.metrics.snapshot import Reloads, Snapshot

UNIT = Service(User("nobody"), drops_rights=False, unit="/x/smilla.service")


@pytest.mark.parametrize(
    ("times", "unit", "count"),
    [
        ((900, 0), "/x", 0),
        ((2000, 0), "/x", 1),
        ((2000, 2000), "/x", 0),
        ((2001, 2000), "/x", 1),
        ((2000, 0), "", 0),  # perhaps not the file of the filter that runs
    ],
)
def test_a_file_that_was_changed_after_the_filter_read_it_is_a_warning_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: tuple[int, int], unit: str, count: int
) -> None:
    changed_at, read_at = times
    path = tmp_path / "smilla.toml"
    path.touch()
    os.utime(path, (changed_at, changed_at))
    reloads = Reloads(read_at=float(read_at))
    snapshot = Snapshot(version="1", taken_at=3000.0, observing=False, started_at=1000.0, reloads=reloads)
    monkeypatch.setattr("smilla.adapters.status.ask", lambda _: snapshot)
    service = Service(User("nobody"), drops_rights=False, unit=unit)
    found = list(reloaded.problems(parse(""), path, service))
    assert [(each.kind, each.severity, each.mend) for each in found] == [
        ("not-reloaded", "warning", "systemctl reload smilla")
    ] * count


def test_a_filter_that_does_not_answer_is_told_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str) -> None:
        raise SmillaError(path)

    monkeypatch.setattr("smilla.adapters.status.ask", refused)
    path = tmp_path / "smilla.toml"
    path.touch()
    assert list(reloaded.problems(parse(""), path, UNIT)) == []
