"""smilla explain: which rule matched, why the others did not, who else reads, and where each copy goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smilla.adapters.postfix_lines import PostfixLines
from smilla.config import Config, parse
from smilla.ports import Ports
from tests.unit.cli.conftest import CommandLine, Done
from tests.vectors.memory import KEYS, make_ports

HUGH, PIA, ZOE = "hugh@example.org", "pia@example.org", "zoe@example.org"
RULES = (
    '[policy]\nwish_subject = "[encrypt]"\n'
    '[[rule]]\nuser = "*"\n'
    '[[rule]]\nrecipient = "hugh@*"\nclient = ["192.0.2.0/24"]\nalso_to = ["old@example.org"]\n'
    '[[rule]]\ndomain = ["example.org"]\n'
)


def explain(commands: CommandLine, *more: str, text: str = RULES, subject: str = "x") -> Done:
    raw = f"From: sam@sender.example\nSubject: {subject}\n\nthe canary sings\n".encode()
    return commands.run("explain", "--config", commands.config(text), "--from", "sam@sender.example", *more, stdin=raw)


def test_rule_that_matched_and_the_table_of_all_are_told(commands: CommandLine) -> None:
    text = explain(commands, "--to", HUGH, "--client-ip", "192.0.2.1").out.decode()
    for expected in (
        "matched by rule 2 (recipient = hugh@*, client = 192.0.2.0/24)",
        "rule 1: no, user = *",
        "rule 2: yes\n",
        "rule 3: yes, but rule 2 comes first",
        "further reader old@example.org: a key that cannot be used",
    ):
        assert expected in text
    assert "matched by no rule" in explain(commands, "--to", "x@other.example").out.decode()
    assert "rule" not in explain(commands, "--to", HUGH, text="").out.decode().replace("decided by", "")


def test_json_has_all_of_it(commands: CommandLine) -> None:
    done = explain(commands, "--to", HUGH, "--client-ip", "192.0.2.1", "--json")
    found: Any = done.json["recipients"][0]
    assert found["matching_rule"] == 2
    assert found["rules"][0] == {"number": 1, "matched": False, "failed": "user = *"}
    assert [reader["verdict"] for reader in found["readers"]] == ["unusable_key"]
    assert (done.json["wished"], done.json["bounced"]) == (False, [])
    user = explain(commands, "--to", HUGH, "--authenticated-as", "sam", "--json").json
    assert user["recipients"][0]["matching_rule"] == 1


def test_how_smime_is_written_and_why_is_told(commands: CommandLine) -> None:
    text = RULES + 'cipher = "aes128-gcm"\n[smime]\nrsa_padding = "oaep-sha256"\n'
    assert (
        "written with aes128-gcm and RSA oaep-sha256; rule 3: cipher"
        in explain(commands, "--to", HUGH, text=text).out.decode()
    )
    done = explain(commands, "--to", HUGH, "--to", PIA, "--to", ZOE, "--json", text=text)
    style = {
        "cipher": "aes128-gcm",
        "rsa_padding": "oaep-sha256",
        "ecdh_kdf": "sha1",
        "protect_headers": "off",
        "reason": "rule 3: cipher",
    }
    openpgp = {"seipd2": "v6", "hidden_recipients": False, "protect_headers": "off"}
    assert [one["style"] for one in done.json["recipients"]] == [style, openpgp, None]
    assert "aes256-cbc and RSA pkcs1; smime.cipher" in explain(commands, "--to", HUGH, text="").out.decode()


def test_senders_wish_is_told(commands: CommandLine) -> None:
    done = explain(commands, "--to", ZOE, subject="[encrypt] x")
    assert b"the sender asks for encryption" in done.out
    assert b"decided by the sender's wish" in done.out
    assert done.code == 77
    assert b"asks for encryption" not in explain(commands, "--to", ZOE).out


def test_each_copy_is_kept_or_handed_over_anew_or_leaves_by_the_stage(commands: CommandLine) -> None:
    to, sendmail = ("--to", HUGH, "--to", ZOE), '[milter]\nmta = "sendmail"\n'
    staged = {copy["format"]: copy["way"] for copy in explain(commands, *to, "--json").json["copies"]}
    assert staged == {"smime": "sealed", "plain": "sealed"}
    ways = {copy["format"]: copy["way"] for copy in explain(commands, *to, "--json", text=sendmail).json["copies"]}
    assert ways == {"smime": "reinjected", "plain": "kept"}
    text = explain(commands, *to, text=sendmail).out.decode()
    assert "copy 1: smime, to hugh@example.org: is handed to the MTA anew" in text
    assert "copy 2: plain, to zoe@example.org: stays in the MTA's message" in text
    separate = explain(commands, *to, "--json", text='[policy]\nmixed = "defer"\n')
    assert {copy["way"] for copy in separate.json["copies"]} == {"not_sent"}
    assert separate.code == 75


def test_who_is_bounced_is_told(commands: CommandLine) -> None:
    to = ("--to", HUGH, "--to", "old@example.org")
    text = '[policy]\none_fails = "bounce"\n'
    assert explain(commands, *to, "--json", text=text).json["bounced"] == ["old@example.org"]
    assert b"bounced to the sender: old@example.org" in explain(commands, *to, text=text).out


def test_who_is_turned_away_at_rcpt_is_told_and_does_not_hold_up_the_others(commands: CommandLine) -> None:
    text = '[[rule]]\nrecipient = "forged@*"\nat_rcpt = true\n'
    to = ("--to", HUGH, "--to", "forged@example.org")
    done = explain(commands, *to, text=text)
    told = "turned away alone, at RCPT: 451 4.7.5 <forged@example.org>: the answer about a published key fails"
    assert told in done.out.decode()
    assert done.out.decode().endswith("reply of the filter: accept\n")
    assert done.code == 0
    found = explain(commands, *to, "--json", text=text).json
    replies = {recipient["recipient"]: recipient["at_rcpt"] for recipient in found["recipients"]}
    assert replies[HUGH] is None
    assert replies["forged@example.org"].startswith("451 4.7.5 ")
    alone = explain(commands, "--to", "forged@example.org", text=text)
    assert (alone.code, alone.out.decode().count("forged@example.org: defer")) == (75, 1)
    assert explain(commands, *to, text="").code == 75


def test_who_comes_past_the_bound_is_told(commands: CommandLine) -> None:
    done = explain(
        commands, "--to", HUGH, "--to", PIA, text="[reinject]\nmax_copies = 1\n[policy]\nmixed = 'reinject'\n"
    )
    assert f"{PIA}: defer, because: past [reinject] max_copies = 1" in done.out.decode()
    assert "turned away alone, at RCPT: 452 4.5.3" in done.out.decode()
    assert done.code == 0


def test_replies_that_smtp_does_not_show_are_put_in_words(commands: CommandLine) -> None:
    held = explain(commands, "--to", HUGH, "--to", ZOE, text='[policy]\nno_key = "hold"\nmixed = "reinject"\n')
    assert "to zoe@example.org: stays in the MTA's message (in quarantine)" in held.out.decode()
    assert "to hugh@example.org: is handed to the MTA anew\n" in held.out.decode()
    assert "reply of the filter: accept, and the MTA keeps its message in quarantine" in held.out.decode()
    assert held.code == 75


def test_relayed_recipient_is_told_of(commands: CommandLine) -> None:
    text = 'mode = "auto"\nlocal_domains = ["example.org"]\n'
    relayed = explain(commands, "--to", "x@i\u2764.example", "--to", HUGH, "--client-ip", "192.0.2.1", text=text)
    assert "relayed to x@i\\u2764.example, though the client is none of ours" in relayed.out.decode()
    done = explain(commands, "--to", "x@other.example", "--client-ip", "192.0.2.1", "--json", text=text).json
    assert (done["relayed"], done["direction"], done["recipients"][0]["direction"]) == (
        ["x@other.example"],
        "inbound",
        "outbound",
    )
    assert explain(commands, "--to", "x@other.example", "--json", text=text).json["relayed"] == []


@pytest.fixture
def stage(commands: CommandLine, monkeypatch: pytest.MonkeyPatch) -> str:
    """A configuration whose gate is the real one."""

    def ports(config: Config) -> Ports:
        return replace(make_ports(commands.resolver), stage_problem=PostfixLines(config.stage).problem)

    monkeypatch.setattr("smilla.cli.transaction.make_ports", ports)
    return f'[stage]\nkeys = "{commands.folder}/seal"\n'


def test_what_the_filter_answers_while_the_stage_is_not_ready_is_told(commands: CommandLine, stage: str) -> None:
    to = ("--to", HUGH, "--to", ZOE)
    done = explain(commands, *to, text=stage)
    assert done.code == 75
    told = done.out.decode()
    assert "reply of the filter: 451 4.3.5 The recipients need different forms of this message, and the filter" in told
    assert "nothing is sealed now (stage-not-ready): nobody has looked yet" in told
    assert "smilla config check --postfix tells more" in told
    assert "leaves by the stage" not in told
    found = explain(commands, *to, "--json", text=stage)
    assert (found.code, found.json["reply"][:10], found.json["stage"]["ready"]) == (75, "451 4.3.5 ", False)
    assert {copy["way"] for copy in found.json["copies"]} == {"not_sent"}
    alone = explain(commands, "--to", HUGH, "--json", text=stage)
    assert (alone.code, alone.json["reply"], alone.json["stage"]) == (0, "accept", None)


def test_stage_whose_lines_were_seen_is_ready(commands: CommandLine, stage: str) -> None:
    (commands.folder / "main.cf").touch()
    PostfixLines(parse(stage).stage).keep(str(commands.folder), [])
    found = explain(commands, "--to", HUGH, "--to", ZOE, "--json", text=stage)
    assert (found.code, found.json["stage"]) == (0, {"ready": True, "problem": ""})


def test_who_may_not_read_what_was_found_is_told_so(
    commands: CommandLine, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    to = ("--to", HUGH, "--to", ZOE)
    lines = PostfixLines(parse(stage).stage)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", refused)
        assert not lines.is_readable()
    monkeypatch.setattr(PostfixLines, "is_readable", lambda _: False)
    done = explain(commands, *to, "--json", text=stage)
    assert done.json["stage"] == {"ready": None, "problem": ""}
    assert done.err.startswith("warning: whether the stage is ready is for root and smilla's user to read")
    assert explain(commands, *to, text=stage + "check = false\n").err == ""


def test_key_of_a_rule_is_told(commands: CommandLine) -> None:
    text = f'[[rule]]\ndomain = ["partner.example"]\nkey = "{KEYS}/hugh.crt"\n'
    told = explain(commands, "--to", "ann@partner.example", text=text).out.decode()
    for expected in (f"  rule: {KEYS}/hugh.crt", "ann@partner.example: encrypt", "matched by rule 1 (domain = partner"):
        assert expected in told
    found = explain(commands, "--to", "ann@partner.example", "--json", text=text).json["recipients"][0]
    assert (found["lookup"]["source"], found["lookup"]["findings"][0]["where"]) == ("rule", f"{KEYS}/hugh.crt")
