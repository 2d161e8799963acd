"""Shows whether a file has changed since we looked at it."""

from __future__ import annotations

from pathlib import Path

GONE = "gone"


def stamp(path: str) -> str:
    """A text that changes when the file changes; "" if we may not look at the file."""
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return GONE
    except OSError:
        return ""
    return f"{found.st_mtime_ns} {found.st_size}"


def changed_at(path: str) -> float:
    """When the file was last changed or replaced, or its link made, in seconds since 1970; 0 if unknown.  An old time
    stamp preserved by a copy (``cp -p``) does not count."""
    try:
        return max(Path(path).stat().st_ctime, Path(path).lstat().st_ctime)
    except OSError:
        return 0.0
