"""What secure-hop asks for: a verified hop, or nothing leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smilla import decide, policy
from smilla.config import parse
from smilla.model import Action, Client, Decision, Hop, HopVerdict, HopWay, KeyVerdict, Reason
from smilla.policy import Circumstances
from smilla.session import Session
from tests.unit.decisions import lookup, recipient
from tests.vectors.memory import TableHops, TableResolver, make_ports, no_hop, verified_hop

BOB = "bob@example.org"
BOUND = '[policy]\nmixed = "stage"\nno_key = "secure-hop"\n'
OPEN = frozenset({Action.PLAIN, Action.HOLD, Action.UNCHANGED, Action.ENCRYPT})


def decided(verdict: KeyVerdict, text: str, *, requested: bool = False) -> Decision:
    settings = parse(text)
    wanted = policy.wanted(recipient(BOB), Circumstances("sam@sender.example", Client("203.0.113.1")), settings)
    return policy.decide(recipient(BOB), wanted, lookup(BOB, verdict), settings, requested=requested)


@pytest.mark.parametrize("verdict", [KeyVerdict.NO_KEY, KeyVerdict.INSECURE, KeyVerdict.UNUSABLE_KEY])
def test_three_failures_may_ask_for_a_verified_hop(verdict: KeyVerdict) -> None:
    text = f'[policy]\nmixed = "stage"\n{verdict.value} = "secure-hop"\n'
    decision = decided(verdict, text)
    assert decision.action is Action.SECURE_HOP
    assert policy.over_hop(decision, verified_hop("example.org"), parse(text)).action is Action.SECURE_HOP


@pytest.mark.parametrize("verdict", [KeyVerdict.BOGUS, KeyVerdict.UNREACHABLE, KeyVerdict.UNCLEAR])
def test_what_nobody_knows_never_takes_a_hop_for_an_answer(verdict: KeyVerdict) -> None:
    text = '[policy]\nmixed = "stage"\nno_key = "secure-hop"\ninsecure = "secure-hop"\nunusable_key = "secure-hop"\n'
    assert decided(verdict, text).action in (Action.DEFER, Action.REFUSE)


@pytest.mark.parametrize("way", list(HopWay))
@pytest.mark.parametrize("verdict", list(HopVerdict))
@pytest.mark.parametrize("none", ["refuse", "defer"])
def test_each_verdict_about_the_hop_has_one_action_and_none_is_plain(
    verdict: HopVerdict, way: HopWay, none: str
) -> None:
    settings = parse(f'{BOUND}no_hop = "{none}"\n')
    hop = Hop("example.org", verdict, Reason("why", ""), way)
    found = policy.over_hop(decided(KeyVerdict.NO_KEY, BOUND), hop, settings)
    expected = {HopVerdict.VERIFIED: Action.SECURE_HOP, HopVerdict.NONE: Action(none)}.get(verdict, Action.DEFER)
    assert found.action is expected
    assert found.hop == hop
    assert found.reason.code == ("no_key" if verdict is HopVerdict.VERIFIED else "why")


def test_verified_without_a_way_is_not_verified() -> None:
    hop = Hop("example.org", HopVerdict.VERIFIED, Reason("why", ""))
    assert policy.over_hop(decided(KeyVerdict.NO_KEY, BOUND), hop, parse(BOUND)).action is Action.DEFER


def test_where_nobody_looks_for_hops_the_message_waits() -> None:
    found = policy.over_hop(decided(KeyVerdict.NO_KEY, BOUND), None, parse(BOUND))
    assert (found.action, found.reason.code) == (Action.DEFER, "no_hop_finder")


@pytest.mark.parametrize("mixed", ["reinject", "defer", "refuse"])
def test_without_the_stage_the_message_waits(mixed: str) -> None:
    settings = parse(BOUND)
    settings = replace(settings, policy=replace(settings.policy, mixed=mixed))
    found = policy.over_hop(decided(KeyVerdict.NO_KEY, BOUND), verified_hop("example.org"), settings)
    assert (found.action, found.reason.code) == (Action.DEFER, "no_stage")


def test_sender_who_asks_for_encryption_does_not_get_a_verified_hop_instead() -> None:
    assert decided(KeyVerdict.NO_KEY, BOUND, requested=True).action is Action.REFUSE


def test_rule_that_requires_encryption_takes_a_verified_hop_only_by_its_own_word() -> None:
    rule = '[[rule]]\nrecipient = "*"\nencrypt = "require"\n'
    assert decided(KeyVerdict.NO_KEY, BOUND + rule).action is Action.REFUSE
    assert decided(KeyVerdict.NO_KEY, f'{rule}no_key = "secure-hop"\n').action is Action.SECURE_HOP


def session_for(*to: str) -> Session:
    session = Session(Client("203.0.113.1"), "<sam@sender.example>")
    for address in to:
        session.recipient(f"<{address}>")
    return session


def test_hop_is_searched_from_rcpt_on_and_once_a_domain() -> None:
    hops, session = TableHops(verified_hop("example.org")), session_for(BOB, "ann@Example.ORG")
    ports = replace(make_ports(TableResolver()), hops=hops)
    for each in session.envelope.recipients:
        decide.begin_lookup(session, each, ports, parse(BOUND))
    assert hops.asked == ["example.org"]


@pytest.mark.parametrize(
    "text", ["", '[policy]\nno_key = "refuse"\n', f'{BOUND}[[rule]]\nrecipient = "*"\nencrypt = "never"\n']
)
def test_hop_is_not_searched_where_no_copy_can_need_one(text: str) -> None:
    hops, session = TableHops(), session_for(BOB)
    ports = replace(make_ports(TableResolver()), hops=hops)
    decide.begin_lookup(session, session.envelope.recipients[0], ports, parse(text))
    assert hops.asked == []


def test_each_recipient_is_judged_by_the_hop_to_their_own_domain() -> None:
    resolver = TableResolver()
    for mailbox in (BOB, "ann@none.test", "eve@unknown.test"):
        resolver.publish(mailbox, "smimea", "secure")
        resolver.publish(mailbox, "openpgpkey", "secure")
    ports = replace(make_ports(resolver), hops=TableHops(verified_hop("example.org"), no_hop("none.test")))
    session = session_for(BOB, "ann@none.test", "eve@unknown.test")
    found = decide.for_all(session, ports, parse(BOUND), requested=False)
    assert [d.action for d in found] == [Action.SECURE_HOP, Action.REFUSE, Action.DEFER]
    assert not OPEN & {d.action for d in found}
