"""sd_notify(3): tells the service manager that smilla is ready, reloading or stopping."""

from __future__ import annotations

import contextlib
import os
import socket


def is_there() -> bool:
    """Was smilla started by a service manager?"""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def notify(state: str) -> None:
    """Sends ``state`` to the socket that NOTIFY_SOCKET names; does nothing if there is none."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(name.replace("@", "\0", 1) if name.startswith("@") else name)
        # A manager that does not read must not block the parent, which has signals and workers to look after.
        sock.send(state.encode("ascii"), socket.MSG_DONTWAIT)
