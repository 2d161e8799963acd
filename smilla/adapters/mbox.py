"""An mbox file: locked, read where it is, and replaced as a whole.

Promises: the file is the old one or the new one, at every moment and whoever is killed.  The new one is written beside
it, synced, and takes its name in one step (rename(2)); its owner, mode and times are those of the old one.  All three
usual locks are held meanwhile (fcntl(2), flock(2), and FILE.lock), and a file that changed nonetheless is not replaced.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from smilla.adapters import synced_folder
from smilla.errors import MailboxError

_OURS = "smilla"  # what our FILE.lock says after the process number
_BLOCK = 1 << 20


class Mbox:
    """The file, locked between ``with`` and its end."""

    def __init__(self, path: Path) -> None:
        """Raises MailboxError."""
        self.path = path.resolve()
        with self._problems():
            found = self.path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise MailboxError(f"{path}: is no file")
            if os.geteuid() == 0 and found.st_uid != 0:
                raise MailboxError(f"{path}: run this as the owner of the mailbox (user {found.st_uid}), not as root")

    @contextmanager
    def locked(self) -> Iterator[BinaryIO]:
        """The file, to be read.  Raises MailboxError if somebody else holds a lock."""
        with self._problems(), self._lock_file(), self.path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise MailboxError(f"{self.path}: another program holds its lock") from error
            self._remove_leftovers()
            yield file

    @contextmanager
    def replacement(self, old: BinaryIO) -> Iterator[Replacement]:
        """A new file beside the old one; it is gone at the end unless it took the place of the old one."""
        with self._problems():
            one = Replacement(self.path, old)
            try:
                yield one
            finally:
                one.close()

    @contextmanager
    def _lock_file(self) -> Iterator[None]:
        lock = self.path.with_name(self.path.name + ".lock")
        self._remove_stale(lock)
        temporary = lock.with_name(f".{lock.name}.{secrets.token_hex(8)}")
        temporary.write_text(f"{os.getpid()} {_OURS}\n")
        try:
            os.link(temporary, lock)
        except FileExistsError as error:
            raise MailboxError(f"{lock}: is there, so another program uses the mailbox") from error
        finally:
            temporary.unlink()
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)

    @staticmethod
    def _remove_stale(lock: Path) -> None:
        """Ours, if the process that made it is gone."""
        with suppress(FileNotFoundError):
            number, _, maker = lock.read_text("ascii", "replace").strip().partition(" ")
            if maker == _OURS and number.isdecimal() and not _is_alive(int(number)):
                lock.unlink()

    def _remove_leftovers(self) -> None:
        """What a killed run has left beside the file; whoever holds the lock is alone."""
        for name in (f".{self.path.name}.smilla-", f".{self.path.name}.lock."):
            for path in self.path.parent.iterdir():
                if path.name.startswith(name) and len(path.name) == len(name) + 16:
                    path.unlink()

    @contextmanager
    def _problems(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            told = " (there is no room; the old file stays)" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            raise MailboxError(f"{error.filename or self.path}: {error.strerror}{told}") from error


class Replacement:
    """A file that is to take the place of another one."""

    def __init__(self, path: Path, old: BinaryIO) -> None:
        self._path, self._old = path, old
        self._was = os.fstat(old.fileno())
        self._temporary = path.with_name(f".{path.name}.smilla-{secrets.token_hex(8)}")
        descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.file: BinaryIO = os.fdopen(descriptor, "w+b")
        self._is_done = False

    def copy(self, begin: int, end: int) -> Iterator[bytes]:
        """Writes octets of the old file, in blocks, which it gives."""
        self._old.seek(begin)
        while begin < end:
            block = self._old.read(min(_BLOCK, end - begin))
            if not block:
                raise MailboxError(f"{self._path}: became shorter while it was read")
            self.file.write(block)
            begin += len(block)
            yield block

    def sync(self) -> None:
        """All that was written is on the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def take_place(self, keep: str) -> None:
        """Takes the name of the old file, which stays as ``keep`` if that is not "".  Raises MailboxError if the old
        file is another one by now, or if ``keep`` exists."""
        descriptor = self.file.fileno()
        now = self._path.stat()
        if _signs(now) != _signs(self._was) or _signs(os.fstat(self._old.fileno())) != _signs(self._was):
            raise MailboxError(f"{self._path}: another program has changed it meanwhile, so it stays; run it again")
        mine = os.fstat(descriptor)
        if (mine.st_uid, mine.st_gid) != (self._was.st_uid, self._was.st_gid):
            os.fchown(descriptor, self._was.st_uid, self._was.st_gid)  # or who delivers may not write any more
        os.fchmod(descriptor, stat.S_IMODE(self._was.st_mode))
        os.utime(descriptor, ns=(self._was.st_atime_ns, self._was.st_mtime_ns))
        os.fsync(descriptor)
        if keep:
            self._keep(self._path.with_name(keep) if "/" not in keep else Path(keep))
        self._temporary.rename(self._path)
        self._is_done = True
        synced_folder.sync(self._path.parent)

    def _keep(self, kept: Path) -> None:
        try:
            os.link(self._path, kept)
        except FileExistsError as error:
            if not kept.samefile(self._path):  # a killed run may have kept it
                raise MailboxError(f"{kept}: is there already, so nothing is kept under that name") from error
        synced_folder.sync(kept.parent)

    def close(self) -> None:
        """Removes the file unless it took its place."""
        self.file.close()
        if not self._is_done:
            self._temporary.unlink(missing_ok=True)


def _signs(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
