"""How far a command has come: one line on a terminal, which goes away again."""

from __future__ import annotations

import sys


class Progress:
    """On stderr, and only if that is a terminal and ``is_wanted``."""

    def __init__(self, *, is_wanted: bool) -> None:
        self._is_shown = is_wanted and sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Replaces the line."""
        if self._is_shown:
            shown = "".join(c if c.isprintable() else "?" for c in text)[:110]
            sys.stderr.write(f"\r\x1b[K{shown}")
            sys.stderr.flush()

    def count(self, done: int, whole: int) -> None:
        """So many of so many, as a bar."""
        filled = 20 * done // max(whole, 1)
        self.show(f"[{'#' * filled}{'.' * (20 - filled)}] {done} of {whole}")

    def end(self) -> None:
        """Takes it away."""
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
