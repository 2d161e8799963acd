"""A Postfix of its own in a folder, run in the foreground, without touching one that the machine may have.

    client -> smtpd (with milter) -> cleanup -> queue -> virtual -> Maildir            home.test
    client -> smtpd (none)        ->                  -> smtp    -> the sink's port    everything else

Postfix's master insists on root.  It also wants a user and a group of its own; where "postfix" and "postdrop" do not
exist, two of Debian's unused system accounts stand in (none is created).
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tests.lab.processes import LOOPBACK, Child, Server, free_port, wait_until
from tests.lab.programs import REPOSITORY, postfix_daemons, program_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

LOCAL_DOMAIN = "home.test"
MAILBOXES = ("alice", "bob", "carol", "dave", "erin", "reader", "postmaster")
_QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace")
_OWNERS = ("postfix", "uucp")
_GROUPS = ("postdrop", "operator", "staff")

_SERVICES = """\
pickup    unix  n - n 60    1 pickup
cleanup   unix  n - n -     0 cleanup
qmgr      unix  n - n 5   1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n -     - trivial-rewrite
bounce    unix  - - n -     0 bounce
defer     unix  - - n -     0 bounce
trace     unix  - - n -     0 bounce
verify    unix  - - n -     1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -     - proxymap
proxywrite unix - - n -     1 proxymap
smtp      unix  - - n -     - smtp
relay     unix  - - n -     - smtp
lmtp      unix  - - n -     - lmtp
showq     unix  n - n -     - showq
error     unix  - - n -     - error
retry     unix  - - n -     - error
discard   unix  - - n -     - discard
local     unix  - n n -     - local
virtual   unix  - n n -     - virtual
anvil     unix  - - n -     1 anvil
scache    unix  - - n -     1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


@dataclass
class Listener:
    """An smtpd of its own on a loopback port: its milters, in Postfix's notation, and further options of main.cf."""

    milters: Sequence[str] = ()
    options: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    address: str = LOOPBACK


