"""A TCP server within the test's own process: a thread that accepts, and one for each connection."""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.lab.processes import LOOPBACK, Closing


class LoopbackServer(Closing):
    """Listens on a loopback port from the beginning; ``talk`` is what it does with a connection."""

    def __init__(self, address: str = LOOPBACK, port: int = 0) -> None:
        self.open: set[socket.socket] = set()
        self.connections = 0
        self._listener = socket.create_server((address, port))
        self._thread = threading.Thread(target=self._serve, name=type(self).__name__, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The loopback port."""
        return int(self._listener.getsockname()[1])

    def talk(self, connection: socket.socket) -> None:
        """Runs in a thread of the connection's own, and takes it out of ``open`` in the end."""
        raise NotImplementedError

    def cut_connections(self) -> None:
        """Ends every connection that is open."""
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends the listener and every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_connections()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open.add(connection)
            threading.Thread(target=self.talk, args=(connection,), name=self._thread.name, daemon=True).start()
