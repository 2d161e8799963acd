"""``smilla top``: the screen of ``smilla status``, again and again, until ``q``."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smilla import config
from smilla.adapters import status
from smilla.cli import EX_OK, UsageError, panel, printable, with_config
from smilla.errors import SmillaError
from smilla.metrics.attention import findings

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # the other screen, and no cursor
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_FOOT = "q ends"
_LEAST_S, _MOST_S = 0.1, 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla top`` takes."""
    with_config(parser)
    parser.add_argument("--interval", metavar="SECONDS", type=float, default=1.0, help="between two looks (1)")


def run(options: argparse.Namespace) -> int:
    """Exit 0 at ``q`` or Ctrl-C.  While smilla cannot be asked, the screen says why."""
    if not _LEAST_S <= options.interval <= _MOST_S:
        raise UsageError(f"--interval must be from {_LEAST_S:g} to {_MOST_S:g} seconds")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("smilla top needs a terminal; smilla status --json is for programs")
    path = config.load(Path(options.config)).status_socket
    with _screen() as interrupted:
        while not interrupted:
            _draw(_lines(path))
            if _is_asked_to_end(options.interval):
                break
    return EX_OK


def _lines(path: str) -> list[str]:
    try:
        found = status.ask(path)
    except SmillaError as error:
        return [printable(str(error))]
    return panel.lines(found, findings(found), coloured=panel.is_coloured(sys.stdout))


def _draw(lines: list[str]) -> None:
    """As many lines as there is room for, and the foot; in one write, so that nothing flickers."""
    size = os.get_terminal_size(sys.stdout.fileno())
    width, height = max(1, size.columns or panel.WIDTH), max(2, size.lines or 24)
    shown = [line if "\x1b" in line else line[:width] for line in lines[: height - 1]]
    text = "".join(f"{line}{_REST_OF_LINE}\n" for line in shown)
    sys.stdout.write(f"{_HOME}{text}{_FOOT}{_REST_OF_SCREEN}")
    sys.stdout.flush()


def _is_asked_to_end(interval_s: float) -> bool:
    """Waits for a key; any other one looks again at once."""
    ready, _, _ = select.select([sys.stdin], [], [], interval_s)
    return bool(ready) and os.read(sys.stdin.fileno(), 64)[:1] in (b"q", b"Q", b"\x03", b"\x04", b"")


@contextmanager
def _screen() -> Iterator[list[int]]:
    """The terminal without echo and line by line, restored at the end whatever happens.  Gives a list that Ctrl-C adds
    to: an exception alone is lost where it meets a destructor."""
    interrupted: list[int] = []

    def end(number: int, _: object) -> None:
        interrupted.append(number)
        raise KeyboardInterrupt

    before, handled_before = termios.tcgetattr(sys.stdin), signal.signal(signal.SIGINT, end)
    try:
        tty.setcbreak(sys.stdin)
        sys.stdout.write(_ENTER)
        yield interrupted
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGINT, handled_before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
