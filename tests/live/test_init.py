"""smilla init beside a real Postfix: attached, mail is encrypted; taken back, the files are as they were.

client -> smtpd -> smilla: sealed -> queue -> lmtp -> smilla: split -> the listener that smilla init made -> sink
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.client import send_mail
from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import free_port, wait_until
from tests.lab.programs import REPOSITORY, find_program, program_environment
from tests.lab.sink import Sink
from tests.lab.smilla import Smilla
from tests.live.conftest import cannot
from tests.live.mta import CANARY, letter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab

pytestmark = pytest.mark.live


@dataclass
class Machine:
    """A Postfix of its own, as its administrator has it, and the folder of smilla's configuration."""

    place: Path
    resolver: str
    sink: Sink = field(default_factory=Sink)

    def __post_init__(self) -> None:
        self.port = free_port()
        self.copies = free_port()  # init itself would take 10025, as the same test beside this one would
        self.output = self.place / "smilla" / "smilla.toml"
        (self.place / "postfix").mkdir()
        self.postfix = Postfix(self.place / "postfix", self.sink.port, [Listener()], self._parameters())
        self.postfix.services = f"127.0.0.1:{self.port} inet n - n - - smtpd\n"
        self.etc = self.place / "postfix" / "etc"

    def _parameters(self) -> dict[str, str]:
        return {
            "header_checks": f"regexp:{self.place}/postfix/etc/own",
            "milter_default_action": "accept",
            "mydestination": "mx.own.test, localhost",
            "smtpd_authorized_xforward_hosts": "",
        }

    def start(self) -> None:
        self.etc.mkdir(parents=True)
        (self.etc / "own").write_text("/^X-Own:/ IGNORE\n")
        self.postfix.start()
        self.folder = self.postfix.queue / "smilla"
        self.folder.mkdir()
        self.before = self.files()

    def stop(self) -> None:
        self.postfix.stop()
        self.sink.close()

    def environment(self) -> dict[str, str]:
        program = find_program("postconf")
        environment = program_environment(program) | {"PYTHONPATH": str(REPOSITORY)}
        return environment | {"PATH": f"{program.parent}:{os.environ['PATH']}"}

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        argv = [str(word) for word in words]
        return subprocess.run(argv, capture_output=True, check=False, env=self.environment(), text=True)

    def smilla(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "smilla", *words, "--postfix-config", self.etc)

    def init(self, *words: str) -> subprocess.CompletedProcess[str]:
        further = (
            f'dns.nameservers=["{self.resolver}"]',
            "dns.probe=test.",
            "milter.workers=1",
            f"reinject.smtp=127.0.0.1:{self.copies}",
            "milter.socket_mode=0666",
            "stage.socket_mode=0666",
            f"stage.keys={self.place}/smilla/seal",
            f"reinject.spool={self.place}/smilla/spool",
        )
        options = [word for option in further for word in ("--set", option)]
        return self.smilla("init", "--yes", "--no-observe", "--output", self.output, *options, *words)

    def files(self) -> dict[str, bytes]:
        """Postfix's configuration folder."""
        return {path.name: path.read_bytes() for path in self.etc.iterdir() if path.is_file()}

    def settings(self) -> list[str]:
        """What Postfix makes of its files."""
        found = [self.run("postconf", "-c", self.etc, option).stdout for option in ("-n", "-M", "-P")]
        return [" ".join(line.split()) for text in found for line in text.splitlines()]

    def undo(self) -> str:
        """Takes the changes back; what it says beside the step that comes next."""
        done = self.run("sh", self.output.with_name("smilla-undo.sh"))
        told, now, rest = done.stdout.partition(f"now: postfix -c {self.etc} reload\n")
        assert (bool(now), rest) == (True, "")
        return told + done.stderr


@pytest.fixture
def machine(folder: Path, lab: DNSLab) -> Iterator[Machine]:
    if os.geteuid() != 0:
        cannot("Postfix's master needs root: run 'make test'")
    place = Path(tempfile.mkdtemp(prefix="init-", dir=folder))
    place.chmod(0o755)
    found = Machine(place, lab.resolver)
    try:
        found.start()
        yield found
    finally:
        found.stop()
        shutil.rmtree(place)


