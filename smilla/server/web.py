"""Serves the status page: a process like a worker, which only asks others and touches no mail.

The HTTP is waitress's: one thread reads all requests, so that a slow client holds up nobody, and a few threads answer
them.  Only a daemon with [web] listen imports this file, since the packages it needs may be missing elsewhere.  The
parent opens the port; this process is replaced if it dies, as a worker is.  What keeps the page from being
served is logged and nothing else: mail goes on.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NoReturn

from waitress.server import create_server

from smilla import address, log_web
from smilla.adapters import status, token
from smilla.answer import describe
from smilla.config import Config
from smilla.errors import SmillaError
from smilla.keys import for_address
from smilla.metrics.snapshot import Snapshot
from smilla.server.service import Service
from smilla.web.application import Application, Sources

_THREADS = 4
_LOOKUPS_AT_ONCE = 2
_LARGEST = 16384  # octets of a header, and of a form
_ASLEEP_S = 3600.0


class BusyError(SmillaError):
    """Others look up keys at this moment."""


class Web:
    """The port, and what answers there."""

    def __init__(self, listen: str) -> None:
        """Opens the port.  Raises SmillaError."""
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, int(port)))
        except OSError as error:
            self._socket.close()
            raise SmillaError(f"[web] listen {listen}: {error.strerror}") from error
        self.end = self._socket.fileno()

    def serve(self, service: Service) -> NoReturn:
        """In the page's own process, until it ends."""
        try:
            _serve(self._socket, service)
        except SmillaError as error:
            log_web.closed(str(error))
        self._socket.close()
        while True:  # until a restart: another try would fail as this one did
            time.sleep(_ASLEEP_S)


def _serve(listening: socket.socket, service: Service) -> None:
    config = service.runtime.config
    path = Path(config.web.token_file or f"{config.reinject.spool}/web.token")
    sources = Sources(lambda: _snapshot(service.runtime.config), _LookUps(service).story)
    application = Application(sources, token.read_or_make(path), config.web)
    server = create_server(
        application,
        sockets=[listening],
        threads=_THREADS,
        ident="smilla",
        connection_limit=40,
        channel_timeout=20,  # seconds without a word
        cleanup_interval=5,
        max_request_header_size=_LARGEST,
        max_request_body_size=_LARGEST,
        inbuf_overflow=_LARGEST,
    )
    server.run()


def _snapshot(config: Config) -> Snapshot:
    return status.ask(config.status_socket)


class _LookUps:
    """The look-ups of the page's form, a few at a time."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._room = threading.Semaphore(_LOOKUPS_AT_ONCE)

    def story(self, text: str) -> Iterator[str]:
        """What smilla lookup says.  Raises SmillaError."""
        if not self._room.acquire(blocking=False):
            raise BusyError("others look up keys at this moment; try again in a few seconds")
        try:
            runtime = self._service.runtime
            config, ports = runtime.config, runtime.ports
            asked = address.parse(text).completed(config.append_domain)
            found = for_address.look_up(asked, ports, config)
            return chain(describe.lookup_in_words(found.lookup), map(describe.printable, found.others))
        finally:
            self._room.release()
