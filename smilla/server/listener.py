"""The listening sockets: sets who may connect, and makes sure nobody else is listening there.

When any of its processes stops, libmilter unlinks the path it was given.  So we give it a private path next to the real
one, and rename the socket into place once group and mode are right.  Then no worker that ends can take the socket away
from the others, and no client can connect too early.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Protocol

from smilla.config.values import is_local
from smilla.errors import SmillaError

_BACKLOG = 1024  # Postfix gives up at once where it is full
_AFTER_FAILURE_S = 0.1  # pause after accept() fails, for lack of a descriptor, for instance


class SocketOptions(Protocol):
    """The options of a section that has a socket."""

    @property
    def socket(self) -> str:
        """libmilter's notation."""

    @property
    def socket_group(self) -> str:
        """See [milter]."""

    @property
    def socket_mode(self) -> str:
        """See [milter]."""


class LocalSocket:
    """A socket on this machine, UNIX or inet on loopback, that is served with one thread per connection.  It is made
    before rights are dropped, and served after a fork."""

    def __init__(self, section: str, options: SocketOptions, user: str, *, is_guarded: bool = False) -> None:
        """Makes the socket, with its group and mode.  Others than this machine may reach it only if ``is_guarded``:
        whoever serves it asks who they are.  Raises SmillaError."""
        self._path: UnixPath | None = None
        where = f"[{section}] socket {options.socket}"
        if UnixPath.fits(options.socket):
            self._path = UnixPath(options.socket)
            self._socket = _bound(self._path.prepare().partition(":")[2], where)
            self._path.publish(options.socket_group, options.socket_mode, user)
        elif is_guarded or is_local(options.socket):
            self._socket = _inet(options.socket, where)
        else:
            raise SmillaError(f"{where} is not on loopback: anybody who reaches it is believed")

    def remove(self) -> None:
        """Removes the socket's path."""
        if self._path is not None:
            self._path.remove()

    def serve(self, serve_one: Callable[[socket.socket, Callable[[], object]], object], most: int) -> NoReturn:
        """Until the process ends, at most so many connections at once.  ``serve_one`` gets a connection and what it
        must call at its end."""
        room = threading.BoundedSemaphore(most)
        while True:
            room.acquire()
            try:
                connection, _ = self._socket.accept()
                threading.Thread(target=serve_one, args=(connection, room.release), daemon=True).start()
            except (OSError, RuntimeError):  # no room for a descriptor or a thread
                room.release()
                time.sleep(_AFTER_FAILURE_S)


def _bound(path: str, where: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listening.bind(path)
        listening.listen(_BACKLOG)
    except OSError as error:
        raise SmillaError(f"{where}: {error.strerror}") from error
    finally:
        os.umask(before)
    return listening


def _inet(specification: str, where: str) -> socket.socket:
    port, _, host = specification.partition(":")[2].partition("@")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SmillaError(f"{where}: {error.strerror}") from error


class UnixPath:
    """The path of ``unix:PATH`` (or ``local:PATH``) from binding to the end."""

    def __init__(self, specification: str) -> None:
        self._path = Path(specification.partition(":")[2])
        self._temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        self._inode = 0

    @staticmethod
    def fits(specification: str) -> bool:
        """Is this a UNIX socket's specification?"""
        return specification.startswith(("unix:", "local:"))

    def prepare(self) -> str:
        """What libmilter should open.  Raises SmillaError if the folder is missing or somebody listens there."""
        if not self._path.parent.is_dir():
            raise SmillaError(f"{self._path.parent}: no such folder for the socket; create it for smilla's user")
        if self._path.is_symlink() or (self._path.exists() and not self._path.is_socket()):
            raise SmillaError(f"{self._path}: exists already and is not a socket; move it away or choose another path")
        if is_listening(self._path):
            raise SmillaError(f"{self._path}: another process listens there; stop it first")
        with contextlib.suppress(FileNotFoundError):
            self._temporary.unlink()
        return f"unix:{self._temporary}"

    def publish(self, group: str, mode: str, user: str) -> None:
        """Gives the socket its owner, group, mode and real name.  Raises SmillaError."""
        try:
            gid = grp.getgrnam(group).gr_gid if group else -1
            found = self._temporary.lstat()
            if not stat.S_ISSOCK(found.st_mode):
                raise SmillaError(f"{self._temporary}: somebody has put something else in the socket's place")
            if group or user:
                os.chown(self._temporary, _user_id(user), gid, follow_symlinks=False)
            self._temporary.chmod(int(mode, 8))
            self._inode = found.st_ino
            self._temporary.rename(self._path)
        except (KeyError, OSError) as error:
            with contextlib.suppress(OSError):
                self._temporary.unlink()
            what = error.strerror if isinstance(error, OSError) else error.args[0]
            raise SmillaError(
                f"{self._path}: [milter] socket_group = {group!r}, user = {user!r}: {what}; unless it is root, "
                "smilla must be a member of the group (systemd: SupplementaryGroups)"
            ) from error

    def remove(self) -> None:
        """Unlinks the socket, unless another process has put its own there."""
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


def _user_id(user: str) -> int:
    return pwd.getpwnam(user).pw_uid if user else -1


def is_listening(path: Path) -> bool:
    """Does a process accept connections on this UNIX socket?"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(2)
        try:
            sock.connect(str(path))
        except OSError:
            return False
    return True


def can_connect(specification: str) -> bool:
    """Does a process accept connections on this socket, UNIX or inet (libmilter's notation)?"""
    if UnixPath.fits(specification):
        return is_listening(Path(specification.partition(":")[2]))
    port, _, host = specification.partition(":")[2].partition("@")
    try:
        with socket.create_connection((host, int(port)), 2):
            return True
    except (OSError, ValueError):
        return False
