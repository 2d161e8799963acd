"""smilla mailbox on a Maildir: what is encrypted, what is left and why, and what the exit code says."""

from __future__ import annotations

import email
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.cli.conftest import CommandLine, Done
from tests.unit.mailbox.boxes import make_folder
from tests.vectors.memory import KEYS

INBOUND = "mode = 'inbound'\nlocal_domains = ['example.org']\n"
LETTER = (
    b"Return-Path: <sam@sender.example>\nFrom: sam@sender.example\nTo: hugh@example.org\nSubject: x\n\nthe canary\n"
)
HUGH = "hugh@example.org"


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    root = make_folder(tmp_path / "Maildir")
    make_folder(root / ".Sent")
    put(root, "1.a:2,S", LETTER)
    put(root / ".Sent", "2.b:2,", LETTER)
    return root


def put(folder: Path, name: str, raw: bytes, at: int = 1_700_000_000) -> None:
    path = folder / "cur" / name
    path.write_bytes(raw)
    os.utime(path, (at, at))


def read(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((folder / "cur").iterdir())]


def encrypt(commands: CommandLine, mail: Path, *more: str, text: str = INBOUND, owner: str = HUGH) -> Done:
    journal = ("--journal", str(mail.parent / "journal.sqlite"))
    where = ("--address", owner, "--maildir", str(mail))
    return commands.run("mailbox", "encrypt", "--config", commands.config(text), *where, *journal, *more)


def is_encrypted(raw: bytes) -> bool:
    return email.message_from_bytes(raw).get_content_type() in ("application/pkcs7-mime", "multipart/encrypted")


def test_message_is_encrypted_as_the_filter_would_and_opens_to_what_it_was(
    commands: CommandLine, mail: Path, tmp_path: Path
) -> None:
    done = encrypt(commands, mail)
    assert (done.code, done.out, done.err) == (0, b"INBOX: 1 encrypted\n", "")
    (raw,) = read(mail)
    assert b"\r\n" not in raw
    message = email.message_from_bytes(raw)
    assert (message["Subject"], message["X-Smilla"]) == ("x", "encrypted; format=smime")
    (tmp_path / "m").write_bytes(raw)
    command = ["openssl", "cms", "-decrypt", "-in", "m", "-inkey", str(KEYS / "hugh.key")]
    opened = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    expected = rb"Content-Type: text/plain\r\nContent-Smilla-Proof: [0-9a-f]{32}\r\n\r\nthe canary\r\n"
    assert re.fullmatch(expected, opened)
    assert read(mail / ".Sent") == [LETTER]


def test_crlf_stays_crlf(commands: CommandLine, mail: Path) -> None:
    put(mail, "1.a:2,S", LETTER.replace(b"\n", b"\r\n"))
    encrypt(commands, mail)
    (raw,) = read(mail)
    assert is_encrypted(raw)
    assert raw.count(b"\n") == raw.count(b"\r\n")


def test_every_folder_but_those_left_out(commands: CommandLine, mail: Path) -> None:
    make_folder(mail / ".Drafts")
    make_folder(mail / "Archive" / "2020")
    for folder in (mail / ".Drafts", mail / "Archive/2020"):
        put(folder, "3.c:2,", LETTER)
    done = encrypt(commands, mail, "--all-folders", "--except", "Drafts", "--keep-original", "Plain")
    assert done.code == 0
    assert done.out == b"INBOX: 1 encrypted\nArchive/2020: 1 encrypted\nSent: 1 encrypted\n"
    assert read(mail / ".Drafts") == [LETTER]
    assert read(mail / ".Plain") == [LETTER] * 3
    assert not any(b"canary" in raw for folder in ("", ".Sent", "Archive/2020") for raw in read(mail / folder))


def test_one_folder_by_name(commands: CommandLine, mail: Path) -> None:
    assert encrypt(commands, mail, "--folder", "Sent").out == b"Sent: 1 encrypted\n"
    assert read(mail) == [LETTER]
    missing = encrypt(commands, mail, "--folder", "None")
    assert (missing.code, missing.out) == (75, b"")
    assert "there is no folder None" in missing.err
    assert encrypt(commands, mail, "--folder", "../x").code == 75


def test_what_is_encrypted_already_is_left_alone_and_not_read_again(commands: CommandLine, mail: Path) -> None:
    encrypt(commands, mail)
    before = read(mail)
    (mail.parent / "journal.sqlite").unlink()
    assert encrypt(commands, mail).out == b"INBOX: 0 encrypted; nothing to do: 1 already_encrypted\n"
    assert encrypt(commands, mail).out == b"INBOX: 0 encrypted; 1 known to be\n"
    assert read(mail) == before


def test_only_what_came_in_on_certain_days(commands: CommandLine, mail: Path) -> None:
    put(mail, "4.d:2,", LETTER, at=1_600_000_000)
    assert encrypt(commands, mail, "--since", "2021-01-01", "--before", "2023-11-01").out == b"INBOX: 0 encrypted\n"
    assert encrypt(commands, mail, "--before", "2021-01-01").out == b"INBOX: 1 encrypted\n"
    assert encrypt(commands, mail, "--since", "yesterday").code == 2
    assert LETTER in read(mail)


