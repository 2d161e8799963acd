"""Events of the log about keys that somebody hands in or takes out; see log.py."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from smilla.log import _event


def added(address: str, files: Sequence[str], fingerprint: str, forced: str) -> None:
    """A key was handed in for the folder; ``forced`` is why it would have been refused, "" for nothing."""
    level = logging.WARNING if forced else logging.INFO
    _event(level, "key-added", rcpt=address, file=", ".join(files), fingerprint=fingerprint, forced=forced)


def removed(address: str, files: Sequence[str]) -> None:
    """The files of an address were removed from the folder."""
    _event(logging.INFO, "key-removed", rcpt=address, file=", ".join(files))
