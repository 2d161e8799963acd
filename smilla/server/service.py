"""What the connections of one worker share: the configuration in force, and how many messages are under way."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache

from smilla.config import Config
from smilla.ports import Ports
from smilla.server.acknowledge import Acknowledger
from smilla.server.crew import Crew


@dataclass(frozen=True, slots=True)
class Runtime:
    """One configuration and what was made from it; a reload puts another one in its place."""

    config: Config
    ports: Ports

    def behind(self, mta: str) -> Config:
        """The configuration as it is behind this MTA."""
        return self.config if self.config.policy.mixed else _behind(self.config, mta)


@lru_cache(maxsize=8)
def _behind(config: Config, mta: str) -> Config:
    return config.behind(mta)


class Service:
    """What all connections of one worker share."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.draining = False
        self.acknowledger = Acknowledger()
        self.crew = Crew(runtime.config.milter.socket)
        self._lock = threading.Lock()
        self._in_flight = 0

    def begin(self) -> None:
        """A message's envelope has begun."""
        with self._lock:
            self._in_flight += 1

    def end(self) -> None:
        """A message was answered or aborted."""
        with self._lock:
            self._in_flight -= 1

    @property
    def in_flight(self) -> int:
        """Messages whose envelope has begun and that are not answered yet."""
        return self._in_flight
