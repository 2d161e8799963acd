"""smilla encrypt and explain: exit codes, what stands where, and nothing half-done."""

from __future__ import annotations

import email
import json
from pathlib import Path

import pytest

from smilla.errors import EncryptionError
from tests.unit.cli.conftest import CommandLine, Done

MESSAGE = b"From: sam@sender.example\nTo: hugh@example.org\nSubject: x\n\nthe canary sings\n"
TO_ALL = MESSAGE.replace(b"To: hugh@example.org", b"To: hugh@example.org, pia@example.org, zoe@example.org")
HUGH, PIA, ZOE = "hugh@example.org", "pia@example.org", "zoe@example.org"


def encrypt(
    commands: CommandLine,
    *to: str,
    raw: bytes = MESSAGE,
    text: str = "",
    sender: str = "sam@sender.example",
    more: tuple[str, ...] = (),
) -> Done:
    recipients = [word for address in to for word in ("--to", address)]
    return commands.run("encrypt", "--config", commands.config(text), "--from", sender, *recipients, *more, stdin=raw)


def test_one_result_goes_to_stdout_with_crlf(commands: CommandLine) -> None:
    done = encrypt(commands, HUGH)
    assert (done.code, done.err) == (0, "")
    message = email.message_from_bytes(done.out)
    assert message.get_content_type() == "application/pkcs7-mime"
    assert message.get_all("X-Smilla") == ["encrypted; format=smime"]
    assert b"canary" not in done.out
    assert done.out.count(b"\n") == done.out.count(b"\r\n")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_what_stays_plain_stays_the_same_octets(commands: CommandLine, end: bytes) -> None:
    raw = MESSAGE.replace(b"\n", end) + b"8-bit \xff, NUL \0, bare \r and no end"
    done = encrypt(commands, ZOE, raw=raw)
    assert (done.code, done.out) == (0, raw)
    assert done.err.startswith("warning: zoe@example.org: not encrypted: ")


def test_foreign_mark_is_removed_and_nothing_else(commands: CommandLine) -> None:
    done = encrypt(commands, ZOE, raw=b"X-Smilla: encrypted;\n folded\nx-SMILLA : y\n" + MESSAGE)
    assert (done.code, done.out) == (0, MESSAGE)


MBOX = b"From sam@sender.example Mon Jan  1 08:00:00 2024\n"


@pytest.mark.parametrize(
    ("before", "what"),
    [
        (MBOX, "an mbox line"),
        (b">" + MBOX, "an mbox line"),
        (b"\xef\xbb\xbf", "a byte order"),
        (b"\n\n", "an empty line"),
    ],
)
def test_what_stands_before_the_message_is_skipped_with_a_warning(
    commands: CommandLine, before: bytes, what: str
) -> None:
    done = encrypt(commands, ZOE, raw=before + MESSAGE)
    assert (done.code, done.out) == (0, MESSAGE)
    assert done.err.startswith(f"warning: the message begins with {what}")
    done = encrypt(commands, HUGH, raw=before + MESSAGE)
    assert email.message_from_bytes(done.out)["Subject"] == "x"
    assert done.err.count("warning: ") == 1


def test_line_of_white_space_in_the_header_ends_nothing(commands: CommandLine) -> None:
    raw = b"Received: from a\n \t \n\tby b\n" + MESSAGE.replace(b"\n\n", b"\nContent-Type: text/plain\n\n")
    done = encrypt(commands, HUGH, raw=raw)
    message = email.message_from_bytes(done.out.replace(b" \t \r\n", b""))
    assert (done.err, message["To"], message["Subject"]) == ("", HUGH, "x")
    assert encrypt(commands, ZOE, raw=raw).out == raw


def test_message_may_stand_in_a_file(commands: CommandLine) -> None:
    path = commands.file("m.eml", MESSAGE)
    assert encrypt(commands, ZOE, raw=b"", more=(str(path),)).out == MESSAGE
    missing = encrypt(commands, ZOE, more=(str(path) + ".none",))
    assert (missing.code, missing.out) == (2, b"")


def test_require_exits_1_where_anybody_would_get_plaintext(commands: CommandLine) -> None:
    done = encrypt(commands, HUGH, ZOE, more=("--require",))
    assert (done.code, done.out) == (1, b"")
    assert "error: zoe@example.org: not encrypted" in done.err
    assert encrypt(commands, HUGH, more=("--require",)).code == 0


def test_require_is_content_with_what_is_encrypted_already(commands: CommandLine) -> None:
    encrypted = encrypt(commands, PIA).out
    done = encrypt(commands, ZOE, raw=encrypted, more=("--require",))
    assert done.code == 0
    assert done.out == encrypted.replace(b"X-Smilla: encrypted; format=openpgp\r\n", b"")