class Postfix(Server):
    """Postfix with the listeners given.  Needs root.

    Mail for the MAILBOXES at ``home.test`` goes into a Maildir each; everything else goes, without a look-up, to
    ``sink_port``.
    ``parameters`` are further lines of main.cf; set before the start, ``transports`` are further services that send by
    SMTP, by name, and like ``pickup_options`` have options of main.cf; ``services`` are further lines of master.cf.
    ``stages`` are the sockets to which messages with the mark of a seal go after the queue, by the name of the listener
    that they came in by; ``requeues``: so do those of the first one after postsuper -r.  ``before`` are words before
    the command that starts it.
    """

    def __init__(
        self,
        folder: Path,
        sink_port: int,
        listeners: Sequence[Listener],
        parameters: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.sink_port = sink_port
        self.listeners = list(listeners)
        self.parameters = parameters or {}
        self.pickup_options: dict[str, str] = {}
        self.transports: dict[str, dict[str, str]] = {}
        self.stages: dict[str, Path] = {}
        self.services = ""
        self.requeues = True
        self.before: list[str] = []

    @property
    def log(self) -> str:
        """All that Postfix logged."""
        path = self.folder / "maillog"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def master(self) -> int:
        """The process number of master, which is also that of the session of all daemons."""
        if self._child is None:
            raise RuntimeError("Postfix is not running")
        return self._child.pid

    @property
    def queue(self) -> Path:
        """The queue directory."""
        return self.folder / "queue"

    @property
    def version(self) -> tuple[int, int]:
        """Of the programs: (3, 7) for 3.7.11."""
        major, minor = self.run("postconf", "-hd", "mail_version").split(".")[:2]
        return int(major), int(minor)

    def maildir(self, local_part: str) -> Path:
        """Where mail for local_part@home.test arrives (the folder ``new`` within the Maildir)."""
        return self.folder / "mail" / local_part / "new"

    def wait_for_mail(self, local_part: str, count: int = 1, timeout_s: float = 60) -> list[Path]:
        """Waits until this many files are in a Maildir; raises TimeoutError."""
        folder = self.maildir(local_part)

        def files() -> list[Path]:
            return sorted(folder.iterdir()) if folder.is_dir() else []

        if not wait_until(lambda: len(files()) >= count, timeout_s):
            raise TimeoutError(f"{len(files())} of {count} messages in {folder} after {timeout_s:g} s")
        return files()

    def queued(self) -> list[Path]:
        """The queue files that hold mail now; one that is moved from deferred to active meanwhile is not missed."""
        places = ("maildrop", "incoming", "active", "deferred", "hold", "maildrop", "incoming", "active")
        found = (path for place in places for path in (self.queue / place).rglob("*") if path.is_file())
        return list(dict.fromkeys(found))

    def wait_until_empty(self, timeout_s: float = 150) -> None:
        """Waits until no mail is queued; raises TimeoutError."""
        if not self.tries_until(lambda: not self.queued(), timeout_s):
            raise TimeoutError(f"still queued after {timeout_s:g} s: {self.queued()}")

    def tries_until(self, condition: Callable[[], bool], timeout_s: float = 150) -> bool:
        """Asks until the condition holds; False where it did not within the time.  Every three seconds qmgr is told to
        look again: it lets a message rest for a minute where it finds it due while a delivery agent still has it
        ("still being delivered"), which a back-off of a second can bring."""
        deadline = time.monotonic() + timeout_s
        while not wait_until(condition, 3):
            if time.monotonic() > deadline:
                return False
            self.flush()
        return True

    def release(self, queue_id: str) -> None:
        """Takes a message out of quarantine, as smilla(8) says."""
        self.postsuper("-H", queue_id)

    def postsuper(self, option: str, queue_id: str, *folders: str) -> None:
        """What an administrator does with a queued message, or with ALL: -r, -h, -H, -d, in these folders only if some
        are named.  After -H qmgr is told, instead of looking by itself a second later."""
        self.run("postsuper", "-c", str(self.folder / "etc"), option, queue_id, *folders)
        if option == "-H":
            self.flush()

    def delete_all(self) -> None:
        """Deletes what is queued: postsuper -d ALL reads one folder after the other and misses what moves meanwhile."""

        def is_empty() -> bool:
            self.postsuper("-d", "ALL")
            return not self.queued()

        if not wait_until(is_empty, 60, step_s=0.3):
            raise TimeoutError(f"still queued: {self.queued()}")

    def flush(self) -> None:
        """postqueue -f: every deferred message is tried now."""
        self.run("postqueue", "-c", str(self.folder / "etc"), "-f")

    def reload(self) -> None:
        """Has Postfix read its files again, and waits until master has.  It logs that before it does so; hence it is
        told once more, which it logs only when the first time is over, and no process of before takes work."""
        before = self._reloads
        self.run("postfix", "-c", str(self.folder / "etc"), "reload")
        if wait_until(lambda: self._reloads > before, 60):
            for _ in range(3):  # a signal that comes while it writes the first line is lost
                os.kill(self.master, signal.SIGHUP)
                if wait_until(lambda: self._reloads > before + 1, 20):
                    return
        raise TimeoutError(f"master has not reloaded: {self.log[-3000:]}")

    @property
    def _reloads(self) -> int:
        return self.log.count("reload -- version")

    def defers(self, queue_id: str) -> bool:
        """Waits until an attempt to deliver a message was put off; False where none was."""
        return wait_until(lambda: re.search(rf"{queue_id}: .*status=deferred", self.log) is not None, 60)

    def sendmail(self, message: bytes, sender: str, *recipients: str) -> None:
        """sendmail(1), as a program of this machine sends mail.  ``parameters`` must have export_environment name
        MAIL_CONFIG and LD_LIBRARY_PATH, for postdrop."""
        self.run("sendmail", "-i", "-f", sender, *recipients, octets=message.replace(b"\r\n", b"\n"))

    def run(self, name: str, *arguments: str, octets: bytes = b"") -> str:
        """What one of Postfix's own commands says.  Raises CalledProcessError."""
        program = postfix_daemons().parents[2] / "sbin" / name
        environment = program_environment(program) | {"MAIL_CONFIG": str(self.folder / "etc")}
        done = subprocess.run(
            [str(program), *arguments], env=environment, input=octets, check=True, capture_output=True
        )
        return done.stdout.decode(errors="replace")

    def start(self) -> Self:
        """Writes the configuration, makes the folders and starts master.  Raises ChildError or MissingProgramError."""
        daemons = postfix_daemons()
        master = daemons / "master"
        owner, group = _owner(), _group()
        self._make_folders(owner, group)
        environment = program_environment(master) | {"MAIL_CONFIG": str(self.folder / "etc")}
        before = self.log.count("daemon started")
        self._configure(daemons, owner, group, sorted({"LD_LIBRARY_PATH", "MAIL_CONFIG"} & environment.keys()))
        self._child = Child(
            "postfix",
            [*self.before, master, "-d", "-c", self.folder / "etc"],
            self.folder / "master.log",
            environment=environment,
        )
        try:
            # master logs this once it listens everywhere; to connect instead would trouble the milters.
            self._child.start(ready=lambda: self.log.count("daemon started") > before)
        except BaseException:
            with contextlib.suppress(OSError):
                (self.folder / "master.log").open("a").write(self.log)
            self.stop()
            raise
        return self

    def _make_folders(self, owner: pwd.struct_passwd, group: grp.struct_group) -> None:
        for name in ("etc", "queue", "queue/pid"):
            (self.folder / name).mkdir(mode=0o755, parents=True, exist_ok=True)
        for name in (*(f"queue/{queue}" for queue in _QUEUES), "data", "queue/public", "queue/maildrop"):
            path = self.folder / name
            path.mkdir(exist_ok=True)
            shared = name in ("queue/public", "queue/maildrop")
            os.chown(path, owner.pw_uid, group.gr_gid if shared else owner.pw_gid)
            path.chmod({"queue/public": 0o710, "queue/maildrop": 0o730}.get(name, 0o700))
        nobody = pwd.getpwnam("nobody")
        mail = self.folder / "mail"
        mail.mkdir(exist_ok=True)
        os.chown(mail, nobody.pw_uid, nobody.pw_gid)

    def _configure(
        self, daemons: Path, owner: pwd.struct_passwd, group: grp.struct_group, passed_on: Sequence[str]
    ) -> None:
        etc = self.folder / "etc"
        nobody = pwd.getpwnam("nobody")
        root = daemons.parents[3] if daemons.parent.name == "postfix" else daemons.parents[2]
        (etc / "mailboxes").write_text("".join(f"{name}@{LOCAL_DOMAIN} {name}/\n" for name in MAILBOXES))
        (etc / "dynamicmaps.cf").write_text("")
        settings = {
            "compatibility_level": "3.6",
            "config_directory": str(etc),
            "queue_directory": str(self.queue),
            "data_directory": str(self.folder / "data"),
            "daemon_directory": str(daemons),
            "command_directory": str(root / "usr/sbin"),
            "meta_directory": str(etc),
            "shlib_directory": str(daemons.parent),
            "import_environment": " ".join(["MAIL_CONFIG", "TZ", "LANG=C", *passed_on]),
            "maillog_file": str(self.folder / "maillog"),
            "maillog_file_prefixes": str(self.folder),
            "mail_owner": owner.pw_name,
            "setgid_group": group.gr_name,
            "default_privs": "nobody",
            "myhostname": "mta.test",
            "mydestination": "",
            "mynetworks": f"{LOOPBACK}/32",
            "inet_interfaces": LOOPBACK,
            "inet_protocols": "ipv4",
            "smtpd_peername_lookup": "no",
            "local_header_rewrite_clients": "",
            "alias_maps": "",
            "alias_database": "",
            "local_recipient_maps": "",
            "virtual_mailbox_domains": LOCAL_DOMAIN,
            "virtual_mailbox_base": str(self.folder / "mail"),
            "virtual_mailbox_maps": f"texthash:{etc}/mailboxes",
            "virtual_uid_maps": f"static:{nobody.pw_uid}",
            "virtual_gid_maps": f"static:{nobody.pw_gid}",
            "virtual_mailbox_limit": "0",
            "message_size_limit": "104857600",
            "relayhost": f"[{LOOPBACK}]:{self.sink_port}",
            "smtp_dns_support_level": "disabled",
            "smtp_host_lookup": "native",
            "smtp_tls_security_level": "none",
            "smtpd_tls_security_level": "none",
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "smtpd_client_connection_count_limit": "0",
            "milter_default_action": "tempfail",
            "minimal_backoff_time": "1s",
            "maximal_backoff_time": "2s",
            "queue_run_delay": "1s",
            **self.parameters,
        }
        (etc / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        if self.stages and self.requeues:
            services_of_requeue = _requeue(etc / f"stage-{next(iter(self.stages))}")
            self.pickup_options["cleanup_service_name"] = "requeue"
        else:
            services_of_requeue = ""
        services = _SERVICES.replace("60    1 pickup\n", f"1     1 pickup\n{_options(self.pickup_options)}")
        services += services_of_requeue + self.services
        services += "".join(f"{name} unix - - n - - smtp\n{_options(o)}" for name, o in self.transports.items())
        services += "".join(_stage(name, path, etc) for name, path in self.stages.items())
        (etc / "master.cf").write_text(services + "".join(_service(listener) for listener in self.listeners))
        # Postfix waits up to two seconds for a file that somebody still seems to be editing.
        for path in etc.iterdir():
            os.utime(path, (0, path.stat().st_mtime - 60))
        # What starts in the same tick may have read the files or not, which smilla config check --postfix would say.
        # With "postfix start" there is more time than this between the two.
        time.sleep(0.05)


def _service(listener: Listener) -> str:
    options = {"smtpd_milters": ",".join(listener.milters), **listener.options}
    return f"{listener.address}:{listener.port} inet n - n - - smtpd\n{_options(options)}"


def _requeue(table: Path) -> str:
    """pickup's own cleanup: what postsuper -r brings back goes to the stage again, by its own header alone."""
    options = {"header_checks": f"regexp:{table}", "nested_header_checks": "", "mime_header_checks": ""}
    return f"requeue unix n - n - 0 cleanup\n{_options(options)}"


def _stage(name: str, path: Path, etc: Path) -> str:
    """A cleanup service of its own, which sends sealed messages to the stage, and the transport for them."""
    table = etc / f"stage-{name}"
    table.write_text(f"/^X-Smilla-Stage: [0-9a-f]{{32}} [0-9a-f]{{16}}$/ FILTER stage-{name}:unix:{path}\n")
    cleanup = _options({"milter_header_checks": f"regexp:{table}"})
    transport = {"lmtp_send_xforward_command": "yes", "lmtp_destination_recipient_limit": "1000"}
    return f"cleanup-{name} unix n - n - 0 cleanup\n{cleanup}stage-{name} unix - - n - 20 lmtp\n{_options(transport)}"


def _options(options: Mapping[str, str]) -> str:
    """As lines of master.cf."""
    return "".join(f"  -o {{ {name} = {value} }}\n" for name, value in options.items())


def example_options(example: str, name: str, kind: str = "inet") -> dict[str, str]:
    """The -o lines of one service (by its name or port) in a master.cf.example of this repository."""
    text = (REPOSITORY / example).read_text()
    service = re.search(rf"^\S*{name} +{kind} .*\n((?: +-o .*\n)+)", text, re.MULTILINE)
    if service is None:
        raise ValueError(f"{example} has no service {name}")
    found = (line.split("-o ", 1)[1].partition("=") for line in service[1].splitlines())
    return {option: value for option, _, value in found}


def queue_id(reply: str) -> str | None:
    """The queue ID in Postfix's reply to an accepted message."""
    found = re.search(r"queued as (\w+)", reply)
    return found[1] if found else None


def log_lines_of(log: str, queue_id: str) -> list[str]:
    """Postfix's log lines about one queue ID."""
    return re.findall(rf"^.*: {re.escape(queue_id)}: .*$", log, re.MULTILINE)


def _owner() -> pwd.struct_passwd:
    for name in _OWNERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise KeyError(f"none of the users {', '.join(_OWNERS)} exists")


def _group() -> grp.struct_group:
    for name in _GROUPS:
        with contextlib.suppress(KeyError):
            return grp.getgrnam(name)
    raise KeyError(f"none of the groups {', '.join(_GROUPS)} exists")
