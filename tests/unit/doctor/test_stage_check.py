"""smilla config check --probe, mixed = "stage": the seal keys.  Who listens at its socket is asked in
tests/milter/test_stage_socket.py; Postfix's lines are looked at beside its own programs, in
tests/live/test_postfix_check.py."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

import pytest

from smilla.adapters.milter_client import Answer, Who
from smilla.adapters.seal_keys import SealKeys
from smilla.config import parse
from smilla.doctor import stage_check
from tests.unit.cli.conftest import CommandLine


@pytest.fixture
def staged(commands: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration; the listener of [reinject] and Postfix are not what these tests are about."""
    monkeypatch.setattr("smilla.doctor.examination.smtp.problems", lambda *_: [])
    monkeypatch.setattr("smilla.doctor.stage_check.smtp.size_limit", lambda *_: 0)
    monkeypatch.setattr("smilla.server.listener.can_connect", lambda _: False)
    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(Who.NOBODY))
    monkeypatch.setattr("smilla.adapters.postfix.is_installed", lambda: False)
    folder = commands.folder
    return commands.config(
        f'[policy]\nmixed = "stage"\n[milter]\nsocket = "unix:{folder}/m.sock"\n'
        f'[stage]\nsocket = "unix:{folder}/s.sock"\nkeys = "{folder}/seal"\n'
        f'[reinject]\nspool = "{folder}/spool"\n[keys]\nsources = ["directory"]\ndirectory = "/"\n'
        "[dns]\ntimeout_s = 2\n"
    )


def probe(commands: CommandLine, path: Path) -> tuple[int, str, str]:
    done = commands.run("config", "check", "--probe", "--config", path)
    return done.code, done.out.decode(), done.err


def test_before_the_first_start_nothing_is_amiss(commands: CommandLine, staged: Path) -> None:
    code, out, err = probe(commands, staged)
    assert code == 0, err
    assert f"seal keys {commands.folder}/seal: made at the start of the filter\n" in out
    assert f"stage unix:{commands.folder}/s.sock: nobody listens yet\n" in out
    assert "hint: postfix: not found here" in err


def test_keys_that_are_as_smilla_makes_them_are_counted(commands: CommandLine, staged: Path) -> None:
    folder = commands.folder / "seal"
    SealKeys(str(folder)).prepare("", 90)
    code, out, err = probe(commands, staged)
    assert code == 0, err
    assert f"seal keys {folder}: 1, of {folder.owner()}\n" in out


def test_keys_that_others_may_read_or_smilla_may_not_are_errors(commands: CommandLine, staged: Path) -> None:
    folder = commands.folder / "seal"
    keys = SealKeys(str(folder))
    keys.prepare("", 90)
    (stored,) = keys.all()
    stored.path.chmod(0o640)
    code, _, err = probe(commands, staged)
    assert code == 1
    assert f"error: seal keys {stored.path}: others may read what it seals; chmod 0600 {stored.path}\n" in err
    staged.write_text(staged.read_text().replace("[milter]\n", '[milter]\nuser = "nobody"\n'))
    told = f"{folder} belongs to {folder.owner()}, {stored.path} belongs to {folder.owner()}, but smilla runs as nobody"
    assert f"{told}; chown -R nobody {folder}\n" in probe(commands, staged)[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("owner", ["root", "daemon"])
def test_a_folder_alone_of_another_is_given_back_to_who_owns_the_keys_and_never_to_its_owner(
    commands: CommandLine, staged: Path, owner: str
) -> None:
    folder = commands.folder / "seal"
    SealKeys(str(folder)).prepare("nobody", 90)
    assert f"seal keys {folder}: 1, of nobody\n" in probe(commands, staged)[1]
    shutil.chown(folder, owner)
    code, _, err = probe(commands, staged)
    assert code == 1
    assert f"{folder} belongs to {owner}, but smilla runs as nobody; chown -R nobody {folder}\n" in err
    assert f"chown -R {owner}" not in err
    assert f"chown {owner}" not in err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_if_nothing_tells_whose_the_keys_are_both_owners_are_named_and_nobody_gets_them(
    commands: CommandLine, staged: Path
) -> None:
    folder = commands.folder / "seal"
    keys = SealKeys(str(folder))
    keys.prepare("nobody", 90)
    shutil.chown(folder, "daemon")
    keys.make("nobody")
    shutil.chown(keys.all()[0].path, "daemon")
    code, _, err = probe(commands, staged)
    assert code == 1
    assert f"error: seal keys {folder}: {folder} belongs to daemon, {folder}/" in err
    assert " belongs to nobody\nhint: nothing tells which of them smilla runs as; name it in [milter] user" in err
    assert "chown" not in err


def test_a_file_that_is_no_key_is_an_error(commands: CommandLine, staged: Path) -> None:
    folder = commands.folder / "seal"
    SealKeys(str(folder)).prepare("", 90)
    (folder / "0123456789abcdef.key").write_text("rubbish")
    code, _, err = probe(commands, staged)
    assert code == 1
    assert "is no seal key; put it back from the backup, or move it away" in err


def test_a_stage_without_its_folder_or_off_loopback_is_an_error(
    commands: CommandLine, staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smilla.doctor.rights._is_group", lambda _: True)
    text = staged.read_text()
    staged.write_text(text.replace("/s.sock", "/none/s.sock"))
    err = probe(commands, staged)[2]
    assert f"error: stage unix:{commands.folder}/none/s.sock: no folder {commands.folder}/none\n" in err
    user = "smilla" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    assert f"here Postfix's; install -d -o {user} -g postfix -m 2750 {commands.folder}/none\n" in err
    staged.write_text(text.replace(f"unix:{commands.folder}/s.sock", "inet:8896@192.0.2.1"))
    code, _, err = probe(commands, staged)
    assert code == 78
    assert '[stage] socket is "inet:8896@192.0.2.1": whoever reaches it hands over mail' in err


def test_after_the_stage_the_check_says_that_it_still_serves(commands: CommandLine, staged: Path) -> None:
    staged.write_text(staged.read_text().replace('"stage"', '"defer"'))
    code, out, err = probe(commands, staged)
    assert (code, "seal keys" in out + err, "re-injection listener" in out) == (0, False, False)
    SealKeys(str(commands.folder / "seal")).prepare("", 90)
    code, out, err = probe(commands, staged)
    assert code == 0, err
    assert f"stage unix:{commands.folder}/s.sock: nobody listens yet\n" in out
    assert "re-injection listener" in out
    assert f"hint: seal keys {commands.folder}/seal: [policy] mixed is defer, so nothing is sealed" in err
    assert "postfix" not in err


@pytest.mark.parametrize(
    ("named", "said", "told"),
    [
        (0, 14_000, "stage: messages of up to 10000 octets, which have up to 14000 once they are sealed\n"),
        (7_000, 14_000, "stage: messages of up to 5000 octets, which have up to 7000 once they are sealed\n"),
        (0, 0, "says no SIZE; where it has a limit, [stage] message_size_limit names it\n"),
        (15_000, 14_000, "warning: [stage] message_size_limit is 15000, but the listener 127.0.0.1:10025 takes 14000;"),
    ],
)
def test_size_that_the_listener_takes_is_compared(
    monkeypatch: pytest.MonkeyPatch, named: int, said: int, told: str
) -> None:
    monkeypatch.setattr("smilla.doctor.stage_check.smtp.size_limit", lambda *_: said)
    (found,) = stage_check.size(parse(f"[stage]\nmessage_size_limit = {named}\n"))
    assert told in f"{found.severity}: {found.line}\n"
