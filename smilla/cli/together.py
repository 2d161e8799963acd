"""Looks at many things together, eight at a time, so that a slow domain delays nothing but its own.

Promises: results stand in the given order.  Whoever is free takes the next thing of the domain that has the fewest
under way, and of these the one that had the fewest before: a silent domain never holds all eight while another one
waits.  The first failure ends it: nothing new is begun.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from smilla.cli.progress import Progress

AT_ONCE = 8

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def each(
    things: Sequence[Thing],
    look: Callable[[Thing], Result],
    domain_of: Callable[[Thing], str],
    progress: Progress,
) -> list[Result]:
    """What ``look`` says of each thing, in their order.  Raises what ``look`` raises."""
    turns = _Turns(things, look, domain_of, progress)
    try:
        with ThreadPoolExecutor(AT_ONCE, "look") as pool:
            working = [pool.submit(turns.work) for _ in range(min(AT_ONCE, len(things)))]
            try:
                wait(working, return_when=FIRST_EXCEPTION)
            finally:
                turns.stop()
    finally:
        progress.end()
    for one in working:
        one.result()
    return [turns.results[place] for place in range(len(things))]


class _Turns(Generic[Thing, Result]):
    """Whose turn it is."""

    def __init__(
        self,
        things: Sequence[Thing],
        look: Callable[[Thing], Result],
        domain_of: Callable[[Thing], str],
        progress: Progress,
    ) -> None:
        self.results: dict[int, Result] = {}
        self._things, self._look, self._progress = things, look, progress
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[int]] = {}
        self._domains = [domain_of(thing) for thing in things]
        for place, domain in enumerate(self._domains):
            self._waiting.setdefault(domain, deque()).append(place)
        self._under_way: Counter[str] = Counter()
        self._begun: Counter[str] = Counter()

    def work(self) -> None:
        """Looks at one thing after the other until none waits."""
        while (place := self._next()) is not None:
            result = self._look(self._things[place])
            with self._lock:
                self._under_way[self._domains[place]] -= 1
                self.results[place] = result
                self._progress.count(len(self.results), len(self._things))

    def stop(self) -> None:
        """Nothing new is begun."""
        with self._lock:
            self._waiting.clear()

    def _next(self) -> int | None:
        with self._lock:
            if not self._waiting:
                return None
            domain = min(self._waiting, key=lambda name: (self._under_way[name], self._begun[name]))
            place = self._waiting[domain].popleft()
            if not self._waiting[domain]:
                del self._waiting[domain]
            self._under_way[domain] += 1
            self._begun[domain] += 1
            return place
