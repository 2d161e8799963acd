"""A real journald has smilla's lines with their priorities, and by its own protocol with their fields."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lab.programs import MissingProgramError, find_program, program_environment, unpacked_folder
from tests.live.conftest import cannot

pytestmark = pytest.mark.live


def journald() -> Path:
    """The program; one that was unpacked goes before the system's."""
    places = [root / folder for root in (unpacked_folder(), Path("/")) for folder in ("usr/lib", "lib")]
    for path in (place / "systemd/systemd-journald" for place in places):
        if path.exists():
            return path
    raise MissingProgramError("systemd-journald")


def libraries(program: Path) -> str:
    """Where an unpacked program finds those of its package."""
    found = program_environment(program).get("LD_LIBRARY_PATH", "")
    own = [str(path) for path in unpacked_folder().glob("*/*/*-linux-gnu*/systemd")]
    own += [str(path) for path in unpacked_folder().glob("lib/*-linux-gnu*/systemd")]
    return ":".join([*own, found]) if program.is_relative_to(unpacked_folder()) else ""


def logged(folder: Path, target: str, settings: str = "", command: str = "milter") -> list[dict[str, Any]]:
    """What journald has of one run of the filter."""
    try:
        program, journalctl = journald(), find_program("journalctl")
    except MissingProgramError as error:
        cannot(str(error))
    if os.geteuid() != 0:
        cannot("a namespace of its own needs root: run 'make test'")
    (folder / "smilla.toml").write_text(
        f'{settings}\n[milter]\nsocket = "unix:{folder}/s"\nworkers = 1\n[policy]\nmixed = "defer"\n'
        f'[log]\ntarget = "{target}"\n[keys]\nsources = ["directory"]\ndirectory = "{folder}"\n'
    )
    script = [sys.executable, str(Path(__file__).with_name("journald.py")), str(program), str(journalctl), target]
    environment = dict(os.environ) | {"JOURNALD_LIBRARIES": libraries(program)}
    smilla = [sys.executable, "-m", "smilla", command, "--config", str(folder / "smilla.toml")]
    done = subprocess.run(
        ["unshare", "-m", *script, *smilla], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def event(entry: dict[str, Any]) -> str:
    return str(entry["MESSAGE"]).split()[1]


@pytest.mark.parametrize("target", ["journal", "stderr"])
def test_each_event_has_its_priority(tmp_path: Path, target: str) -> None:
    (tmp_path / "nobody.pem").write_text("no key")
    found = {event(entry): entry["PRIORITY"] for entry in logged(tmp_path, target)}
    assert found["started"] == found["stopped"] == "6"
    assert found["runs-as-root"] == found["key-file"] == "4"


def test_the_journal_can_be_asked_by_field(tmp_path: Path) -> None:
    (tmp_path / "nobody.pem").write_text("no key")
    (entry,) = [entry for entry in logged(tmp_path, "journal") if entry["SMILLA_EVENT"] == "key-file"]
    assert entry["SMILLA_FILE"] == "nobody.pem"
    assert entry["MESSAGE"].endswith(" severity=warning")


def test_why_the_filter_does_not_start_is_an_error_in_the_journal(tmp_path: Path) -> None:
    found = logged(tmp_path, "stderr", settings="mode = 'outbund'")
    assert [entry["PRIORITY"] for entry in found] == ["3"]
    assert "outbund" in found[0]["MESSAGE"]