def test_mail_goes_through_encrypted_a_second_run_changes_nothing_and_all_can_be_taken_back(machine: Machine) -> None:
    first = machine.init("--apply")
    assert f"{machine.output}: written" in first.stdout, first.stderr
    assert first.returncode == 0  # nobody has reloaded Postfix, nor started the filter: the printed steps do
    assert "no filter with this configuration answers yet; see the steps below" in first.stderr
    assert "(until postfix reload: see the steps below)" in first.stderr
    last = first.stdout[first.stdout.index("\nNext:\n") :]
    assert f"\npostfix -c {machine.etc} reload\n" in last
    assert f"\nsmilla config check --probe --config {machine.output} --postfix-config {machine.etc}\n" in last
    assert "hint: postfix: mail from sendmail(1) on this machine" in first.stderr
    assert "the file has no fault" not in last  # the check stands before
    with Smilla(machine.place / "filter", machine.resolver, text=machine.output.read_text()) as filtering:
        machine.postfix.reload()
        applied = machine.files()
        script = machine.output.with_name("smilla-undo.sh").read_bytes()
        assert wait_until(lambda: machine.init("--apply").returncode == 0, 60), machine.init("--apply").stderr
        again = machine.init("--apply")
        assert "postfix: has all lines already; nothing was changed" in again.stdout
        assert f"{machine.output}: is there already, and stays as it is" in again.stdout
        assert "error:" not in again.stderr
        assert "\nThe filter runs, and Postfix asks it about each message.\n" in again.stdout
        assert "Next:" not in again.stdout
        assert machine.files() == applied
        assert machine.output.with_name("smilla-undo.sh").read_bytes() == script
        told = machine.smilla("config", "check", "--postfix", "--config", machine.output)
        assert told.returncode == 0, told.stderr

        mail = letter(b"X-Own: removed", to=b"alice@r.test, bob@r.test")
        reply = send_mail(machine.port, "sender@s.test", ["alice@r.test", "bob@r.test"], mail)
        assert reply.code == 250, (reply, filtering.log)
        for received in machine.sink.wait_for(2, 60):
            assert b"X-Smilla: encrypted; format=" in received.raw
            assert CANARY not in received.raw
            assert b"X-Own:" not in received.raw
        machine.postfix.wait_until_empty()
        heads = [mail.raw.partition(b"\r\n\r\n")[0] for mail in machine.sink.messages]
        found = sorted(mail.rcpt_to for mail in machine.sink.messages)
        assert found == [("alice@r.test",), ("bob@r.test",)], (heads, filtering.log, machine.postfix.log)
        alone = send_mail(machine.port, "sender@s.test", ["alice@r.test"], letter())
        assert alone.code == 250, alone
        assert b"application/pkcs7-mime" in machine.sink.wait_for(3, 60)[-1].raw
        machine.postfix.wait_until_empty()
    assert machine.undo() == ""
    assert machine.files() == machine.before
    machine.postfix.reload()


def test_a_second_run_has_postfix_read_what_the_first_one_wrote(machine: Machine) -> None:
    """The first one had no filter that answers."""
    assert "reload: done" not in machine.init("--apply").stdout
    with Smilla(machine.place / "filter", machine.resolver, text=machine.output.read_text()):
        done = machine.init("--apply")
    assert done.returncode == 0, done.stderr
    assert "postfix: has all lines already; nothing was changed" in done.stdout
    assert f"\npostfix -c {machine.etc} reload: done\n" in done.stdout


def test_what_was_changed_since_is_left_alone_and_the_rest_is_taken_back(machine: Machine) -> None:
    before = machine.settings()
    machine.init("--apply")
    machine.run("postconf", "-c", machine.etc, "-e", "smtp_helo_name = later.test", "milter_default_action = reject")
    machine.run("postconf", "-c", machine.etc, "-P", "pickup/unix/syslog_name=later")
    machine.undo()
    expected = [line.replace("milter_default_action = accept", "milter_default_action = reject") for line in before]
    added = ["smtp_helo_name = later.test", "pickup/unix/syslog_name = later"]
    found = [line.replace(" -o syslog_name=later", "") for line in machine.settings()]
    assert sorted(found) == sorted([*expected, *added])
    assert set(machine.files()) == set(machine.before)


