"""Every block of README.md and of the manual, read or run by the program that it is for.

The machine is this one with every change in a tmpfs (tests/lab/machine.py); what is followed there and what cannot run
is in tests/live/walk.py.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.opendkim import OpenDKIM, make_dkim_key
from tests.lab.processes import ChildError
from tests.lab.programs import find_program, program_environment, require, require_servers
from tests.lab.sendmail import Sendmail
from tests.live.conftest import cannot
from tests.live.mta import CANARY
from tests.live.walk import BLOCKS, ELSEWHERE, MAY_FAIL, Walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.documents import Block

pytestmark = pytest.mark.live
_ATTACHED = ["README.md", "smilla-postfix.7"]
_OTHERS = sorted({block.page for block in BLOCKS if block.what in ("shell", "crontab")} - set(_ATTACHED))


def _blocks(*kinds: str) -> list[Block]:
    return [block for block in BLOCKS if block.what in kinds]


@pytest.fixture(scope="module")
def walk(folder: Path) -> Iterator[Walk]:
    """The machine after README.md and smilla-postfix(7), with mail on the way."""
    require("unshare", "nsenter", "apt-get")
    require_servers("nsd", "unbound")
    with contextlib.ExitStack() as stack:
        try:
            walk = stack.enter_context(Walk(folder))
        except ChildError as error:
            cannot(f"no machine of its own, or no packages for it: {error}")
        walk.follow(["README.md"])
        walk.observed = walk.send("alice@example.net", mark=b"observed")
        walk.follow(["smilla-postfix.7"])
        walk.configure("observe = true", "observe = false")
        yield walk


def test_after_readme_smilla_says_what_it_would_do_and_changes_nothing(walk: Walk) -> None:
    assert walk.observed.startswith("250 ")
    (mail,) = walk.arrived(b"observed", 1)
    assert CANARY in mail.raw
    assert "observed would=encrypted rcpt=alice@example.net" in walk.log()


def test_after_the_guide_nothing_is_amiss(walk: Walk) -> None:
    walk.must("smilla config check --postfix")
    done = walk.machine.run("smilla config check --probe")
    assert done.returncode == 0, done.stdout
    assert "error: " not in done.stdout
    assert "warning: " not in done.stdout
    assert "postfix: has the lines for the stage" in done.stdout


def test_after_the_guide_mail_is_encrypted_and_split(walk: Walk) -> None:
    assert walk.send("alice@example.net", mark=b"alone").startswith("250 ")
    (mail,) = walk.arrived(b"alone", 1)
    assert CANARY not in mail.raw
    assert CANARY in walk.alice.open(_kept(walk, mail.raw))
    walk.must("smilla config check --postfix")
    assert walk.send("alice@example.net", "nobody@example.net", mark=b"mixed").startswith("250 ")
    alice, nobody = walk.arrived(b"mixed", 2)
    assert (CANARY in alice.raw, CANARY in nobody.raw) == (False, True)
    assert b"X-Smilla-Stage" not in alice.raw + nobody.raw


def _kept(walk: Walk, raw: bytes) -> Path:
    path = Path(tempfile.mkdtemp(dir=walk.folder)) / "mail.eml"
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("page", _OTHERS)
def test_shell_lines_of_a_page_run(walk: Walk, page: str) -> None:
    with walk.as_it_was(page):
        walk.follow([page])


def test_what_cannot_run_or_may_fail_is_still_in_a_document() -> None:
    commands = {command for block in _blocks("shell") for command in block.commands}
    assert ELSEWHERE.keys() <= commands
    assert MAY_FAIL.keys() <= commands


@pytest.mark.parametrize("page", sorted({block.page for block in _blocks("main.cf", "master.cf")}))
def test_postfix_knows_every_word_of_a_page(walk: Walk, page: str) -> None:
    place = "/root/check"
    walk.must(f"rm -rf {place} && cp -a /root/postfix {place} && cp contrib/postfix/smilla_* /etc/postfix/")
    for block in [block for block in _blocks("main.cf", "master.cf") if block.page == page]:
        if block.what == "main.cf":
            walk.main_cf(block, place)
        else:
            walk.master_cf(block, place)
    for command in ("postconf -c {} -n", "postconf -c {} -M", "postconf -c {} -P", "postfix -c {} check"):
        assert _complaints(walk.must(command.format(place))) == []


def test_a_word_that_postfix_does_not_know_is_noticed(walk: Walk) -> None:
    walk.must("rm -rf /root/wrong && cp -a /root/postfix /root/wrong && postconf -c /root/wrong -e smtpd_milter=x")
    assert "unused parameter: smtpd_milter=x" in walk.must("postconf -c /root/wrong -n")


def _complaints(output: str) -> list[str]:
    return [line for line in output.splitlines() if re.search(r"\b(?:warning|error|fatal)\b: ", line)]


@pytest.mark.parametrize("block", _blocks("sendmail.mc"), ids=str)
def test_sendmail_knows_every_word(block: Block, tmp_path: Path) -> None:
    require_servers("m4")
    assert _of_sendmail(tmp_path, block.text) == []


def test_a_word_that_sendmail_does_not_know_is_noticed(tmp_path: Path) -> None:
    require_servers("m4")
    (complaint,) = _of_sendmail(tmp_path, "INPUT_MAIL_FILTER(`x', `S=unix:/x, F=T, T=Q:30s')dnl\n")
    assert complaint.endswith("Xx: unknown filter timeout Q")
    (complaint,) = _of_sendmail(tmp_path, "INPUT_MAIL_FILTERS(`x', `S=unix:/x')dnl\n")
    assert "unknown configuration line" in complaint


def _of_sendmail(folder: Path, lines: str) -> list[str]:
    sendmail = Sendmail(folder, 1, [], lines.splitlines())
    return [line for line in sendmail.check().splitlines() if "sendmail.cf: line" in line]


@pytest.mark.parametrize("block", _blocks("opendkim.conf"), ids=str)
def test_opendkim_starts_with_the_lines(block: Block, folder: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="opendkim-", dir=folder))
    place.chmod(0o755)
    with OpenDKIM(place / "opendkim", make_dkim_key("s.test"), "simple/simple"):
        pass
    path = place / "opendkim/opendkim.conf"
    names = {line.split()[0] for line in block.text.splitlines()[1:]}
    kept = [line for line in path.read_text().splitlines() if line.split()[0] not in names]
    path.write_text("\n".join(kept) + "\n" + block.text)
    assert _says("opendkim", "-n", "-x", path) == ""


@pytest.mark.parametrize("block", _blocks("unbound.conf", "named.conf", "prometheus.yml"), ids=str)
def test_other_servers_know_every_word(block: Block, tmp_path: Path) -> None:
    path = tmp_path / block.what
    path.write_text(block.text)
    if block.what == "unbound.conf":
        path.write_text(f'{block.text}    chroot: ""\n    directory: "{tmp_path}"\n    username: ""\n')
        assert "no errors in" in _says("unbound-checkconf", path)
    elif block.what == "named.conf":
        path.write_text(f'zone "example.org" {{ type primary; file "x"; {_of_zone(block)} }};\n')
        assert _says("named-checkconf", path) == ""
    else:
        assert "SUCCESS" in _says("promtool", "check", "config", path)


def _of_zone(block: Block) -> str:
    return " ".join(block.text.splitlines()[1:])


def _says(name: str, *arguments: str | Path) -> str:
    program = find_program(name)
    argv = [str(program), *(str(word) for word in arguments)]
    done = subprocess.run(argv, env=program_environment(program), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("block", _blocks("smilla.toml"), ids=str)
def test_smilla_finds_no_fault_in_a_configuration(walk: Walk, block: Block) -> None:
    walk.machine.write("/root/block.toml", block.text)
    walk.must("mkdir -p /etc/smilla/keys && cp me.crt /etc/smilla/keys/me@example.org.crt")
    walk.must("cp me.crt /etc/smilla/partner.crt && cp me.crt /etc/smilla/relay.pem && cp me.key /etc/smilla/relay.key")
    walk.must(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out /etc/smilla/circle.pem -subj /CN=ca -days 99"
    )
    done = walk.machine.run("smilla config check --config /root/block.toml")
    assert (done.returncode, "warning: " in done.stdout) == (0, False), done.stdout
