"""A DNS question under way, with either resolver."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial

from smilla.model import DNSAnswer, DNSSECStatus
from smilla.ports import Metrics


class Pending:
    """smilla.ports.PendingAnswer over a future; ``rdtype`` is the type's mnemonic."""

    __slots__ = ("_future", "_owner", "_rdtype")

    def __init__(self, owner: str, rdtype: str, future: Future[DNSAnswer], metrics: Metrics | None = None) -> None:
        self._owner, self._rdtype, self._future = owner, rdtype, future
        if metrics is not None:
            future.add_done_callback(partial(_measure, metrics, time.monotonic()))

    def done(self) -> bool:
        """Is the answer there?"""
        return self._future.done()

    def result(self, deadline: float) -> DNSAnswer:
        """The answer; at the deadline (monotonic seconds) UNREACHABLE."""
        try:
            return self._future.result(max(0.0, deadline - time.monotonic()))
        except FutureTimeoutError:
            detail = "no answer before the deadline"
        except CancelledError:
            detail = "the resolver client has ended"
        return DNSAnswer(self._owner, self._rdtype, DNSSECStatus.UNREACHABLE, detail=detail)


def _measure(metrics: Metrics, asked_at: float, future: Future[DNSAnswer]) -> None:
    if not future.cancelled() and future.exception() is None:
        metrics.lookup(future.result().status, time.monotonic() - asked_at)
