"""Private keys are read only where not everybody can."""

from __future__ import annotations

from pathlib import Path

import pytest

from smilla.adapters import private_file
from smilla.errors import FileProblem


def made(folder: Path, raw: bytes, mode: int = 0o600) -> str:
    path = folder / "key"
    path.touch()
    path.chmod(0o600)
    path.write_bytes(raw)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o440])
def test_file_of_its_owner_and_its_group_is_read(tmp_path: Path, mode: int) -> None:
    assert private_file.read(made(tmp_path, b"key", mode)) == b"key"


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o601])
def test_file_that_others_reach_is_not(tmp_path: Path, mode: int) -> None:
    with pytest.raises(FileProblem, match="chmod o="):
        private_file.read(made(tmp_path, b"key", mode))


def test_what_is_no_file_of_a_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="larger than any key"):
        private_file.read(made(tmp_path, bytes((1 << 20) + 1)))
    with pytest.raises(FileProblem, match="cannot be read"):
        private_file.read(str(tmp_path / "none"))
    with pytest.raises(FileProblem, match=r"this is no file|Is a directory"):
        private_file.read(str(tmp_path))


@pytest.mark.parametrize(("raw", "word"), [(b"a b\n", b"a b"), (b"a\r\nb", b"a"), (b"", b""), (b" a", b" a")])
def test_password_is_the_first_line(tmp_path: Path, raw: bytes, word: bytes) -> None:
    assert private_file.password(made(tmp_path, raw)) == word
    assert private_file.password("") is None
