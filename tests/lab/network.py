"""A network of its own for this thread: every port is free there, 25, 53 and 443 among them.

    with network():  sockets that this thread opens, threads and children that it starts  ->  a loopback of their own

All of 127.0.0.0/8 is usable, so each mail server can have an address of its own.  Nothing leads outside.  Needs root.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_RESOLVES = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'


@contextlib.contextmanager
def network() -> Iterator[None]:
    """What this thread opens or starts meanwhile is in the new network.  Raises OSError without the right to."""
    library = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as before:
        _checked(library.unshare(_CLONE_NEWNET), "unshare")
        try:
            with socket.socket() as any_socket:
                fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
            yield
        finally:
            _checked(library.setns(before.fileno(), _CLONE_NEWNET), "setns")


def asking(resolv_conf: Path) -> list[str]:
    """The words before a command that make it, and its children, see another /etc/resolv.conf.  The process keeps its
    number."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _RESOLVES, "resolves", str(resolv_conf)]


def _checked(result: int, name: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
