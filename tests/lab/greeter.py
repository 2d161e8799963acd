"""An SMTP server on every loopback address at once, which speaks STARTTLS and counts who is there at the same time.

A dialogue counts from its greeting until its QUIT is answered, so that a client that waits for the answer, as it must,
never looks as if it had two where it has one after the other.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections import Counter
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType


class Greeter:
    """``groups(address)`` are further names that an address counts under.  ``most`` is how many were there at once, by
    address and group; ``began`` and ``quits`` are all dialogues, and those that ended with QUIT.  ``admit`` says
    how many more are greeted; the others wait."""

    def __init__(self, pair: Path, groups: Callable[[str], list[str]]) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair)
        self._groups = groups
        self._lock = threading.Lock()
        self._there: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.began: Counter[str] = Counter()
        self.quits = 0
        self._room: int | None = None
        self._admitted = threading.Condition()
        self._listener = socket.create_server(("0.0.0.0", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def admit(self, room: int | None) -> None:
        """From now on; None: everybody."""
        with self._admitted:
            self._room = room
            self._admitted.notify_all()

    def _is_admitted(self, connection: socket.socket) -> bool:
        """Waits for its turn; False for a client that has gone meanwhile, which takes no room."""
        with self._admitted:
            while self._room == 0:
                self._admitted.wait()
            with contextlib.suppress(BlockingIOError):
                if not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                    return False
            if self._room is not None:
                self._room -= 1
            return True

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        address = connection.getsockname()[0]
        names = [address, *self._groups(address), "all"]
        with self._lock:
            self.began[address] += 1
            self._there.update(names)
            for name in names:
                self.most[name] = max(self.most[name], self._there[name])
        left = [*names]
        try:
            with contextlib.suppress(OSError):
                self._talk(connection, left)
        finally:
            connection.close()
            self._leave(left)

    def _leave(self, names: list[str]) -> None:
        with self._lock:
            self._there.subtract(names)
        names.clear()

    def _talk(self, connection: socket.socket, names: list[str]) -> None:
        if not self._is_admitted(connection):
            return
        connection.settimeout(60)
        connection.sendall(b"220 greeter.test ESMTP\r\n")
        unread = b""
        while True:
            while b"\r\n" not in unread:
                block = connection.recv(4096)
                if not block:
                    return
                unread += block
            line, _, unread = unread.partition(b"\r\n")
            verb = line.split(b" ")[0].upper()
            if verb == b"QUIT":
                self._leave(names)
                with self._lock:
                    self.quits += 1
                connection.sendall(b"221 bye\r\n")
                return
            if verb == b"STARTTLS":
                connection.sendall(b"220 go on\r\n")
                connection = self._context.wrap_socket(connection, server_side=True)
            else:
                connection.sendall(b"250-greeter.test\r\n250-REQUIRETLS\r\n250 STARTTLS\r\n")