@pytest.mark.parametrize(
    ("to", "text", "code"),
    [
        (("forged@example.org",), "", 75),
        (("silent@example.org",), "", 75),
        (("old@example.org",), "", 77),
        ((ZOE,), "[policy]\nno_key = 'refuse'\n", 77),
        ((ZOE,), "[policy]\nno_key = 'defer'\n", 75),
        ((ZOE,), "[policy]\nno_key = 'hold'\n", 75),
        (("unsigned@example.org",), "[policy]\ninsecure = 'refuse'\n", 77),
        ((HUGH, "old@example.org"), "", 77),
        (("forged@example.org", "old@example.org"), "", 75),
    ],
)
def test_deferred_is_75_refused_is_77_and_nothing_is_written(
    commands: CommandLine, to: tuple[str, ...], text: str, code: int
) -> None:
    folder = commands.folder / "out"
    for more in ((), ("--output-dir", str(folder))):
        done = encrypt(commands, *to, text=text, more=more)
        assert (done.code, done.out) == (code, b"")
        assert all(line.startswith("error: ") for line in done.err.splitlines())
        assert to[-1] in done.err or to[0] in done.err
        assert not folder.exists()


def test_message_with_bare_cr_for_line_ends_is_77(commands: CommandLine) -> None:
    raw = b"From: sam@sender.example\rTo: hugh@example.org\rSubject: x\r\rThe secret.\r"
    done = encrypt(commands, HUGH, raw=raw, more=("--require",))
    assert (done.code, done.out) == (77, b"")
    assert "bare CR" in done.err


def test_several_results_need_a_folder(commands: CommandLine) -> None:
    done = encrypt(commands, HUGH, ZOE, raw=TO_ALL)
    assert (done.code, done.out) == (2, b"")
    assert "--output-dir" in done.err


def test_several_results_and_their_envelopes(commands: CommandLine) -> None:
    folder = commands.folder / "a" / "out"
    done = encrypt(commands, HUGH, PIA, ZOE, raw=TO_ALL, sender="<>", more=("--output-dir", str(folder)))
    assert (done.code, done.out) == (0, b"")
    assert json.loads((folder / "envelopes.json").read_text()) == [
        {"file": "1.eml", "mail_from": "", "rcpt_to": [HUGH], "format": "smime"},
        {"file": "2.eml", "mail_from": "", "rcpt_to": [PIA], "format": "openpgp"},
        {"file": "3.eml", "mail_from": "", "rcpt_to": [ZOE], "format": "plain"},
    ]
    assert (folder / "3.eml").read_bytes() == TO_ALL
    for name in ("1.eml", "2.eml"):
        assert b"canary" not in (folder / name).read_bytes()


def test_one_result_goes_to_the_folder_too(commands: CommandLine) -> None:
    folder = commands.folder / "out"
    assert encrypt(commands, HUGH, more=("--output-dir", str(folder))).out == b""
    assert {path.name for path in folder.iterdir()} == {"1.eml", "envelopes.json"}


def test_folder_that_cannot_be_written_is_an_error(commands: CommandLine) -> None:
    done = encrypt(commands, HUGH, more=("--output-dir", str(commands.file("file", b""))))
    assert (done.code, done.out) == (75, b"")


def test_folder_in_which_one_file_cannot_be_written_keeps_none_of_them(commands: CommandLine) -> None:
    folder = commands.folder / "out"
    (folder / "2.eml").mkdir(parents=True)
    done = encrypt(commands, PIA, HUGH, raw=TO_ALL, more=("--output-dir", str(folder)))
    assert done.code == 75
    assert [path.name for path in folder.iterdir()] == ["2.eml"]


