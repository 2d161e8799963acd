"""A DNS question under way, with either resolver."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from smilla.model import DNSAnswer, DNSSECStatus


class Pending:
    """smilla.ports.PendingAnswer over a future; ``rdtype`` is the type's mnemonic."""

    __slots__ = ("_future", "_owner", "_rdtype")

    def __init__(self, owner: str, rdtype: str, future: Future[DNSAnswer]) -> None:
        self._owner, self._rdtype, self._future = owner, rdtype, future

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
