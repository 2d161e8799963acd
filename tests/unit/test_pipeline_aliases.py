"""[keys] aliases = "expanded": who waits for the stage, and what an expansion makes of the alias's decision."""

from __future__ import annotations

from pathlib import Path

import pytest

from smilla import pipeline
from smilla.answer import reply
from smilla.answer.reply import Verb
from smilla.config import Config, parse
from smilla.filter import Filter
from smilla.handover import seal
from smilla.model import Action, Outcome
from tests.unit.server.test_stage import HUGH, PIA, Lab, forms
from tests.vectors.memory import TableResolver, make_ports, make_session, raw_key, smimea

TEAM = "team@inside.test"
HEAD = b"From: sam@sender.example\r\nTo: team@inside.test\r\nSubject: hello\r\n"
RAW = HEAD + b"\r\nhello\r\n"


def config_text(more: str = "", mode: str = "auto", domains: str = "inside.test", aliases: str = "expanded") -> str:
    usual = f'mode = "{mode}"\nlocal_domains = ["{domains}"]\n[keys]\naliases = "{aliases}"\n'
    return f'{usual}[policy]\nmixed = "stage"\n{more}'


def config(more: str = "", mode: str = "auto") -> Config:
    return parse(config_text(more, mode))


def dns() -> TableResolver:
    resolver = TableResolver()
    resolver.publish(HUGH, "smimea", "secure", smimea("hugh.crt"))
    resolver.publish(PIA, "openpgpkey", "secure", raw_key("pia.pgp"))
    return resolver


def decided(settings: Config, *to: str, raw: bytes = RAW, resolver: TableResolver | None = None) -> Outcome:
    return pipeline.process(make_session(raw, list(to)), make_ports(resolver or dns()), settings)


def told(outcome: Outcome) -> tuple[Verb, bool]:
    answer = reply.for_outcome(outcome, "stage", observe=False)
    return answer.verb, answer.is_sealed


REQUIRE = '[[rule]]\nrecipient = "team@*"\nencrypt = "require"\n'


@pytest.mark.parametrize("mode", ["auto", "inbound", "outbound"])
@pytest.mark.parametrize("more", ["", REQUIRE, 'no_key = "refuse"\n', 'no_key = "defer"\n'])
def test_local_recipient_without_a_key_waits_whatever_policy_says(mode: str, more: str) -> None:
    assert told(decided(config(more, mode), TEAM)) == (Verb.ACCEPT, True)


def test_held_recipient_waits_in_the_quarantine_and_sealed() -> None:
    assert told(decided(config('no_key = "hold"\n'), TEAM)) == (Verb.QUARANTINE, True)


def test_local_recipient_with_a_key_is_served_at_once() -> None:
    outcome = decided(parse(config_text(domains="example.org")), HUGH)
    assert [decision.action for decision in outcome.decisions] == [Action.ENCRYPT]
    assert told(outcome) == (Verb.ACCEPT, False)


@pytest.mark.parametrize(
    ("to", "more", "answer"),
    [
        ("bob@there.test", "", (Verb.ACCEPT, False)),
        (TEAM, '[[rule]]\nrecipient = "team@*"\nencrypt = "never"\n', (Verb.ACCEPT, False)),
        ("bob%there.test@inside.test", "", (Verb.REJECT, False)),
    ],
)
def test_who_may_be_no_alias_does_not_wait(to: str, more: str, answer: tuple[Verb, bool]) -> None:
    settings = config(more + ('[[rule]]\nrecipient = "*"\nunclear = "refuse"\n' if "%" in to else ""))
    assert told(decided(settings, to)) == answer


@pytest.mark.parametrize(("status", "verb"), [("bogus", Verb.TEMPFAIL), ("unreachable", Verb.TEMPFAIL)])
def test_what_nobody_can_tell_of_the_alias_defers_in_the_dialogue(status: str, verb: Verb) -> None:
    resolver = dns()
    resolver.publish(TEAM, "smimea", status)
    assert told(decided(config(), TEAM, resolver=resolver)) == (verb, False)


def test_message_that_is_refused_whoever_it_is_for_is_not_sealed() -> None:
    mark = b"X-Smilla-Stage: " + b"0" * 32 + b" " + b"1" * 16 + b"\r\n"
    assert told(decided(config(), TEAM, raw=mark + RAW)) == (Verb.REJECT, False)


def test_without_the_option_nobody_waits() -> None:
    assert told(decided(parse(config_text(aliases="")), TEAM)) == (Verb.ACCEPT, False)


