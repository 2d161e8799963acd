"""Runs what waits for somebody's server in threads: so many of one domain at once, and so many in all.

Promises: ``start`` returns at once.  Whatever one domain's servers do, they hold ``a_zone`` threads at most, and those
of all domains that have not answered lately a fixed number (adapters/places.py).  Threads are made as needed, end when
nothing is left to do, and never hold up the end of the process.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from smilla.adapters.places import Places, Turn

_Turn = Turn[Callable[[], bool]]


class Pool:
    """Any thread may call.  There is no thread before the first ``start``, so a process may fork before that."""

    def __init__(self, a_zone: int = 8, most: int = 256) -> None:
        self._places: Places[Callable[[], bool]] = Places(a_zone)
        self._most = most
        self._lock = threading.Lock()
        self._ready: deque[_Turn] = deque()
        self._running = 0

    def start(self, zone: str, work: Callable[[], bool]) -> None:
        """Runs ``work`` once its zone (a domain) has a place, and there is a thread.  ``work`` says whether the zone
        answered."""
        turn = Turn(zone, work)
        if self._places.take(turn):
            self._put([turn], threads=1)

    def _put(self, turns: list[_Turn], threads: int) -> None:
        """These have a place.  A system without room for another thread leaves them to those that run, or to the next
        that is made."""
        with self._lock:
            self._ready.extend(turns)
            made = max(0, min(threads, self._most - self._running))
            self._running += made
        for _ in range(made):
            try:
                threading.Thread(target=self._run, name="source", daemon=True).start()
            except RuntimeError:
                with self._lock:
                    self._running -= 1

    def _run(self) -> None:
        while (turn := self._next()) is not None:
            answered, is_over = False, False
            try:
                answered = turn.item()
                is_over = True
            finally:
                going = self._places.free(turn, answered=answered)
                if not is_over:  # an error of ours ends this thread: another one takes its place
                    with self._lock:
                        self._running -= 1
                self._put(going, threads=len(going) + (-1 if is_over else 1))

    def _next(self) -> _Turn | None:
        with self._lock:
            if self._ready:
                return self._ready.popleft()
            self._running -= 1
            return None
