"""Runs smilla beside a journald of its own, in a mount namespace of its own, and prints what journalctl has of it.

    unshare -m python journald.py JOURNALD JOURNALCTL journal|stderr COMMAND ...

The two are run with LD_LIBRARY_PATH as JOURNALD_LIBRARIES says.  The command is ended by SIGTERM once it says READY=1.
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


def systemds() -> dict[str, str]:
    """The environment of systemd's own programs."""
    libraries = os.environ.get("JOURNALD_LIBRARIES", "")
    return dict(os.environ) | ({"LD_LIBRARY_PATH": libraries} if libraries else {})


def wait_for(path: Path, daemon: subprocess.Popen[bytes]) -> None:
    """Waits until a file is there."""
    while not path.exists():
        if daemon.poll() is not None:
            sys.exit(f"journald ended: {daemon.returncode}")
        time.sleep(0.02)


def give_machine_id() -> None:
    """journald needs one; where this machine has none, /etc is this namespace's own, with what programs read there."""
    path = Path("/etc/machine-id")
    if path.exists() and path.read_text().strip():
        return
    names = ("passwd", "group", "nsswitch.conf", "hosts", "ld.so.cache")
    kept = {name: (path.parent / name).read_bytes() for name in names if (path.parent / name).exists()}
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/etc"], check=True)
    for name, octets in kept.items():
        (path.parent / name).write_bytes(octets)
    path.write_text("0123456789abcdef" * 2 + "\n")


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


def entries(journalctl: str) -> str:
    """All entries, one JSON object a line, without the last."""
    read = [journalctl, "-D", "/run/log/journal", "--no-pager", "-o", "json", "SYSLOG_IDENTIFIER=smilla"]
    while True:
        done = subprocess.run(read, check=True, stdout=subprocess.PIPE, text=True, env=systemds())
        found = done.stdout.splitlines(keepends=True)
        if found and END in found[-1]:
            return "".join(found[:-1])
        time.sleep(0.05)


def main() -> None:
    """Everything in /run is this namespace's own."""
    journald, journalctl, target, *command = sys.argv[1:]
    give_machine_id()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    RUN.mkdir(parents=True)
    Path("/run/log/journal").mkdir(parents=True)
    with subprocess.Popen([journald], stdout=2, env=systemds()) as daemon:
        wait_for(RUN / "socket", daemon)
        wait_for(RUN / "stdout", daemon)
        run(target, command)
        print(entries(journalctl), end="")
        daemon.terminate()


main()
