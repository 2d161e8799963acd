"""Counts of the recent past, in slots of equal length; what is older is forgotten."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_MOST_KEYS = 2000  # in one slot; further ones are not counted


class Ring(Generic[_Key]):
    """The last ``slots`` slots of ``slot_s`` seconds.  Time that goes back counts into the newest slot."""

    def __init__(self, slot_s: int, slots: int) -> None:
        self._slot_s, self._slots = slot_s, slots
        self._kept: deque[tuple[int, dict[_Key, int]]] = deque(maxlen=slots)

    def add(self, now: float, key: _Key, number: int) -> None:
        """Counts ``number`` more at ``now``, in seconds since 1970."""
        began_at = self._newest(now)
        if not self._kept or self._kept[-1][0] < began_at:
            self._kept.append((began_at, {}))
        counts = self._kept[-1][1]
        if key in counts or len(counts) < _MOST_KEYS:
            counts[key] = counts.get(key, 0) + number

    def slots(self, now: float) -> Iterator[tuple[int, dict[_Key, int]]]:
        """Every slot, the oldest first and the current one last; an empty one too."""
        kept = dict(self._kept)
        newest = self._newest(now)
        for began_at in range(newest - (self._slots - 1) * self._slot_s, newest + 1, self._slot_s):
            yield began_at, kept.get(began_at, {})

    def _newest(self, now: float) -> int:
        began_at = int(now) // self._slot_s * self._slot_s
        return max(began_at, self._kept[-1][0]) if self._kept else began_at
