from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from smilla.adapters.postfix_lines import PostfixLines
from smilla.adapters.stamps import stamp
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
    assert reader.problem() == "a line is missing; b = c (and 1 more: smilla config check --postfix)"
    writer.keep(two, ["x" * 400, "y"])
    assert reader.problem().endswith(" (and 3 more: smilla config check --postfix)")
    writer.keep(one, [])
    told = reader.problem()
    writer.keep(two, ["word " * 200, "y"])
    assert "word word ... (and 1 more" in reader.problem()
    assert max(len(told), len(reader.problem())) < 420
    writer.keep(two, [])
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


def test_a_look_that_began_later_counts_although_it_was_over_first(tmp_path: Path) -> None:
    found, one, now = lines(tmp_path), instance(tmp_path, "one"), time.time()
    found.keep(one, [], began_at=now - 5)
    found.keep(one, ["was not told to read main.cf"], began_at=now - 9)
    assert found.problem() == ""
    found.keep(one, ["was not told to read main.cf"], began_at=now - 4)
    assert found.problem() == "was not told to read main.cf"


def test_a_look_that_saw_nothing_or_of_a_clock_that_was_set_back_holds_up_no_other(tmp_path: Path) -> None:
    found, one, now = lines(tmp_path), instance(tmp_path, "one"), time.time()
    found.keep(one, ["a line is missing"], began_at=now - 9)
    found.keep(one, ["postconf did not answer"], in_doubt=True, began_at=now - 1)
    found.keep(one, [], began_at=now - 5)
    assert found.problem() == ""
    found.keep(one, ["a line is missing"], began_at=now + 3600)
    found.keep(one, [], began_at=now - 5)
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


def test_what_was_found_of_a_file_that_was_changed_since_counts_no_more(tmp_path: Path) -> None:
    found, one, two = lines(tmp_path), instance(tmp_path, "one"), instance(tmp_path, "two")
    path = f"{one}/main.cf"
    found.keep(one, [], {path: stamp(path)})
    assert found.problem() == ""
    Path(path).write_text("a = b\n")
    told = (
        f"{path} was changed since somebody looked at Postfix's lines for the stage; postfix -c {one} reload, then "
        f"smilla config check --postfix --postfix-config {one}"
    )
    assert found.problem() == told
    found.keep(two, [])
    assert found.problem() == told
    assert found.others(two) == [(one, told)]
    found.keep(one, [], {path: stamp(path)})
    assert (found.problem(), found.others(two)) == ("", [])
    found.keep(one, ["postconf did not answer"], {}, in_doubt=True)
    Path(path).unlink()
    assert f"{path} is gone" in found.problem()
    found.keep(two, [])
    assert found.problem() == ""


def test_a_file_that_only_root_may_look_at_is_not_taken_for_changed(tmp_path: Path) -> None:
    found, one = lines(tmp_path), instance(tmp_path, "one")
    found.keep(one, [], {f"{one}/main.cf": ""})
    assert found.problem() == ""


def test_each_finding_keeps_its_kind(tmp_path: Path) -> None:
    found, one = lines(tmp_path), instance(tmp_path, "one")
    found.keep(one, ["a", "b"], kinds=["stage-way", "postfix-not-read"])
    assert (found.findings(one), found.kinds(one)) == (["a", "b"], ["stage-way", "postfix-not-read"])
    found.keep(one, ["c"], in_doubt=True, kinds=["x"])
    assert found.kinds(one) == ["stage-way", "postfix-not-read"]
    found.keep(one, [])
    assert found.kinds(one) == []


def test_a_file_of_an_older_smilla_has_its_kinds_by_their_words(tmp_path: Path) -> None:
    found, one = lines(tmp_path), instance(tmp_path, "one")
    texts = ["postfix: was not told to read /p/main.cf, changed since; reload", "postfix: pickup: another"]
    (tmp_path / "seal").mkdir()
    (tmp_path / "seal/postfix.json").write_text(json.dumps({"looked_at": 1, "instances": {one: texts}, "files": {}}))
    assert found.problem().startswith("postfix: was not told")
    assert found.kinds(one) == ["postfix-not-read", ""]


def test_stamps_of_an_earlier_version_prove_nothing_so_somebody_must_look_again(tmp_path: Path) -> None:
    found, one = lines(tmp_path), instance(tmp_path, "one")
    path = Path(one) / "main.cf"
    old = f"{path.stat().st_mtime_ns} {path.stat().st_size}"
    found.keep(one, [], {str(path): old, f"{one}/gone": "gone"})
    told = f"nobody can tell whether {path} was changed since an earlier version of smilla looked"
    assert found.problem() == f"{told}; smilla config check --postfix --postfix-config {one}"
    assert found.instances() == [one]
    found.keep(one, [], {str(path): stamp(str(path)), f"{one}/gone": "gone"})
    assert found.problem() == ""


