"""Paths that a configuration names."""

from __future__ import annotations

from pathlib import Path


def no_file(path: str) -> str:
    """What is wrong with it, "" if it is a file."""
    try:
        return "" if Path(path).is_file() else "which is no file"
    except PermissionError:
        return "where this user may not look"


def no_folder(path: str) -> str:
    """What is wrong with it, "" if it is a folder."""
    try:
        return "" if Path(path).is_dir() else "which is no folder"
    except PermissionError:
        return "where this user may not look"


def path_limit() -> int:
    """Octets that a UNIX socket's path may have (unix(7)), less the ones added by its first, private name."""
    return 107 - len("..") - len(str(2**22))
