"""smilla lookup: what is found, and the exit codes that scripts rely on."""

from __future__ import annotations

import os
import pwd
import tempfile
from pathlib import Path

import pytest

from smilla.model import DNSAnswer, DNSSECStatus
from tests.unit.cli.conftest import CommandLine, Done
from tests.vectors.memory import KEYS, smimea


def look_up(commands: CommandLine, address: str, *more: str) -> Done:
    return commands.run("lookup", "--config", commands.config(), *more, address)


@pytest.mark.parametrize(
    ("address", "code", "verdict", "reason"),
    [
        ("hugh@example.org", 0, "usable", "usable"),
        ("pia@example.org", 0, "usable", "usable"),
        ("zoe@example.org", 1, "no_key", "no_key"),
        ("unsigned@example.org", 1, "insecure", "insecure"),
        ("old@example.org", 1, "unusable_key", "expired"),
        ("forged@example.org", 75, "bogus", "bogus"),
        ("silent@example.org", 75, "unreachable", "unreachable"),
        ("hugh@[192.0.2.1]", 75, "unclear", "address_literal"),
    ],
)
def test_exit_code_tells_the_verdict(commands: CommandLine, address: str, code: int, verdict: str, reason: str) -> None:
    done = look_up(commands, address, "--json")
    assert (done.code, done.err) == (code, "")
    assert (done.json["verdict"], done.json["reason"]["code"]) == (verdict, reason)
    assert (done.json["key"] is not None) == (code == 0)
    assert look_up(commands, address).code == code


def test_json_tells_every_candidate_with_its_reasons(commands: CommandLine) -> None:
    commands.resolver.publish(
        "hugh@example.org", "smimea", "secure", smimea("expired.crt"), smimea("hugh.crt"), b"\3\0\1" + bytes(32)
    )
    found = look_up(commands, "hugh@example.org", "--json").json
    assert found["address"] == "hugh@example.org"
    assert (found["source"], found["dnssec"]) == ("smimea", "secure")
    (finding,) = found["findings"]
    assert finding["where"].endswith("._smimecert.example.org.")
    candidates = finding["candidates"]
    assert sorted((c["usable"], c["meant_for_encryption"], c["matching_type"]) for c in candidates) == [
        (False, False, 1),
        (False, True, 0),
        (True, True, 0),
    ]
    assert all(c["reasons"] for c in candidates if not c["usable"])


def test_how_smime_would_be_written_and_what_the_certificate_announces_is_told(commands: CommandLine) -> None:
    commands.resolver.publish("hugh@example.org", "smimea", "secure", smimea("aes128.crt"))
    text = look_up(commands, "hugh@example.org").out.decode()
    assert "smime capabilities: aes128-cbc, des-ede3-cbc" in text
    assert "written with aes128-cbc and RSA pkcs1, where no rule says otherwise" in text
    assert "announces aes128-cbc, not aes256-cbc of smime.cipher" in text
    style = look_up(commands, "hugh@example.org", "--json").json["style"]
    assert (style["cipher"], style["rsa_padding"], style["ecdh_kdf"]) == ("aes128-cbc", "pkcs1", "sha1")
    openpgp = {"seipd2": "v6", "hidden_recipients": False, "protect_headers": "off"}
    assert look_up(commands, "pia@example.org", "--json").json["style"] == openpgp
    assert look_up(commands, "zoe@example.org", "--json").json["style"] is None
    assert "written with" not in look_up(commands, "pia@example.org").out.decode()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("eve.crt", "aes256-cbc and ECDH by sha1"),
        ("xena.crt", "aes256-cbc and X25519"),
        ("kim.crt", "aes256-cbc and ML-KEM-768"),
        ("oaep.crt", "aes256-cbc and OAEP as the certificate demands"),
    ],
)
def test_mechanism_is_told(commands: CommandLine, name: str, words: str) -> None:
    address = {"oaep": "hugh"}.get(name[:-4], name[:-4]) + "@example.org"
    commands.resolver.publish(address, "smimea", "secure", smimea(name))
    assert (
        f"written with {words}, where no rule says otherwise; smime.cipher\n" in look_up(commands, address).out.decode()
    )


def test_words_name_source_status_and_reason(commands: CommandLine) -> None:
    text = look_up(commands, "old@example.org").out.decode()
    for expected in (
        "old@example.org: a key that cannot be used",
        "DNSSEC secure",
        "_smimecert.example.org.",
        "expired",
    ):
        assert expected in text


def test_what_a_name_server_says_cannot_steer_the_terminal(commands: CommandLine) -> None:
    for key, answer in list(commands.resolver.table.items()):
        if answer.status is DNSSECStatus.BOGUS:
            commands.resolver.table[key] = DNSAnswer(*key[:1], "SMIMEA", answer.status, detail="\x1b[2Jcleared\r\nx")
    done = look_up(commands, "forged@example.org")
    assert b"\x1b" not in done.out
    assert b"\r" not in done.out


def test_text_that_is_no_address_is_a_usage_error(commands: CommandLine) -> None:
    done = look_up(commands, "hugh")
    assert (done.code, done.out) == (2, b"")
    assert done.err.startswith("error: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_is_told_that_smilla_itself_may_not_read_the_key(commands: CommandLine) -> None:
    with tempfile.TemporaryDirectory(prefix="smilla-lookup-") as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "spool").mkdir()
        os.chown(place / "spool", pwd.getpwnam("nobody").pw_uid, -1)
        octets = (KEYS / "hugh.crt").read_bytes()
        commands.files["ann@x.test.crt"] = octets
        path = place / "ann@x.test.crt"
        path.write_bytes(octets)
        text = f'[keys]\nsources = ["directory"]\ndirectory = "{place}"\n[reinject]\nspool = "{place}/spool"\n'
        for mode, told in ((0o644, ""), (0o600, f"warning: smilla itself may not read it: keys {place}: nobody may")):
            path.chmod(mode)
            done = commands.run("lookup", "--config", commands.config(text), "ann@x.test")
            assert done.err.startswith(told)
            assert bool(done.err) is bool(told)


def test_key_of_a_rule_is_told_and_rules_that_ask_more_are_named(commands: CommandLine) -> None:
    rule = f'[[rule]]\ndomain = ["partner.example"]\nkey = "{KEYS}/hugh.crt"\n'
    done = commands.run("lookup", "--config", commands.config(rule), "ann@partner.example")
    assert (done.code, done.err) == (0, "")
    assert f"  rule: {KEYS}/hugh.crt" in done.out.decode()
    assert commands.resolver.asked == []
    asks_more = rule + 'sender = "*@x.example"\n'
    done = commands.run("lookup", "--json", "--config", commands.config(asks_more), "hugh@example.org")
    assert (done.code, done.err, done.json["source"]) == (0, "", "smimea")
    done = commands.run("lookup", "--config", commands.config(asks_more), "ann@partner.example")
    assert done.code == 1
    assert done.err.startswith("hint: mail that rule 1 matches (sender = *@x.example, domain = partner.example) gets")
