"""A crew of threads for jobs of which some must not run together.

Promises: a job runs once each of its limits has room, and a job that has to wait keeps no thread: those after it go
first.  So a provider that is slow, or that many domains share, delays its own jobs only.  A job raises nothing; one
that does all the same ends the crew, and ``has_failed`` says so.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping

Job = Callable[[], None]


class Crew:
    """``threads`` are daemons: the end of the process does not wait for them."""

    def __init__(self, threads: int) -> None:
        self._waiting: list[tuple[Job, Mapping[str, int]]] = []
        self._taken: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._is_over = False
        self.has_failed = False
        for number in range(threads):
            threading.Thread(target=self._work, name=f"survey-{number}", daemon=True).start()

    def add(self, job: Job, limits: Mapping[str, int] | None = None) -> None:
        """``limits``: by name, how many jobs of this name may run at once.  Any thread may add, also from a job."""
        with self._changed:
            self._waiting.append((job, limits or {}))
            self._changed.notify()

    def end(self) -> None:
        """Nobody begins another job."""
        with self._changed:
            self._is_over = True
            self._waiting.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            job, limits = taken
            is_done = False
            try:
                job()
                is_done = True
            finally:
                if not is_done:
                    self.has_failed = True
                    self.end()
                with self._changed:
                    self._taken.subtract(limits.keys())
                    self._changed.notify_all()

    def _take(self) -> tuple[Job, Mapping[str, int]] | None:
        with self._changed:
            while not self._is_over:
                for index, (job, limits) in enumerate(self._waiting):
                    if all(self._taken[name] < most for name, most in limits.items()):
                        del self._waiting[index]
                        self._taken.update(limits.keys())
                        return job, limits
                self._changed.wait()
        return None
