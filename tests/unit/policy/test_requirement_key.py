"""A rule that names a key: encryption is wanted, whatever the mode says, and no source decides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smilla import decide, pipeline, policy
from smilla.config import parse
from smilla.model import Action, Client, Direction
from smilla.policy import Circumstances, Requirement
from smilla.session import Session
from tests.unit.decisions import recipient
from tests.vectors.memory import KEYS, TableHops, TableResolver, make_ports, make_session, smimea

ANN = "ann@partner.example"
RULE = f'[[rule]]\ndomain = ["partner.example"]\nkey = "{KEYS}/hugh.crt"\n'
RAW = b"From: a@b.example\r\nTo: x@y.example\r\n\r\nx\r\n"


def wanted(text: str, who: str = ANN) -> Requirement:
    return policy.wanted(recipient(who), Circumstances("sam@sender.example", Client("203.0.113.1")), parse(text))


@pytest.mark.parametrize(
    "mode",
    [
        'local_domains = ["partner.example"]\n',
        'mode = "inbound"\nlocal_domains = ["here.example"]\n',
        'mode = "auto"\nlocal_domains = ["here.example"]\n',
    ],
)
def test_rule_with_a_key_wants_encryption_in_every_mode(mode: str) -> None:
    found = wanted(mode + RULE)
    assert (found.wanted, found.key_file) == (True, f"{KEYS}/hugh.crt")
    assert found.reason.text == "rule 1 names a key"
    assert wanted(mode + RULE, "bob@elsewhere.example").key_file == ""


@pytest.mark.parametrize("who", ["ann%elsewhere.example@partner.example", '"ann@elsewhere.example"@partner.example'])
def test_recipient_whom_the_mta_may_route_on_is_unclear_with_a_key_too(who: str) -> None:
    found = wanted(RULE, who)
    assert (found.wanted, found.unclear is not None) == (False, True)


def test_first_rule_that_matches_says_whether_there_is_a_key() -> None:
    before = f'[[rule]]\nrecipient = "{ANN}"\ncipher = "aes128-cbc"\n'
    assert wanted(before + RULE).key_file == ""
    assert wanted(before + RULE, "ben@partner.example").key_file == f"{KEYS}/hugh.crt"


def test_hop_is_looked_for_only_where_an_unusable_key_asks_for_it() -> None:
    bound = '[policy]\nmixed = "stage"\nno_key = "secure-hop"\ninsecure = "secure-hop"\n'
    assert not policy.may_use_hop(wanted(bound + RULE), parse(bound + RULE))
    own = bound + RULE + 'unusable_key = "secure-hop"\n'
    assert policy.may_use_hop(wanted(own), parse(own))
    hops = TableHops()
    ports = replace(make_ports(), hops=hops)
    session = Session(Client("203.0.113.1"), "<sam@sender.example>")
    decide.begin_lookup(session, session.recipient(f"<{ANN}>"), ports, parse(bound + RULE))
    assert hops.asked == []
    decide.begin_lookup(session, session.recipient("<bob@elsewhere.example>"), ports, parse(bound + RULE))
    assert hops.asked == ["elsewhere.example"]


def test_key_that_cannot_be_used_is_never_plain_where_the_rule_requires_encryption() -> None:
    text = f'[policy]\nunusable_key = "plain"\n[[rule]]\nrecipient = "*"\nkey = "{KEYS}/expired.crt"\n'
    for more, action in (("", Action.PLAIN), ('encrypt = "require"\n', Action.REFUSE)):
        outcome = pipeline.process(make_session(RAW, [ANN]), make_ports(), parse(text + more))
        assert [decision.action for decision in outcome.decisions] == [action]


def test_two_rules_have_two_keys_and_further_readers_have_their_own() -> None:
    text = (
        f'[[rule]]\nrecipient = "{ANN}"\nkey = "{KEYS}/hugh.crt"\nalso_to = ["dana@example.org"]\n'
        f'[[rule]]\nrecipient = "ben@*"\nkey = "{KEYS}/pia.pgp"\n'
    )
    resolver = TableResolver()
    resolver.publish("dana@example.org", "smimea", "secure", smimea("dana.crt"))
    session = make_session(RAW, [ANN, "ben@partner.example"])
    outcome = pipeline.process(session, make_ports(resolver), parse(text))
    assert [d.lookup.source for d in outcome.decisions if d.lookup] == ["rule", "rule"]
    assert [d.key.format.value for d in outcome.decisions if d.key] == ["smime", "openpgp"]
    (reader,) = outcome.decisions[0].readers
    assert reader.source == "smimea"


def test_direction_is_that_of_the_recipient() -> None:
    assert wanted('mode = "inbound"\nlocal_domains = ["here.example"]\n' + RULE).direction == Direction.INBOUND
