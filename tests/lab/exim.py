"""An Exim of its own in a folder, run in the foreground, without touching one that the machine may have.

client -> Exim (port) -> the relay -> Exim (back) -> the sink
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Self

from tests.lab.accounts import with_accounts
from tests.lab.processes import LOOPBACK, Child, Server, free_port, port_answers, wait_until
from tests.lab.programs import find_program, program_environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_USER = "Debian-exim"  # whom Debian's Exim insists on
_NUMBER = 64950

# ``{routers}`` and ``{transports}`` are those that lead to the relay.
_CONFIGURATION = """\
{main}
primary_hostname = exim.test
exim_path = {program}
keep_environment = LD_LIBRARY_PATH
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
pid_file_path = {folder}/spool/pid
acl_smtp_rcpt = acl_rcpt
acl_smtp_data = accept
tls_advertise_hosts =
smtp_accept_max = 0
host_lookup =
rfc1413_query_timeout = 0s
domainlist local_domains = home.test
timeout_frozen_after = 1h

begin acl
acl_rcpt:
  accept hosts = 127.0.0.1

begin routers
{routers}
onward:
  driver = manualroute
  transport = onward
  route_list = * {loopback}::{sink}
  self = send

begin transports
{transports}
onward:
  driver = smtp
  allow_localhost
  message_linelength_limit = 2147483647

begin retry
* * F,1h,1s
"""


class Exim(Server):
    """Its configuration has the lines of the guide; ``port`` is for clients, ``back`` for what comes from the relay.
    Needs root."""

    def __init__(self, folder: Path, sink: int) -> None:
        self.folder = folder
        self.port = free_port()
        self.back = free_port()
        self._sink = sink
        self._main = self._routers = self._transports = ""

    def take_lines(self, main: str, routers: str, transports: str, relay: int) -> None:
        """Those of the guide, with its ports changed to ``back``, ``port`` and that of the relay."""
        assert "10025" in main
        assert "10025" in routers
        assert "10026" in transports
        self._main = f"local_interfaces = <; {LOOPBACK}.{self.port} ; {LOOPBACK}.{self.back}"
        self._routers = routers.replace("10025", str(self.back))
        self._transports = transports.replace("10026", str(relay))

    @property
    def log(self) -> str:
        """All that Exim logged."""
        path = self.folder / "log/mainlog"
        return path.read_text(errors="replace") if path.exists() else ""

    def queued(self) -> Sequence[Path]:
        """The files of messages that wait."""
        return sorted((self.folder / "spool/input").rglob("*-H"))

    def spooled_with(self, word: bytes) -> list[Path]:
        """The files of the queue in which a word stands."""
        return [path for path in (self.folder / "spool").rglob("*") if path.is_file() and word in path.read_bytes()]

    def wait_until_empty(self, timeout_s: float = 60) -> None:
        """Waits until nothing is queued; raises TimeoutError."""
        if not wait_until(lambda: not self.queued(), timeout_s):
            raise TimeoutError(f"still queued: {self.queued()}\n{self.log[-3000:]}")

    def drop_all(self) -> None:
        """Removes what is queued, and waits until Exim lets go of it."""

        def are_gone() -> bool:
            for path in self.queued():
                self._run("-Mrm", path.name.removesuffix("-H"))
            return not self.queued()

        if not wait_until(are_gone, 60, step_s=0.2):
            raise TimeoutError(f"Exim does not let go of {self.queued()}")

    def _run(self, *words: str) -> None:
        program = find_program("exim4")
        argv = [
            *with_accounts(self.folder, {_USER: _NUMBER}),
            str(program),
            "-C",
            str(self.folder / "exim4.conf"),
            *words,
        ]
        subprocess.run(argv, env=program_environment(program), capture_output=True, check=False)

    def start(self) -> Self:
        """Raises ChildError or MissingProgramError."""
        program = find_program("exim4")
        self._configure(program)
        environment = program_environment(program)
        argv: list[str | Path] = [*with_accounts(self.folder, {_USER: _NUMBER}), program]
        argv += ["-C", self.folder / "exim4.conf", "-bdf", "-q2s"]
        self._child = Child("exim", argv, self.folder / "exim.log", environment=environment)
        self._child.start(lambda: port_answers(self.port) and port_answers(self.back))
        return self

    def _configure(self, program: Path) -> None:
        for name in ("spool", "log"):
            path = self.folder / name
            path.mkdir(exist_ok=True)
            os.chown(path, _NUMBER, _NUMBER)
        text = _CONFIGURATION.format(
            main=self._main,
            routers=self._routers,
            transports=self._transports,
            program=program,
            folder=self.folder,
            loopback=LOOPBACK,
            sink=self._sink,
        )
        path = self.folder / "exim4.conf"
        path.write_text(text)
        path.chmod(0o644)
