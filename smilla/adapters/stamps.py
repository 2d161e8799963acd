"""Has a file been changed since somebody looked?"""

from __future__ import annotations

from pathlib import Path

GONE = "gone"


def stamp(path: str) -> str:
    """What is another text once the file is another; "" where it may not be looked at."""
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return GONE
    except OSError:
        return ""
    return f"{found.st_mtime_ns} {found.st_size}"


def changed_at(path: str) -> float:
    """When it was last changed, replaced, or its link made, in seconds since 1970; 0 where nobody can tell.  An old
    time that a copy keeps (``cp -p``) does not count."""
    try:
        return max(Path(path).stat().st_ctime, Path(path).lstat().st_ctime)
    except OSError:
        return 0.0
