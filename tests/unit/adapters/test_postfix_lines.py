from __future__ import annotations

from pathlib import Path

import pytest

from smilla.adapters.postfix_lines import PostfixLines
from smilla.config import parse
from smilla.config.options import StageOptions
from smilla.errors import SmillaError


def lines(folder: Path, *, check: bool = True) -> PostfixLines:
    return PostfixLines(StageOptions(socket=f"unix:{folder}/stage.sock", keys=f"{folder}/seal", check=check))


def test_nothing_is_sealed_until_somebody_has_looked(tmp_path: Path) -> None:
    assert "nobody has looked" in lines(tmp_path).problem()
    assert lines(tmp_path, check=False).problem() == ""


def instance(folder: Path, name: str) -> str:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "main.cf").touch()
    return str(folder / name)


def test_what_is_found_counts_at_once(tmp_path: Path) -> None:
    reader, writer = lines(tmp_path), lines(tmp_path)
    one, two = instance(tmp_path, "one"), instance(tmp_path, "two")
    writer.keep(one, ["a line is missing; b = c", "another"])
    assert reader.problem() == "a line is missing; b = c"
    writer.keep(one, [])
    assert reader.problem() == ""
    writer.keep(two, ["the second instance has none"])
    assert reader.problem() == "the second instance has none"
    assert writer.others(one) == [(two, "the second instance has none")]
    assert (tmp_path / "seal/postfix.json").stat().st_mode & 0o77 == 0


def test_an_instance_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    found, one = lines(tmp_path), instance(tmp_path, "one")
    found.keep("/nonexistent/postfix", ["no main.cf"])
    found.keep(one, [])
    assert found.problem() == ""


def test_what_could_not_be_seen_leaves_what_was_found_before(tmp_path: Path) -> None:
    found, one = lines(tmp_path), instance(tmp_path, "one")
    found.keep(one, ["postconf did not answer"], in_doubt=True)
    assert found.problem() == "postconf did not answer"
    found.keep(one, [])
    found.keep(one, ["postconf did not answer"], in_doubt=True)
    assert found.problem() == ""


@pytest.mark.parametrize("raw", ["", "{", "[]", "{}", '{"instances": 3}', '{"instances": {"": ""}}', "\0"])
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
    found.keep(instance(tmp_path, "one"), [])
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
