"""The decision table: every verdict, action, rule and direction."""

from __future__ import annotations

import itertools

import pytest

from smilla import policy
from smilla.config import Config, parse
from smilla.errors import ConfigError
from smilla.model import Action, Client, Decision, KeyVerdict, Reason
from smilla.policy import INBOUND, OUTBOUND, Wish
from tests.unit.decisions import PLAIN, certificate, lookup, recipient

FAILURES = [verdict for verdict in KeyVerdict if verdict is not KeyVerdict.USABLE]
ACTIONS = {
    KeyVerdict.NO_KEY: ("plain", "defer", "refuse", "hold"),
    KeyVerdict.INSECURE: ("plain", "defer", "refuse", "hold"),
    KeyVerdict.UNUSABLE_KEY: ("plain", "defer", "refuse", "hold"),
    KeyVerdict.BOGUS: ("defer", "refuse", "hold"),
    KeyVerdict.UNREACHABLE: ("defer", "refuse", "hold"),
}
TABLE = [(verdict, action) for verdict in FAILURES for action in ACTIONS[verdict]]
DEFAULTS = {
    (KeyVerdict.NO_KEY, OUTBOUND): "plain",
    (KeyVerdict.NO_KEY, INBOUND): "plain",
    (KeyVerdict.INSECURE, OUTBOUND): "plain",
    (KeyVerdict.INSECURE, INBOUND): "plain",
    (KeyVerdict.BOGUS, OUTBOUND): "defer",
    (KeyVerdict.BOGUS, INBOUND): "defer",
    (KeyVerdict.UNREACHABLE, OUTBOUND): "defer",
    (KeyVerdict.UNREACHABLE, INBOUND): "defer",
    (KeyVerdict.UNUSABLE_KEY, OUTBOUND): "refuse",
    (KeyVerdict.UNUSABLE_KEY, INBOUND): "defer",
}


def wish(direction: str = OUTBOUND, *, wanted: bool = True) -> Wish:
    return Wish(wanted, direction, Reason("wanted", "wanted"))


def decide(
    verdict: KeyVerdict,
    settings: Config,
    to: str = "bob@example.org",
    sender: str = "sam@sender.example",
    direction: str = OUTBOUND,
) -> Decision:
    return policy.decide(recipient(to), sender, wish(direction), lookup("bob@example.org", verdict), settings)


@pytest.mark.parametrize("direction", [OUTBOUND, INBOUND])
@pytest.mark.parametrize("verdict", FAILURES)
def test_each_failure_has_its_default(verdict: KeyVerdict, direction: str) -> None:
    decided = decide(verdict, Config(), direction=direction)
    assert decided.action.value == DEFAULTS[verdict, direction]
    assert decided.rule == f"policy: {verdict.value}"
    assert decided.key is None


@pytest.mark.parametrize("direction", [OUTBOUND, INBOUND])
@pytest.mark.parametrize(("verdict", "action"), TABLE)
def test_policy_decides_each_failure(verdict: KeyVerdict, action: str, direction: str) -> None:
    settings = parse(f'[policy]\n{verdict.value} = "{action}"\n')
    assert decide(verdict, settings, direction=direction).action is Action(action)


@pytest.mark.parametrize("direction", [OUTBOUND, INBOUND])
@pytest.mark.parametrize(("verdict", "action"), TABLE)
def test_rule_overrides_policy_for_the_key_that_it_names_only(verdict: KeyVerdict, action: str, direction: str) -> None:
    settings = parse(f'[[rule]]\nrecipient = "*@example.org"\n{verdict.value} = "{action}"\n')
    decided = decide(verdict, settings, direction=direction)
    assert (decided.action, decided.rule) == (Action(action), f"rule 1: {verdict.value}")
    for other in FAILURES:
        if other is not verdict:
            left = decide(other, settings, direction=direction)
            assert (left.action.value, left.rule) == (DEFAULTS[other, direction], f"policy: {other.value}")


@pytest.mark.parametrize("verdict", [KeyVerdict.BOGUS, KeyVerdict.UNREACHABLE])
@pytest.mark.parametrize("place", ["[policy]", '[[rule]]\nrecipient = "*"'])
def test_bogus_and_unreachable_can_never_be_plain(verdict: KeyVerdict, place: str) -> None:
    with pytest.raises(ConfigError):
        parse(f'{place}\n{verdict.value} = "plain"\n')


