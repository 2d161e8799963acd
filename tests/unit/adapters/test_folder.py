"""The folder of keys on the disk: what changes counts at once, and nothing but a file is opened."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from smilla.adapters.folder import KeyDirectory
from smilla.errors import SmillaError
from smilla.keys.discovery.directory import address_of


def test_a_file_that_comes_changes_or_goes_counts_at_once(tmp_path: Path) -> None:
    folder = KeyDirectory(str(tmp_path), address_of)
    for number in range(50):
        name = f"a{number}@x.test.crt"
        assert list(folder.names(f"a{number}@x.test")) == []
        (tmp_path / name).write_bytes(b"one")
        assert list(folder.names(f"a{number}@x.test")) == [name]
        (tmp_path / name).write_bytes(b"two")
        assert folder.read(name) == b"two"
        (tmp_path / name).unlink()
        assert list(folder.names(f"a{number}@x.test")) == []
        assert folder.read(name) is None


def test_names_are_found_by_the_address_in_lower_case(tmp_path: Path) -> None:
    for name in ("Bob@X.test.pem", "bob@x.test.GPG", "bob@y.test.pem", "notes.txt"):
        (tmp_path / name).touch()
    folder = KeyDirectory(str(tmp_path), address_of)
    assert list(folder.names("bob@x.test")) == ["Bob@X.test.pem", "bob@x.test.GPG"]
    assert list(folder.all_names()) == ["Bob@X.test.pem", "bob@x.test.GPG", "bob@y.test.pem", "notes.txt"]


def test_an_old_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bob@x.test.pem").touch()
    os.utime(tmp_path, (1, 1))
    later = time.time_ns() + 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    folder, original = KeyDirectory(str(tmp_path), address_of), os.listdir
    listed: list[Path] = []

    def listdir(path: Path) -> list[str]:
        listed.append(path)
        return original(path)

    monkeypatch.setattr(os, "listdir", listdir)
    for _ in range(5):
        assert list(folder.names("bob@x.test")) == ["bob@x.test.pem"]
    assert len(listed) == 1


def test_a_file_that_comes_with_an_old_time_of_its_folder_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As rsync, cp -a and tar leave it."""
    os.utime(tmp_path, (1, 1))
    later = time.time_ns() + 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    folder = KeyDirectory(str(tmp_path), address_of)
    assert list(folder.names("bob@x.test")) == []
    (tmp_path / "bob@x.test.pem").touch()
    os.utime(tmp_path, (1, 1))
    assert list(folder.names("bob@x.test")) == ["bob@x.test.pem"]


def test_a_file_is_read_once_and_anew_when_it_has_changed_in_any_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    original = os.open

    def counted(path: str | Path, flags: int, mode: int = 0o777) -> int:
        opened.append(str(path))
        return original(path, flags, mode)

    file, folder = tmp_path / "bob@x.test.pem", KeyDirectory(str(tmp_path), address_of)
    file.write_bytes(b"one")
    time.sleep(0.15)
    monkeypatch.setattr(os, "open", counted)
    assert [folder.read(file.name) for _ in range(3)] == [b"one"] * 3
    assert len(opened) == 1
    before = file.stat()
    with file.open("r+b") as same:
        same.write(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert folder.read(file.name) == b"two"
    time.sleep(0.15)
    assert [folder.read(file.name) for _ in range(3)] == [b"two"] * 3
    (tmp_path / "other").write_bytes(b"new")
    (tmp_path / "other").rename(file)
    assert folder.read(file.name) == b"new"
    time.sleep(0.15)
    assert [folder.read(file.name) for _ in range(3)] == [b"new"] * 3
    file.unlink()
    assert folder.read(file.name) is None
    file.mkdir()
    with pytest.raises(SmillaError):
        folder.read(file.name)


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, folder = tmp_path / "bob@x.test.pem", KeyDirectory(str(tmp_path), address_of)
    file.write_bytes(b"one")
    time.sleep(0.15)
    original = os.fstat

    def changing(descriptor: int) -> os.stat_result:
        found = original(descriptor)
        os.utime(file)
        return found

    monkeypatch.setattr(os, "fstat", changing)
    assert folder.read(file.name) == b"one"
    assert folder._files._kept == {}


def test_half_of_a_file_that_is_written_meanwhile_is_never_given_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be a key that cannot be used, and the mail refused for good."""
    file, original = tmp_path / "bob@x.test.pem", os.fdopen
    file.write_bytes(b"the first half")

    class Slow:
        def __init__(self, descriptor: int) -> None:
            self.inner = original(descriptor, "rb")

        def __enter__(self) -> Slow:
            return self

        def __exit__(self, *_: object) -> None:
            self.inner.close()

        def read(self, size: int) -> bytes:
            raw = self.inner.read(size)
            if writes:
                file.write_bytes(writes.pop())
            return raw

    monkeypatch.setattr(os, "fdopen", lambda descriptor, _: Slow(descriptor))
    writes = [b"the first half and the second"]
    assert KeyDirectory(str(tmp_path), address_of).read(file.name) == b"the first half and the second"
    writes = [b"x" * size for size in range(9)]
    with pytest.raises(SmillaError, match="changes while it is read"):
        KeyDirectory(str(tmp_path), address_of).read(file.name)


def test_file_that_was_emptied_a_moment_ago_is_read_once_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bob@x.test.pem"
    file.write_bytes(b"")
    clock = SimpleNamespace(time_ns=lambda: file.stat().st_mtime_ns, sleep=lambda _: file.write_bytes(b"one"))
    monkeypatch.setattr("smilla.adapters.folder.time", clock)  # it was changed just now, whenever that is
    assert KeyDirectory(str(tmp_path), address_of).read(file.name) == b"one"


def test_what_is_no_file_is_an_error_and_waits_for_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    folder = KeyDirectory(str(tmp_path), address_of)
    for name in ("fifo", "folder"):
        with pytest.raises(SmillaError):
            folder.read(name)


def test_a_link_is_followed_and_one_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"key")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    folder = KeyDirectory(str(tmp_path), address_of)
    assert folder.read("link") == b"key"
    with pytest.raises(SmillaError, match="a link that leads nowhere"):
        folder.read("dangling")


def test_a_folder_that_is_gone_is_an_error_and_no_absence(tmp_path: Path) -> None:
    folder = KeyDirectory(str(tmp_path / "none"), address_of)
    with pytest.raises(SmillaError, match="cannot be read"):
        folder.names("bob@x.test")
    with pytest.raises(SmillaError, match="cannot be read"):
        folder.all_names()
    assert list(KeyDirectory("", address_of).names("bob@x.test")) == []


def test_a_file_that_is_too_large_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(SmillaError, match="larger"):
        KeyDirectory(str(tmp_path), address_of).read("large")
