"""The file with the token of the status page."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from smilla.adapters import token
from smilla.errors import SmillaError


def test_missing_token_is_made_and_then_stays(tmp_path: Path) -> None:
    path = tmp_path / "web.token"
    made = token.read_or_make(path)
    assert len(made) >= 32
    assert token.read_or_make(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["web.token"]


def test_token_that_others_may_read_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "web.token"
    token.read_or_make(path)
    path.chmod(0o640)
    with pytest.raises(SmillaError, match="chmod 600"):
        token.read_or_make(path)


@pytest.mark.parametrize("text", ["", "\n", "short"])
def test_short_token_keeps_nobody_out_and_is_not_taken(tmp_path: Path, text: str) -> None:
    path = tmp_path / "web.token"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SmillaError, match="16 characters"):
        token.read_or_make(path)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SmillaError, match="nowhere"):
        token.read_or_make(tmp_path / "nowhere" / "web.token")


def test_what_is_no_text_is_no_token(tmp_path: Path) -> None:
    path = tmp_path / "web.token"
    path.write_bytes(b"\xff" * 40)
    path.chmod(0o600)
    with pytest.raises(SmillaError, match="cannot be read"):
        token.read_or_make(path)
