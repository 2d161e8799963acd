"""Cleans HTML by nh3: a little of it here, and more in a process that ends when its time is over (``html_child``).

Promises: a text takes at most ``computing_s`` of the processor's time, and all of a message little more by the clock,
whatever they are; nothing touches a file.  Some kinds of HTML take time by the square of their length, so anybody who
can write to us could keep a processor busy for a day with one message.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

from smilla.adapters import html_child
from smilla.errors import EngineMissing, NotDecrypted

if TYPE_CHECKING:
    from collections.abc import Callable

_HERE = 32 << 10  # characters of a message that are cleaned in this process; at worst a tenth of a second
_BESIDE, _TIMES = 512 << 20, 500  # octets of address space: for Python and nh3, and for each character
_TIMEOUT_S = 60.0


class HTMLCleaner:
    """Raises EngineMissing if nh3 is not installed."""

    def __init__(self, computing_s: float = 10.0) -> None:
        try:
            import nh3  # noqa: PLC0415 - it need not be installed
        except ImportError as error:
            raise EngineMissing(
                '[decrypt] html = "strip" needs nh3: pip install smilla[decrypt] (the Debian package has it); or write '
                'html = "text"'
            ) from error
        self._place = str(Path(nh3.__file__).parents[1])
        self._computing_s = computing_s

    def of_a_message(self) -> Callable[[str], str | None]:
        """What cleans one text of a message after the other; None for a text once they have taken too long."""
        here, left_s = _HERE, self._computing_s

        def clean(text: str) -> str | None:
            nonlocal here, left_s
            if len(text) <= here:
                here -= len(text)
                return html_child.cleaned(text)
            if left_s <= 0:
                return None
            began_at = time.monotonic()
            found = self._apart(text, math.ceil(left_s))
            left_s = left_s - (time.monotonic() - began_at) if found is not None else 0.0
            return found

        return clean

    def _apart(self, text: str, seconds: int) -> str | None:
        memory = _BESIDE + _TIMES * len(text)
        command = [sys.executable, "-I", html_child.__file__, str(memory), str(seconds), self._place]
        try:
            done = subprocess.run(
                command, input=text.encode(), stdout=PIPE, stderr=DEVNULL, timeout=_TIMEOUT_S, check=False, cwd="/"
            )
        except subprocess.TimeoutExpired:
            return None
        except OSError as error:
            raise NotDecrypted("engine", f"the process that cleans HTML: {error}", temporary=True) from error
        return done.stdout.decode() if done.returncode == 0 else None
