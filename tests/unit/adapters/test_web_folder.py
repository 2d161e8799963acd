"""The folder that a web server serves: made once, replaced as a whole, and nothing else touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from smilla.adapters.web_folder import WebFolder
from smilla.errors import FileProblem
from smilla.keys.discovery.wkd import hashed

NAME = hashed("pia")


def test_only_names_of_keys_are_listed_and_only_files(tmp_path: Path) -> None:
    folder = WebFolder(tmp_path)
    assert folder.names("example.org") == ()
    folder.prepare("example.org")
    place = tmp_path / "example.org" / "hu"
    for name in (NAME, "index.html", ".smilla-0", NAME.upper(), NAME[1:], NAME + "y"):
        (place / name).write_bytes(b"x")
    (place / hashed("folder")).mkdir()
    assert folder.names("example.org") == [NAME]


def test_a_key_is_written_once_and_replaced_when_it_changes(tmp_path: Path) -> None:
    folder = WebFolder(tmp_path)
    folder.prepare("example.org")
    assert [folder.put("example.org", NAME, raw) for raw in (b"a", b"a", b"b")] == [True, False, True]
    path = tmp_path / folder.shown("example.org", NAME)
    assert path.read_bytes() == b"b"
    folder.remove("example.org", NAME)
    assert not path.exists()


def test_a_folder_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "example.org").write_bytes(b"")
    with pytest.raises(FileProblem, match="cannot be"):
        WebFolder(tmp_path).prepare("example.org")
    with pytest.raises(FileProblem, match="cannot be"):
        WebFolder(tmp_path).names("example.org")


def test_a_key_that_is_gone_cannot_be_removed(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match=NAME):
        WebFolder(tmp_path).remove("example.org", NAME)
