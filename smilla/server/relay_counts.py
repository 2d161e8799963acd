"""What the relay counts, and the process that adds it up ([metrics]).

Promises: mail goes on whatever becomes of it.  The process is forked before the relay has any thread.  If it dies, no
other could be forked beside the threads: then nobody can ask any more until a restart, and the log says so.
"""

from __future__ import annotations

import math
from dataclasses import replace

from smilla import log_metrics
from smilla.adapters import spool
from smilla.config import Config
from smilla.errors import SmillaError
from smilla.metrics.meter import Meter
from smilla.ports import Metrics
from smilla.server.reporter import Measuring, Reporter

_LAST_COUNTS_S = 1.0


class Counts:
    """``metrics`` outlive every reload; without [relay] metrics they count nothing."""

    def __init__(self, config: Config) -> None:
        self.metrics = Metrics()
        self._meter: Meter | None = None
        self._reporter = Reporter()
        if config.relay.metrics:
            self.metrics = self._meter = Meter(Measuring())
            self._meter.measure("spool_bytes", spool.octets_in_files)

    def open(self, config: Config) -> None:
        """Opens the sockets, while smilla may still have the rights."""
        if self._meter is None:
            return
        try:
            self._reporter.open(config)
        except SmillaError as error:  # another one serves [metrics] listen
            log_metrics.status_closed(str(error))
            self._reporter.open(replace(config, metrics=replace(config.metrics, listen="")))

    def start(self) -> None:
        """Forks.  Call it before the first thread begins."""
        if self._meter is not None:
            self._reporter.start(())
            self._meter.start(self._reporter.send)

    def tell(self, config: Config) -> float:
        """Tells the process what is new.  Returns after how many seconds to call again."""
        return self._reporter.tell(config) if self._meter is not None else math.inf

    def reloaded(self, *, done: bool, read_at: float) -> None:
        """The configuration was read again at this time, and taken or not."""
        self._reporter.reloaded(done=done, read_at=read_at)

    def stop(self) -> None:
        """Hands on what was counted, ends the process and removes the sockets' paths."""
        if self._meter is not None:
            self._meter.flush(_LAST_COUNTS_S)
            self._reporter.stop()
