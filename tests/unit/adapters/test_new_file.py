"""Files that are made once: whole, with their mode from the beginning, and never over another."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from smilla.adapters import new_file
from smilla.errors import FileProblem


@pytest.mark.parametrize("mode", [new_file.PRIVATE, new_file.PUBLIC])
def test_file_has_its_octets_and_its_mode_whatever_the_umask(mode: int, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        new_file.write(tmp_path / "x", b"octets", mode)
    finally:
        os.umask(before)
    assert (tmp_path / "x").read_bytes() == b"octets"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_existing_file_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("x", "dangling"):
        with pytest.raises(FileProblem, match="File exists"):
            new_file.write(tmp_path / name, b"new", new_file.PRIVATE)
    assert (tmp_path / "x").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "x"]


def test_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="No such file"):
        new_file.write(tmp_path / "none" / "x", b"", new_file.PRIVATE)
    with pytest.raises(FileProblem, match="No such file"):
        new_file.replace(tmp_path / "none" / "x", b"")


def test_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "zone"
    path.write_bytes(b"old")
    path.chmod(0o640)
    new_file.replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [found.name for found in tmp_path.iterdir()] == ["zone"]


def test_large_or_missing_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes((1 << 20) + 1))
    for name in ("large", "missing"):
        with pytest.raises(FileProblem):
            new_file.read(tmp_path / name)
