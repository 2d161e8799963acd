"""smilla open: what it shows, to whom the log says it was shown, and what it refuses."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from smilla import log
from smilla.adapters.seal_keys import SealKeys
from smilla.handover import seal
from smilla.handover.seal import Facts, SealedRecipient
from smilla.message import parse
from smilla.model import Action, Client, Direction, Envelope
from smilla.ports import SealKey
from tests.unit.cli.conftest import CommandLine

CANARY = b"Kanarienvogel"
RAW = (
    b"From: Sam <sam@s.test>\r\nTo: bob@r.test\r\nSubject: hello\r\n there\r\nContent-Type: text/plain\r\n\r\n"
    + CANARY
    + b" gr\xfc\xdfe\r\n"
)
FACTS = Facts(
    Envelope("sam@s.test", (), ("RET=FULL",)),
    (
        SealedRecipient("<bob@r.test>", ("NOTIFY=NEVER",), Action.ENCRYPT, "smime"),
        SealedRecipient("<k\udce4se@r.test>", (), Action.PLAIN, "plain"),
    ),
    "4XyZ",
    Client(ip="192.0.2.1", authenticated_as="sam", host_name="pc.s.test", helo="pc"),
    Direction.OUTBOUND,
)


@dataclass
class Office:
    """An administrator, the keys, and a sealed message as it lies in the queue."""

    commands: CommandLine
    config: Path
    keys: SealKeys
    raw: bytes


def sealed(key: SealKey, raw: bytes = RAW) -> bytes:
    message = parse(raw).message
    rewrite = seal.rewrite(message, FACTS, key)
    kept = [h.raw for i, h in enumerate(message.headers) if i not in rewrite.removed]
    added = [f"{name}: {value}\r\n".encode() for name, value in rewrite.added]
    assert rewrite.body is not None
    return b"".join([*kept, *added, b"\r\n", *rewrite.body()])


@pytest.fixture
def office(commands: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.setattr(log, "_output", None)  # put back at the end of the test, whatever the command makes of it
    folder = commands.folder / "seal"
    keys = SealKeys(str(folder))
    keys.prepare("", 90)
    config = commands.config(f'[stage]\nkeys = "{folder}"\n[log]\nlevel = "error"\n')
    return Office(commands, config, keys, sealed(keys.current()))


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_the_message_comes_out_octet_for_octet_and_the_facts_on_stderr(office: Office, line_end: bytes) -> None:
    path = office.commands.file("sealed.eml", office.raw.replace(b"\r\n", line_end))
    done = office.commands.run("open", "--config", office.config, path)
    assert (done.code, done.out) == (0, RAW)
    told = "\n".join(line.removeprefix("hint: ") for line in done.err.splitlines() if line.startswith("hint: "))
    assert "sealed as 4XyZ, outbound" in told
    assert "from <sam@s.test> RET=FULL" in told
    assert "to <bob@r.test> NOTIFY=NEVER: encrypt (smime)" in told
    assert "to <k\N{REPLACEMENT CHARACTER}se@r.test>: plain" in told
    assert "client 192.0.2.1 (pc.s.test, helo pc), authenticated as sam" in told


def test_it_is_read_from_standard_input_and_from_the_attachment_alone(office: Office) -> None:
    assert office.commands.run("open", "--config", office.config, stdin=office.raw).out == RAW
    attachment = b"".join(seal.sealed_octets(parse(office.raw).message)())
    path = office.commands.file("sealed.smilla", attachment)
    assert office.commands.run("open", "--config", office.config, path).out == RAW


@pytest.mark.parametrize(("option", "shown"), [("", "message"), ("--facts", "facts"), ("--json", "facts")])
def test_the_log_says_who_opened_which_message_whatever_its_level(office: Office, option: str, shown: str) -> None:
    mark = seal.mark(parse(office.raw).message.headers)
    assert mark is not None
    user = pwd.getpwuid(os.getuid()).pw_name
    told = f"4XyZ sealed-opened message_id={mark.raw_message_id.hex()} shown={shown} by={user} uid={os.getuid()}"
    assert log_lines(office, office.raw, option) == [f"{told} sudo_user=ann severity=warning"]


def test_what_could_not_be_opened_is_not_logged_as_opened(office: Office) -> None:
    assert log_lines(office, office.raw.replace(b"\r\n--smilla-", b"A\r\n--smilla-")) == []


def log_lines(office: Office, raw: bytes, *options: str) -> list[str]:
    """What a process of its own writes to the log, which is stderr here."""
    argv = [sys.executable, "-m", "smilla", "open", "--config", str(office.config), *filter(None, options)]
    done = subprocess.run(argv, input=raw, capture_output=True, check=False, env={**os.environ, "SUDO_USER": "ann"})
    return [line for line in done.stderr.decode().splitlines() if " sealed-opened " in line]


def test_facts_alone_show_nothing_of_the_message(office: Office) -> None:
    for option in ("--facts", "--json"):
        done = office.commands.run("open", "--config", office.config, option, stdin=office.raw)
        assert done.code == 0
        assert b"sam@s.test" in done.out
        assert CANARY not in done.out
        assert "hint:" not in done.err
    assert [r["action"] for r in done.json["recipients"]] == ["encrypt", "plain"]
    assert (done.json["client"]["ip"], done.json["queue_id"]) == ("192.0.2.1", "4XyZ")


def test_a_retired_key_opens(office: Office) -> None:
    office.keys.make()
    assert office.commands.run("open", "--config", office.config, stdin=office.raw).out == RAW


def test_a_missing_key_is_75_and_is_named(office: Office) -> None:
    key = office.keys.current()
    (office.commands.folder / "seal" / f"{key.raw_id.hex()}.key").unlink()
    done = office.commands.run("open", "--config", office.config, stdin=office.raw)
    assert (done.code, done.out) == (75, b"")
    assert f"there is no seal key {key.raw_id.hex()}; put it back from the backup" in done.err


@pytest.mark.parametrize("where", [0.5, 0.9, 1.0])
def test_a_broken_seal_is_1_and_shows_nothing(office: Office, where: float) -> None:
    """An octet changed within the sealed part, or its end cut off."""
    raw = sealed(office.keys.current(), RAW + CANARY * 20_000)
    if where == 1.0:
        altered = raw[:-3000]
    else:
        at = int(len(raw) * where)
        altered = raw[:at] + (b"A" if raw[at : at + 1] != b"A" else b"B") + raw[at + 1 :]
    done = office.commands.run("open", "--config", office.config, stdin=altered)
    assert (done.code, done.out) == (1, b"")
    assert done.err.startswith("error: the seal is broken: ")


def test_a_mark_without_a_sealed_part_is_a_broken_seal(office: Office) -> None:
    forged = b"X-Smilla-Stage: " + b"0" * 32 + b" " + b"1" * 16 + b"\r\n" + RAW
    assert office.commands.run("open", "--config", office.config, stdin=forged).code == 1


def test_a_message_without_a_seal_is_2_and_says_how_to_print_one(office: Office) -> None:
    done = office.commands.run("open", "--config", office.config, stdin=RAW)
    assert (done.code, done.out) == (2, b"")
    assert "this is no sealed message" in done.err and "postcat -bhq" in done.err


def test_a_file_that_cannot_be_read_is_2(office: Office) -> None:
    done = office.commands.run("open", "--config", office.config, "/nonexistent")
    assert (done.code, done.err) == (2, "error: /nonexistent: cannot be read: No such file or directory\n")
