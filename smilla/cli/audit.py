"""Log lines that a command owes whatever [log] level says: who changed or read what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from smilla import log
from smilla.adapters import log_target
from smilla.config import Config


@contextmanager
def logged(settings: Config) -> Iterator[None]:
    """Log lines go where [log] target says, whatever its level."""
    log.configure("info", settings.log.format, log_target.opened(settings.log.target))
    yield
    log.flush()
    log.silence()
