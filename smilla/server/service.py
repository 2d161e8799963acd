"""What all connections of one worker share: the configuration in force, and the number of messages in flight."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from smilla.config import Config
from smilla.ports import Ports
from smilla.server.acknowledge import Acknowledger
from smilla.server.crew import Crew


@dataclass(frozen=True, slots=True)
class Runtime:
    """One configuration and what was made from it; a reload replaces both."""

    config: Config
    ports: Ports
    _known: dict[str, Config] = field(default_factory=dict, init=False, repr=False, compare=False)

    def behind(self, mta: str) -> Config:
        """The configuration as it applies behind this MTA (postfix, sendmail, or "" if unknown)."""
        if mta not in self._known:
            self._known[mta] = self.config.behind(mta)
        return self._known[mta]


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
        """How many messages have begun their envelope and are not answered yet."""
        return self._in_flight
