"""Events of the log about the process that adds up the metrics; see log.py."""

from __future__ import annotations

import logging

from smilla.log import _event, _raised


def status_closed(detail: str) -> None:
    """smilla status and smilla top have nowhere to ask; mail goes on."""
    _event(logging.WARNING, "status-closed", detail=detail)


def reporter_died(pid: int, status: str, wait_s: float) -> None:
    """The process that adds up the metrics ended by itself; the counts begin at 0 again after ``wait_s`` seconds."""
    _event(logging.ERROR, "reporter-died", pid=pid, status=status, wait_s=wait_s)


def reporter_gone(pid: int) -> None:
    """The same in the relay, where none takes its place before a restart."""
    _event(logging.ERROR, "reporter-gone", pid=pid)


def gauge_failed(gauge: str) -> None:
    """An exception while a number was measured; a process says so once for each gauge, and sends the rest."""
    _event(logging.ERROR, "gauge-failed", gauge=gauge, **_raised())
