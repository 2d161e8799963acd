"""The keys with which smilla seals messages while they wait in the MTA's queue: one file per key.

A file ``ID.key`` (mode 0600, the ID in hex) says when its key was made and holds its octets in hex.  The newest key
seals, every key opens.  A key is made as a whole or not at all: written to a temporary file, synced, and renamed.
Before you remove a key, make sure that no queued message needs it (``smilla seal prune``).
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smilla.adapters import synced_folder
from smilla.errors import SealKeyMissing
from smilla.formats.seal import KEY_ID_OCTETS, KEY_OCTETS
from smilla.ports import SealKey

# A folder's time stands still for a tick of the kernel's clock, or for a whole second: what is read so soon after a
# change may be changed again without a new time.
_YOUNG_NS = 2_000_000_000
_TEXT = re.compile(r"smilla seal key\nmade at ([0-9]{1,12})\nkey ([0-9a-f]{64})\n")


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key, the time it was made (seconds since 1970), and its file."""

    key: SealKey
    made_at: int
    path: Path


class SealKeys:
    """The keys in ``folder``.  Every method raises SealKeyMissing, which names the file and what to do."""

    def __init__(self, folder: str, clock: Callable[[], float] = time.time) -> None:
        self._folder = Path(folder)
        self._clock = clock
        self._known: tuple[int, tuple[StoredKey, ...]] = (-1, ())

    def exist(self) -> bool:
        """Is there a key, or may there be one?  Raises nothing; an unreadable folder matters when a key is needed."""
        try:
            return any(path.name.endswith(".key") for path in self._folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True

    def prepare(self, user: str, rotate_days: int) -> SealKey | None:
        """Makes the folder for ``user`` (as root).  Makes and returns a key if there is none or the newest is too
        old."""
        try:
            if not self._folder.is_dir():
                self._folder.mkdir(mode=0o700, parents=True)
            if os.geteuid() == 0 and user:
                entry = pwd.getpwnam(user)
                os.chown(self._folder, entry.pw_uid, entry.pw_gid)
        except (OSError, KeyError) as error:
            raise SealKeyMissing(f"{self._folder}: cannot be made: {error}") from error
        found = self.all()
        if found and self._clock() - found[-1].made_at < rotate_days * 86400:
            return None
        return self.make(user)

    def make(self, user: str = "") -> SealKey:
        """Makes a new key, which seals from now on."""
        key = SealKey(secrets.token_bytes(KEY_ID_OCTETS), secrets.token_bytes(KEY_OCTETS))
        path = self._folder / f"{key.raw_id.hex()}.key"
        temporary = path.with_suffix(".new")
        text = f"smilla seal key\nmade at {int(self._clock())}\nkey {key.raw.hex()}\n"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
                if os.geteuid() == 0 and user:
                    entry = pwd.getpwnam(user)
                    os.fchown(descriptor, entry.pw_uid, entry.pw_gid)
            temporary.rename(path)
            synced_folder.sync(self._folder)
        except (OSError, KeyError) as error:
            raise SealKeyMissing(f"{path}: cannot be written: {error}") from error
        return key

    def remove(self, stored: StoredKey) -> None:
        """Removes a key.  Messages sealed with it can no longer be opened."""
        try:
            stored.path.unlink()
            synced_folder.sync(self._folder)
        except OSError as error:
            raise SealKeyMissing(f"{stored.path}: cannot be removed: {error.strerror}") from error

    def all(self) -> tuple[StoredKey, ...]:
        """Every key, the newest last."""
        try:
            changed_at = self._folder.stat().st_mtime_ns
            if self._known[0] != changed_at:
                is_settled = abs(time.time_ns() - changed_at) > _YOUNG_NS
                # Not by glob, which takes a folder that it may not read for an empty one.
                found = [_read(path) for path in self._folder.iterdir() if path.name.endswith(".key")]
                ordered = tuple(sorted(found, key=lambda stored: (stored.made_at, stored.path.name)))
                self._known = changed_at if is_settled else -1, ordered
        except OSError as error:
            raise SealKeyMissing(f"{self._folder}: cannot be read: {error.strerror}") from error
        return self._known[1]

    def current(self) -> SealKey:
        """The key that seals."""
        found = self.all()
        if not found:
            raise SealKeyMissing(f"{self._folder}: there is no seal key; restart smilla, which makes one")
        return found[-1].key

    def find(self, raw_id: bytes) -> SealKey:
        """The key with that ID."""
        for stored in self.all():
            if stored.key.raw_id == raw_id:
                return stored.key
        raise SealKeyMissing(f"{self._folder}: there is no seal key {raw_id.hex()}; put it back from the backup")


def _read(path: Path) -> StoredKey:
    try:
        found = _TEXT.fullmatch(path.read_text("ascii"))
        raw_id = bytes.fromhex(path.stem)
    except (OSError, ValueError) as error:
        raise SealKeyMissing(f"{path}: cannot be read: {error}") from error
    if found is None or len(raw_id) != KEY_ID_OCTETS:
        raise SealKeyMissing(f"{path}: is no seal key; put it back from the backup, or move it away")
    return StoredKey(SealKey(raw_id, bytes.fromhex(found[2])), int(found[1]), path)
