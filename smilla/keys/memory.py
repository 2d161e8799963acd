"""A bounded memory for results that cost much to find again; the least recently used goes first.

Safe for any number of threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Memory(Generic[_Key, _Value]):
    """At most ``entries`` values, which together take at most ``octets``."""

    def __init__(self, entries: int, octets: int) -> None:
        self._entries, self._octets = entries, octets
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, tuple[_Value, int]] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def recall(self, key: _Key) -> _Value | None:
        """What is remembered under this key."""
        with self._lock:
            entry = self._kept.get(key)
            if entry is None:
                return None
            self._kept.move_to_end(key)
            return entry[0]

    def remember(self, key: _Key, value: _Value, weight: int) -> None:
        """Keeps a value of ``weight`` octets, in place of an older one."""
        with self._lock:
            if key in self._kept:
                self.size -= self._kept.pop(key)[1]
            self._kept[key] = (value, weight)
            self.size += weight
            while len(self._kept) > self._entries or self.size > self._octets:
                _, (_, gone) = self._kept.popitem(last=False)
                self.size -= gone
