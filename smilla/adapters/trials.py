"""Remembers the results of trials of keys with an engine, since a trial with gpg takes 5 ms.

Safe for any number of threads; the number of entries is bounded.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_REMEMBERED = 1000
_REFUSED_FOR_S = 60.0  # as long as the gate's own judgement, since an engine reads the clock, too


class Trials:
    """``trial`` says what is wrong with a certificate, "" if a message can be encrypted to it.  Nothing is
    remembered if it raises."""

    def __init__(self, trial: Callable[[bytes], str]) -> None:
        self._trial = trial
        self._lock = threading.Lock()
        self._known: dict[bytes, tuple[str, float]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def fault(self, raw: bytes) -> str:
        """What is wrong with the certificate, "" if nothing is."""
        fault, until = self._known.get(raw, ("", 0.0))
        if until and (not fault or monotonic() < until):
            return fault
        fault = self._trial(raw)
        with self._lock:
            self._known.pop(raw, None)
            if len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[raw] = (fault, monotonic() + _REFUSED_FOR_S)
        return fault
