"""The token of the status page, in a file that nobody but smilla's user can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from smilla.errors import SmillaError

_OCTETS = 24
_SHORTEST = 16  # characters
_LARGEST = 4096


def read_or_make(path: Path) -> str:
    """The token; where the file is missing, makes one.  Raises SmillaError if others may read it, or if it is too short
    to keep anybody out."""
    try:
        text = _read(path)
    except FileNotFoundError:
        try:
            _make(path)
            text = _read(path)
        except OSError as error:
            raise SmillaError(f"{path}: the token cannot be written there: {error.strerror}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SmillaError(f"{path}: the token cannot be read: {error}") from error
    if len(text) < _SHORTEST:
        raise SmillaError(f"{path}: a token has at least {_SHORTEST} characters; remove the file, and smilla makes one")
    return text


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise SmillaError(f"{path}: others may read the token: chmod 600 {path}")
        return file.read(_LARGEST).strip()


def _make(path: Path) -> None:
    """As a whole or not at all; where another process was faster, its token stays."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(_OCTETS) + "\n")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        temporary.unlink()
