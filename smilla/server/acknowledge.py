"""TCP connections of MTAs without the pauses of delayed acknowledgements.

An MTA writes a command in two pieces: the macros, then the command.  Nagle's algorithm holds the second piece back
until the first is acknowledged.  Linux delays the acknowledgement by 40 ms, hoping to send it with a reply.  Our own
replies suffer the same way in the other direction.  Together this costs some 90 ms for each message over inet.

So the listening socket gets TCP_NODELAY, which accepted sockets inherit.  While messages are under way, a thread sends
pending acknowledgements (TCP_QUICKACK) every half millisecond.  The right place would be just before each read, but
libmilter reads by itself and does not reveal its descriptors.

Nothing here can harm a message: failures are ignored, and at worst the pauses are back.
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
    """The TCP sockets of this process: the descriptor, and a duplicate that is closed again.  Yields nothing if no
    descriptor is left to look with."""
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
    """Raises OSError, and leaves nothing open, if the descriptor is no longer a socket."""
    duplicate = os.dup(descriptor)
    try:
        return socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        raise


def _is_listening(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


class Acknowledger:
    """A thread of one worker that sends acknowledgements while there is something to acknowledge."""

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
        """A callback was called; there may be more to read soon."""
        if not self._has_work.is_set():
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
                    # If the descriptor is something else by now, this does nothing or fails.
                    _libc.setsockopt(descriptor, socket.IPPROTO_TCP, _QUICKACK, _ONE, len(_ONE))


def _nothing() -> None:
    """UNIX sockets need none of this."""


def _accepted(ports: set[int]) -> Iterator[int]:
    """The descriptors of connections accepted on these ports."""
    for descriptor, sock in _tcp_sockets():
        if sock.getsockname()[1] in ports and not _is_listening(sock):
            yield descriptor
