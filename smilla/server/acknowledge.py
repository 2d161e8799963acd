"""TCP connections of MTAs without the pauses of delayed acknowledgements.

An MTA writes a command in two pieces, its macros and itself.  Nagle's algorithm holds the second piece back until the
first is acknowledged, and Linux delays that for 40 ms, since it hopes to send it with a reply; the same happens to our
own replies the other way round.  Together that is some 90 ms for each message over inet.  So the listening socket gets
TCP_NODELAY, which accepted ones inherit, and while messages are under way a thread asks for pending acknowledgements
(TCP_QUICKACK) every half millisecond.  libmilter tells nobody its descriptors, and reads where nobody can look on, so
that the request cannot be made where it belongs, just before each read.

Nothing here can harm a message: what fails is left alone, and at worst the pauses are back.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterator

_EVERY_S = 0.0005
_IDLE_S = 0.05  # longer than the kernel delays an acknowledgement
_QUICKACK = getattr(socket, "TCP_QUICKACK", 0)
_ONE = struct.pack("i", 1)
_libc = ctypes.CDLL(None, use_errno=True)


def without_nagle() -> None:
    """TCP_NODELAY for every listening TCP socket of this process."""
    for _, sock in _tcp_sockets():
        if _is_listening(sock):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _tcp_sockets() -> Iterator[tuple[int, socket.socket]]:
    """The TCP sockets among the descriptors: the number, and a duplicate that is closed again.  None where there are
    no more descriptors to look with."""
    try:
        descriptors = os.listdir("/proc/self/fd")  # noqa: PTH208 - at every new connection
    except OSError:
        return
    for descriptor in map(int, descriptors):
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            with _duplicate(descriptor) as sock:
                if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
                    yield descriptor, sock


def _duplicate(descriptor: int) -> socket.socket:
    """Raises OSError, and leaves nothing open, where the descriptor is something else by now."""
    duplicate = os.dup(descriptor)
    try:
        return socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        raise


def _is_listening(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


class Acknowledger:
    """A thread that asks for acknowledgements while there is something to acknowledge, in one worker."""

    def __init__(self) -> None:
        self._ports = {sock.getsockname()[1] for _, sock in _tcp_sockets() if _is_listening(sock)}
        self._descriptors: tuple[int, ...] = ()
        self._has_work = threading.Event()
        if self._ports and _QUICKACK:
            threading.Thread(target=self._run, name="acknowledge", daemon=True).start()
        else:
            self.opened = self.wake = _nothing  # type: ignore[method-assign]

    def opened(self) -> None:
        """A connection was accepted."""
        self._descriptors = tuple(_accepted(self._ports))
        self._has_work.set()

    def wake(self) -> None:
        """A callback has come; there may be more to read soon."""
        self._has_work.set()

    def _run(self) -> None:
        while True:
            self._has_work.wait()
            idle_at = time.monotonic() + _IDLE_S
            while time.monotonic() < idle_at:
                if self._has_work.is_set():
                    self._has_work.clear()
                    idle_at = time.monotonic() + _IDLE_S
                time.sleep(_EVERY_S)
                for descriptor in self._descriptors:
                    # A descriptor may be something else by now: then this does nothing, or is refused.
                    _libc.setsockopt(descriptor, socket.IPPROTO_TCP, _QUICKACK, _ONE, len(_ONE))


def _nothing() -> None:
    """Over UNIX sockets nothing is to be done."""


def _accepted(ports: set[int]) -> Iterator[int]:
    """The descriptors of connections that were accepted on these ports."""
    for descriptor, sock in _tcp_sockets():
        if sock.getsockname()[1] in ports and not _is_listening(sock):
            yield descriptor