def test_lines_that_are_printed_do_what_apply_does(machine: Machine) -> None:
    printed = machine.init().stdout
    assert machine.files() == machine.before
    block = printed.partition("# Postfix (smilla init --apply")[2].partition("\npostfix ")[0]
    done = machine.run("sh", "-c", "#" + block)
    assert done.returncode == 0, done.stderr
    pasted, tables = machine.settings(), set(machine.files())
    for name, octets in machine.before.items():
        (machine.etc / name).write_bytes(octets)
    for name in tables - set(machine.before):
        (machine.etc / name).unlink()
    machine.init("--apply")
    assert machine.settings() == pasted
    assert set(machine.files()) == tables


@pytest.mark.parametrize("mode", ["outbound", "auto"])
def test_lines_for_a_verified_hop_are_all_that_the_check_wants(machine: Machine, mode: str) -> None:
    machine.init("--apply", "--secure-hop", "--mode", mode)
    told = machine.smilla("config", "check", "--postfix", "--config", machine.output)
    assert [
        line for line in told.stderr.splitlines() if "did not read" not in line and "told to read" not in line
    ] == []
    assert "secure-hop" in machine.output.read_text()
    machine.postfix.reload()
    with Smilla(machine.place / "filter", machine.resolver, text=machine.output.read_text()):
        assert wait_until(lambda: machine.init("--apply", "--secure-hop", "--mode", mode).returncode == 0, 60)
    assert machine.undo() == ""
    assert machine.files() == machine.before


def test_a_configuration_that_was_edited_stays_and_postfix_is_attached_to_it(machine: Machine) -> None:
    machine.init()
    edited = machine.output.read_text().replace("smilla.sock", "other.sock") + "# mine\n"
    machine.output.write_text(edited)
    printed = machine.smilla("init", "--output", machine.output)
    line = "smtpd_milters = { unix:smilla/other.sock, default_action=tempfail }"
    assert line in printed.stdout
    assert machine.files() == machine.before
    done = machine.smilla("init", "--apply", "--output", machine.output)
    assert (done.returncode, machine.output.read_text()) == (0, edited), done.stderr
    assert line in machine.settings()
    assert "to do: " in done.stderr
    machine.output.write_text("mode = outbound\n")
    before = machine.files()
    assert machine.smilla("init", "--apply", "--output", machine.output).returncode == 78
    assert machine.files() == before


def test_two_changes_are_taken_back_in_their_order(machine: Machine) -> None:
    machine.init("--apply", "--mixed", "reinject")
    between = machine.files()
    done = machine.init("--apply", "--mixed", "stage", "--force")
    assert machine.output.with_name("smilla.toml.bak").exists(), done.stderr
    assert machine.files() != between
    assert machine.undo() == ""
    assert machine.files() == machine.before


def test_what_it_found_is_in_the_configuration(machine: Machine) -> None:
    machine.init()
    text = machine.output.read_text()
    assert 'local_domains = ["mx.own.test", "home.test"]' in text
    assert f'socket = "unix:{machine.postfix.queue}/smilla/smilla.sock"' in text
    assert "internal_networks" not in text
    assert "observe" not in text.partition("\n\n")[2]


def test_undo_empties_no_file_when_the_saved_copies_are_gone(machine: Machine) -> None:
    before = machine.settings()
    machine.init("--apply")
    saved = list(machine.output.parent.glob("smilla-undo.*.cf"))
    assert len(saved) == 2
    for path in saved:
        path.unlink()
    machine.undo()
    assert sorted(machine.settings()) == sorted(before)
    assert set(machine.files()) == set(machine.before)