def test_dry_run_says_what_would_be_done_and_writes_nothing(commands: CommandLine, mail: Path) -> None:
    done = encrypt(commands, mail, "--all-folders", "--dry-run", "--keep-original", "Plain")
    assert (done.code, done.out) == (0, b"INBOX: 1 would be encrypted\nSent: 1 would be encrypted\n")
    assert read(mail) == [LETTER]
    assert not (mail / ".Plain").exists()
    assert not (mail.parent / "journal.sqlite").exists()


@pytest.mark.parametrize(
    ("owner", "text", "told"),
    [
        ("zoe@example.org", INBOUND, (1, "nothing is encrypted")),
        ("old@example.org", INBOUND + "[policy]\nunusable_key = 'refuse'\n", (77, "expired")),
        ("silent@example.org", INBOUND, (75, "nothing is encrypted")),
        ("forged@example.org", INBOUND, (75, "nothing is encrypted")),
        ("hugh@elsewhere.example", INBOUND, (1, "not in local_domains")),
        (HUGH, "mode = 'outbound'\n", (78, "encrypts nothing for a mailbox here")),
        ("x@", INBOUND, (2, "--address")),
    ],
)
def test_without_a_key_no_message_is_touched(
    commands: CommandLine, mail: Path, owner: str, text: str, told: tuple[int, str]
) -> None:
    done = encrypt(commands, mail, owner=owner, text=text)
    assert (done.code, done.out) == (told[0], b"")
    assert told[1] in done.err
    assert read(mail) == [LETTER]


RULES = (
    INBOUND + "[[rule]]\nsender = '*@never.example'\nencrypt = 'never'\n"
    "[[rule]]\nsender = '*@pia.example'\nformats = ['openpgp']\nno_key = 'refuse'\nunusable_key = 'refuse'\n"
)


def test_rules_go_by_the_sender_that_the_mta_wrote_down(commands: CommandLine, mail: Path) -> None:
    for name, sender in (("5.e:2,", b"a@never.example"), ("6.f:2,", b"b@pia.example")):
        put(mail, name, LETTER.replace(b"Path: <sam@sender.example>", b"Path: <" + sender + b">"))
    done = encrypt(commands, mail, text=RULES)
    assert done.code == 1
    assert done.out.startswith(b"INBOX: 1 encrypted; nothing to do: 1 never; left: 1 ")
    assert done.err.startswith("warning: INBOX: 6.f: left: ")
    assert [is_encrypted(raw) for raw in read(mail)] == [True, False, False]


def test_what_has_no_header_is_left_and_told(commands: CommandLine, mail: Path) -> None:
    put(mail, "5.e:2,", b"From sam@sender.example Mon Jan  1 08:00:00 2024\n" + LETTER)
    put(mail, "6.f:2,", b"just words\n")
    put(mail, "7.g:2,", b"")
    done = encrypt(commands, mail, "--json")
    assert done.code == 1
    assert done.json == {
        "action": "encrypt",
        "dry_run": False,
        "folders": [
            {
                "folder": "INBOX",
                "changed": 1,
                "known": 0,
                "nothing_to_do": {},
                "left": {"no_header": 3},
                "deferred": {},
            }
        ],
    }
    assert len(done.err.splitlines()) == 3
    assert encrypt(commands, mail, "--quiet").err == ""


def test_how_mail_came_is_not_said_of_what_lies_there(commands: CommandLine, mail: Path) -> None:
    put(mail, "1.a:2,S", b"Authentication-Results: mx.example.org; x-tls=pass\n" + LETTER)
    encrypt(commands, mail, text=INBOUND + "[transport]\nauthserv_id = 'mx.example.org'\n")
    (raw,) = read(mail)
    assert raw.startswith(b"Authentication-Results: mx.example.org; x-tls=pass\nReturn-Path")
    assert b"X-Smilla-Transport" not in raw


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--folder", "Sent", "--all-folders"), "not both"),
        (("--except", "Sent"), "goes with --all-folders"),
        (("--folder", "Sent", "--keep-original", "Sent"), "are to be changed"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(
    commands: CommandLine, mail: Path, more: tuple[str, ...], word: str
) -> None:
    done = encrypt(commands, mail, *more)
    assert done.code == 2
    assert word in done.err


def test_what_is_no_maildir_or_a_journal_of_something_else_is_refused(commands: CommandLine, mail: Path) -> None:
    encrypt(commands, mail)
    assert "is no Maildir" in encrypt(commands, mail / "cur").err
    other = make_folder(mail.parent / "Other")
    done = encrypt(commands, other)
    assert done.code == 1
    assert "is the journal of something else" in done.err


def test_journal_has_a_place_of_its_own_for_each_mailbox(
    commands: CommandLine, mail: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: mail.parent / "home")
    where = ("--address", HUGH, "--maildir", str(mail))
    assert commands.run("mailbox", "encrypt", "--config", commands.config(INBOUND), *where).code == 0
    (journal,) = (mail.parent / "home/.local/state/smilla").glob("*.sqlite")
    assert journal.stat().st_mode & 0o777 == 0o600
    assert journal.parent.stat().st_mode & 0o777 == 0o700
    assert b"canary" not in journal.read_bytes()
