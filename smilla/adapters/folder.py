"""The administrator's folder of keys, and the key files that rules name: a changed file counts at once.

Two things are cached: the list of names, until the folder changes, and the content of a file of usual size, until that
file changes or is replaced.  Only regular files are read, so a FIFO holds up nobody.  What is half written is no key
that cannot be used, for which mail may be refused: a file that has just changed, or does so while it is read, is read
again a tenth of a second later, until it stays the same; if it goes on changing, that is an error, which is temporary.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from smilla.address import EmailAddress
from smilla.errors import SmillaError

_LIMIT = 1 << 20
_SETTLED_NS = 100_000_000  # a second change within one clock tick would not change the time stamp
_USUAL, _MOST_KEPT = 16 * 1024, 1000  # the largest file that is cached, in octets, and the most files
_ATTEMPTS = 5
_Identity = tuple[int, int, int, int, int]


class KeyFiles:
    """Files at most 1 MiB each."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[_Identity, bytes]] = {}

    def read(self, path: str) -> bytes | None:
        """The octets of a file, None if there is none.  Raises SmillaError if it cannot be read."""
        if (kept := self._kept.get(path)) is not None and kept[0] == _identity_of(path):
            return kept[1]
        self._kept.pop(path, None)
        before: bytes | None = None
        for _ in range(_ATTEMPTS):
            raw, is_whole = self._read(path)
            if is_whole or raw == before:
                return raw
            before = raw
            time.sleep(_SETTLED_NS / 1e9)
        raise SmillaError(f"{path}: changes while it is read")

    def _read(self, path: str) -> tuple[bytes | None, bool]:
        """The octets, and whether the file has been the same for a while, and still is."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    raise SmillaError(f"{path}: is no file")
                raw = file.read(_LIMIT + 1)
                after = os.fstat(descriptor)
        except (FileNotFoundError, NotADirectoryError) as error:
            if os.path.islink(path):  # noqa: PTH114 - the text is the key of what is kept
                raise SmillaError(f"{path}: is a link that leads nowhere") from error
            return None, True
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == 36:  # ENAMETOOLONG: no such file can exist
                return None, True
            raise SmillaError(f"{path}: cannot be read: {error}") from error
        if len(raw) > _LIMIT:
            raise SmillaError(f"{path}: is larger than {_LIMIT} octets")
        is_settled = time.time_ns() - max(after.st_mtime_ns, after.st_ctime_ns) > _SETTLED_NS
        is_whole = is_settled and _identity(before) == _identity(after) and len(raw) == after.st_size
        if is_whole and len(raw) <= _USUAL:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[path] = _identity(after), raw
        return raw, is_whole


class KeyDirectory:
    """The files of one folder, at most 1 MiB each; ``address_of`` says from a file's name whose keys it holds."""

    def __init__(self, folder: str, address_of: Callable[[str], EmailAddress | None]) -> None:
        self._folder = Path(folder) if folder else None
        self._address_of = address_of
        self._index: tuple[_Identity, dict[str, list[str]]] | None = None
        self._files = KeyFiles()

    def names(self, folded: str) -> Sequence[str]:
        """The names of the files for an address.  Raises SmillaError."""
        if self._folder is None:
            return ()
        try:
            asked_at, found = time.time_ns(), self._folder.stat()
            identity = _identity(found)
            known = self._index
            if known is None or known[0] != identity:
                known = identity, self._listed(self._folder)
                is_settled = asked_at - max(found.st_mtime_ns, found.st_ctime_ns) > _SETTLED_NS
                self._index = known if is_settled else None
        except OSError as error:
            raise SmillaError(f"{self._folder}: cannot be read: {error.strerror}") from error
        return known[1].get(folded, ())

    def all_names(self) -> Sequence[str]:
        """The names of all files, and of folders named like a key file.  Raises SmillaError."""
        if self._folder is None:
            return ()
        try:
            found = [entry.name for entry in os.scandir(self._folder) if not _is_folder(entry) or self._is_for(entry)]
            return sorted(found)
        except OSError as error:
            raise SmillaError(f"{self._folder}: cannot be read: {error.strerror}") from error

    def _is_for(self, entry: os.DirEntry[str]) -> bool:
        return self._address_of(entry.name) is not None

    def _listed(self, folder: Path) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names are wanted, not paths
            address = self._address_of(name)
            if address is not None:
                names.setdefault(address.folded, []).append(name)
        return names

    def read(self, name: str) -> bytes | None:
        """The octets of a file, None if there is none.  Raises SmillaError if it cannot be read."""
        return self._files.read(f"{self._folder}/{name}") if self._folder is not None else None


def _identity(found: os.stat_result) -> _Identity:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _identity_of(path: str) -> _Identity | None:
    """The identity of the file that has this name now, None if it cannot be read."""
    try:
        return _identity(os.stat(path))  # noqa: PTH116 - asked for every message
    except (OSError, ValueError):
        return None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """A dangling or circular link counts as no folder."""
    try:
        return entry.is_dir()
    except OSError:
        return False