def test_rule_at_rcpt_turns_nobody_away_who_may_be_an_alias() -> None:
    rule = REQUIRE + "at_rcpt = true\n"
    for aliases, expected in (("expanded", None), ("", "550")):
        settings = parse(config_text(rule, aliases=aliases))
        session = make_session(RAW, [])
        away = Filter(session, make_ports(dns()), settings).recipient(f"<{TEAM}>", alone=True)
        assert (away.reply.code if away else None) == expected


# --- the stage


@pytest.fixture
def waiting(tmp_path: Path) -> Lab:
    return Lab(tmp_path, dns(), config=config())


def test_members_get_their_own_forms(waiting: Lab) -> None:
    raw = waiting.sealed(TEAM)
    assert waiting.deliver(raw, (HUGH, TEAM), (PIA, TEAM), ("n@there.test", TEAM)) == ["250"] * 3
    assert forms(waiting.mailer.copies()) == {HUGH: "smime", PIA: "openpgp", "n@there.test": "plain"}


@pytest.mark.parametrize("mode", ["auto", "inbound", "outbound"])
def test_alias_that_a_rule_wants_encrypted_is_plain_for_nobody(waiting: Lab, mode: str) -> None:
    waiting.config = config(REQUIRE, mode)
    raw = waiting.sealed(TEAM)
    assert waiting.deliver(raw, (HUGH, TEAM), ("n@there.test", TEAM), TEAM) == ["250", "550", "550"]
    assert forms(waiting.mailer.copies()) == {HUGH: "smime"}


@pytest.mark.parametrize("mode", ["auto", "outbound"])
@pytest.mark.parametrize("status", ["bogus", "unreachable"])
def test_member_of_whom_nobody_can_tell_is_owed_their_copy(waiting: Lab, mode: str, status: str) -> None:
    waiting.config = config(mode=mode)
    waiting.resolver.publish("n@there.test", "smimea", status)
    assert waiting.deliver(waiting.sealed(TEAM), (HUGH, TEAM), ("n@there.test", TEAM)) == ["250", "451"]
    waiting.config = config(REQUIRE, mode)
    assert waiting.deliver(waiting.sealed(TEAM), ("n@there.test", TEAM)) == ["451"]
    assert set(waiting.mailer.copies()) == {HUGH}


def test_member_whose_key_cannot_be_used_is_refused_as_policy_says(waiting: Lab) -> None:
    waiting.config = config('unusable_key = "refuse"\n')
    waiting.resolver.publish("old@there.test", "smimea", "secure", smimea("expired.crt"))
    assert waiting.deliver(waiting.sealed(TEAM), ("old@there.test", TEAM)) == ["550"]


def test_member_who_would_be_held_waits_since_it_is_too_late_for_that(waiting: Lab) -> None:
    waiting.config = config('insecure = "hold"\n')
    waiting.resolver.publish("un@there.test", "smimea", "insecure", smimea("hugh.crt"))
    assert waiting.deliver(waiting.sealed(TEAM), ("un@there.test", TEAM)) == ["451"]
    assert waiting.mailer.sent == []


def test_who_is_reached_on_several_ways_gets_the_copy_of_their_own_address(waiting: Lab) -> None:
    waiting.config = config('[[rule]]\nrecipient = "never@*"\nencrypt = "never"\n')
    raw = waiting.sealed("never@inside.test", TEAM, HUGH)
    ways = ((HUGH, "never@inside.test"), (HUGH, TEAM), HUGH, (PIA, "never@inside.test"), (PIA, TEAM))
    assert waiting.deliver(raw, *ways) == ["250"] * 5
    assert forms(waiting.mailer.copies()) == {HUGH: "smime", PIA: "openpgp"}


def test_seal_says_who_waits_and_one_of_an_earlier_version_that_nobody_does(waiting: Lab) -> None:
    session = make_session(RAW, [TEAM])
    outcome = decided(config(), TEAM)
    facts = seal.facts(session.envelope, outcome.decisions, "4XyZ", session.client, outcome.direction)
    assert [recipient.waits for recipient in facts.recipients] == [True]
    earlier = {"raw": "<a@b>", "parameters": [], "action": "plain", "form": "plain"}
    told = {"sender": "a@b", "parameters": [], "queue_id": "Q", "direction": "outbound", "client": {}}
    assert [recipient.waits for recipient in seal._facts_of({**told, "recipients": [earlier]}).recipients] == [False]
