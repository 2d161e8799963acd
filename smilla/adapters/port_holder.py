"""Which program listens on a TCP port of this machine, by /proc (proc(5)): only root sees those of others.

For messages alone: whoever cannot see it gets "", and nothing rests on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
_LISTENS = "0A"  # the state TCP_LISTEN in /proc/net/tcp
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def holder(port: int, proc: Path = PROC) -> str:
    """The name and the number of the first process that listens on this port, "" if nobody can be seen there."""
    sockets = {inode for name in ("tcp", "tcp6") for inode in _listening(proc / "net" / name, port)}
    if not sockets:
        return ""
    numbers = sorted(int(path.name) for path in proc.iterdir() if path.name.isdecimal())
    for number in numbers:
        with suppress(OSError):
            if not sockets.isdisjoint(_sockets(proc / str(number) / "fd")):
                return f"{(proc / str(number) / 'comm').read_text('utf-8', 'replace').strip()} (process {number})"
    return ""


def _listening(table: Path, port: int) -> Iterator[str]:
    """The inodes of the sockets that listen there."""
    with suppress(OSError, ValueError, IndexError):
        for line in table.read_text("ascii", "replace").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _sockets(folder: Path) -> Iterator[str]:
    for descriptor in folder.iterdir():
        with suppress(OSError):
            if found := _SOCKET.fullmatch(str(descriptor.readlink())):
                yield found[1]
