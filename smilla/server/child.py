"""A worker as its parent sees it: two pipes, and how it ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass

from smilla.server.worker import Serve


@dataclass(slots=True)
class Child:
    """One worker process."""

    pid: int
    control: int  # write end of the pipe that carries the parent's orders
    acknowledged: int  # read end of the pipe on which the worker says that a configuration is in force
    started_at: float
    serve: Serve

    @property
    def ends(self) -> tuple[int, int]:
        """The parent's ends of both pipes."""
        return self.control, self.acknowledged

    def wait_for_acknowledgement(self, deadline: float) -> None:
        """Returns once the worker has acknowledged, is gone, or the deadline has passed."""
        poll = select.poll()
        poll.register(self.acknowledged, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)

    def forget_acknowledgements(self) -> None:
        """Discards what the worker said about earlier configurations."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.acknowledged, 4096)


def in_words(status: int) -> str:
    """How a process ended, by its wait status."""
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit {os.waitstatus_to_exitcode(status)}"
