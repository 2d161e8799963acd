"""A Sendmail of its own in a folder, run in the foreground, without touching one that the machine may have.

    client -> daemon (with milter) -> queue -> relay mailer -> the sink's port
    client -> daemon (none)        ->

Everything goes to the sink, mail for ``home.test`` too: what is there is what a mailbox would get.  Its configuration
is made by Sendmail's own m4 sources; it asks no DNS, and logs the whole dialogue of every connection.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from typing import TYPE_CHECKING, Self

from tests.lab.postfix import Listener
from tests.lab.processes import LOOPBACK, Child, Server, port_answers, wait_until
from tests.lab.programs import find_program, program_environment, sendmail_daemon, sendmail_sources

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_OPTIONS = {
    "confDOMAIN_NAME": "mta.test",
    "confLOG_LEVEL": "9",
    "confQUEUE_LA": "1000",
    "confREFUSE_LA": "2000",
    "confDELAY_LA": "0",
    "confMIN_QUEUE_AGE": "0",
    "confTO_IDENT": "0",
    "confTO_ICONNECT": "10s",
    "confMAX_MESSAGE_SIZE": "104857600",
    "confDONT_BLAME_SENDMAIL": "GroupWritableDirPathSafe,AssumeSafeChown",
    "confDONT_PROBE_INTERFACES": "True",
    "confBIND_OPTS": "",
    "confPRIVACY_FLAGS": "",
    "confDEF_USER_ID": "65534:65534",
    "confMAX_RCPTS_PER_MESSAGE": "1000",
}


# Sendmail waits a minute where the machine's own name has no dot, whatever its configuration says.
_GETHOSTNAME = """\
#include <string.h>
int gethostname(char *name, unsigned long size) { strncpy(name, "mta.test", size); return 0; }
"""


class Sendmail(Server):
    """Sendmail with the listeners given.  Needs root.  ``lines`` are further lines of the .mc file."""

    def __init__(self, folder: Path, sink_port: int, listeners: Sequence[Listener], lines: Sequence[str] = ()) -> None:
        self.folder = folder
        self.sink_port = sink_port
        self.listeners = list(listeners)
        self.lines = list(lines)

    @property
    def log(self) -> str:
        """The dialogues of all connections."""
        path = self.folder / "dialogue"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def queue(self) -> Path:
        """The queue directory."""
        return self.folder / "queue"

    def queued(self) -> list[Path]:
        """The queue files that hold mail now."""
        return [path for path in self.queue.iterdir() if path.name.startswith(("df", "qf", "hf", "Qf"))]

    def held(self) -> list[Path]:
        """The queue files that are in quarantine."""
        return [path for path in self.queue.iterdir() if path.name.startswith("hf")]

    def wait_until_empty(self, timeout_s: float = 150) -> None:
        """Waits until no mail is queued; raises TimeoutError."""
        if not wait_until(lambda: not self.queued(), timeout_s):
            held = "\n".join(path.read_text(errors="replace") for path in self.queue.glob("[qh]f*"))
            raise TimeoutError(f"still queued after {timeout_s:g} s: {self.queued()}\n{held}\n{self.log[-3000:]}")

    def release(self, queue_id: str) -> None:
        """Takes a message out of quarantine, as smilla(8) says."""
        program = sendmail_daemon()
        argv = [str(program), "-C", str(self.folder / "sendmail.cf"), "-qQ", "-Q", f"-qI{queue_id}"]
        subprocess.run(argv, env=self._environment(), check=True, capture_output=True)

    def check(self) -> str:
        """What Sendmail says of its configuration in test mode, which it leaves at once; no listener is opened."""
        self.queue.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._configure()
        self._gethostname()
        argv = [str(sendmail_daemon()), "-C", str(self.folder / "sendmail.cf"), "-bt"]
        done = subprocess.run(argv, input="", env=self._environment(), capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def start(self) -> Self:
        """Writes the configuration, makes the folders and starts the daemon.  Raises ChildError or
        MissingProgramError."""
        program = sendmail_daemon()
        self.queue.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._configure()
        argv: list[str | Path] = [
            program,
            "-bD",
            "-q1s",
            "-C",
            self.folder / "sendmail.cf",
            "-X",
            self.folder / "dialogue",
        ]
        self._gethostname()
        log, environment = self.folder / "sendmail.log", self._environment()
        self._child = Child("sendmail", argv, log, environment=environment, folder=self.folder)
        ports = [listener.port for listener in self.listeners if not listener.milters] or [self.listeners[0].port]
        try:
            self._child.start(ready=lambda: all(port_answers(port) for port in ports))
        except BaseException:
            self.stop()
            raise
        return self

    def _environment(self) -> dict[str, str]:
        return program_environment(sendmail_daemon()) | {"LD_PRELOAD": str(self.folder / "gethostname.so")}

    def _gethostname(self) -> None:
        source, library = self.folder / "gethostname.c", self.folder / "gethostname.so"
        source.write_text(_GETHOSTNAME)
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)

    def _configure(self) -> None:
        sources = sendmail_sources()
        (self.folder / "service.switch").write_text("hosts\tfiles\naliases\tfiles\npasswd\tfiles\n")
        (self.folder / "local-host-names").write_text("")
        (self.folder / "sendmail.mc").write_text(self._mc())
        m4 = find_program("m4")
        done = subprocess.run(
            [m4, "-D", f"_CF_DIR_={sources}/", f"{sources}/m4/cf.m4", self.folder / "sendmail.mc"],
            capture_output=True,
            env=program_environment(m4),
            check=True,
        )
        (self.folder / "sendmail.cf").write_bytes(done.stdout)

    def _mc(self) -> str:
        options = _OPTIONS | {
            "QUEUE_DIR": str(self.queue),
            "STATUS_FILE": str(self.folder / "statistics"),
            "HELP_FILE": str(self.folder / "help"),
            "ALIAS_FILE": "",
            "confPID_FILE": str(self.folder / "sendmail.pid"),
            "confCW_FILE": str(self.folder / "local-host-names"),
            "confSERVICE_SWITCH_FILE": str(self.folder / "service.switch"),
            "confHOST_STATUS_DIRECTORY": "",
            "RELAY_MAILER_ARGS": f"TCP $h {self.sink_port}",
            "SMART_HOST": f"relay:[{LOOPBACK}]",
        }
        lines = ["OSTYPE(`linux')dnl"]
        lines += [f"define(`{name}', `{value}')dnl" for name, value in options.items() if value]
        lines += ["undefine(`ALIAS_FILE')dnl", "FEATURE(`no_default_msa')dnl", "FEATURE(`nocanonify')dnl"]
        lines += ["FEATURE(`accept_unresolvable_domains')dnl", "FEATURE(`promiscuous_relay')dnl"]
        lines += self.lines
        lines += [line for number, listener in enumerate(self.listeners) for line in _daemon(number, listener)]
        return "\n".join([*lines, "MAILER(`smtp')dnl", ""])


def _daemon(number: int, listener: Listener) -> list[str]:
    names: list[str] = []
    lines: list[str] = []
    for milter in listener.milters:
        names.append(f"filter{number}x{len(names)}")
        lines.append(f"MAIL_FILTER(`{names[-1]}', `S={milter}, F=T, T=C:30s;S:60s;R:120s;E:300s')dnl")
    filters = f", InputMailFilters={';'.join(names)}" if names else ""
    name = listener.options.get("Name", f"daemon{number}")
    return [*lines, f"DAEMON_OPTIONS(`Name={name}, Family=inet, Addr={LOOPBACK}, Port={listener.port}{filters}')dnl"]


def queue_id(reply: str) -> str | None:
    """The queue ID in Sendmail's reply to an accepted message."""
    found = re.search(r"2\.0\.0 (\w{14,}) Message accepted", reply)
    return found[1] if found else None


def read_quarantined(path: Path) -> bytes:
    """The body of a message in quarantine."""
    with contextlib.suppress(FileNotFoundError):
        return path.with_name("df" + path.name[2:]).read_bytes()
    return b""
