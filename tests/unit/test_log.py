"""Where the lines of the log go, and where they must not."""

from __future__ import annotations

import subprocess
import sys

from smilla import log

_SCRIPT = """
import os, sys
from smilla import log
reading, writing = os.pipe()
if sys.argv[1] == "closed":
    assert reading == 2
    reading = os.dup(reading)
    os.dup2(writing, 2)
os.set_blocking(reading, False)
with log.together():
    log.stopping("SIGTERM")
log.stopping("SIGINT")
try:
    print(os.read(reading, 1000))
except BlockingIOError:
    print("nothing")
"""


def run(redirection: str, word: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c", _SCRIPT, word]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_without_a_stderr_no_line_goes_to_what_has_its_number() -> None:
    done = run("2>&-", "closed")
    assert (done.returncode, done.stdout) == (0, "nothing\n")


def test_lines_go_to_stderr() -> None:
    done = run("", "open")
    assert done.stderr == "- stopping signal=SIGTERM\n- stopping signal=SIGINT\n"
    assert (done.returncode, done.stdout) == (0, "nothing\n")


def test_lines_are_held_for_the_thread_alone_that_asked_for_it() -> None:
    with log.together():
        assert log._held.lines == []
    assert log._held.lines is None
