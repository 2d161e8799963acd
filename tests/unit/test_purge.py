"""Purging the Debian package: what smilla's own commands left in its folder goes, and nothing of anybody else's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

POSTRM = Path(__file__).resolve().parents[2] / "contrib/debian/smilla.postrm"


def test_purging_removes_what_smilla_init_left_and_nothing_else(tmp_path: Path) -> None:
    """The script itself, with every folder below a temporary one, on a machine that has neither user nor Postfix."""
    text = POSTRM.read_text("utf-8")
    for folder in ("/etc/smilla", "/var/lib/smilla", "/var/spool/postfix", "/run/smilla", "/etc/postfix"):
        text = text.replace(folder, f"{tmp_path}{folder}")
    stubs, etc = tmp_path / "bin", tmp_path / "etc/smilla"
    stubs.mkdir()
    etc.mkdir(parents=True)
    for name in ("getent", "postconf", "deluser"):
        (stubs / name).write_text("#!/bin/sh\nexit 2\n")
        (stubs / name).chmod(0o755)
    ours = ("smilla.toml", "smilla.toml.new", "smilla.toml.bak", "smilla.toml.bak2", "smilla.toml.bak13")
    undo = ("smilla-undo.sh", "smilla-undo.1.main.cf", "smilla-undo.2.master.cf", "smilla-undo.done-1.sh")
    for name in (*ours, *undo, "mine.toml"):
        (etc / name).touch()

    def purge() -> list[str]:
        path = f"{stubs}:{os.environ['PATH']}"
        subprocess.run(["sh", "-c", text, "postrm", "purge"], check=True, env={"PATH": path})
        return [file.name for file in etc.iterdir()] if etc.exists() else []

    assert purge() == ["mine.toml"]
    (etc / "mine.toml").unlink()
    assert purge() == []
    assert not etc.exists()


@pytest.mark.parametrize("name", ["main.cf", "master.cf"])
def test_the_way_back_stays_and_is_named_while_postfix_has_smillas_lines(tmp_path: Path, name: str) -> None:
    text = POSTRM.read_text("utf-8")
    for folder in ("/etc/smilla", "/var/lib/smilla", "/var/spool/postfix", "/run/smilla", "/etc/postfix"):
        text = text.replace(folder, f"{tmp_path}{folder}")
    stubs, etc, postfix = tmp_path / "bin", tmp_path / "etc/smilla", tmp_path / "etc/postfix"
    for made in (stubs, etc, postfix):
        made.mkdir(parents=True)
    for program in ("getent", "postconf", "deluser"):
        (stubs / program).write_text("#!/bin/sh\nexit 2\n")
        (stubs / program).chmod(0o755)
    undo = {"smilla-undo.sh", "smilla-undo.1.main.cf"}
    for file in ("smilla.toml", *undo):
        (etc / file).touch()
    (postfix / name).write_text("smtpd_milters = unix:smilla/milter\n")

    def told(action: str) -> str:
        path = f"{stubs}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", text, "postrm", action], check=True, env={"PATH": path}, stderr=subprocess.PIPE, text=True
        )
        return done.stderr

    line = f"sh {etc}/smilla-undo.sh && postfix reload"
    assert line in told("remove")
    assert "while no filter runs" in told("purge")
    assert {file.name for file in etc.iterdir()} == undo
    assert line in told("purge")
    (postfix / name).write_text("# smtpd_milters = unix:smilla/milter\n")
    assert told("remove") == told("purge") == ""
    assert not etc.exists()
