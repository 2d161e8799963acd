"""A Dovecot of its own in a folder: LMTP in, a Maildir for each user, Sieve on the way, IMAP out.

    Postfix -> LMTP (UNIX socket) -> Sieve -> mail/USER/Maildir -> IMAP (loopback port)

It runs as an unprivileged user from the start, so that nothing of it needs a user or a folder of the system's.  Every
user exists, with the same password; a rule file in Sieve, the same for all, sorts the mail.
"""

from __future__ import annotations

import grp
import imaplib
import os
import pwd
import re
import subprocess
from typing import TYPE_CHECKING, Self

from tests.lab.processes import LOOPBACK, Child, Server, free_port, port_answers, wait_until
from tests.lab.programs import MissingProgramError, as_nobody, find_program, program_environment, unpacked_folder

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "not-secret"
_LIBRARY = "libdovecot.so.0"
_BUILT_IN = re.compile(rb"/usr/lib/dovecot/(modules[a-z/]*)\0")

# What is said alike to every version …
_CONFIGURATION = """\
{dialect}
base_dir = {folder}/run
state_dir = {folder}/state
libexec_dir = {library}
mail_plugin_dir = {library}/modules
log_path = {folder}/dovecot.log
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
listen = {host}
service anvil {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
service lmtp {{
  unix_listener {folder}/lmtp {{
    mode = 0666
  }}
}}
"""

# … and what is not.
_OF_2_3 = """\
import_environment = $import_environment LD_LIBRARY_PATH
protocols = imap lmtp
disable_plaintext_auth = no
auth_username_format = %Ln
mail_location = maildir:~/Maildir
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}/mail/%n allow_all_users=yes
}}
protocol lmtp {{
  mail_plugins = sieve
}}
plugin {{
  sieve_before = {folder}/sieve
}}
"""
_QUOTA_OF_2_3 = """\
protocol imap {{
  mail_plugins = quota imap_quota
}}
plugin {{
  quota = maildir:User quota
  quota_rule = *:storage={quota_kib}K
}}
"""
_SINCE_2_4 = """\
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
service config {{
  executable = {config}
}}
import_environment {{
  LD_LIBRARY_PATH = %{{env:LD_LIBRARY_PATH}}
}}
protocols = imap lmtp
auth_allow_cleartext = yes
auth_username_format = %{{user | username | lower}}
mail_driver = maildir
mail_path = ~/Maildir
passdb static {{
  passdb_static_password = {password}
}}
userdb static {{
  userdb_static_allow_all_users = yes
  fields {{
    uid = {user}
    gid = {group}
    home = {folder}/mail/%{{user | username}}
  }}
}}
protocol lmtp {{
  mail_plugins = sieve
}}
sieve_script rules {{
  sieve_script_type = before
  sieve_script_path = {folder}/sieve
}}
"""
_QUOTA_SINCE_2_4 = """\
protocol imap {{
  mail_plugins {{
    quota = yes
    imap_quota = yes
  }}
}}
quota "User quota" {{
  storage_size = {quota_kib}K
}}
"""
_TLS_OF_2_3 = """\
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
"""
_TLS_SINCE_2_4 = """\
ssl = yes
ssl_server_cert_file = {certificate}
ssl_server_key_file = {key}
"""


