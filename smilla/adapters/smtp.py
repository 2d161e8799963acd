"""The MTA's own listener, for re-injection: so far only whether it is there."""

from __future__ import annotations

import socket


def greeting_problem(listener: str, timeout_s: float) -> str:
    """What is wrong with the listener at HOST:PORT, "" where it greets as an SMTP server (RFC 5321 section 3.1)."""
    host, _, port = listener.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout_s) as connection:
            greeting = connection.recv(512)
            connection.sendall(b"QUIT\r\n")
    except (OSError, ValueError) as error:
        return str(error)
    return "" if greeting.startswith(b"220") else f"greets with {greeting[:60]!r} instead of 220"
