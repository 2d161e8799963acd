"""Runs smilla beside a journald of its own, in a mount namespace of its own, and prints what journalctl has of it.

    unshare -m python journald.py JOURNALD journal|stderr COMMAND ...

The command is ended by SIGTERM once it says READY=1.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

RUN = Path("/run/systemd/journal")
END = "this is the end"


def wait_for(path: Path) -> None:
    """Waits until a file is there."""
    while not path.exists():
        time.sleep(0.02)


def stderr_of_a_service() -> socket.socket:
    """The stream that systemd would give a service as stderr: identifier, unit, priority, priorities are read."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(str(RUN / "stdout"))
    stream.sendall(b"smilla\n\n6\n1\n0\n0\n0\n")
    return stream


def run(target: str, command: list[str]) -> None:
    """The command, from its start to its end."""
    environment = dict(os.environ) | {"NOTIFY_SOCKET": "/run/notify"}
    with (
        closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notify,
        closing(stderr_of_a_service()) as stream,
    ):
        notify.bind("/run/notify")
        if target == "stderr":
            found = os.fstat(stream.fileno())
            environment["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
        stderr = stream.fileno() if target == "stderr" else None
        with subprocess.Popen(command, env=environment, stderr=stderr) as process:
            notify.settimeout(0.1)
            while process.poll() is None:
                try:
                    if b"READY=1" in notify.recv(4096):
                        process.terminate()
                except TimeoutError:
                    continue
        mark(target, stream)


def mark(target: str, stream: socket.socket) -> None:
    """A last line by the same way: once journald has it, it has all before it."""
    if target == "stderr":
        stream.sendall(END.encode() + b"\n")
        return
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.sendto(b"MESSAGE=%b\nSYSLOG_IDENTIFIER=smilla\n" % END.encode(), str(RUN / "socket"))


def entries() -> str:
    """All entries, one JSON object a line, without the last."""
    read = ["journalctl", "-D", "/run/log/journal", "--no-pager", "-o", "json", "SYSLOG_IDENTIFIER=smilla"]
    while True:
        found = subprocess.run(read, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines(keepends=True)
        if found and END in found[-1]:
            return "".join(found[:-1])
        time.sleep(0.05)


def main() -> None:
    """Everything in /run is this namespace's own."""
    journald, target, *command = sys.argv[1:]
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    RUN.mkdir(parents=True)
    Path("/run/log/journal").mkdir(parents=True)
    with subprocess.Popen([journald], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
        wait_for(RUN / "socket")
        wait_for(RUN / "stdout")
        run(target, command)
        print(entries(), end="")
        daemon.terminate()


main()
