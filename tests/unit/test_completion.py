"""The completion of the shells says what the commands take, and each shell can read it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "contrib" / "completion"
# What each shell offers after these words; the shell itself is asked.
ASKED = [
    ("smilla se", "seal"),
    ("smilla config ch", "check"),
    ("smilla config check --po", "--postfix"),
    ("smilla seal prune --p", "--postfix-config"),
    ("smilla record x@example.org --usa", "--usage"),
]
BASH = """
source "$0"
COMP_WORDS=($1) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$1 COMP_POINT=${#1}
name=$(complete -p smilla | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$name smilla "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_the_completion_is_what_the_commands_take() -> None:
    subprocess.run([sys.executable, FOLDER / "make", "--check"], check=True)


@pytest.mark.parametrize(("typed", "offered"), ASKED)
def test_bash_offers_it(typed: str, offered: str) -> None:
    done = subprocess.run(
        ["bash", "-c", BASH, FOLDER / "smilla.bash", typed], check=True, capture_output=True, text=True
    )
    assert offered in done.stdout.split()


@pytest.mark.parametrize(("typed", "offered"), ASKED)
def test_fish_offers_it(typed: str, offered: str, tmp_path: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    script = 'source "$argv[1]"; complete -C "$argv[2]"'
    done = subprocess.run(
        ["fish", "-N", "-c", script, FOLDER / "smilla.fish", typed],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert offered in [line.split("\t")[0] for line in done.stdout.splitlines()]


def test_zsh_can_read_it() -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    subprocess.run(["zsh", "-n", FOLDER / "_smilla"], check=True)
    assert (FOLDER / "_smilla").read_text("utf-8").startswith("#compdef smilla\n")
