"""A web server for Web Key Directories, on port 443 of an address of its own.

    who looks for a key -> TLS -> ``KeyWeb``: by host and path, a file of ``files`` or what ``habits`` says

A host in ``held`` takes the request and says nothing until ``release`` is called.
"""

from __future__ import annotations

import http.server
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.lab.processes import Closing

if TYPE_CHECKING:
    import ssl


@dataclass
class Habit:
    """What a host answers to every path."""

    status: int = 200
    media_type: str = "application/octet-stream"
    raw: bytes = b""
    location: str = ""
    cut_off: bool = False


@dataclass
class _State:
    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    habits: dict[str, Habit] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


class KeyWeb(Closing):
    """``files`` by host and path (without query), ``habits`` by host; both may change while it runs.  ``asked`` are
    hosts and targets, in order."""

    def __init__(self, address: str, tls: ssl.SSLContext) -> None:
        self._state = state = _State()
        self.files, self.habits, self.held, self.asked = state.files, state.habits, state.held, state.asked

        class Handler(_Handler):
            of = state

        self._server = http.server.ThreadingHTTPServer((address, 443), Handler)
        self._server.daemon_threads = True
        self._server.socket = tls.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="key-web", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Lets the hosts in ``held`` answer."""
        self._state.released.set()

    def hold(self) -> None:
        """They say nothing again."""
        self._state.released.clear()

    def close(self) -> None:
        """Ends it."""
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Handler(http.server.BaseHTTPRequestHandler):
    of: _State

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        host, path = self.headers["Host"] or "", self.path.partition("?")[0]
        self.of.asked.append((host, self.path))
        if host in self.of.held:
            self.of.released.wait(120)
        raw = self.of.files.get((host, path))
        answer = self.of.habits.get(host, Habit() if raw is not None else Habit(404, "text/html", b"<html>404"))
        octets = raw if raw is not None and answer.status == 200 and not answer.raw else answer.raw
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.media_type)
        if answer.location:
            self.send_header("Location", answer.location)
        self.send_header("Content-Length", str(len(octets) + 10 * answer.cut_off))
        self.end_headers()
        self.wfile.write(octets)