class Dovecot(Server):
    """Starts with ``with`` or start().  ``rules`` is a Sieve script (RFC 5228) for all users, ``quota_kib`` what each
    may store, ``certificate`` and its key the files for TLS; ``tls_port`` then begins with it."""

    def __init__(
        self, folder: Path, rules: str = "", *, quota_kib: int = 0, certificate: tuple[Path, Path] | None = None
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.tls_port = free_port() if certificate else 0
        self._rules, self._quota_kib, self._certificate = rules, quota_kib, certificate

    @property
    def transport(self) -> str:
        """Where Postfix delivers to, as its virtual_transport has it."""
        return f"lmtp:unix:{self.folder}/lmtp"

    @property
    def log(self) -> str:
        """All that Dovecot logged."""
        path = self.folder / "dovecot.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> Self:
        """Raises MissingProgramError or ChildError."""
        program = find_program("dovecot")
        library = program.parents[1] / "lib/dovecot"
        find_program(str(library / "lmtp"))
        find_program(str(library / "imap"))
        environment = program_environment(program)
        is_unpacked = library.is_relative_to(unpacked_folder())
        if is_unpacked:
            own = (library, library / "modules/old-stats")
            environment["LD_LIBRARY_PATH"] = os.pathsep.join([*map(str, own), environment["LD_LIBRARY_PATH"]])
        since_2_4 = _version(program, environment) >= (2, 4)
        self._make_folders()
        reader, config = find_program("doveconf"), library / "config"
        if is_unpacked:
            (self.folder / "modules").symlink_to(library / "modules")
            (self.folder / "run/modules").symlink_to(library / "modules")
            patched, reader, config = (self._patched(path) for path in (library / _LIBRARY, reader, config))
            environment["LD_LIBRARY_PATH"] = f"{patched.parent}{os.pathsep}{environment['LD_LIBRARY_PATH']}"
        dialect = _SINCE_2_4 if since_2_4 else _OF_2_3
        if self._quota_kib:
            dialect += _QUOTA_SINCE_2_4 if since_2_4 else _QUOTA_OF_2_3
        if self._certificate:
            dialect += _TLS_SINCE_2_4 if since_2_4 else _TLS_OF_2_3
        else:
            dialect += "ssl = no\n"
        self._write(library, config, dialect)
        configuration = ["-c", str(self.folder / "dovecot.conf")]
        # dovecot itself would look for doveconf in /usr/bin.
        starting = [*configuration, "-F"] if since_2_4 else ["-f", "service=master", *configuration, "-e"]
        command = [*as_nobody(), str(reader), *starting, str(program), "-F", *configuration]
        self._child = Child("dovecot", command, self.folder / "start.log", folder=self.folder, environment=environment)
        self._child.start(ready=lambda: port_answers(self.port) and (self.folder / "lmtp").exists())
        return self

    def messages(self, user: str, mailbox: str = "INBOX") -> list[bytes]:
        """Every message of a mailbox as IMAP gives it, oldest first; none where there is no such mailbox."""
        with imaplib.IMAP4(LOOPBACK, self.port, timeout=60) as imap:
            imap.login(user, PASSWORD)
            if imap.select(f'"{mailbox}"', readonly=True)[0] != "OK":
                return []
            _, numbers = imap.search(None, "ALL")
            found = []
            for number in numbers[0].split():
                _, answer = imap.fetch(number.decode(), "(BODY.PEEK[])")
                found += [part[1] for part in answer if isinstance(part, tuple)]
            return found

    def wait_for(self, user: str, mark: bytes, mailbox: str = "INBOX", timeout_s: float = 60) -> bytes:
        """The message of a mailbox that has ``mark`` in it, once it is there; raises TimeoutError."""
        found: list[bytes] = []

        def is_there() -> bool:
            found[:] = [raw for raw in self.messages(user, mailbox) if mark in raw]
            return bool(found)

        if not wait_until(is_there, timeout_s, step_s=0.1):
            raise TimeoutError(f"no {mark!r} in {mailbox} of {user} after {timeout_s:g} s:\n{self.log[-3000:]}")
        if len(found) > 1:
            raise AssertionError(f"{len(found)} messages with {mark!r} in {mailbox} of {user}")
        return found[0]

    def files(self, user: str) -> list[Path]:
        """The files of all messages of a user."""
        home = self.folder / "mail" / user / "Maildir"
        return [path for path in home.rglob("*") if path.parent.name in ("new", "cur") and path.is_file()]

    def _patched(self, path: Path) -> Path:
        """A copy that looks for its modules below the working folder (base_dir, and at the start ours): the folder that
        is built in, which no setting changes, is not there where the package is only unpacked."""
        patched = self.folder / "lib" / path.name
        patched.parent.mkdir(exist_ok=True)
        raw, count = _BUILT_IN.subn(lambda built_in: built_in[1].ljust(len(built_in[0]), b"\0"), path.read_bytes())
        if not count:
            raise MissingProgramError("a dovecot whose folder of modules is known")
        patched.write_bytes(raw)
        patched.chmod(0o755)
        return patched

    def _make_folders(self) -> None:
        account = _account()
        for name in ("", "run", "state", "mail", "sieve"):
            path = self.folder / name
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            os.chown(path, account.pw_uid, account.pw_gid)

    def _write(self, library: Path, config: Path, dialect: str) -> None:
        (self.folder / "sieve/rules.sieve").write_text(self._rules)
        account = _account()
        values = {
            "folder": self.folder,
            "library": library,
            "config": config,
            "host": LOOPBACK,
            "port": self.port,
            "tls_port": self.tls_port,
            "quota_kib": self._quota_kib,
            "certificate": self._certificate[0] if self._certificate else "",
            "key": self._certificate[1] if self._certificate else "",
            "user": account.pw_name,
            "group": grp.getgrgid(account.pw_gid).gr_name,
            "password": PASSWORD,
        }
        text = _CONFIGURATION.format(dialect=dialect.format(**values), **values)
        (self.folder / "dovecot.conf").write_text(text)


def _account() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def _version(program: Path, environment: dict[str, str]) -> tuple[int, ...]:
    """The first two numbers of what it calls itself."""
    told = subprocess.run([program, "--version"], env=environment, capture_output=True, timeout=60, check=True).stdout
    return tuple(int(number) for number in told.decode().split(".")[:2])
