from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from smilla.adapters import stamps


def test_stamp_is_another_once_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "main.cf"
    assert stamps.stamp(str(path)) == stamps.stamp(str(path / "below")) == stamps.GONE
    path.write_text("a")
    first = stamps.stamp(str(path))
    path.chmod(0o600)
    assert stamps.stamp(str(path)) == first
    os.utime(path, (1, 1))
    second = stamps.stamp(str(path))
    path.write_text("ab")
    os.utime(path, (1, 1))
    assert len({first, second, stamps.stamp(str(path)), stamps.GONE}) == 4


def test_what_may_not_be_looked_at_has_no_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", denied)
    assert stamps.stamp(str(tmp_path)) == ""
    assert stamps.changed_at(str(tmp_path)) == 0


def test_an_old_file_that_is_put_in_place_is_a_change_of_now(tmp_path: Path) -> None:
    path, link = tmp_path / "one", tmp_path / "link"
    path.touch()
    os.utime(path, (1, 1))
    assert time.time() - stamps.changed_at(str(path)) < 60
    before = stamps.changed_at(str(path))
    time.sleep(0.02)
    link.symlink_to(path)
    assert stamps.changed_at(str(link)) > before
