"""Asks the running smilla for its snapshot, over the status socket.

Promises: bounded in time (five seconds for each step) and in size (16 MiB); every failure is a SmillaError that says
what to do.
"""

from __future__ import annotations

import http.client
import socket

from smilla.errors import SmillaError
from smilla.metrics.snapshot import Snapshot

_TIMEOUT_S = 5.0
_LARGEST = 16 << 20


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """To the UNIX socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(self._path)


def ask(path: str) -> Snapshot:
    """The snapshot of the smilla whose status socket this is.  Raises SmillaError."""
    connection = _Connection(path)
    try:
        connection.request("GET", "/status.json")
        response = connection.getresponse()
        raw = response.read(_LARGEST)
    except PermissionError as error:
        raise SmillaError(f"{path}: you may not connect; be root, or the user that smilla runs as") from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise SmillaError(f"{path}: nobody answers there; smilla does not run, or has another configuration") from error
    except (OSError, http.client.HTTPException) as error:
        raise SmillaError(f"{path}: no answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise SmillaError(f"{path}: the answer is {response.status} {response.reason}")
    return Snapshot.from_json(raw)
