"""libmilter's crew of threads, kept from falling asleep while one of them waits.

Debian's libmilter serves all connections by a small crew.  Where commands of several connections arrive at once, it
wakes its idle threads and starts no new ones, since it counts a thread as idle until that has really woken up.  A
command that finds nobody then waits until some callback returns, and ours may wait for a slow name server: so one slow
domain would hold up the mail of others.  A new connection gets libmilter to wake or start a thread, which, once it has
found nothing to do there, takes up the forgotten command.  So while a callback lasts, somebody knocks.

With several workers on one socket a knock may reach another one; it does no harm there, and the next one comes soon.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

_LONG_S = 0.01  # an ordinary message is done in a tenth of it
_IDLE_S = 1.0  # waking this thread for every message would cost more than looking up now and then
_KNOCK_TIMEOUT_S = 0.2


class Crew:
    """Watches over the callbacks of one worker, each of which is a context; ``specification`` is its socket, in
    libmilter's notation."""

    def __init__(self, specification: str) -> None:
        self._family, self._address = _address(specification)
        self._since: dict[int, float] = {}
        self._has_work = threading.Event()
        threading.Thread(target=self._run, name="crew", daemon=True).start()

    def __enter__(self) -> None:
        """A callback that may have to wait for somebody else begins."""
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