def test_undo_takes_away_no_service_that_was_changed_since(machine: Machine) -> None:
    machine.init("--apply")
    machine.run("postconf", "-c", machine.etc, "-P", "smilla/unix/lmtp_connect_timeout=7")
    told = machine.undo()
    assert "left alone, since it was changed: smilla/unix" in told
    found = machine.settings()
    assert "smilla/unix/lmtp_connect_timeout = 7" in found
    assert not any(line.startswith("smilla-requeue") for line in found)


def test_a_table_that_somebody_has_changed_is_kept_and_comes_back(machine: Machine) -> None:
    own = b"/^X-Other:/ REJECT\n"
    (machine.etc / "smilla_refuse").write_bytes(own)
    told = machine.init("--apply")
    assert f"{machine.etc}/smilla_refuse: is there and differs" in told.stderr
    assert (machine.etc / "smilla_refuse").read_bytes() != own
    machine.undo()
    assert machine.files() == machine.before | {"smilla_refuse": own}


def test_undo_of_what_was_undone_before_still_lets_postfix_be_reloaded(machine: Machine) -> None:
    """The manual says sh smilla-undo.sh && postfix reload."""
    for _ in range(2):
        machine.init("--apply")
        assert machine.run("sh", machine.output.with_name("smilla-undo.sh")).returncode == 0
        assert machine.files() == machine.before


def test_undo_that_has_run_is_put_aside_and_the_next_one_knows_only_what_was_changed_since(machine: Machine) -> None:
    script = machine.output.with_name("smilla-undo.sh")
    blocks = []
    for number in (1, 2):
        machine.init("--apply")
        blocks.append(script.read_text().count("\nfolder="))
        assert machine.undo() == ""
        assert not script.exists()
        assert script.with_name(f"smilla-undo.done-{number}.sh").exists()
    assert blocks == [1, 1]


def test_undo_that_could_not_ask_postconf_keeps_its_name_and_says_so(machine: Machine) -> None:
    machine.init("--apply")
    machine.run("postconf", "-c", machine.etc, "-e", "smtp_helo_name = later.test")
    script = machine.output.with_name("smilla-undo.sh")
    broken = machine.place / "bin"
    broken.mkdir()
    (broken / "postconf").write_text(
        f'#!/bin/sh\ncase "$*" in *" -e "*|*" -X "*) exit 1;; esac\nexec {find_program("postconf")} "$@"\n'
    )
    (broken / "postconf").chmod(0o755)
    environment = machine.environment()
    environment["PATH"] = f"{broken}:{environment['PATH']}"
    done = subprocess.run(["sh", script], capture_output=True, check=False, env=environment, text=True)
    assert done.returncode == 1
    assert "not all is taken back" in done.stderr
    assert machine.run("sh", script).returncode == 0
    assert not script.exists()


def test_what_cuts_the_changes_short_can_be_taken_back(machine: Machine) -> None:
    """postconf works eight times more, and then never again."""
    before, real = machine.settings(), find_program("postconf")
    broken = machine.place / "bin"
    broken.mkdir()
    (broken / "postconf").write_text(
        f'#!/bin/sh\ncase "$*" in *" -e "*|*" -M "*=*|*" -P "*=*) echo x >>{broken}/n;; esac\n'
        f'[ "$(wc -l <{broken}/n)" -le 8 ] || exit 1\nexec {real} "$@"\n'
    )
    (broken / "n").touch()
    (broken / "postconf").chmod(0o755)
    environment = machine.environment()
    environment["PATH"] = f"{broken}:{environment['PATH']}"
    words = ("init", "--yes", "--output", str(machine.output), "--apply", "--postfix-config", str(machine.etc))
    argv = [sys.executable, "-m", "smilla", *words, "--set", f"stage.keys={machine.place}/smilla/seal"]
    done = subprocess.run(argv, capture_output=True, check=False, env=environment, text=True)
    assert done.returncode == 75, done.stderr
    assert "smilla-undo.sh takes them back" in done.stderr
    assert machine.settings() != before
    machine.undo()
    assert sorted(machine.settings()) == sorted(before)
    assert set(machine.files()) == set(machine.before)
