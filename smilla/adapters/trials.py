"""What an engine said of a key when it was tried, remembered: a trial by gpg takes 5 ms.

For any number of threads; bounded in entries.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_REMEMBERED = 1000
_REFUSED_FOR_S = 60.0  # as long as the gate's own judgement: an engine reads the clock, too


class Trials:
    """``trial`` says what is wrong with a certificate, "" where a message can be encrypted to it; what it raises is not
    remembered."""

    def __init__(self, trial: Callable[[bytes], str]) -> None:
        self._trial = trial
        self._lock = threading.Lock()
        self._known: dict[bytes, tuple[str, float]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def fault(self, raw: bytes) -> str:
        """What is wrong with the certificate, "" for nothing."""
        said, until = self._known.get(raw, ("", 0.0))
        if until and (not said or monotonic() < until):
            return said
        said = self._trial(raw)
        with self._lock:
            self._known.pop(raw, None)
            if len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[raw] = (said, monotonic() + _REFUSED_FOR_S)
        return said
