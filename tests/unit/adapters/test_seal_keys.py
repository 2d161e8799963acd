"""Seal keys: made once, kept for ever, never readable for others."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from smilla.adapters.seal_keys import SealKeys
from smilla.errors import SealKeyMissing

DAY = 86400


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_the_first_start_makes_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    keys = SealKeys(str(tmp_path / "seal"))
    keys.prepare("", 30)
    (stored,) = keys.all()
    assert keys.current() == stored.key == keys.find(stored.key.raw_id)
    assert stat.S_IMODE(stored.path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "seal").stat().st_mode) == 0o700
    assert len(stored.key.raw) == 32


def test_a_second_start_keeps_the_key_and_an_old_one_is_followed_by_a_new_one(tmp_path: Path) -> None:
    clock = Clock()
    keys = SealKeys(str(tmp_path), clock)
    keys.prepare("", 30)
    first = keys.current()
    clock.now += 29 * DAY
    SealKeys(str(tmp_path), clock).prepare("", 30)
    assert keys.current() == first
    clock.now += 2 * DAY
    SealKeys(str(tmp_path), clock).prepare("", 30)
    assert keys.current() != first
    assert keys.find(first.raw_id) == first
    assert [stored.key for stored in keys.all()] == [first, keys.current()]


def test_a_key_that_is_gone_is_named(tmp_path: Path) -> None:
    keys = SealKeys(str(tmp_path))
    with pytest.raises(SealKeyMissing, match="no seal key"):
        keys.current()
    with pytest.raises(SealKeyMissing, match="0000000000000000"):
        keys.find(bytes(8))
    with pytest.raises(SealKeyMissing, match="cannot be read"):
        SealKeys(str(tmp_path / "none")).current()


@pytest.mark.parametrize("text", ["", "smilla seal key\n", "smilla seal key\nmade at 1\nkey 00\n", "\xff"])
def test_a_file_that_is_no_key_is_an_error_and_no_key_is_made_in_its_place(tmp_path: Path, text: str) -> None:
    (tmp_path / "0011223344556677.key").write_text(text, "latin-1")
    with pytest.raises(SealKeyMissing, match="0011223344556677"):
        SealKeys(str(tmp_path)).prepare("", 30)
    assert [path.name for path in tmp_path.iterdir()] == ["0011223344556677.key"]


def test_a_change_within_one_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    """The folder's time is the same before and after it."""
    keys = SealKeys(str(tmp_path))
    first = keys.make()
    now_ns = tmp_path.stat().st_mtime_ns
    assert keys.current() == first
    (stored,) = keys.all()
    older = stored.path.with_name("00" * 8 + ".key")
    older.write_text(stored.path.read_text().replace(first.raw.hex(), "ab" * 32))
    stored.path.unlink()
    os.utime(tmp_path, ns=(now_ns, now_ns))
    assert keys.current().raw.hex() == "ab" * 32


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_a_folder_that_may_be_entered_but_not_read_is_an_error_and_is_not_taken_for_an_empty_one() -> None:
    """In /tmp, because another user cannot reach pytest's own folder."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        SealKeys(place).make()
        Path(place).chmod(0o711)
        pid = os.fork()
        if pid == 0:
            try:
                os.setuid(65534)
                SealKeys(place).all()
            except SealKeyMissing as error:
                os._exit(0 if "cannot be read: Permission denied" in str(error) else 2)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
