"""smilla itself, as an administrator runs it: ``python -m smilla milter --config FILE`` as a child, or ``decrypt``."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import socket
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.lab.processes import LOOPBACK, Child, Running, wait_until
from tests.lab.programs import REPOSITORY

if TYPE_CHECKING:
    pass

Value = bool | int | str | Sequence[str]
Table = Mapping[str, Value]
# Top-level options, tables, and lists of tables ([[rule]]).
Settings = Mapping[str, Value | Table | Sequence[Table]]


class Smilla(Running):
    """A running filter on a UNIX socket in its folder.

    ``settings`` is the configuration file as a mapping; [milter] socket, socket_mode and user, [dns] nameservers and
    probe, and [reinject] spool are filled in where it does not name them.  ``text`` replaces the whole file instead;
    there ``{folder}`` and ``{resolver}`` are replaced.  ``command`` is milter, relay or decrypt.
    """

    def __init__(
        self,
        folder: Path,
        resolver: str,
        settings: Settings | None = None,
        *,
        text: str | None = None,
        command: str = "milter",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.socket = folder / "smilla.sock"
        self.config = folder / "smilla.toml"
        self.command = command
        self.port = 0
        self.user = unprivileged_user()
        self._text = text.replace("{folder}", str(folder)).replace("{resolver}", resolver) if text else ""
        self._settings = dict(settings or {})
        self._resolver = resolver
        self._notify: socket.socket | None = None
        self._child = Child(
            "smilla",
            [sys.executable, "-m", "smilla", command, "--config", self.config],
            folder / "smilla.log",
            folder=folder,
            stop_timeout_s=35,  # [milter] stop_timeout_s is 30
            environment={**(environment or os.environ), "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
            | {"NOTIFY_SOCKET": str(folder / "notify")},
        )

    @property
    def milter(self) -> str:
        """The socket as Postfix's smtpd_milters has it; where ``port`` is set, as Sendmail's S= has it."""
        return f"inet:{self.port}@{LOOPBACK}" if self.port else f"unix:{self.socket}"

    @property
    def settings(self) -> Settings:
        """What was given, without what is filled in."""
        return self._settings

    @property
    def child(self) -> Child:
        """The process: its number, its log, its exit code after stop."""
        return self._child

    @property
    def log(self) -> str:
        """All that smilla wrote to stdout and stderr."""
        path = self._child.log
        return path.read_text(errors="replace") if path.exists() else ""

    def log_lines_of(self, queue_id: str) -> list[str]:
        """smilla's log lines about one queue ID."""
        return [line for line in self.log.splitlines() if re.search(rf"\b{re.escape(queue_id)}\b", line)]

    def wait_for_log(self, pattern: str, timeout_s: float = 30) -> str:
        """Waits until a log line matches the pattern and returns it; raises TimeoutError."""
        if not wait_until(lambda: re.search(pattern, self.log, re.MULTILINE) is not None, timeout_s):
            raise TimeoutError(f"no {pattern!r} in smilla's log:\n{self._child.log_tail()}")
        return next(line for line in self.log.splitlines() if re.search(pattern, line))

    def write_config(self, settings: Settings | None = None) -> None:
        """Writes the configuration file; with other settings than those given first, for a reload."""
        self._settings = dict(settings) if settings is not None else self._settings
        self.config.write_text(self._text or to_toml(self._filled_in()))

    def start(self, timeout_s: float = 60) -> Self:
        """Starts the filter and waits until it says READY=1."""
        self.launch()
        self.await_ready(timeout_s)
        return self

    def launch(self) -> None:
        """Starts the filter and waits for nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self.write_config()
        self._listen()
        self._child.launch()

    def await_ready(self, timeout_s: float = 60) -> None:
        """Waits until the filter says READY=1.  Raises ChildError, with the filter ended."""
        try:
            self._child.await_ready(self._said_ready, timeout_s)
        except BaseException:
            self.stop()
            raise

    @contextlib.contextmanager
    def copies_to(self, listener: str) -> Iterator[None]:
        """Further copies go to another listener (HOST:PORT) meanwhile."""
        before = dict(self._settings)
        self.write_config({**before, "reinject": {**before["reinject"], "smtp": listener}})  # type: ignore[dict-item]
        self.reload()
        try:
            yield
        finally:
            self.write_config(before)
            self.reload()

    def reload(self, timeout_s: float = 60) -> None:
        """SIGHUP, and waits until smilla says READY=1 again, whether it took the new configuration or not."""
        self._child.signal(signal.SIGHUP)
        if not wait_until(self._said_ready, timeout_s):
            raise TimeoutError(f"no READY=1 after SIGHUP:\n{self._child.log_tail()}")

    @property
    def running(self) -> bool:
        """Whether the filter was started and has not ended."""
        return self._child.running

    def stop(self) -> None:
        """SIGTERM, and what else it takes.  Safe to repeat."""
        self._child.stop()
        if self._notify is not None:
            self._notify.close()
            self._notify = None

    def _listen(self) -> None:
        """Opens the socket on which smilla reports its state (sd_notify)."""
        path = self.folder / "notify"
        path.unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(path))
        self._notify.setblocking(False)
        path.chmod(0o666)

    def _said_ready(self) -> bool:
        """Whether READY=1 has arrived since this was last asked."""
        with contextlib.suppress(BlockingIOError):
            while self._notify is not None:
                if b"READY=1" in self._notify.recv(4096):
                    return True
        return False

    def _filled_in(self) -> Settings:
        usual: dict[str, Table] = {
            "milter": {"socket": self.milter, "socket_mode": "0666", "user": self.user, "workers": 1},
            "dns": {"nameservers": [self._resolver], "probe": "test.", "timeout_s": 20},  # a machine may be busy
            "reinject": {"spool": str(self.folder / "spool")},
            "stage": {
                "socket": f"unix:{self.folder}/stage.sock",
                "socket_mode": "0666",
                "keys": f"{self.folder}/seal",
                "check": False,
            },
            "policy": {"mixed": "reinject"},
        }
        if self.command == "decrypt":
            usual["decrypt"] = {"socket": self.milter, "socket_mode": "0666", "user": self.user}
            usual["milter"] = {"stop_timeout_s": 30}
        settings = dict(self._settings)
        for name, table in usual.items():
            given = settings.get(name, {})
            settings[name] = {**table, **given} if isinstance(given, Mapping) else given
        return settings


def unprivileged_user() -> str:
    """Whom smilla shall become when the laboratory runs as root: "nobody" where that user can read the program,
    else "" (stay root)."""
    if os.geteuid() != 0:
        return ""
    places = (REPOSITORY / "smilla", Path(sys.executable), Path(sys.prefix))
    folders = {folder for place in places for folder in (place.resolve(), *place.resolve().parents)}
    return "nobody" if all(folder.stat().st_mode & stat.S_IXOTH for folder in folders) else ""


def to_toml(settings: Settings) -> str:
    """The settings as a configuration file."""
    plain = [f"{name} = {_value(value)}" for name, value in settings.items() if not _is_table(value)]
    tables = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            tables.append(f"\n[{name}]\n" + _lines(value))
        elif _is_table(value) and isinstance(value, Sequence):
            tables += [f"\n[[{name}]]\n" + _lines(entry) for entry in value if isinstance(entry, Mapping)]
    return "\n".join(plain) + "\n" + "".join(tables)


def _is_table(value: object) -> bool:
    entries = value if isinstance(value, list | tuple) else ()
    return isinstance(value, Mapping) or any(isinstance(entry, Mapping) for entry in entries)


def _lines(table: Table) -> str:
    return "".join(f"{name} = {_value(value)}\n" for name, value in table.items())


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, Sequence):
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    raise TypeError(f"not a TOML value: {value!r}")
