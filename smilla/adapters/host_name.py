"""The addresses of a host as the system knows them, bounded in time.

Promises: ``addresses`` returns or raises by its deadline, though the system's own look-up may go on for long.  One
look-up of the name is under way at a time, and whoever asks meanwhile waits for that one; so name servers that do not
answer hold one thread for each object of this class, however many ask.
"""

from __future__ import annotations

import socket
import threading
import time
from ipaddress import ip_address

from smilla.errors import DirectoryError, words_of


class HostName:
    """A name or an IP address.  Any thread may call."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._pending: _LookUp | None = None

    def addresses(self, deadline: float) -> tuple[str, ...]:
        """IP addresses in the system's order of preference, by a deadline (monotonic seconds).  Raises
        DirectoryError."""
        if _is_address(self._host):
            return (self._host,)
        with self._lock:
            look_up = self._pending
            if look_up is None or look_up.over.is_set():
                look_up = self._pending = _LookUp(self._host)
        if not look_up.over.wait(max(0.0, deadline - time.monotonic())):
            raise DirectoryError(f"{self._host}: the name servers of this machine did not answer in time")
        if not look_up.found:
            raise DirectoryError(f"{self._host}: {look_up.failure or 'has no address'}")
        return look_up.found


class _LookUp:
    """One look-up under way; ``over`` once it has ended."""

    def __init__(self, host: str) -> None:
        self.over = threading.Event()
        self.found: tuple[str, ...] = ()
        self.failure = ""
        self._host = host
        threading.Thread(target=self._run, name="host-name", daemon=True).start()

    def _run(self) -> None:
        try:
            entries = socket.getaddrinfo(self._host, None, type=socket.SOCK_STREAM)
            self.found = tuple(dict.fromkeys(str(entry[4][0]) for entry in entries))
        except (OSError, ValueError) as error:  # a name with a label of more than 63 octets is a ValueError
            self.failure = words_of(error)
        finally:
            self.over.set()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
