from __future__ import annotations

from pathlib import Path

import pytest

from smilla.adapters.unit_file import unit_for

UNIT = "[Service]\n# User=comment\nUser=daemon\nExecStart=/usr/bin/env smilla milter --config /etc/x.toml\n"


def written(folder: Path, text: str, name: str = "smilla.service") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("line", "is_ours"),
    [
        ("ExecStart=/usr/bin/env smilla milter --config /etc/x.toml", True),
        ("ExecStart=/usr/bin/smilla milter --config=/etc/x.toml", True),
        ("ExecStart=/usr/bin/smilla \\\n  milter --config /etc/x.toml", True),
        ("ExecStart=/usr/bin/smilla milter", False),
        ("ExecStart=/usr/bin/smilla milter --config /etc/y.toml", False),
        ("ExecStart=/usr/bin/smilla lookup --config /etc/x.toml", False),
        ("ExecStart=/usr/bin/smilla milter 'open", False),
    ],
)
def test_only_a_unit_that_runs_this_configuration_counts(tmp_path: Path, line: str, is_ours: bool) -> None:
    written(tmp_path, f"[Service]\nUser=daemon\n{line}\n")
    found = unit_for(Path("/etc/x.toml"), "/etc/usual.toml", [str(tmp_path)])
    assert (found is not None) is is_ours
    if found is not None:
        assert (found.user.name, found.path) == ("daemon", f"{tmp_path}/smilla.service")


def test_a_command_without_config_runs_the_usual_one(tmp_path: Path) -> None:
    written(tmp_path, "[Service]\nExecStart=smilla milter\n")
    assert unit_for(Path("/etc/usual.toml"), "/etc/usual.toml", [str(tmp_path)]) is not None


def test_drop_ins_and_the_first_folder_win(tmp_path: Path) -> None:
    first, last = tmp_path / "etc", tmp_path / "usr"
    written(last, UNIT)
    written(last, "[Service]\nUser=bin\nRuntimeDirectory=a b:c\n", "smilla.service.d/10.conf")
    folders = [str(first), str(last)]
    found = unit_for(Path("/etc/x.toml"), "", folders)
    assert found is not None
    assert (found.user.name, found.run_folders) == ("bin", ("/run/a", "/run/b"))
    written(first, "[Service]\nUser=sys\nGroup=daemon\nSupplementaryGroups=bin 77\n", "smilla.service.d/10.conf")
    found = unit_for(Path("/etc/x.toml"), "", folders)
    assert found is not None
    assert (found.user.name, found.user.further_groups[-1], len(found.user.further_groups)) == ("sys", 77, 3)
    written(first, "[Service]\nExecStart=\n", "smilla.service.d/20.conf")
    assert unit_for(Path("/etc/x.toml"), "", folders) is None


def test_no_unit_is_none(tmp_path: Path) -> None:
    assert unit_for(Path("/etc/x.toml"), "", [str(tmp_path), "/nonexistent"]) is None
