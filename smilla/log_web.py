"""Events of the log about the status page; see log.py."""

from __future__ import annotations

import logging

from smilla.log import _event


def closed(detail: str) -> None:
    """The status page cannot be served; mail goes on."""
    _event(logging.ERROR, "web-closed", detail=detail)
