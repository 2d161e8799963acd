"""Protected header fields at the prompt: what encrypt writes, and what explain tells."""

from __future__ import annotations

from tests.unit.cli.conftest import CommandLine, Done

HUGH, ZOE = "hugh@example.org", "zoe@example.org"
HIDE = '[headers]\nprotect = "hide"\n'
MESSAGE = b"From: sam@sender.example\nTo: hugh@example.org\nSubject: a secret\n\nhello\n"
SIGNED = MESSAGE.replace(b"\n\n", b"\nContent-Type: multipart/signed; boundary=b\n\n")


def explain(commands: CommandLine, raw: bytes, *more: str) -> Done:
    to = ("--to", HUGH, "--to", ZOE)
    return commands.run("explain", "--config", commands.config(HIDE), "--from", "s@x.org", *to, *more, stdin=raw)


def test_encrypt_hides_in_what_it_writes(commands: CommandLine) -> None:
    path = commands.config(HIDE)
    done = commands.run("encrypt", "--config", path, "--from", "s@x.org", "--to", HUGH, stdin=MESSAGE)
    assert done.code == 0
    assert b"secret" not in done.out
    assert done.out.count(b"Subject: [...]\r\n") == 1
    plain = commands.run("encrypt", "--config", path, "--from", "s@x.org", "--to", ZOE, stdin=MESSAGE)
    assert plain.out == MESSAGE


def test_explain_tells_what_stands_where(commands: CommandLine) -> None:
    text = explain(commands, MESSAGE).out.decode()
    assert "  header fields inside, too: From, To, Subject\n  hidden outside: Subject\n" in text
    found = explain(commands, MESSAGE, "--json").json["copies"]
    inside = ["From", "To", "Subject"]
    assert found[0]["headers"] == {"protect": "hide", "inside": inside, "hidden": ["Subject"], "problem": None}


def test_explain_says_why_nothing_is_protected(commands: CommandLine) -> None:
    found = explain(commands, SIGNED, "--json").json["copies"]
    problem = {"code": "signed", "text": "header fields beside multipart/signed would not be believed"}
    assert found[0]["headers"] == {"protect": "hide", "inside": [], "hidden": [], "problem": problem}
    assert found[1]["headers"] == {"protect": "off", "inside": [], "hidden": [], "problem": None}
    text = explain(commands, SIGNED).out.decode()
    assert "header fields are not protected, though hide asks for it: header fields beside multipart/signed" in text


def test_encrypt_warns_where_the_subject_could_not_be_hidden(commands: CommandLine) -> None:
    path = commands.config(HIDE)
    done = commands.run("encrypt", "--config", path, "--from", "s@x.org", "--to", HUGH, stdin=SIGNED)
    assert (done.code, b"Subject: a secret" in done.out) == (0, True)
    assert f"warning: {HUGH}: the Subject is not hidden: header fields beside multipart/signed" in done.err
    assert done.err.rstrip().endswith("(headers-bare, signed)")
    silent = commands.run("encrypt", "--config", path, "--from", "s@x.org", "--to", HUGH, stdin=MESSAGE)
    assert "Subject" not in silent.err
