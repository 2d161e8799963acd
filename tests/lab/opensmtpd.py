"""An OpenSMTPD of its own, run in the foreground, with folders of its own in the places that it insists on.

client -> OpenSMTPD (port) -> the relay -> OpenSMTPD (back) -> the sink
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.lab.accounts import with_accounts
from tests.lab.processes import LOOPBACK, Child, Server, free_port, port_answers, wait_until
from tests.lab.programs import find_program, program_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

_ACCOUNTS = {"opensmtpd": 64951, "opensmtpq": 64952}
_FOLDERS = """\
for place in /run /var/spool /var/lib; do mount -t tmpfs -o mode=755 tmpfs $place; done
mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd
chmod 711 /var/spool/smtpd
"""


class OpenSMTPD(Server):
    """Its configuration has the lines of the guide; ``port`` is for clients, ``back`` for what comes from the relay.
    Needs root."""

    def __init__(self, folder: Path, sink: int) -> None:
        self.folder = folder
        self.port = free_port()
        self.back = free_port()
        self._sink = sink
        self._lines = ""

    def take_lines(self, lines: str, relay: int) -> None:
        """Those of the guide, with its ports changed to ``port``, ``back``, and those of the relay and the sink."""
        changes = {
            "listen on 0.0.0.0": f"listen on {LOOPBACK} port {self.port}",
            "10025": str(self.back),
            "10026": str(relay),
            'action "outside" relay': f'action "outside" relay host "smtp+notls://{LOOPBACK}:{self._sink}"',
        }
        for before, after in changes.items():
            assert before in lines, before
            lines = lines.replace(before, after)
        self._lines = lines

    @property
    def log(self) -> str:
        """All that it logged."""
        path = self.folder / "smtpd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def _place(self) -> Path:
        """Its own /var/spool/smtpd."""
        if self._child is None:
            raise RuntimeError("OpenSMTPD is not running")
        return Path(f"/proc/{self._child.pid}/root/var/spool/smtpd")

    def queued(self) -> Sequence[Path]:
        """The envelopes and messages that wait."""
        # os.walk passes over a folder that goes meanwhile; rglob raises.
        return sorted(Path(at) / name for at, _, names in os.walk(self._place / "queue") for name in names)

    def wait_until_empty(self, timeout_s: float = 60) -> None:
        """Waits until nothing is queued; raises TimeoutError."""
        if not wait_until(lambda: not self.queued(), timeout_s):
            raise TimeoutError(f"still queued: {self.queued()}\n{self.log[-3000:]}")

    def control(self, *words: str) -> str:
        """What smtpctl says, such as to "schedule all": try again now."""
        if self._child is None:
            raise RuntimeError("OpenSMTPD is not running")
        argv = ["nsenter", "-t", str(self._child.pid), "--mount"]
        argv += ["setpriv", f"--regid={_ACCOUNTS['opensmtpq']}", "--clear-groups"]  # in place of the bit of the file
        argv += [str(find_program("smtpctl")), *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout

    def start(self) -> Self:
        """Raises ChildError or MissingProgramError."""
        program = find_program("smtpd")
        (self.folder / "mailname").write_text("opensmtpd.test\n")
        path = self.folder / "smtpd.conf"
        path.write_text(self._lines)
        path.chmod(0o600)
        argv: list[str | Path] = [*with_accounts(self.folder, _ACCOUNTS, _FOLDERS), program]
        argv += ["-d", "-f", path]
        self._child = Child("opensmtpd", argv, self.folder / "smtpd.log", environment=program_environment(program))
        self._child.start(lambda: port_answers(self.port) and port_answers(self.back))
        return self
