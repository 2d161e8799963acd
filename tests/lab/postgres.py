"""A PostgreSQL of its own in a folder: a UNIX socket there, and TLS on a high loopback port.

It runs as an unprivileged user, and without fsync.  The database "peer" asks the kernel who connects.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.lab.processes import LOOPBACK, Child, ChildError, Server, free_port, wait_until
from tests.lab.programs import as_nobody, find_program, program_environment

if TYPE_CHECKING:
    from tests.lab.authority import Certificate

USER, PASSWORD = "smilla", "quiet"
_ACCESS = """\
local peer owner trust
local peer all peer
local all all trust
hostssl all smilla 127.0.0.1/32 scram-sha-256
"""


class Postgres(Server):
    """Starts with ``with`` or start(); ``certificate`` is what it shows over TCP."""

    def __init__(self, folder: Path, certificate: Certificate) -> None:
        self.folder, self._certificate = folder, certificate
        self.port = free_port()
        self.socket_folder = folder / "run"

    def url(self, database: str) -> str:
        """Over the UNIX socket, as the user of the tests."""
        return f"postgresql:///{database}?host={self.socket_folder}&port={self.port}&user={USER}"

    def start(self) -> Self:
        """Raises MissingProgramError or ChildError."""
        self._programs = programs = find_program("postgres").resolve().parent
        self._environment = program_environment(programs / "postgres")
        if not self.folder.exists():
            self._make(programs)
        command = [*as_nobody(), str(programs / "postgres"), "-D", str(self.folder / "data")]
        self._child = Child("postgres", command, self.folder / "postgres.log", environment=self._environment)
        self._child.start(ready=self._answers)
        if not self.sql("postgres", f"SELECT 1 FROM pg_roles WHERE rolname = '{USER}'"):
            self.sql("postgres", f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        return self

    @contextmanager
    def standing_still(self, most_s: float = 20) -> Iterator[None]:
        """Stops all its processes, and lets them go on afterwards, or when somebody waits for them that long."""
        stopped = self._processes()
        timer = threading.Timer(most_s, _signal, (stopped, signal.SIGCONT))
        try:
            _signal(stopped, signal.SIGSTOP)
            timer.start()
            yield
        finally:
            timer.cancel()
            _signal(stopped, signal.SIGCONT)

    def stop(self) -> None:
        """At once: it would wait for all sessions.  Its children are in sessions of their own."""
        if self._child is not None:
            children = self._processes()
            if self._child.running:
                self._child.signal(signal.SIGINT)
            super().stop()
            wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 20)

    def _processes(self) -> list[int]:
        leader = self._child.pid if self._child is not None and self._child.running else 0
        if not leader:
            return []
        return [leader, *map(int, Path(f"/proc/{leader}/task/{leader}/children").read_text().split())]

    def _make(self, programs: Path) -> None:
        self.folder.mkdir()
        self.socket_folder.mkdir()
        if os.geteuid() == 0:
            for place in (self.folder, self.socket_folder):
                os.chown(place, pwd.getpwnam("nobody").pw_uid, -1)
        data = self.folder / "data"
        made = [str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "owner", "--no-sync"]
        self._run([*as_nobody(), *made])
        (data / "pg_hba.conf").write_text(_ACCESS)
        shown = data / "server.pem"
        shown.write_bytes(self._certificate.file.read_bytes())
        shown.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(shown, pwd.getpwnam("nobody").pw_uid, -1)
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"listen_addresses = '{LOOPBACK}'\nport = {self.port}\n"
                f"unix_socket_directories = '{self.socket_folder}'\n"
                f"ssl = on\nssl_cert_file = '{shown}'\nssl_key_file = '{shown}'\nfsync = off\nmax_connections = 40\n"
            )

    def _answers(self) -> bool:
        try:
            self.sql("postgres", "SELECT 1")
        except ChildError:
            return False
        return True

    def make_database(self, name: str) -> str:
        """A database of the user, as an administrator makes it; its URL."""
        self.sql("postgres", f"CREATE DATABASE {name} OWNER {USER}")
        return self.url(name)

    def sql(self, database: str, statement: str) -> str:
        """What psql prints for a statement of the administrator."""
        where = ["-h", str(self.socket_folder), "-p", str(self.port), "-U", "owner", "-d", database]
        return self._run([str(self._programs / "psql"), *where, "-v", "ON_ERROR_STOP=1", "-tAc", statement])

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ChildError(f"{command[0]}: {done.stderr}")
        return done.stdout.strip()

    def end_sessions(self) -> None:
        """Ends every session of smilla's, as a restart of the server would."""
        self.sql("postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}'")
        wait_until(lambda: self.sessions == 0, 20)

    @property
    def sessions(self) -> int:
        """How many smilla has."""
        return int(self.sql("postgres", f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{USER}'"))


def _signal(processes: list[int], number: signal.Signals) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
