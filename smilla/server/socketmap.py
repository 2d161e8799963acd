"""Answers Postfix, which asks how it must protect the connection for a domain: a socketmap server (socketmap_table(5)).

A request is a netstring ``MAP KEY``; an answer is a netstring that begins with OK, NOTFOUND, TEMP or PERM.

Promises: a connection is never closed by this side while its client keeps to the protocol and says something within ten
minutes; Postfix drops those that are idle for ten seconds.  So nobody who says nothing holds one of the thousand places
for ever.  Each connection has a thread of its own, so a slow domain holds up nobody who asks for another.
Nothing that goes wrong is NOTFOUND, which would send mail as if there were no policy.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from smilla import log
from smilla.config.options import HopOptions
from smilla.errors import ParseError
from smilla.formats import netstring
from smilla.hops import tls_policy
from smilla.ports import HopFinder
from smilla.server.listener import LocalSocket
from smilla.server.service import Service

_MOST_CONNECTIONS = 1000
_READ = 65536
_PATIENCE_S = 60.0  # Postfix waits for 100 s
_IDLE_S = 600.0  # without a question, or without taking an answer
Now = Callable[[], tuple[HopFinder | None, HopOptions]]


class Server:
    """The listening socket.  It is made before rights are dropped, and served after a fork."""

    def __init__(self, options: HopOptions, user: str) -> None:
        """Makes the socket, with its group and mode.  Raises SmillaError."""
        self._listening = LocalSocket("hop", options, user)

    def remove(self) -> None:
        """Removes the socket's path."""
        self._listening.remove()

    def serve(self, service: Service) -> NoReturn:
        """In a process of its own, until it ends."""
        self.answer(lambda: (service.runtime.ports.hops, service.runtime.config.hop))

    def answer(self, now: Now) -> NoReturn:
        """Answers with the finder and the options that ``now`` gives for each question."""
        self._listening.serve(partial(_serve_one, now), _MOST_CONNECTIONS)


def _serve_one(now: Now, connection: socket.socket, done: Callable[[], object]) -> None:
    try:
        with connection:
            connection.settimeout(_IDLE_S)
            _converse(now, connection)
    except (OSError, ParseError):
        pass  # Postfix is gone or silent, or it is not Postfix; nothing was promised
    finally:
        done()


def _converse(now: Now, connection: socket.socket) -> None:
    """Until the other side closes the connection.  Raises OSError, and ParseError for what is no netstring."""
    reader = netstring.Reader()
    while raw := connection.recv(_READ):
        reader.feed(raw)
        while (request := reader.next()) is not None:
            connection.sendall(netstring.written(_answered(request, *now()).encode("ascii", "backslashreplace")))


def _answered(request: bytes, finder: HopFinder | None, options: HopOptions) -> str:
    """The answer; TEMP where smilla itself fails, so that the mail waits."""
    try:
        return answer(request, finder, options)
    except Exception:
        log.internal_error("", "socketmap")
        return "TEMP an internal error of smilla; see its log"


def answer(request: bytes, finder: HopFinder | None, options: HopOptions) -> str:
    """The answer to one request."""
    name, _, key = request.decode("utf-8", "replace").partition(" ")
    if name not in tls_policy.MAPS:
        return f"PERM there is no map {name[:40]}; smilla has {' and '.join(tls_policy.MAPS)}"
    if name == "policy" and not options.policy_server:
        return "PERM the map policy is off; set [hop] policy_server = true"
    domain = tls_policy.domain_of(key)
    if not domain:
        return tls_policy.NOTFOUND
    if finder is None:
        return "TEMP smilla has no secure-hop in its configuration"
    hop = finder.begin(domain).result(time.monotonic() + _PATIENCE_S)
    return (tls_policy.secure if name == "secure" else tls_policy.policy)(hop, options)
