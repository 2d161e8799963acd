"""A whole machine of its own: what is done in it stays in it.

    this machine's /  <-  overlay in a tmpfs  <-  commands of the administrator, with a network of their own (lo only)

Everything of this machine is there to be read, and every change goes into the tmpfs: packages, users, /etc, /opt.
Mounts, processes and network are in namespaces of their own and go with it, so the usual ports are free there.
Needs root.  No systemd runs there: a program that does what smilla.service says stands in for systemctl.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.lab.processes import Child, Running
from tests.lab.programs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

# Whatever this machine has itself, the new one has no smilla, and no programs in /usr/local.
_BEGIN = """\
set -e
mount -t tmpfs -o size=3g,mode=755 tmpfs "$1"
mkdir "$1/changes" "$1/work" "$1/root" "$1/tree-changes" "$1/tree-work"
mount -t overlay -o "lowerdir=/,upperdir=$1/changes,workdir=$1/work" overlay "$1/root"
cd "$1/root"
mkdir -p ".$4"
mount -t overlay -o "lowerdir=$4,upperdir=$1/tree-changes,workdir=$1/tree-work" overlay ".$4"
for file in etc/resolv.conf etc/hosts etc/pip.conf; do  # which may be mounts of their own here
    [ ! -e "/$file" ] || { cat "/$file" >"$1/file" && rm -f "$file" && cp "$1/file" "$file"; }
done
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc proc proc
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs usr/local/bin
mount -t tmpfs tmpfs usr/local/sbin
mkdir -p run/lock run/systemd/system  # sd_booted(3), for the systemctl below
rm -rf opt/smilla etc/smilla var/lib/smilla etc/systemd/system/smilla.service lib/systemd/system/smilla.service
printf '#!/bin/sh\\nexit 101\\n' >usr/sbin/policy-rc.d
printf 'APT::Get::Assume-Yes "true";\\nAPT::Install-Recommends "false";\\n' >etc/apt/apt.conf.d/99test
rm -f usr/bin/systemctl
cp "$2" usr/bin/systemctl
chmod 755 usr/sbin/policy-rc.d usr/bin/systemctl
ip link set lo up 2>/dev/null || python3 -c "$3"
touch "$1/ready"
exec chroot . /usr/bin/python3 -c '
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for daemons that were left to the first process
while True:
    signal.pause()
'
"""
# For "ip", which may be missing: SIOCSIFFLAGS with IFF_UP.
_UP = """\
import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 1))
"""
_KEPT = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")
_SETTINGS = ("PIP_", "REQUESTS_CA_BUNDLE")
_CLONE_NEWNET = 0x40000000


class Machine(Running):
    """``folder`` is an empty one of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = folder / "machine"
        stub = Path(__file__).with_name("systemctl")
        argv: list[str | Path] = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"]
        argv += ["--propagation", "private", "bash", "-c", _BEGIN, "begin", self.place, stub, _UP, REPOSITORY]
        self._child = Child("machine", argv, folder / "machine.log")

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child.running

    @property
    def _first(self) -> int:
        """The number of its first process, as this machine counts."""
        return int(Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children").read_text().split()[0])

    def start(self) -> Self:
        """Raises ChildError where this kernel has no such namespaces or overlays."""
        self.place.mkdir()
        self._child.start(ready=self._is_ready)
        return self

    def stop(self) -> None:
        """Ends all of its processes.  Safe to repeat."""
        self._child.stop()
        if self.place.exists():
            shutil.rmtree(self.place)

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError, IndexError):
            return Path(f"/proc/{self._first}/cmdline").read_bytes().startswith(b"/usr/bin/python3\0")
        return False

    def run(
        self, command: str, octets: bytes = b"", *, outside: bool = False, folder: Path = REPOSITORY
    ) -> subprocess.CompletedProcess[str]:
        """One command of root's shell; ``outside``: with this machine's network, for what must be downloaded.
        Its stderr is in its stdout."""
        argv = ["nsenter", "-t", str(self._first), "--mount", "--pid", f"--root=/proc/{self._first}/root"]
        argv.append(f"--wd=/proc/{self._first}/root")
        argv += [*([] if outside else ["--net"]), "/bin/bash", "-c", f'cd "{folder}" && {command}']
        environment = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_SETTINGS)}
        environment |= {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        environment |= {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "LINTIAN": "no"}
        done = subprocess.run(
            argv, input=octets, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(errors="replace"))

    def write(self, path: Path | str, content: bytes | str) -> None:
        """A file, with its folder."""
        raw = content if isinstance(content, bytes) else content.encode()
        done = self.run(f'mkdir -p "$(dirname "{path}")" && cat >"{path}"', raw)
        assert done.returncode == 0, done.stdout

    def read(self, path: str) -> str:
        """A file, empty where there is none."""
        return self.run(f'cat "{path}" 2>/dev/null').stdout

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """What this thread opens or starts meanwhile is in the machine's network, and no other thread's is."""
        library = ctypes.CDLL(None, use_errno=True)
        here, there_path = Path("/proc/thread-self/ns/net"), Path(f"/proc/{self._first}/ns/net")
        with here.open() as before, there_path.open() as there:
            _enter(library, there.fileno())
            try:
                yield
            finally:
                _enter(library, before.fileno())


def _enter(library: ctypes.CDLL, namespace: int) -> None:
    if library.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns", sys.platform)
