"""The mistakes of a new administrator, in a table: for each, the cause and the line that mends it, as --probe prints
them first.  What each check sees in detail is in test_doctor.py.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.processes import free_port
from tests.lab.programs import REPOSITORY, find_program
from tests.lab.smilla import to_toml
from tests.live.examples import beside_postfix
from tests.live.test_doctor import Patient, house, patient

if TYPE_CHECKING:
    from tests.live.test_doctor import House

__all__ = ["house", "patient"]
pytestmark = pytest.mark.live


def master(found: Patient, pattern: str, other: str) -> None:
    found.change(found.etc / "master.cf", pattern, other)


def moved(found: Patient, ours: str, theirs: str) -> None:
    """Both name another socket than the one where smilla listens."""
    found.change(found.config, "^socket = .*smilla.sock.*", f'socket = "{ours}"')
    master(found, f"unix:{found.house.smilla.socket}", theirs)


def keys(found: Patient) -> Path:
    """A copy of the folder of keys, for one test to spoil."""
    folder = found.config.parent / "keys"
    shutil.copytree(found.house.place / "keys", folder)
    found.change(found.config, "^directory = .*", f'directory = "{folder}"')
    return folder


def wrong_path(found: Patient) -> tuple[str, str]:
    ours = found.house.smilla.socket
    master(found, f"unix:{ours}", f"unix:{ours}x")
    return f"asks unix:{ours}x, but [milter] socket is unix:{ours}", f"smtpd_milters = unix:{ours}"


def chroot(found: Patient) -> tuple[str, str]:
    master(found, r"^(127\S+ inet n +- +)n", r"\1y")
    queue = found.house.postfix.queue
    mend = f'[milter] socket = "unix:{queue}/smilla/smilla.sock", and smtpd_milters = unix:smilla/smilla.sock'
    return f"is chrooted to {queue}", mend


def not_running(found: Patient) -> tuple[str, str]:
    place = f"{found.config.parent}/s.sock"
    moved(found, f"unix:{place}", f"unix:{place}")
    port = found.house.postfix.listeners[0].port
    found.change(found.config, "^spool = .*", f'spool = "{found.config.parent}/spool"')  # the status socket is there
    told = f"socket unix:{place}: smilla is not running, but 127.0.0.1:{port} of Postfix asks it"
    return told, "restart"


def changed_socket(found: Patient) -> tuple[str, str]:
    """After a reload alone, the filter still listens at the old one."""
    place = f"{found.config.parent}/s.sock"
    moved(found, f"unix:{place}", f"unix:{place}")
    port = found.house.postfix.listeners[0].port
    told = f"socket unix:{place}: smilla runs, but does not listen there, and 127.0.0.1:{port} of Postfix asks it"
    return told, "a changed [milter] socket needs a restart"


def left_behind(found: Patient) -> tuple[str, str]:
    told = not_running(found)
    with closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(f"{found.config.parent}/s.sock")
    return told


def stranger(found: Patient) -> tuple[str, str]:
    port = found.house.postfix.listeners[1].port
    moved(found, f"inet:{port}@127.0.0.1", f"inet:127.0.0.1:{port}")
    return "what listens there is no filter: it says '220", "choose another [milter] socket, or stop what listens there"


def no_resolver(found: Patient) -> tuple[str, str]:
    port = free_port()
    found.change(found.config, f"@{found.house.dns.port}", f"@{port}")
    return f"127.0.0.1@{port}", "start the validating resolver (systemctl start unbound)"


def no_validation(found: Patient) -> tuple[str, str]:
    found.change(found.config, found.house.dns.resolver, found.house.dns.plain_resolver)
    return "no AD bit", "auto-trust-anchor-file"


def shut_folder(found: Patient) -> tuple[str, str]:
    folder = keys(found)
    folder.chmod(0o700)
    return f"nobody may not list {folder} (root:root 0700)", f"chgrp nogroup {folder} && chmod g+rx {folder}"


def shut_key(found: Patient) -> tuple[str, str]:
    path = keys(found) / "alice@r.test.der"
    path.chmod(0o600)
    return f"nobody may not read {path} (root:root 0600)", f"chgrp nogroup {path} && chmod g+r {path}"


def shut_private_key(found: Patient) -> tuple[str, str]:
    path = keys(found) / "bob@r.test.pem"
    path.write_text("-----BEGIN PRIVATE KEY-----\nMIIEvQ==\n-----END PRIVATE KEY-----\n")
    path.chmod(0o600)
    return f"nobody may not read {path}", f"mv {path} /root/ && chmod 600 /root/bob@r.test.pem"


def shut_configuration(found: Patient) -> tuple[str, str]:
    path = found.config
    path.chmod(0o600)
    return f"nobody may not read {path} (root:root 0600)", f"chgrp nogroup {path} && chmod g+r {path}"


def port_taken(found: Patient) -> tuple[str, str]:
    port = found.house.dns.port
    found.change(found.config, "^smtp = .*", f'smtp = "127.0.0.1:{port}"')
    return "what listens there is not the one for copies", "stop it (ss -ltnp says what it is)"


def accept(found: Patient) -> tuple[str, str]:
    found.change(found.etc / "main.cf", "^milter_default_action = .*", "milter_default_action = accept")
    return "while the filter is away, mail passes in plaintext", "milter_default_action = tempfail"


def accept_in_braces(found: Patient) -> tuple[str, str]:
    ours = found.house.smilla.milter
    found.change(found.etc / "main.cf", "^config_directory = .*", f"config_directory = {found.etc}")
    master(found, ours, f"{{ {ours}, default_action=accept }}")
    port = found.house.postfix.listeners[0].port
    mend = f"postconf -c {found.etc} -P '127.0.0.1:{port}/inet/smtpd_milters={{{ours},default_action=tempfail}}'"
    return "while the filter is away, mail passes in plaintext", mend


def comma(found: Patient) -> tuple[str, str]:
    found.config.write_text('[keys]\nsources = ["directory" "smimea"]\n')
    return "is not TOML: Unclosed array (at line 2", 'write sources = ["directory", "smimea"]'


def quotes(found: Patient) -> tuple[str, str]:
    found.config.write_text("mode = outbound\n")
    return "is not TOML: Invalid value (at line 1", 'a text stands in quotes: write mode = "outbound"'


def bracket(found: Patient) -> tuple[str, str]:
    found.config.write_text('[milter\nsocket = "unix:/x"\n')
    return "is not TOML: Expected ']'", "the name of a table stands in brackets: write [milter]"


def no_gpg(found: Patient) -> tuple[str, str]:
    found.config.write_text(to_toml({"openpgp": {"engine": "gnupg"}}))
    found.environment["PATH"] = str(find_program("postconf").parent)
    return '[openpgp] engine = "gnupg" cannot be had', "install GnuPG 2.2 or later (Debian: gpg); or write engine = "


MISTAKES: dict[Callable[[Patient], tuple[str, str]], int] = {
    wrong_path: 1,
    chroot: 1,
    not_running: 1,
    changed_socket: 1,
    left_behind: 1,
    stranger: 1,
    no_resolver: 1,
    no_validation: 1,
    shut_folder: 1,
    shut_key: 1,
    shut_private_key: 1,
    shut_configuration: 1,
    port_taken: 1,
    accept: 1,
    accept_in_braces: 1,
    comma: 78,
    quotes: 78,
    bracket: 78,
    no_gpg: 78,
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_the_first_error_has_the_cause_and_the_line_that_mends_it(
    patient: Patient, mistake: Callable[[Patient], tuple[str, str]]
) -> None:
    cause, mend = mistake(patient)
    done = patient.check()
    assert done.returncode == MISTAKES[mistake], done.stderr
    first, *rest = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert cause in first
    hint = [rest[0]] if rest and rest[0].startswith("hint: ") else []
    assert any(mend in line for line in [first, *hint]), done.stderr


def test_a_pkcs12_file_among_the_keys_is_told_where_to_go(patient: Patient) -> None:
    folder = keys(patient)
    pair = [str(folder / name) for name in ("me.key", "me.crt")]
    make = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=me -keyout {} -out {}".format(*pair)
    subprocess.run(shlex.split(make), check=True, capture_output=True)
    pack = "openssl pkcs12 -export -inkey {} -in {} -passout pass:x -out".format(*pair)
    subprocess.run([*shlex.split(pack), str(folder / "alice@r.test.p12")], check=True)
    for name in pair:
        Path(name).unlink()
    (folder / "alice@r.test.p12").chmod(0o600)
    done = patient.check()
    assert (done.returncode, "chmod g+r" in done.stderr) == (0, False), done.stderr
    line, hint = [line for line in done.stderr.splitlines() if "alice@r.test.p12" in line]
    assert line.startswith(f"warning: keys {folder}/alice@r.test.p12: holds a private key, which smilla never needs")
    assert hint.endswith(f"mv {folder}/alice@r.test.p12 /root/ && chmod 600 /root/alice@r.test.p12")
    assert f"openssl pkcs12 -in /root/alice@r.test.p12 -clcerts -nokeys -out {folder}/ADDRESS.crt" in hint


def _as_nobody(found: Patient) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "smilla", "config", "check", "--probe", "--config", str(found.config)]
    nobody = pwd.getpwnam("nobody")
    return subprocess.run(
        [*argv, "--postfix-config", str(found.etc)],
        cwd=REPOSITORY,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        env=beside_postfix(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_smillas_own_user_is_told_what_was_tried_and_how_to_try_the_rest(patient: Patient) -> None:
    done = _as_nobody(patient)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("hint: this check: ")]
    assert "it ran as nobody: files, sockets and the resolver were tried as nobody, and nothing as Postfix's" in line
    assert line.endswith(f"for the rest: sudo smilla config check --probe --config {patient.config}")
    assert f"may connect to {patient.house.smilla.socket}, by owner, group and mode" in done.stdout


def test_smillas_own_user_sees_that_postfix_may_not_reach_the_socket(house: House, patient: Patient) -> None:
    folder, nobody = house.smilla.folder, pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    folder.chmod(0o700)
    try:
        done = _as_nobody(patient)
    finally:
        os.chown(folder, 0, 0)
        folder.chmod(0o755)
    assert done.returncode == 1
    assert f"may not connect to {house.smilla.socket}, because {folder} keeps it out" in done.stderr
