"""Standard streams that are closed, full, or of another character set; as a shell gives them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SMILLA = Path(sys.executable).parent / "smilla"


def run(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f"exec {SMILLA} {line}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("encrypt --config /dev/null --from s@x.test --to a@x.test <&-", 75),
        ("survey --config /dev/null -f - <&-", 2),
        ("config sample >&-", 0),
        ("config sample 2>&- >&-", 0),
        ("--help >/dev/full", 75),
        ("config sample >/dev/full", 75),
    ],
)
def test_stream_that_is_closed_or_full_is_no_fault_of_ours(line: str, code: int) -> None:
    done = run(line)
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr


def test_letter_that_the_terminal_does_not_know_is_written_by_its_number() -> None:
    done = run("lookup --config /dev/null 'żłw@x.test'", PYTHONIOENCODING="iso-8859-1")
    assert "Traceback" not in done.stderr
    assert done.stdout.startswith(r"\u017c\u0142w@x.test")
    assert done.returncode == 75
