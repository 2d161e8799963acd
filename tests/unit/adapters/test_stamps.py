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
    assert stamps.stamp(str(path)) == first
    os.utime(path, (1, 1))
    second = stamps.stamp(str(path))
    path.write_text("ab")
    os.utime(path, (1, 1))
    assert len({first, second, stamps.stamp(str(path)), stamps.GONE}) == 4


def test_another_file_of_the_same_size_and_time_has_another_stamp(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for path, text in ((one, "a"), (two, "b")):
        path.write_text(text)
        os.utime(path, (1, 1))
    before = stamps.stamp(str(one))
    two.rename(one)
    assert stamps.stamp(str(one)) != before


def test_a_change_whose_time_was_set_back_has_another_stamp(tmp_path: Path) -> None:
    path = tmp_path / "main.cf"
    path.write_text("a")
    os.utime(path, (1, 1))
    before, changed_at = stamps.stamp(str(path)), path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == changed_at:  # the clock of the file system has ticks
        path.write_text("b")
        os.utime(path, (1, 1))
    assert stamps.stamp(str(path)) != before


def test_a_stamp_of_an_earlier_version_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "main.cf"
    path.touch()
    assert stamps.is_whole(stamps.stamp(str(path)))
    assert stamps.is_whole(stamps.GONE)
    assert not stamps.is_whole("1795906740000000000 12")


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
