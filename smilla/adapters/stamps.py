"""Shows whether a file has changed since we looked at it."""

from __future__ import annotations

import os
from pathlib import Path

GONE = "gone"
_FACTS = 4


def stamp(path: str) -> str:
    """A text that changes when the file changes; "" if we may not look at the file."""
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return GONE
    except OSError:
        return ""
    return of(found)


def of(found: os.stat_result) -> str:
    """The stamp of a file that stat(2) found: inode, size, and the times of change of its content and of its inode, in
    nanoseconds.  No copy, restored time stamp or rename gives another file the same."""
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def is_whole(kept: str) -> bool:
    """Does a stamp that was kept on disk have all facts?  Earlier versions kept fewer, which prove nothing."""
    return kept == GONE or len(kept.split()) == _FACTS


def changed_at(path: str) -> float:
    """When the file was last changed or replaced, or its link made, in seconds since 1970; 0 if unknown.  An old time
    stamp preserved by a copy (``cp -p``) does not count."""
    try:
        return max(Path(path).stat().st_ctime, Path(path).lstat().st_ctime)
    except OSError:
        return 0.0