def test_the_findings_are_read_once_until_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, writer, one = lines(tmp_path), lines(tmp_path), instance(tmp_path, "one")
    writer.keep(one, [])
    read: list[Path] = []
    real = Path.read_text

    def counted(path: Path, encoding: str | None = None) -> str:
        read.append(path)
        return real(path, encoding)

    monkeypatch.setattr(Path, "read_text", counted)
    assert [found.problem() for _ in range(3)] == ["", "", ""]
    assert read == [tmp_path / "seal/postfix.json"]
    writer.keep(one, ["a line is missing"])
    read.clear()
    assert [found.problem() for _ in range(3)] == ["a line is missing"] * 3
    assert len(read) == 1
    read.clear()
    assert found.others("another") == [(one, "a line is missing")]
    assert len(read) == 1


def test_findings_put_in_place_with_the_same_time_count_at_once(tmp_path: Path) -> None:
    found, one = lines(tmp_path), instance(tmp_path, "one")
    path = tmp_path / "seal/postfix.json"
    found.keep(one, ["A"])
    os.utime(path, (1, 1))
    assert found.problem() == "A"
    found.keep(one, ["B"])
    os.utime(path, (1, 1))
    assert found.problem() == "B"


def test_where_the_stages_trouble_cannot_be_written_nothing_is_sealed(tmp_path: Path) -> None:
    found = lines(tmp_path)
    found.keep(instance(tmp_path, "one"), [])
    assert found.problem() == ""
    (tmp_path / "seal/postfix.new").mkdir()  # stands where the new findings would be written
    found.stage_began("the stage could not be started")
    assert "nobody has looked" in found.problem()
    assert not (tmp_path / "seal/postfix.json").exists()


def test_the_limit_of_size_is_known_only_as_long_as_nothing_has_changed(tmp_path: Path) -> None:
    reader, writer, one = lines(tmp_path), lines(tmp_path), instance(tmp_path, "one")
    assert reader.size_limit() == 0
    writer.keep(one, [], {f"{one}/main.cf": stamp(f"{one}/main.cf")}, size_limit=1000)
    assert reader.size_limit() == 1000
    assert lines(tmp_path, check=False).size_limit() == 0
    Path(one, "main.cf").write_text("message_size_limit = 0")
    assert reader.size_limit() == 0


def test_of_several_instances_the_largest_limit_counts_and_none_if_one_is_not_known(tmp_path: Path) -> None:
    found, one, two = lines(tmp_path), instance(tmp_path, "one"), instance(tmp_path, "two")
    found.keep(one, [], size_limit=1000)
    found.keep(two, [], size_limit=2000)
    assert found.size_limit() == 2000
    found.keep(one, [])
    assert found.size_limit() == 0


@pytest.mark.parametrize(
    ("texts", "kinds", "is_next_step"),
    [
        (["postfix: Postfix does not ask smilla yet; smilla init --apply"], ["not-attached"], True),
        (["postfix: was not told to read main.cf"], ["postfix-not-read"], True),
        (["postfix: no listener has the filter"], ["not-attached"], False),
        (
            ["postfix: was not told to read main.cf", "postfix: pickup: a line"],
            ["postfix-not-read", "stage-way"],
            False,
        ),
        (["postfix: was not told to read main.cf", "the stage could not be started"], ["postfix-not-read"], False),
        ([], [], False),
    ],
)
def test_what_the_next_step_of_setting_up_mends_is_told_from_what_is_wrong(
    tmp_path: Path, texts: list[str], kinds: list[str], is_next_step: bool
) -> None:
    found = lines(tmp_path)
    assert not found.is_next_step()
    found.keep(instance(tmp_path, "one"), texts, kinds=kinds)
    assert found.is_next_step() == is_next_step
    found.stage_began("the stage could not be started")
    assert not found.is_next_step()


def test_a_look_at_what_somebody_has_changed_is_the_next_step(tmp_path: Path) -> None:
    found, one = lines(tmp_path), instance(tmp_path, "one")
    path = f"{one}/main.cf"
    found.keep(one, [], {path: stamp(path)})
    assert not found.is_next_step()
    Path(path).write_text("# another line\n")
    assert found.is_next_step()
    found.keep(one, ["a line is missing"], {path: stamp(path)}, kinds=["stage-way"])
    assert not found.is_next_step()