def test_files_are_readable_by_their_owner_only(commands: CommandLine) -> None:
    folder = commands.folder / "out"
    assert encrypt(commands, PIA, HUGH, raw=TO_ALL, more=("--output-dir", str(folder))).code == 0
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_encrypter_that_fails_leaves_nothing_behind(commands: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise EncryptionError("broken")

    monkeypatch.setattr("smilla.encrypt.cms.encrypt", broken)
    folder = commands.folder / "out"
    for more in ((), ("--output-dir", str(folder))):
        done = encrypt(commands, PIA, HUGH, raw=TO_ALL, more=more) if more else encrypt(commands, HUGH)
        assert (done.code, done.out) == (75, b"")
        assert not folder.exists()


@pytest.mark.parametrize(
    "to", [" hugh@example.org", "<hugh@example.org>", "< hugh@example.org >", '"hugh"@example.org', "hugh@EXAMPLE.org."]
)
def test_recipient_is_found_however_it_is_written(commands: CommandLine, to: str) -> None:
    done = encrypt(commands, to)
    assert done.code == 0
    assert b"canary" not in done.out


@pytest.mark.parametrize("to", ["hugh", "", "a b@example.org", "hugh@", "<<hugh@example.org>>", "hugh@example..org"])
def test_recipient_that_is_no_address_is_a_usage_error(commands: CommandLine, to: str) -> None:
    done = encrypt(commands, to)
    assert (done.code, done.out) == (2, b"")
    assert done.err.startswith("error: --to: ")


def test_sender_that_is_no_address_is_a_usage_error(commands: CommandLine) -> None:
    assert encrypt(commands, HUGH, sender="sam").code == 2


@pytest.mark.parametrize("name", ["encrypt", "explain"])
def test_missing_or_faulty_configuration_is_78(commands: CommandLine, name: str) -> None:
    arguments = ("--from", "", "--to", HUGH)
    faulty = commands.config("[policy]\nno_kye = 'x'\nbogus = 'plain'\n")
    done = commands.run(name, "--config", faulty, *arguments)
    assert (done.code, done.out, done.err.count("error: ")) == (78, b"", 2)
    assert commands.run(name, "--config", Path("/nonexistent.toml"), *arguments).code == 78


@pytest.mark.parametrize(
    "arguments",
    [(), ("no-such",), ("encrypt",), ("encrypt", "--from", "a@x.org"), ("encrypt", "--to", "a@x.org"), ("config",)],
)
def test_wrong_usage_is_2(commands: CommandLine, arguments: tuple[str, ...]) -> None:
    done = commands.run(*arguments)
    assert (done.code, done.out) == (2, b"")


def test_version(commands: CommandLine) -> None:
    done = commands.run("--version")
    assert (done.code, done.out[:7]) == (0, b"smilla ")


# --- explain -----------------------------------------------------------------------------------------------


def explain(commands: CommandLine, *to: str, text: str = "", more: tuple[str, ...] = ()) -> Done:
    recipients = [word for address in to for word in ("--to", address)]
    config = commands.config(text)
    return commands.run(
        "explain", "--config", config, "--from", "sam@sender.example", *recipients, *more, stdin=MESSAGE
    )


def test_explain_tells_each_step_as_one_json_document(commands: CommandLine) -> None:
    done = explain(commands, HUGH, "old@example.org", more=("--json",))
    assert done.code == 77
    found = done.json
    assert found["classification"]["kind"] == "plain"
    assert [(r["recipient"], r["action"], r["reason"]["code"]) for r in found["recipients"]] == [
        (HUGH, "encrypt", "usable"),
        ("old@example.org", "refuse", "expired"),
    ]
    assert (found["disposition"], found["copies"]) == ("refuse", [])
    assert found["reply"].startswith("550 5.7.5 <old@example.org>: ")


def test_explain_tells_a_person_and_never_the_content(commands: CommandLine) -> None:
    done = explain(commands, HUGH, PIA, ZOE)
    assert done.code == 0
    text = done.out.decode()
    for expected in ("direction: outbound", "hugh@example.org: encrypt", "copy 2: openpgp", "policy: no_key"):
        assert expected in text
    assert "canary" not in text


@pytest.mark.parametrize(("to", "code"), [(HUGH, 0), (ZOE, 0), ("forged@example.org", 75), ("old@example.org", 77)])
def test_explain_exits_as_encrypt_would(commands: CommandLine, to: str, code: int) -> None:
    assert explain(commands, to).code == encrypt(commands, to).code == code


def test_client_that_is_no_ip_address_is_a_usage_error(commands: CommandLine) -> None:
    assert explain(commands, HUGH, more=("--client-ip", "banana")).code == 2


def test_explain_says_that_observing_changes_nothing(commands: CommandLine) -> None:
    assert b"observe = true: nothing is changed" in explain(commands, HUGH, text="observe = true\n").out


def test_command_refuses_an_alias_at_once_since_nobody_expands_it_later(commands: CommandLine) -> None:
    path = commands.config(
        'mode = "auto"\nlocal_domains = ["inside.test"]\n[keys]\naliases = "expanded"\n[policy]\nmixed = "stage"\n'
        '[[rule]]\nrecipient = "team@*"\nencrypt = "require"\n'
    )
    argv = ("--config", path, "--from", "sam@sender.example", "--to", "team@inside.test")
    done = commands.run("encrypt", *argv, stdin=b"Subject: x\r\n\r\nx\r\n")
    assert (done.code, done.out) == (77, b"")
    done = commands.run("explain", *argv, "--to", "pia@example.org", stdin=b"Subject: x\r\n\r\nx\r\n")
    assert done.code == 0
    told = done.out.decode()
    assert "team@inside.test: refuse, because" in told
    assert "  but may be an alias: sealed, and decided by the stage for whomever it leads to\n" in told
    assert "copy 1: openpgp, to pia@example.org: leaves by the stage, once" in told
    assert told.endswith("reply of the filter: accept, sealed for the stage\n")
