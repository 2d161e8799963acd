"""What all connections of one worker share: the configuration in force, and the number of messages in flight."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from smilla import log
from smilla.answer.reply import Reply
from smilla.config import Config
from smilla.errors import ConfigError, EngineMissing, SmillaError
from smilla.filter import TurnedAway
from smilla.ports import MTA, Ports
from smilla.server.acknowledge import Acknowledger
from smilla.server.crew import Crew
from smilla.session import Session

_Read = TypeVar("_Read")


def read_anew(read: Callable[[], _Read]) -> _Read | None:
    """A reload: what ``read`` makes of the configuration.  None, with its faults in the log, where it raises anything:
    the one in force stays, whatever is wrong with the new one."""
    try:
        return read()
    except ConfigError as error:
        faults = list(error.faults)
    except (OSError, UnicodeDecodeError, SmillaError, EngineMissing) as error:
        faults = [str(error)]
    except Exception as error:
        log.internal_error("", "reload")
        faults = [f"an internal error ({type(error).__name__}); the line before this one says where"]
    for fault in faults:
        log.reload_failed(fault)
    return None


class Handling(Protocol):
    """One message from RCPT to its end; see ``filter.Filter``."""

    session: Session
    unfinished: Callable[[], None] | None

    @property
    def may_pass(self) -> bool:
        """After an error, may the MTA go on with the message as it came?"""

    def recipient(self, raw: str, parameters: tuple[str, ...] = (), *, alone: bool) -> TurnedAway | None:
        """RCPT TO."""

    def end(self, mta: MTA) -> Reply:
        """The end of the message."""

    def failed(self, error: BaseException | None = None) -> None:
        """Tells the log about a message that an error ended."""


class Role(Protocol):
    """What a worker does with messages, if it is not to encrypt them."""

    def begin(self, session: Session, settings: Config, busy: AbstractContextManager[object], /) -> Handling:
        """A message has begun."""

    def renewed(self, text: str) -> Runtime:
        """Another configuration, in TOML, is in force.  Raises ConfigError or EngineMissing."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """One configuration and what was made from it; a reload replaces both."""

    config: Config
    ports: Ports
    role: Role | None = None
    _known: dict[str, Config] = field(default_factory=dict, init=False, repr=False, compare=False)

    def behind(self, mta: str) -> Config:
        """The configuration as it applies behind this MTA (postfix, sendmail, or "" if unknown)."""
        if mta not in self._known:
            self._known[mta] = self.config.behind(mta)
        return self._known[mta]


R = TypeVar("R", bound=Runtime)


class InFlight(Generic[R]):
    """The configuration in force, and what is under way with it.  ``draining``: nothing new begins."""

    def __init__(self, runtime: R) -> None:
        self.runtime = runtime
        self.draining = False
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


class Service(InFlight[Runtime]):
    """What all connections of one worker share."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.acknowledger = Acknowledger()
        self.crew = Crew(runtime.config.milter.socket)
