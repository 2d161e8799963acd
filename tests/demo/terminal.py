"""What a person sees of the demonstration: numbered scenes, labelled lines, and claims with a yes or a no."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_WIDTH = 100
_LABEL = 11


class Terminal:
    """Writes to stdout, in colour where that is a terminal or FORCE_COLOR is set, and NO_COLOR is not set.

    The folder of the run is written as $D; the words in ``hidden`` as (canary), so that the letters stay readable.
    """

    def __init__(self, folder: Path, hidden: str) -> None:
        self.failures: list[str] = []
        self.checks = 0
        self._folder = str(folder)
        self._hidden = hidden
        self._scenes = 0
        wanted = sys.stdout.isatty() or "FORCE_COLOR" in os.environ
        self._colour = wanted and "NO_COLOR" not in os.environ

    def text(self, text: str = "") -> None:
        """A line as it is."""
        print(text.replace(self._folder, "$D").replace(self._hidden, "(canary)"), flush=True)

    def heading(self, title: str) -> None:
        """A line that opens a section."""
        self.text(f"\n{self._paint('1', title)}\n{'-' * len(title)}")

    def scene(self, title: str) -> None:
        """A heading with the next number."""
        self._scenes += 1
        self.heading(f"{self._scenes}  {title}")

    def line(self, label: str, text: str) -> None:
        """A line with a label before it."""
        self.text(f"{self._paint('36', f'{label:<{_LABEL}}')}{text}")

    def more(self, text: str) -> None:
        """A line below a labelled one."""
        self.text(f"{'':<{_LABEL}}{text}")

    def octets(self, raw: bytes, most: int) -> None:
        """The first lines of a message or of a part of one, cut to the width."""
        lines = raw.decode("utf-8", "backslashreplace").replace(self._hidden, "(canary)").splitlines()
        for line in lines[:most]:
            room = _WIDTH - _LABEL
            self.more(f"{self._paint('2', '|')} {line if len(line) <= room else line[: room - 2] + ' …'}".rstrip())
        if len(lines) > most:
            self.more(self._paint("2", f"  … and {len(lines) - most} more lines"))

    def check(self, label: str, claim: str, *, holds: bool) -> None:
        """A claim, and whether it is so."""
        self.checks += 1
        if not holds:
            self.failures.append(claim)
        self.line(label, f"{claim}: {self._paint('32', 'yes') if holds else self._paint('31;1', 'NO')}")

    def verdict(self) -> int:
        """Says whether all claims hold; returns the exit code."""
        if not self.failures:
            self.text(self._paint("32;1", f"\nAll {self.checks} claims hold."))
            return 0
        self.text(self._paint("31;1", f"\n{len(self.failures)} of {self.checks} claims do NOT hold:"))
        for claim in self.failures:
            self.text(f"  {claim.splitlines()[0]}")
        return 1

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text
