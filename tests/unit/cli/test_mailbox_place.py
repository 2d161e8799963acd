"""Where smilla mailbox connects to, and what it refuses to."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from smilla.cli import UsageError, mailbox_place
from tests.unit.cli.conftest import CommandLine, Done

INBOUND = "mode = 'inbound'\nlocal_domains = ['example.org']\n"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("imap.example.org", ("imap.example.org", 993)),
        ("imap.example.org:143", ("imap.example.org", 143)),
        ("127.0.0.1:10143", ("127.0.0.1", 10143)),
        ("::1", ("::1", 993)),
        ("[::1]", ("::1", 993)),
        ("[::1]:143", ("::1", 143)),
    ],
)
def test_server_is_a_host_and_perhaps_a_port(text: str, address: tuple[str, int]) -> None:
    assert mailbox_place._address(text, 993) == address


@pytest.mark.parametrize("text", ["", ":143", "host:", "host:imap", "host:0", "host:65536", "[]:1"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="give HOST"):
        mailbox_place._address(text, 993)


def encrypt(commands: CommandLine, *more: str) -> Done:
    where = ("--config", str(commands.config(INBOUND)), "--address", "hugh@example.org")
    return commands.run("mailbox", "encrypt", *where, *more)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ((), "required"),
        (("--imap", "h", "--maildir", "m"), "not allowed with"),
        (("--imap", "h", "--password-file", "p", "--token-file", "t"), "not allowed with"),
        (("--imap", "example.org", "--tls", "none"), "in the clear"),
        (("--imap", "127.0.0.1.example.org:143", "--tls", "none"), "in the clear"),
        (("--imap", "example.org"), "give the password by --password-file"),
        (("--imap", "example.org", "--search", "SUBJECT ä"), "printable ASCII"),
        (("--imap", "example.org", "--search", "ALL\r\nDELETE INBOX"), "printable ASCII"),
        (("--maildir", "m", "--search", "SEEN"), "--search goes with --imap"),
        (("--maildir", "m", "--user", "x"), "--user goes with --imap"),
        (("--maildir", "m", "--password-file", "x"), "--password-file goes with --imap"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(commands: CommandLine, more: tuple[str, ...], word: str) -> None:
    done = encrypt(commands, *more)
    assert done.code == 2
    assert word in done.err


def test_without_the_library_the_extra_is_named(commands: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_place, "find_spec", lambda name: None)
    done = encrypt(commands, "--imap", "example.org")
    assert done.code == 78
    assert "pip install 'smilla[imap]'" in done.err


def test_server_that_does_not_answer_or_authorities_that_cannot_be_read_are_told(
    commands: CommandLine, tmp_path: Path
) -> None:
    assert importlib.util.find_spec("imapclient") is not None
    (tmp_path / "password").write_text("x\n")
    (tmp_path / "password").chmod(0o600)
    where = ("--imap", "127.0.0.1:1", "--password-file", str(tmp_path / "password"), "--journal", str(tmp_path / "j"))
    done = encrypt(commands, *where, "--ca-file", str(tmp_path / "password"))
    assert (done.code, done.out) == (75, b"")
    assert "cannot be used" in done.err
