"""smilla mailbox decrypt: there and back again, and whose keys are used."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.unit.cli.conftest import CommandLine, Done
from tests.unit.cli.test_mailbox import HUGH, INBOUND, LETTER, encrypt, is_encrypted, put, read
from tests.unit.mailbox.boxes import make_folder
from tests.vectors.memory import KEYS

PIA = "pia@example.org"
SIGNED = (
    b"From: sam@sender.example\nBcc: x@y.example\nSubject: =?utf-8?q?=C3=A4?=\nMIME-Version: 1.0\n"
    b"Content-Type: multipart/signed;\n boundary=b\n"
    b"X-Other: stays\n\n--b\nContent-Type: text/plain; charset=utf-8\n\n  gr\xc3\xbcn \n\n--b\n"
    b"Content-Type: application/pgp-signature\n\nx\n--b--\n"
)


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    root = make_folder(tmp_path / "Maildir")
    for number, raw in enumerate((LETTER, SIGNED, SIGNED.replace(b"\n", b"\r\n"))):
        put(root, f"{number}.x:2,S", raw, at=1_600_000_000 + number)
    return root


def pem(name: str = "hugh") -> bytes:
    return (KEYS / f"{name}.key").read_bytes() + (KEYS / f"{name}.crt").read_bytes()


def decrypt(commands: CommandLine, mail: Path, *more: str | Path) -> Done:
    journal = ("--journal", mail.parent / "decrypt.sqlite")
    return commands.run("mailbox", "decrypt", "--maildir", mail, *journal, *more)


def check_back(mail: Path) -> None:
    """Each is octet for octet what it was."""
    by_time = sorted((mail / "cur").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert [int(path.stat().st_mtime) for path in by_time] == [1_600_000_000, 1_600_000_001, 1_600_000_002]
    assert all(path.name.endswith(":2,S") for path in by_time)
    assert [path.read_bytes() for path in by_time] == [LETTER, SIGNED, SIGNED.replace(b"\n", b"\r\n")]


@pytest.mark.parametrize("form", ["pem", "pkcs12", "locked", "openpgp"])
def test_what_was_encrypted_is_decrypted_with_the_owners_key(
    commands: CommandLine, mail: Path, tmp_path: Path, form: str
) -> None:
    owner = PIA if form == "openpgp" else HUGH
    assert encrypt(commands, mail, owner=owner).out == b"INBOX: 3 encrypted\n"
    assert all(is_encrypted(raw) for raw in read(mail))
    key = tmp_path / "key"
    key.write_bytes((KEYS / "pia.secret").read_bytes() if form == "openpgp" else pem())
    options = ["--key", str(key)]
    if form in ("pkcs12", "locked"):
        password = "secret" if form == "locked" else ""
        command = [
            "openssl",
            "pkcs12",
            "-export",
            "-in",
            key,
            "-out",
            tmp_path / "key.p12",
            "-passout",
            f"pass:{password}",
        ]
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
        options = ["--key", str(tmp_path / "key.p12")]
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "password").chmod(0o600)
    if form == "locked":
        locked = decrypt(commands, mail, *options)
        assert (locked.code, locked.out) == (2, b"")
        assert "the password is wrong or missing" in locked.err
        options += ["--key-password-file", str(tmp_path / "password")]
    assert decrypt(commands, mail, *options, "--dry-run").out == b"INBOX: 3 would be decrypted\n"
    done = decrypt(commands, mail, *options, "--keep-original", "Ciphertext")
    assert (done.code, done.out, done.err) == (0, b"INBOX: 3 decrypted\n", "")
    check_back(mail)
    assert all(is_encrypted(raw) for raw in read(mail / ".Ciphertext"))
    assert decrypt(commands, mail, *options).out == b"INBOX: 0 decrypted; 3 known to be\n"
    (mail.parent / "decrypt.sqlite").unlink()
    again = decrypt(commands, mail, *options)
    assert (again.code, again.out) == (0, b"INBOX: 0 decrypted; nothing to do: 3 not_encrypted\n")


def test_what_is_for_another_key_stays_and_is_told(commands: CommandLine, mail: Path, tmp_path: Path) -> None:
    encrypt(commands, mail)
    before = read(mail)
    (tmp_path / "key").write_bytes(pem("eve"))
    done = decrypt(commands, mail, "--key", tmp_path / "key")
    assert (done.code, done.out) == (1, b"INBOX: 0 decrypted; left: 3 not_for_this_key\n")
    assert len(done.err.splitlines()) == 3
    assert read(mail) == before
    done = decrypt(commands, mail, "--key", KEYS / "pia.secret", "--quiet")
    assert (done.code, done.out) == (1, b"INBOX: 0 decrypted; left: 3 no_key\n")


def test_several_keys_each_open_what_is_for_them(commands: CommandLine, mail: Path, tmp_path: Path) -> None:
    encrypt(commands, mail)
    put(mail, "9.y:2,", LETTER)
    (mail.parent / "journal.sqlite").unlink()
    encrypt(commands, mail, owner=PIA)
    (tmp_path / "key").write_bytes(pem())
    options = [
        word for key in (tmp_path / "key", KEYS / "quinn.secret", KEYS / "pia.secret") for word in ("--key", key)
    ]
    assert decrypt(commands, mail, *options).out == b"INBOX: 4 decrypted\n"


@pytest.mark.parametrize("change", ["flip", "text"])
def test_what_was_changed_on_the_way_stays_ciphertext(
    commands: CommandLine, mail: Path, tmp_path: Path, change: str
) -> None:
    encrypt(commands, mail, owner=PIA if change == "text" else HUGH, text=INBOUND + "[smime]\ncipher = 'aes256-gcm'\n")
    for path in (mail / "cur").iterdir():
        lines = path.read_bytes().splitlines(keepends=True)
        if change == "flip":
            lines[-2] = (b"A" if lines[-2][:1] != b"A" else b"B") + lines[-2][1:]
        else:
            first = next(at for at, line in enumerate(lines) if line.startswith(b"--smilla-"))
            lines.insert(first, b"<img src='http://eve.example/\n")
        path.write_bytes(b"".join(lines))
    before = read(mail)
    (tmp_path / "key").write_bytes(pem())
    done = decrypt(commands, mail, "--key", KEYS / "pia.secret", "--key", tmp_path / "key")
    told = {"flip": b"left: 3 undecryptable", "text": b"nothing to do: 3 not_encrypted"}
    assert done.out == b"INBOX: 0 decrypted; " + told[change] + b"\n"
    assert read(mail) == before
    assert done.code == (1 if change == "flip" else 0)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ((), "give --key FILE, or --gpg"),
        (("--key", "/none"), "cannot be read"),
        (("--key", KEYS / "hugh.crt"), "has no private key"),
        (("--key", KEYS / "pia.pgp"), "it has no such key"),
        (("--key", KEYS / "pia.secret", "--gpg-home", "x"), "goes with --gpg"),
        (("--key", "/dev/zero"), "more than"),
    ],
)
def test_keys_that_cannot_be_used_are_refused(
    commands: CommandLine, mail: Path, more: tuple[str | Path, ...], word: str
) -> None:
    done = decrypt(commands, mail, *more)
    assert (done.code, done.out) == (2, b"")
    assert word in done.err


def test_agent_of_gpg_has_the_keys(commands: CommandLine, mail: Path, tmp_path: Path) -> None:
    encrypt(commands, mail, owner=PIA)
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet"]
    subprocess.run([*gpg, "--import", str(KEYS / "pia.secret")], check=True, capture_output=True)
    try:
        assert decrypt(commands, mail, "--gpg", "--gpg-home", home).out == b"INBOX: 3 decrypted\n"
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    check_back(mail)
    assert list((mail / "tmp").iterdir()) == []


LINE = b"From sam@sender.example Mon Jan  1 08:00:00 2024\n"


def test_mbox_goes_there_and_back(commands: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(LINE + LETTER + b"\n" + LINE + SIGNED)
    where = ("--mbox", path)
    config = ("--config", commands.config(INBOUND), "--address", HUGH)
    dry = commands.run("mailbox", "encrypt", *config, *where, "--dry-run")
    assert (dry.code, dry.out) == (0, f"{path}: 2 would be encrypted\n".encode())
    done = commands.run("mailbox", "encrypt", *config, *where, "--keep-original", "before")
    assert (done.code, done.out, done.err) == (0, f"{path}: 2 encrypted\n".encode(), "")
    assert b"canary" not in path.read_bytes()
    assert (tmp_path / "before").read_bytes() == LINE + LETTER + b"\n" + LINE + SIGNED
    (tmp_path / "key").write_bytes(pem())
    back = commands.run("mailbox", "decrypt", "--key", tmp_path / "key", *where, "--json")
    assert (back.code, back.json["folders"][0]["changed"]) == (0, 2)
    letter, signed = path.read_bytes().split(LINE)[1:]
    assert letter.endswith(b"\n\nthe canary\n\n")
    assert signed.partition(b"\n\n")[2] == SIGNED.partition(b"\n\n")[2] + b"\n"


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--folder", "x"), "--folder goes with --imap or --maildir"),
        (("--all-folders",), "--all-folders goes with"),
        (("--since", "2020-01-01"), "--since goes with"),
        (("--journal", "x"), "--journal goes with"),
    ],
)
def test_mbox_has_no_folders_dates_or_journal(commands: CommandLine, more: tuple[str, ...], word: str) -> None:
    done = commands.run("mailbox", "decrypt", "--key", KEYS / "pia.secret", "--mbox", "x", *more)
    assert done.code == 2
    assert word in done.err
    done = commands.run("mailbox", "decrypt", "--key", KEYS / "pia.secret", "--maildir", "x", "--from-lines", "plain")
    assert "--from-lines goes with --mbox" in done.err


def test_mbox_that_is_not_there_or_none_is_told(commands: CommandLine, tmp_path: Path) -> None:
    for name in ("none", "."):
        done = commands.run("mailbox", "decrypt", "--key", KEYS / "pia.secret", "--mbox", tmp_path / name)
        assert (done.code, done.out) == (75, b"")
        assert done.err.startswith("error: ")
