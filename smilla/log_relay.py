"""Events of the log about the relay; see log.py."""

from __future__ import annotations

import logging

from smilla.log import _event


def started(socket: str, next_hop: str, tls: str, version: str, *, observe: bool) -> None:
    """The relay (smilla relay) listens."""
    shown = "true" if observe else "false"
    _event(logging.INFO, "relay-started", socket=socket, next_hop=next_hop, tls=tls, version=version, observe=shown)


def authenticated(user: str, mechanism: str) -> None:
    """A client has logged in at the next hop."""
    _event(logging.INFO, "authenticated", user=user, mechanism=mechanism)


def auth_failed(mechanism: str, code: int) -> None:
    """The next hop did not let a client in.  Whoever errs may have typed a password as the name, so none is told."""
    _event(logging.WARNING, "auth-failed", mechanism=mechanism, reply=code)


def next_hop_gone(detail: str) -> None:
    """The next hop cannot be asked what it offers; the client is told to try again later."""
    _event(logging.ERROR, "next-hop-gone", detail=detail)


def client_refused(client: str) -> None:
    """A client from outside [relay] clients has connected; it was told so."""
    _event(logging.WARNING, "client-refused", client=client)


def tls_failed(client: str, detail: str) -> None:
    """A client said STARTTLS, and no TLS came of it; the connection was ended."""
    _event(logging.WARNING, "tls-failed", client=client, detail=detail)
