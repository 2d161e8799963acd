"""Large bodies in a nameless file: octet for octet, and nothing of them to be found."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from smilla.adapters import spool
from smilla.adapters.spool import SpooledBody
from smilla.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = b"the canary sings at dusk "
BLOCK = 256 * 1024


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    if os.geteuid() != 0:
        pytest.skip("mount needs root")
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def file_of(body: SpooledBody) -> bytes:
    """What is on the disk."""
    return os.pread(body._file, 1 << 30, 0)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("chunk", [1000, 65535, BLOCK, BLOCK + 1, 1_000_000])
@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
def test_what_is_read_is_what_was_written_as_often_as_it_is_asked_for(size: int, chunk: int, tmp_path: Path) -> None:
    content = os.urandom(size)
    body = SpooledBody(str(tmp_path), BLOCK)
    for start in range(0, size, chunk):
        body.append(content[start : start + chunk])
    assert body.size == size
    assert b"".join(body.blocks()) == content
    one, other = body.blocks(), body.blocks()
    assert [a == b for a, b in zip(one, other, strict=True)].count(False) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_small_body_makes_no_file(tmp_path: Path) -> None:
    body = SpooledBody(str(tmp_path / "there is no such folder"), BLOCK)
    body.append(bytes(BLOCK))
    assert b"".join(body.blocks()) == bytes(BLOCK)


def test_no_plaintext_reaches_the_disk_and_no_two_blocks_look_alike(tmp_path: Path) -> None:
    body = SpooledBody(str(tmp_path), 0)
    for _ in range(4):
        body.append((CANARY * BLOCK)[:BLOCK])
    raw = file_of(body)
    assert len(raw) > 4 * BLOCK
    assert CANARY[:8] not in raw
    step = len(raw) // 4
    assert len({raw[at : at + step] for at in range(0, len(raw), step)}) == 4


def test_two_bodies_have_keys_of_their_own(tmp_path: Path) -> None:
    bodies = [SpooledBody(str(tmp_path), 0) for _ in range(2)]
    for body in bodies:
        body.append(bytes(BLOCK))
    assert file_of(bodies[0]) != file_of(bodies[1])


def test_a_block_that_changed_on_the_disk_is_never_handed_out(tmp_path: Path) -> None:
    body = SpooledBody(str(tmp_path), 0)
    body.append(CANARY * BLOCK)
    os.pwrite(body._file, b"\0", 100_000)
    with pytest.raises(SpoolError, match="read back"):
        list(body.blocks())


def test_blocks_cannot_be_exchanged_or_cut_off(tmp_path: Path) -> None:
    body = SpooledBody(str(tmp_path), 0)
    body.append(bytes(BLOCK))
    body.append(bytes(BLOCK))
    raw = file_of(body)
    half = len(raw) // 2
    os.pwrite(body._file, raw[half:] + raw[:half], 0)
    with pytest.raises(SpoolError):
        list(body.blocks())
    os.ftruncate(body._file, half)
    os.pwrite(body._file, raw[:half], 0)
    with pytest.raises(SpoolError):
        list(body.blocks())


def test_a_full_disk_is_an_error(full_disk: Path) -> None:
    body = SpooledBody(str(full_disk), 0)
    with pytest.raises(SpoolError, match="cannot be written"):
        for _ in range(5):
            body.append(bytes(BLOCK))


def test_a_body_that_could_not_be_written_is_given_up_and_nothing_of_it_kept(full_disk: Path) -> None:
    before = descriptors()
    body = SpooledBody(str(full_disk), 0)
    with pytest.raises(SpoolError) as first:
        for _ in range(5):
            body.append(bytes(BLOCK))
    assert descriptors() == before
    for _ in range(5):
        with pytest.raises(SpoolError) as again:
            body.append(bytes(BLOCK))
        assert str(again.value) == str(first.value)
    assert body._blocks == []
    with pytest.raises(SpoolError):
        list(body.blocks())


def test_a_missing_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="nowhere"):
        SpooledBody(str(tmp_path / "nowhere"), 0).append(bytes(BLOCK))
    with pytest.raises(SpoolError, match="nowhere"):
        spool.try_out(str(tmp_path / "nowhere"))


def test_without_o_tmpfile_the_file_has_no_name_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_TMPFILE")
    body = SpooledBody(str(tmp_path), 0)
    body.append(CANARY * BLOCK)
    assert list(tmp_path.iterdir()) == []
    assert b"".join(body.blocks()) == CANARY * BLOCK


def test_the_file_is_given_back(tmp_path: Path) -> None:
    before = descriptors()
    body = SpooledBody(str(tmp_path), 0)
    body.append(bytes(BLOCK))
    assert descriptors() == before + 1
    del body
    assert descriptors() == before
