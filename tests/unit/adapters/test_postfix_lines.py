from __future__ import annotations

from pathlib import Path

import pytest

from smilla.adapters.postfix_lines import PostfixLines
from smilla.config import parse
from smilla.errors import SmillaError
from smilla.options import StageOptions


def lines(folder: Path, *, check: bool = True) -> PostfixLines:
    return PostfixLines(StageOptions(socket=f"unix:{folder}/stage.sock", keys=f"{folder}/seal", check=check))


def test_nothing_is_sealed_until_somebody_has_looked(tmp_path: Path) -> None:
    assert "nobody has looked" in lines(tmp_path).problem()
    assert lines(tmp_path, check=False).problem() == ""


def test_what_is_found_counts_at_once(tmp_path: Path) -> None:
    reader, writer = lines(tmp_path), lines(tmp_path)
    writer.keep("", ["a line is missing; b = c", "another"])
    assert reader.problem() == "a line is missing; b = c"
    writer.keep("", [])
    assert reader.problem() == ""
    writer.keep("/etc/postfix-out", ["the second instance has none"])
    assert reader.problem() == "the second instance has none"
    assert (tmp_path / "seal/postfix.json").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("raw", ["", "{", "[]", "{}", '{"instances": 3}', "\0"])
def test_a_file_that_cannot_be_read_is_no_leave_to_seal(tmp_path: Path, raw: str) -> None:
    (tmp_path / "seal").mkdir()
    (tmp_path / "seal/postfix.json").write_text(raw)
    reader = lines(tmp_path)
    assert "cannot be read" in reader.problem()
    assert "cannot be read" in reader.problem()


def test_that_the_stage_has_begun_is_not_that_somebody_has_looked(tmp_path: Path) -> None:
    found = lines(tmp_path)
    found.stage_began("")
    assert "nobody has looked" in found.problem()
    found.keep("", [])
    assert found.problem() == ""
    found.stage_began("the stage could not be started: no folder")
    assert found.problem() == "the stage could not be started: no folder"
    found.stage_began("")
    assert found.problem() == ""


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "seal").touch()
    with pytest.raises(SmillaError, match="cannot be written"):
        lines(tmp_path).keep("", [])


@pytest.mark.parametrize(
    ("text", "mta", "mixed"),
    [
        ("", "postfix", "stage"),
        ("", "sendmail", "reinject"),
        ("", "", ""),
        ("[milter]\nmta = 'sendmail'", "postfix", "reinject"),
        ("[milter]\nmta = 'postfix'", "", "stage"),
        ("[policy]\nmixed = 'defer'", "postfix", "defer"),
        ("[policy]\nmixed = 'reinject'", "postfix", "reinject"),
    ],
)
def test_mixed_follows_the_mta_where_the_file_does_not_say_it(text: str, mta: str, mixed: str) -> None:
    assert parse(text).behind(mta).policy.mixed == mixed
