"""Answers a scraper or ``smilla status``: one GET over HTTP for each connection, on sockets that are open already.

Promises: nobody who asks can hold up anything but their own answer.  A request has 16 KiB and ten seconds, the answer
ten more; at most eight are served at once, and others wait.  Parsing and answers are those of Python's http.server;
only reading is ours, since http.server reads for as long, and as much, as a client cares to send.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, NoReturn

from smilla import log

Page = Callable[[str], tuple[bytes, str]]  # from the request's Accept to the octets and their Content-Type
_LIMIT_S = 10.0
_LARGEST_REQUEST = 16384
_CONNECTIONS = 8
_AFTER_FAILURE_S = 0.1


def serve(listening: socket.socket, pages: Mapping[str, Page]) -> NoReturn:
    """Answers until the process ends."""
    room = threading.BoundedSemaphore(_CONNECTIONS)
    while True:
        room.acquire()
        try:
            connection, _ = listening.accept()
        except OSError:
            room.release()
            time.sleep(_AFTER_FAILURE_S)
            continue
        threading.Thread(target=_serve_one, args=(connection, pages, room.release), daemon=True).start()


def _serve_one(connection: socket.socket, pages: Mapping[str, Page], done: Callable[[], object]) -> None:
    try:
        with connection:
            _Request(connection, pages)
    except OSError:
        pass  # the client is gone or was too slow
    except Exception:
        log.internal_error("", "metrics")
    finally:
        done()


class _Request(BaseHTTPRequestHandler):
    """One request; the answer is sent as a whole."""

    server_version, sys_version = "smilla", ""

    def __init__(self, connection: socket.socket, pages: Mapping[str, Page]) -> None:
        self._pages = pages
        super().__init__(connection, ("", 0), None)  # type: ignore[arg-type]  # no server: nothing here asks it

    def setup(self) -> None:
        """Reads the request, within its bounds."""
        self.connection = self.request
        self.rfile: Any = io.BytesIO(_head(self.connection))
        self.wfile: Any = io.BytesIO()

    def finish(self) -> None:
        """Sends the answer; the time limit is for all of it."""
        self.connection.settimeout(_LIMIT_S)
        self.connection.sendall(self.wfile.getvalue())

    def do_GET(self) -> None:
        """A page, or 404."""
        page = self._pages.get(self.path.partition("?")[0])
        if page is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        octets, content_type = page(self.headers.get("Accept", ""))
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(octets)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(octets)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Scrapes are not logged."""


def _head(connection: socket.socket) -> bytes:
    """The request up to its empty line, or as much as it may have; a body is left unread.  Raises OSError."""
    deadline, raw = time.monotonic() + _LIMIT_S, b""
    while b"\r\n\r\n" not in raw and b"\n\n" not in raw and len(raw) < _LARGEST_REQUEST:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        block = connection.recv(4096)
        if not block:
            break
        raw += block
    return raw