def test_usable_key_encrypts_whatever_policy_says() -> None:
    key = certificate()
    found = lookup("bob@example.org", KeyVerdict.USABLE, key)
    settings = parse('[[rule]]\nrecipient = "*"\nno_key = "refuse"\nunusable_key = "plain"\n')
    decided = policy.decide(recipient("bob@example.org"), "", wish(), found, settings)
    assert (decided.action, decided.key) == (Action.ENCRYPT, key)


def test_usable_verdict_without_a_key_is_an_error_and_no_plaintext() -> None:
    with pytest.raises((AttributeError, ValueError)):
        decide(KeyVerdict.USABLE, Config())


def test_wanted_without_a_lookup_is_an_error_and_no_plaintext() -> None:
    with pytest.raises(AssertionError):
        policy.decide(recipient("bob@example.org"), "", wish(), None, Config())


def test_unwanted_is_plain() -> None:
    decided = policy.decide(recipient("bob@example.org"), "", wish(wanted=False), None, Config())
    assert (decided.action, decided.rule) == (Action.PLAIN, "mode")


def test_already_encrypted_is_unchanged() -> None:
    assert policy.already_encrypted(recipient("bob@example.org"), PLAIN).action is Action.UNCHANGED


# --- rules -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "to", "matches"),
    [
        ("*@example.org", "bob@example.org", True),
        ("*@example.org", "bob@EXAMPLE.ORG", True),
        ("*@EXAMPLE.org", "bob@example.org", True),
        ("*@example.org", "bob@sub.example.org", False),
        ("*@*.example.org", "bob@sub.example.org", True),
        ("*@*.example.org", "bob@example.org", False),
        ("bob@example.org", "Bob@example.org", False),
        ("b?b@example.org", "bob@example.org", True),
        ("bob+*@example.org", "bob+tag@example.org", True),
        ("*", "bob@example.org", True),
        ("*@bücher.example", "bob@xn--bcher-kva.example", True),
        ("*@xn--bcher-kva.example", "bob@bücher.example", True),
        ("*@*.bücher.example", "bob@a.BÜCHER.example", True),
        ("dörte@example.org", "do\u0308rte@example.org", True),
        ("bob@example.org", '"bob"@example.org', True),
        ("bob@example.org", '"b\\ob"@example.org', True),
        ("bob@example.org", "bob@example.org.", True),
        ("bob@example.org", "@relay.example:bob@example.org", True),
        ("bob@example.org", "eve@example.org", False),
        ("john smith@example.org", '"john smith"@example.org', True),
        ('"john smith"@example.org', '"john smith"@example.org', True),
        ("*@example.org", "not an address@example.org", True),
        ("<>", "bob@example.org", False),
    ],
)
def test_rule_matches_the_mailbox_however_it_is_written(pattern: str, to: str, matches: bool) -> None:
    settings = parse(f"[[rule]]\nrecipient = '{pattern}'\nno_key = \"refuse\"\n")
    assert decide(KeyVerdict.NO_KEY, settings, to=to).action is (Action.REFUSE if matches else Action.PLAIN)


@pytest.mark.parametrize(
    ("pattern", "sender", "matches"),
    [
        ("<>", "", True),
        ("<>", "sam@sender.example", False),
        ("*", "", True),
        ("*@sender.example", "", False),
        ("*@sender.example", "sam@sender.example", True),
        ("sam@sender.example", '"sam"@Sender.Example', True),
    ],
)
def test_rule_matches_the_envelope_sender(pattern: str, sender: str, matches: bool) -> None:
    settings = parse(f'[[rule]]\nsender = "{pattern}"\nno_key = "refuse"\n')
    assert decide(KeyVerdict.NO_KEY, settings, sender=sender).action is (Action.REFUSE if matches else Action.PLAIN)


def test_rule_with_sender_and_recipient_needs_both() -> None:
    settings = parse('[[rule]]\nsender = "sam@*"\nrecipient = "bob@*"\nno_key = "refuse"\n')
    for to, sender, action in [
        ("bob@example.org", "sam@sender.example", Action.REFUSE),
        ("eve@example.org", "sam@sender.example", Action.PLAIN),
        ("bob@example.org", "eve@sender.example", Action.PLAIN),
    ]:
        assert decide(KeyVerdict.NO_KEY, settings, to=to, sender=sender).action is action


