"""Which notices were sent when: a small JSON file, which is replaced as a whole.

One process at a time: a second one waits for the first.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from smilla.adapters import new_file
from smilla.errors import FileProblem

_MOST = 1 << 24  # octets


class SentNotices:
    """The notices of the file, by a name that stands for owner and key."""

    def __init__(self, path: Path, sent: dict[str, datetime]) -> None:
        self._path, self._sent = path, sent

    def is_empty(self) -> bool:
        """Is no notice known?"""
        return not self._sent

    def was_sent_since(self, name: str, earliest: datetime) -> bool:
        """Was it sent at that instant or later?"""
        sent_at = self._sent.get(name)
        return sent_at is not None and sent_at >= earliest

    def remember(self, name: str, now: datetime, keep: timedelta) -> None:
        """Notes it on disk, and forgets what is older than ``keep``.  Raises FileProblem."""
        self._sent = {one: at for one, at in self._sent.items() if at >= now - keep} | {name: now}
        text = json.dumps({one: at.isoformat() for one, at in self._sent.items()}, indent=1)
        new_file.replace(self._path, text.encode("utf-8"), new_file.PRIVATE)


@contextmanager
def opened(path: Path) -> Iterator[SentNotices]:
    """The notices, for this process alone.  Makes the folder (0700) where it is missing.  Raises FileProblem."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FileProblem(f"{path}: which notices were sent cannot be noted there: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield SentNotices(path, _read(path))
    finally:
        os.close(lock)


def _read(path: Path) -> dict[str, datetime]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MOST))
        return {str(name): datetime.fromisoformat(at) for name, at in found.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise FileProblem(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise FileProblem(f"{path}: is no list of notices; remove it, and owners are written to again") from error
