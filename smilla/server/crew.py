"""Keeps libmilter's pool of threads awake while one of them waits.

Debian's libmilter serves all connections with a small pool of threads.  When commands arrive on several connections at
once, it wakes its idle threads and starts no new ones, because it counts a thread as idle until the thread has really
woken up.  A command that finds no thread waits until some callback returns.  Our callbacks may wait for a slow name
server, so one slow domain would hold up everybody's mail.  A new connection makes libmilter wake or start a thread.
That thread finds nothing to do on the new connection and picks up the forgotten command.  So while a callback lasts, we
connect now and then ("knock").

If several workers share the socket, a knock may reach another worker.  It does no harm there, and the next knock comes
soon.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

_LONG_S = 0.01  # an ordinary message takes a tenth of this
_IDLE_S = 1.0  # polling for a while is cheaper than waking this thread for every message
_KNOCK_TIMEOUT_S = 0.2


class Crew:
    """Watches the callbacks of one worker; each callback runs inside this context manager.  ``specification`` is the
    worker's socket in libmilter's notation."""

    def __init__(self, specification: str) -> None:
        self._family, self._address = _address(specification)
        self._since: dict[int, float] = {}
        self._has_work = threading.Event()
        threading.Thread(target=self._run, name="crew", daemon=True).start()

    def __enter__(self) -> None:
        """A callback begins that may have to wait."""
        self._since[threading.get_ident()] = time.monotonic()
        if not self._has_work.is_set():
            self._has_work.set()

    def __exit__(self, *_: object) -> None:
        self._since.pop(threading.get_ident(), None)

    def _run(self) -> None:
        while True:
            self._has_work.wait()
            idle_at = time.monotonic() + _IDLE_S
            while self._since or time.monotonic() < idle_at:
                time.sleep(_LONG_S)
                now = time.monotonic()
                if self._since:
                    idle_at = now + _IDLE_S
                if min(list(self._since.values()), default=now) < now - _LONG_S:
                    self._knock()
            self._has_work.clear()
            if self._since:  # a callback that began before the event was cleared
                self._has_work.set()

    def _knock(self) -> None:
        with contextlib.suppress(OSError), socket.socket(self._family) as sock:
            sock.settimeout(_KNOCK_TIMEOUT_S)
            sock.connect(self._address)


def _address(specification: str) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    kind, _, where = specification.partition(":")
    if kind in ("unix", "local"):
        return socket.AF_UNIX, where
    port, _, host = where.partition("@")
    family, here = (socket.AF_INET6, "::1") if kind == "inet6" else (socket.AF_INET, "127.0.0.1")
    return family, (here if host in ("", "0.0.0.0", "::", "[::]") else host.strip("[]"), int(port))  # noqa: S104
