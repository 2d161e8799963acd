"""How long something takes, so that a busy or slow machine does not change the answer."""

from __future__ import annotations

import time
from collections.abc import Callable

_LOOP, _IDLE_S = 300_000, 0.0056  # a fixed loop, and what it takes on an idle machine (2026)
_TRIES = 3


def idle_seconds(work: Callable[[], object], enough_s: float) -> float:
    """CPU seconds that ``work`` takes on an idle machine: a fixed loop before and after it shows how much slower this
    one is.  The least of a few tries, unless one takes less than ``enough_s``."""
    found = float("inf")
    for _ in range(_TRIES):
        before = _loop()
        began = time.process_time()
        work()
        taken = time.process_time() - began
        found = min(found, taken * _IDLE_S / max(_IDLE_S, before, _loop()))
        if found < enough_s:
            break
    return found


def _loop() -> float:
    def once() -> float:
        began = time.process_time()
        number = 0
        for each in range(_LOOP):
            number += each & 7
        return time.process_time() - began

    return min(once() for _ in range(3))
