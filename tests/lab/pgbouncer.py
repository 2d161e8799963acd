"""PgBouncer before a PostgreSQL, in transaction mode: each transaction may get another session of the server.

smilla -> UNIX socket -> pgbouncer [a few sessions, in turn] -> UNIX socket -> postgres
"""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, Self

from tests.lab.postgres import USER
from tests.lab.processes import Child, Server, free_port, socket_answers
from tests.lab.programs import as_nobody, find_program, program_environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.postgres import Postgres


class PgBouncer(Server):
    """Starts with ``with`` or start()."""

    def __init__(self, folder: Path, behind: Postgres) -> None:
        self._folder, self._behind = folder, behind
        self.port = free_port()

    def url(self, database: str) -> str:
        """As Postgres.url, through it."""
        return f"postgresql:///{database}?host={self._folder}&port={self.port}&user={USER}"

    def start(self) -> Self:
        """Raises MissingProgramError or ChildError."""
        program = find_program("pgbouncer")
        self._folder.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            os.chown(self._folder, pwd.getpwnam("nobody").pw_uid, -1)
        users, settings = self._folder / "users", self._folder / "pgbouncer.ini"
        users.write_text(f'"{USER}" ""\n')
        settings.write_text(
            f"[databases]\n* = host={self._behind.socket_folder} port={self._behind.port}\n"
            f"[pgbouncer]\nunix_socket_dir = {self._folder}\nlisten_port = {self.port}\n"
            f"auth_type = trust\nauth_file = {users}\npool_mode = transaction\n"
            "default_pool_size = 3\nserver_round_robin = 1\nserver_login_retry = 0.1\n"
        )
        command = [*as_nobody(), str(program), str(settings)]
        log, environment = self._folder / "pgbouncer.log", program_environment(program)
        self._child = Child("pgbouncer", command, log, environment=environment)
        self._child.start(ready=lambda: socket_answers(self._folder / f".s.PGSQL.{self.port}"))
        return self