def test_first_rule_that_matches_decides_and_policy_gives_the_rest() -> None:
    settings = parse(
        '[policy]\ninsecure = "hold"\n'
        '[[rule]]\nrecipient = "eve@*"\nno_key = "defer"\n'
        '[[rule]]\nrecipient = "bob@*"\nno_key = "refuse"\n'
        '[[rule]]\nrecipient = "*"\nno_key = "hold"\ninsecure = "refuse"\n'
    )
    assert decide(KeyVerdict.NO_KEY, settings).rule == "rule 2: no_key"
    assert decide(KeyVerdict.INSECURE, settings).action is Action.HOLD
    assert decide(KeyVerdict.NO_KEY, settings, to="zoe@example.org").rule == "rule 3: no_key"


# --- direction ---------------------------------------------------------------------------------------------

LOCAL, REMOTE = "bob@here.example", "bob@there.example"
AUTO = parse(
    'mode = "auto"\nlocal_domains = ["here.example", "*.here.example"]\ninternal_networks = ["192.0.2.0/24"]\n'
)
CLIENTS = {
    "authenticated": Client("203.0.113.1", "", "sam"),
    "submission": Client("203.0.113.1", "ORIGINATING"),
    "submission in lower case": Client("203.0.113.1", "originating"),
    "internal": Client("192.0.2.7"),
    "internal, mapped": Client("::ffff:192.0.2.7"),
    "internal, Sendmail's notation": Client("IPv6:::ffff:192.0.2.7"),
    "outside": Client("203.0.113.1", "smtpd"),
    "unknown": Client("unknown"),
    "without an address": Client(""),
}
OUTWARD = {name for name in CLIENTS if not name.startswith(("outside", "unknown", "without"))}


@pytest.mark.parametrize(("name", "to"), [*itertools.product(CLIENTS, [LOCAL, "bob@sub.here.example", REMOTE])])
def test_auto_mode_tells_the_direction_by_client_and_recipient(name: str, to: str) -> None:
    towards = policy.direction(CLIENTS[name], AUTO)
    assert towards == (OUTBOUND if name in OUTWARD else INBOUND)
    wanted = policy.wanted(recipient(to), towards, AUTO)
    if to is REMOTE:
        assert (wanted.wanted, wanted.direction) == (name in OUTWARD, towards)
    else:
        assert (wanted.wanted, wanted.direction) == (True, INBOUND)


@pytest.mark.parametrize("client", CLIENTS.values())
@pytest.mark.parametrize(
    ("text", "to", "wanted"),
    [
        ('mode = "outbound"', LOCAL, True),
        ('mode = "outbound"\nlocal_domains = ["here.example"]', LOCAL, False),
        ('mode = "outbound"\nlocal_domains = ["here.example"]', "bob@HERE.example.", False),
        ('mode = "outbound"\nlocal_domains = ["here.example"]', REMOTE, True),
        ('mode = "outbound"\nlocal_domains = ["here.example"]', "bob@nothere.example", True),
        ('mode = "outbound"\nlocal_domains = ["here.example"]', "bob@sub.here.example", True),
        ('mode = "outbound"\nlocal_domains = ["here.example"]', "no address", True),
        ('mode = "inbound"\nlocal_domains = ["HERE.example"]', LOCAL, True),
        ('mode = "inbound"\nlocal_domains = ["here.example"]', REMOTE, False),
        ('mode = "inbound"\nlocal_domains = ["*.here.example"]', LOCAL, False),
        ('mode = "inbound"\nlocal_domains = ["bücher.example"]', "bob@xn--bcher-kva.example", True),
    ],
)
def test_fixed_mode_asks_only_whether_the_recipient_is_local(text: str, to: str, wanted: bool, client: Client) -> None:
    settings = parse(text)
    assert policy.direction(client, settings) == settings.mode
    assert policy.wanted(recipient(to), settings.mode, settings).wanted is wanted


def test_mail_from_here_to_here_is_inbound_and_deferred_where_its_key_is_unusable() -> None:
    wanted = policy.wanted(recipient(LOCAL), OUTBOUND, AUTO)
    decided = policy.decide(recipient(LOCAL), "", wanted, lookup(LOCAL, KeyVerdict.UNUSABLE_KEY), AUTO)
    assert decided.action is Action.DEFER
