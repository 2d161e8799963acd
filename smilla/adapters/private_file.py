"""Files with private keys or passwords: read only where nobody else on this machine can read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from smilla.errors import FileProblem

_LARGEST = 1 << 20
_OTHERS = stat.S_IRWXO


def read(path: str) -> bytes:
    """The octets.  Raises FileProblem if the file is missing, too large, or open to all; its group may read it, so that
    root can own it."""
    try:
        with Path(path).open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise FileProblem(f"{path}: this is no file")
            if found.st_mode & _OTHERS:
                raise FileProblem(f"{path}: everybody on this machine may read it: chmod o= {path}")
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise FileProblem(f"{path}: cannot be read by this user: {error.strerror}") from error
    if len(raw) > _LARGEST:
        raise FileProblem(f"{path}: larger than any key")
    return raw


def password(path: str) -> bytes | None:
    """The first line of the file, without its end; None without a file.  Raises FileProblem."""
    return read(path).split(b"\n", 1)[0].removesuffix(b"\r") if path else None
