"""A sender of whom the MTA makes another one is unclear where a rule or a copy depends on who they are."""

from __future__ import annotations

import pytest

from smilla import pipeline, policy
from smilla.answer import reply
from smilla.config import Config, parse
from smilla.model import Action, Client, CopyForm, Disposition, Outcome
from smilla.policy import rules
from smilla.session import Session
from tests.vectors.memory import TableResolver, make_ports, make_session, raw_key, smimea

HUGH, PIA, ZOE = "hugh@example.org", "pia@example.org", "zoe@example.org"
MESSAGE = b"From: sam@sender.example\r\nTo: zoe@example.org\r\nSubject: x\r\n\r\nthe canary sings\r\n"
BOSS = '[[rule]]\nsender = "boss@s.test"\nno_key = "refuse"\n'
NULL = '[[rule]]\nsender = "<>"\nno_key = "refuse"\n'

# What Postfix, asked in November 2026, sends on as from boss@s.test or from the null sender, and what is like it.
UNCLEAR = (
    "Boss<boss@s.test>", '"Boss"<boss@s.test>', "<Boss<boss@s.test>>", "<<boss@s.test>>", "g:boss@s.test;",
    "<boss@@s.test>", "<g:boss@s.test;>", "<@a.test:@b.test:boss@s.test>", "<@(:boss@s.test>", "(x)boss@s.test",
    "<boss(x)@s.test>",
    "<boss @s.test>", r"<b\oss@s.test>", "<boss@s.test,>", "<boss@[s.test]>", '<boss@"s.test">', "<boss@s.test..>",
    "<boss\t@s.test>", '<"boss\t"@s.test>', "<boss%s.test>", "<s.test!boss>", '<"boss@s.test">', "<\u2003boss@s.test>",
    "< >", '<"">', '""', "()", "<(x)>", ";", "g:;", "<,>", "<@a.test:>", "<@>", "<boss@>", '<""@>', "<\x0b>",
)  # fmt: skip
CLEAR = (
    "", "<>", " <>", "<boss@s.test>", "boss@s.test", "< boss@s.test >", '<"boss"@s.test>',
    "<@a.test,@b.test:boss@s.test>",
    "<boss>", '<"john smith">', '<"john smith"@s.test>', "<boss@s.test.>", "<boss%a.test@b.test>", "<boss@[192.0.2.1]>",
    '<"boss@a.test"@b.test>', "<käthe@bücher.test>", "<b=oss+bob=r.test@s.test>", "<MAILER-DAEMON>",
)  # fmt: skip


def processed(sender: str, text: str, *recipients: str, client: Client | None = None) -> Outcome:
    resolver = TableResolver().publish(HUGH, "smimea", "secure", smimea("hugh.crt"))
    resolver.publish(PIA, "openpgpkey", "secure", raw_key("pia.pgp"))
    settings = parse(text)
    whole = make_session(MESSAGE, recipients or (ZOE,), client=client)
    session = Session(whole.client, sender, (), settings.completion)
    for recipient in whole.envelope.recipients:
        session.add(recipient)
    session.take(whole.message)
    return pipeline.process(session, make_ports(resolver), settings)


@pytest.mark.parametrize("sender", UNCLEAR)
@pytest.mark.parametrize("rule", [BOSS, NULL])
@pytest.mark.parametrize(
    ("text", "disposition"),
    [("", Disposition.REFUSE), ('[policy]\nunclear = "defer"\n', Disposition.DEFER),
     ('mode = "inbound"\nlocal_domains = ["*"]\n', Disposition.DEFER)],
)  # fmt: skip
def test_rule_for_a_sender_is_never_missed_because_of_a_spelling(
    sender: str, rule: str, text: str, disposition: Disposition
) -> None:
    outcome = processed(sender, text + rule)
    assert (outcome.disposition, outcome.reason.code) == (disposition, "unclear_sender")
    assert "the sender's address is not written" in reply.for_outcome(outcome, "", observe=False).text


@pytest.mark.parametrize("sender", UNCLEAR)
@pytest.mark.parametrize(
    "rule",
    ["", '[[rule]]\nsender = "*"\nencrypt = "never"\n', '[[rule]]\nrecipient = "*"\nno_key = "plain"\n' + BOSS,
     BOSS.replace("[[rule]]", '[[rule]]\nrecipient = "hugh@*"')],
)  # fmt: skip
def test_where_no_rule_depends_on_the_sender_nothing_changes(sender: str, rule: str) -> None:
    assert [decision.action for decision in processed(sender, rule).decisions] == [Action.PLAIN]


