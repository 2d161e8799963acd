"""Files that smilla makes once and never writes over: keys, certificates and what belongs to them.

A file appears as a whole or not at all: it is written under another name, synced, and then linked to its own, which
fails where that one exists.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from smilla.adapters import synced_folder
from smilla.errors import FileProblem

PRIVATE, PUBLIC = 0o600, 0o644
_MOST = 1 << 20  # octets of a file with a password, a token or a key


def write(path: Path, octets: bytes, mode: int) -> None:
    """Makes the file.  Raises FileProblem, also where it exists."""
    written = _beside(path, octets, mode)
    try:
        os.link(written, path)
        synced_folder.sync(path.parent)
    except OSError as error:
        raise FileProblem(f"{path}: cannot be made: {error.strerror}") from error
    finally:
        written.unlink()


def replace(path: Path, octets: bytes, mode: int = PUBLIC) -> None:
    """Makes the file, or puts it in the place of an older one, whose mode and owner it takes.  Raises FileProblem."""
    try:
        known = path.stat() if path.exists() else None
    except OSError as error:
        raise FileProblem(f"{path}: cannot be written: {error.strerror}") from error
    written = _beside(path, octets, stat.S_IMODE(known.st_mode) if known else mode, known)
    try:
        written.rename(path)
        synced_folder.sync(path.parent)
    except OSError as error:
        written.unlink(missing_ok=True)
        raise FileProblem(f"{path}: cannot be written: {error.strerror}") from error


def _beside(path: Path, octets: bytes, mode: int, owned_as: os.stat_result | None = None) -> Path:
    """A synced file with another name in the same folder.  As root, it gets the owner of ``owned_as``: before it has a
    name that others wait for, and by its descriptor, whatever the folder's owner puts under its name meanwhile."""
    written = path.parent / f".smilla-{secrets.token_hex(8)}"
    try:
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FileProblem(f"{path}: cannot be made: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            if owned_as is not None and os.geteuid() == 0:
                os.fchown(descriptor, owned_as.st_uid, owned_as.st_gid)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
    except OSError as error:
        written.unlink(missing_ok=True)
        raise FileProblem(f"{path}: cannot be written: {error.strerror}") from error
    return written


def read(path: Path) -> bytes:
    """The octets of a small file.  Raises FileProblem."""
    try:
        with path.open("rb") as file:
            octets = file.read(_MOST + 1)
    except OSError as error:
        raise FileProblem(f"{path}: cannot be read: {error.strerror}") from error
    if len(octets) > _MOST:
        raise FileProblem(f"{path}: has more than {_MOST} octets")
    return octets


def is_readable_by_all(path: Path) -> bool:
    """May everybody on this machine read it?"""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
