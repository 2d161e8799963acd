"""How far a command has come: one line on a terminal, which goes away again."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable

_LOOK_BACK_S = 30.0
_LEAST_S = 2.0


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

    def count(self, done: int, whole: int, more: str = "") -> None:
        """So many of so many, as a bar."""
        filled = 20 * done // max(whole, 1)
        self.show(f"[{'#' * filled}{'.' * (20 - filled)}] {done} of {whole}{more}")

    def end(self) -> None:
        """Takes it away."""
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class Estimate:
    """How long it will take, by how fast it went of late.  ``monotonic`` is the clock, in seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._what = ""
        self._seen: deque[tuple[float, int]] = deque()

    def left_s(self, what: str, done: int, whole: int) -> float | None:
        """None while nobody can know.  Another ``what`` begins anew."""
        now = self._monotonic()
        if what != self._what:
            self._what = what
            self._seen.clear()
        if not self._seen or now - self._seen[-1][0] >= _LEAST_S / 2:
            self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > _LOOK_BACK_S:
            self._seen.popleft()
        then, before = self._seen[0]
        if now - then < _LEAST_S or done <= before:
            return None
        return (whole - done) * (now - then) / (done - before)


def in_words(duration_s: float) -> str:
    """About so long."""
    if duration_s < 90:
        return f"about {max(1, round(duration_s))} s"
    return f"about {round(duration_s / 60)} min" if duration_s < 90 * 60 else f"about {duration_s / 3600:.1f} h"