@pytest.mark.parametrize("sender", CLEAR)
def test_a_sender_as_rfc_5321_writes_them_is_clear(sender: str) -> None:
    assert rules.is_clear(Session(Client(), sender).sender)


@pytest.mark.parametrize("sender", ["<boss@s.test>", '<"boss"@S.test.>', "<@a.test:boss@s.test>", "< boss@s.test>"])
def test_rule_holds_for_a_clear_spelling(sender: str) -> None:
    assert processed(sender, BOSS).decisions[0].rule == "rule 1: no_key"


@pytest.mark.parametrize(
    ("sender", "pattern", "text", "doubtful"),
    [
        ("<boss>", "boss@s.test", "", True),
        ("<boss>", "*@s.test", "", True),
        ("<eve>", "boss@s.test", "", False),
        ("<boss>", "<>", "", False),
        ("<boss>", "boss@s.test", 'append_origin = "a.test"\n', False),
        ("<boss@s>", "boss@s.test", "", True),
        ("<boss@s>", "boss@*.test", "", True),
        ("<boss@a>", "boss@s.test", "", False),
        ("<boss@s>", "boss@s.test", 'append_domain = "a.test"\n', False),
        ("<boss@s.>", "boss@s.test", "", False),
        ("<boss@localhost>", "boss@*", "", False),
    ],
)
def test_sender_whom_the_mta_completes_in_a_way_that_is_not_known_may_be_the_one(
    sender: str, pattern: str, text: str, doubtful: bool
) -> None:
    outcome = processed(sender, f'{text}[[rule]]\nsender = "{pattern}"\nno_key = "hold"\n')
    assert (outcome.reason.code == "unclear_sender") is doubtful


def test_unclear_sender_is_no_further_reader() -> None:
    text = '[[rule]]\nsender = "*"\nalso_to = ["sender"]\n'
    assert processed("Boss<hugh@example.org>", text, PIA).reason.code == "unclear_sender"
    assert processed("<@a.test:hugh@example.org>", text, PIA).disposition is Disposition.DELIVER


@pytest.mark.parametrize("sender", ["< >", "Boss<boss@s.test>", "<@r.test:>"])
@pytest.mark.parametrize("mixed", ["stage", "reinject"])
@pytest.mark.parametrize(("unclear", "action"), [("", Disposition.REFUSE), ("hold", Disposition.DEFER)])
def test_several_forms_are_neither_sealed_nor_sent_for_an_unclear_sender(
    sender: str, mixed: str, unclear: str, action: Disposition
) -> None:
    text = f'[policy]\nmixed = "{mixed}"\nunclear = "{unclear}"\n'
    outcome = processed(sender, text, HUGH, PIA)
    assert (outcome.disposition, outcome.reason.code, outcome.copies) == (action, "unclear_sender", ())
    assert {d.reason.code for d in outcome.decisions} == {"unclear_sender"}
    alone = processed(sender, text, HUGH)
    assert [copy.form for copy in alone.copies] == [CopyForm.SMIME]


def test_nobody_is_told_of_a_failure_where_the_sender_is_unclear() -> None:
    text = '[policy]\nmixed = "reinject"\none_fails = "bounce"\nno_key = "refuse"\n'
    ours = Client("127.0.0.1")
    assert processed("<boss@s.test>", text, HUGH, ZOE, client=ours).bounced
    assert not processed("Boss<boss@s.test>", text, HUGH, ZOE, client=ours).bounced


def test_alias_is_not_left_to_the_stage_for_an_unclear_sender() -> None:
    text = 'local_domains = ["example.org"]\n[keys]\naliases = "expanded"\n[policy]\nmixed = "stage"\n'
    assert processed("<boss@s.test>", text, ZOE).awaits_expansion
    assert processed("< >", text, ZOE).reason.code == "unclear_sender"


def test_rules_are_told_apart_from_the_senders_spelling() -> None:
    settings: Config = parse(BOSS)
    recipient = Session(Client(), "").recipient("<bob@r.test>")
    checked = policy.rule_table(recipient, policy.Circumstances("Boss<boss@s.test", Client()), settings)
    assert not checked[0].matched
