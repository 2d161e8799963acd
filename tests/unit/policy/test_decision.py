"""The decision table: every verdict, action, rule and direction."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from smilla import policy
from smilla.config import Config, parse
from smilla.errors import ConfigError
from smilla.model import Action, Client, Decision, Direction, KeyVerdict, Reason, Style
from smilla.policy import Circumstances, Requirement, rules
from tests.unit.decisions import PLAIN, certificate, lookup, openpgp_key, recipient

OUTBOUND, INBOUND = Direction.OUTBOUND, Direction.INBOUND
TEAM = "team@inside.test"

FAILURES = [verdict for verdict in KeyVerdict if verdict is not KeyVerdict.USABLE]
ACTIONS = {
    KeyVerdict.NO_KEY: ("plain", "defer", "refuse", "hold"),
    KeyVerdict.INSECURE: ("plain", "defer", "refuse", "hold"),
    KeyVerdict.UNUSABLE_KEY: ("plain", "defer", "refuse", "hold"),
    KeyVerdict.BOGUS: ("defer", "refuse", "hold"),
    KeyVerdict.UNREACHABLE: ("defer", "refuse", "hold"),
    KeyVerdict.UNCLEAR: ("defer", "refuse", "hold"),
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
    (KeyVerdict.UNCLEAR, OUTBOUND): "refuse",
    (KeyVerdict.UNCLEAR, INBOUND): "defer",
    (KeyVerdict.UNUSABLE_KEY, OUTBOUND): "refuse",
    (KeyVerdict.UNUSABLE_KEY, INBOUND): "defer",
}


CLIENT = Client("203.0.113.1")


def requirement(direction: Direction = OUTBOUND, *, wanted: bool = True) -> Requirement:
    return Requirement(wanted, direction, Reason("wanted", "wanted"))


def decided(
    verdict: KeyVerdict, text: str, to: str = "bob@example.org", client: Client = CLIENT, *, requested: bool = False
) -> Decision:
    """Both halves of the table, by a configuration: what is wanted, and then what happens."""
    settings = parse(text)
    wanted = policy.wanted(recipient(to), Circumstances("sam@sender.example", client), settings)
    return policy.decide(recipient(to), wanted, lookup("bob@example.org", verdict), settings, requested=requested)


def decide(
    verdict: KeyVerdict,
    settings: Config,
    to: str = "bob@example.org",
    sender: str = "sam@sender.example",
    direction: Direction = OUTBOUND,
) -> Decision:
    number, rule = rules.first(settings.rule, rules.Case(recipient(to), sender, CLIENT, direction))
    wanted = Requirement(True, direction, Reason("wanted", "wanted"), number, rule)
    return policy.decide(recipient(to), wanted, lookup("bob@example.org", verdict), settings)


@pytest.mark.parametrize("direction", [OUTBOUND, INBOUND])
@pytest.mark.parametrize("verdict", FAILURES)
def test_each_failure_has_its_default(verdict: KeyVerdict, direction: Direction) -> None:
    decided = decide(verdict, Config(), direction=direction)
    assert decided.action.value == DEFAULTS[verdict, direction]
    assert decided.rule == f"policy: {verdict.value}"
    assert decided.key is None


@pytest.mark.parametrize("direction", [OUTBOUND, INBOUND])
@pytest.mark.parametrize(("verdict", "action"), TABLE)
def test_policy_decides_each_failure(verdict: KeyVerdict, action: str, direction: Direction) -> None:
    settings = parse(f'[policy]\n{verdict.value} = "{action}"\n')
    assert decide(verdict, settings, direction=direction).action is Action(action)


@pytest.mark.parametrize("direction", [OUTBOUND, INBOUND])
@pytest.mark.parametrize(("verdict", "action"), TABLE)
def test_rule_overrides_policy_for_the_key_that_it_names_only(
    verdict: KeyVerdict, action: str, direction: Direction
) -> None:
    settings = parse(f'[[rule]]\nrecipient = "*@example.org"\n{verdict.value} = "{action}"\n')
    decided = decide(verdict, settings, direction=direction)
    assert (decided.action, decided.rule) == (Action(action), f"rule 1: {verdict.value}")
    for other in FAILURES:
        if other is not verdict:
            left = decide(other, settings, direction=direction)
            assert (left.action.value, left.rule) == (DEFAULTS[other, direction], f"policy: {other.value}")


@pytest.mark.parametrize("verdict", [KeyVerdict.BOGUS, KeyVerdict.UNREACHABLE, KeyVerdict.UNCLEAR])
@pytest.mark.parametrize("place", ["[policy]", '[[rule]]\nrecipient = "*"'])
def test_what_is_not_known_can_never_be_plain(verdict: KeyVerdict, place: str) -> None:
    with pytest.raises(ConfigError):
        parse(f'{place}\n{verdict.value} = "plain"\n')


def test_usable_key_encrypts_whatever_policy_says() -> None:
    key = certificate()
    found = lookup("bob@example.org", KeyVerdict.USABLE, key)
    settings = parse('[[rule]]\nrecipient = "*"\nno_key = "refuse"\nunusable_key = "plain"\n')
    decided = policy.decide(recipient("bob@example.org"), requirement(), found, settings)
    assert (decided.action, decided.key) == (Action.ENCRYPT, key)


@pytest.mark.parametrize(
    ("text", "hidden", "seipd2"),
    [
        ("", False, "v6"),
        ("[openpgp]\nhidden_recipients = true\nseipd2 = 'announced'", True, "announced"),
        ("[[rule]]\nrecipient = 'bob@*'\nhidden_recipients = true", True, "v6"),
        ("[[rule]]\nrecipient = 'eve@*'\nhidden_recipients = true", False, "v6"),
        ("[openpgp]\nhidden_recipients = true\n[[rule]]\nrecipient = 'bob@*'\nno_key = 'hold'", True, "v6"),
    ],
)
def test_options_and_rule_say_how_openpgp_is_written(text: str, hidden: bool, seipd2: str) -> None:
    settings, bob = parse(text), recipient("bob@example.org")
    wanted = policy.wanted(bob, Circumstances("sam@sender.example", CLIENT), settings)
    found = lookup("bob@example.org", KeyVerdict.USABLE, openpgp_key())
    style = policy.decide(bob, wanted, found, settings).style
    assert (style.hidden_recipients, style.seipd2) == (hidden, seipd2)


def test_usable_verdict_without_a_key_is_an_error_and_no_plaintext() -> None:
    with pytest.raises((AttributeError, ValueError)):
        decide(KeyVerdict.USABLE, Config())


def test_wanted_without_a_lookup_is_an_error_and_no_plaintext() -> None:
    with pytest.raises(AssertionError):
        policy.decide(recipient("bob@example.org"), requirement(), None, Config())


def test_unwanted_is_plain() -> None:
    decided = policy.decide(recipient("bob@example.org"), requirement(wanted=False), None, Config())
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
    wanted = policy.wanted(recipient(to), Circumstances("", CLIENTS[name]), AUTO)
    if to is REMOTE:
        assert (wanted.wanted, wanted.direction) == (True, OUTBOUND)  # the MTA has agreed to send it on
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
        ('mode = "outbound"\nlocal_domains = ["here.example"]', "nobody", True),
        ('mode = "inbound"\nlocal_domains = ["HERE.example"]', LOCAL, True),
        ('mode = "inbound"\nlocal_domains = ["here.example"]', REMOTE, False),
        ('mode = "inbound"\nlocal_domains = ["*.here.example"]', LOCAL, False),
        ('mode = "inbound"\nlocal_domains = ["bücher.example"]', "bob@xn--bcher-kva.example", True),
    ],
)
def test_fixed_mode_asks_only_whether_the_recipient_is_local(text: str, to: str, wanted: bool, client: Client) -> None:
    settings = parse(text)
    assert policy.direction(client, settings) == settings.mode
    assert policy.wanted(recipient(to), Circumstances("", client), settings).wanted is wanted


def test_mail_from_here_to_here_is_inbound_and_deferred_where_its_key_is_unusable() -> None:
    wanted = policy.wanted(recipient(LOCAL), Circumstances("", CLIENTS["authenticated"]), AUTO)
    decided = policy.decide(recipient(LOCAL), wanted, lookup(LOCAL, KeyVerdict.UNUSABLE_KEY), AUTO)
    assert decided.action is Action.DEFER


# --- conditions --------------------------------------------------------------------------------------------


def matches(condition: str, to: str = "bob@example.org", client: Client = CLIENT, text: str = "") -> bool:
    settings = parse(f'{text}\n[[rule]]\n{condition}\nno_key = "refuse"\n')
    return policy.wanted(recipient(to), Circumstances("sam@sender.example", client), settings).rule is not None


@pytest.mark.parametrize(
    ("condition", "to", "expected"),
    [
        ('domain = ["example.org"]', "bob@example.org", True),
        ('domain = ["a.example", "EXAMPLE.org"]', "bob@Example.ORG.", True),
        ('domain = ["example.org"]', "bob@sub.example.org", False),
        ('domain = ["*.example.org"]', "bob@sub.example.org", True),
        ('domain = ["bücher.example"]', "bob@xn--bcher-kva.example", True),
        ('domain = ["example.org"]', "not an address@EXAMPLE.org", True),
        ('domain = ["example.org"]', "nobody", False),
    ],
)
def test_domain_is_that_of_the_recipient(condition: str, to: str, *, expected: bool) -> None:
    assert matches(condition, to) is expected


@pytest.mark.parametrize(
    ("networks", "ip", "expected"),
    [
        ('"203.0.113.0/24"', "203.0.113.1", True),
        ('"192.0.2.0/24", "203.0.113.1"', "::ffff:203.0.113.1", True),
        ('"203.0.113.0/24"', "IPv6:::ffff:203.0.113.1", True),
        ('"::ffff:203.0.113.0/120"', "203.0.113.1", True),
        ('"2001:db8::/32"', "IPv6:2001:db8::1", True),
        ('"203.0.113.0/24"', "192.0.2.1", False),
        ('"0.0.0.0/0"', "unknown", False),
        ('"0.0.0.0/0"', "", False),
    ],
)
def test_client_is_in_a_network_however_it_is_written(networks: str, ip: str, *, expected: bool) -> None:
    assert matches(f"client = [{networks}]", client=Client(ip)) is expected


@pytest.mark.parametrize(
    ("pattern", "user", "expected"),
    [("*", "sam", True), ("*", "", False), ("s?m", "sam", True), ("*@here", "sam@here", True), ("eve", "sam", False)],
)
def test_user_is_who_authenticated_and_never_nobody(pattern: str, user: str, *, expected: bool) -> None:
    assert matches(f'user = "{pattern}"', client=Client("203.0.113.1", "", user)) is expected


def test_direction_is_that_for_the_recipient() -> None:
    text = 'mode = "auto"\nlocal_domains = ["here.example"]'
    authenticated = CLIENTS["authenticated"]
    for to, client, towards in [
        (LOCAL, authenticated, INBOUND),
        (REMOTE, authenticated, OUTBOUND),
        (LOCAL, CLIENTS["outside"], INBOUND),
    ]:
        for asked in (INBOUND, OUTBOUND):
            assert matches(f'direction = "{asked}"', to, client, text) is (asked == towards)


def test_all_conditions_must_hold_and_the_table_names_the_first_that_does_not() -> None:
    settings = parse(
        '[[rule]]\ndomain = ["example.org"]\nuser = "*"\n'
        '[[rule]]\nrecipient = "bob@*"\nclient = ["203.0.113.0/24"]\n'
        '[[rule]]\nsender = "*"\n'
    )
    bob, circumstances = recipient("bob@example.org"), Circumstances("sam@sender.example", CLIENT)
    wanted = policy.wanted(bob, circumstances, settings)
    assert (wanted.number, wanted.rule) == (2, settings.rule[1])
    assert policy.rule_table(bob, circumstances, settings) == ((1, False, "user = *"), (2, True, ""), (3, True, ""))
    assert rules.in_words(settings.rule[1]) == "recipient = bob@*, client = 203.0.113.0/24"


def test_what_a_rule_says_stands_in_the_wish() -> None:
    settings = parse(
        '[[rule]]\nrecipient = "bob@*"\nformats = ["openpgp", "smime"]\nalso_to = ["sender"]\nat_rcpt = true\n'
    )
    circumstances = Circumstances("", CLIENT)
    bob = policy.wanted(recipient("bob@example.org"), circumstances, settings)
    assert (bob.formats, bob.also_to, bob.at_rcpt) == (("openpgp", "smime"), ("sender",), True)
    zoe = policy.wanted(recipient("zoe@example.org"), circumstances, settings)
    assert (zoe.formats, zoe.also_to, zoe.at_rcpt, zoe.number) == ((), (), False, 0)


# --- encrypt = never, require; the sender's wish -----------------------------------------------------------

NEVER = '[[rule]]\nrecipient = "bob@*"\nencrypt = "never"\n'
REQUIRE = '[[rule]]\nrecipient = "*"\nencrypt = "require"\n'


def test_never_looks_for_nothing_and_sends_plain() -> None:
    found = policy.wanted(recipient("bob@example.org"), Circumstances("", CLIENT), parse(NEVER))
    assert (found.wanted, found.reason.code) == (False, "never")
    done = decided(KeyVerdict.NO_KEY, NEVER)
    assert (done.action, done.rule, done.reason.code) == (Action.PLAIN, "rule 1: encrypt", "never")


def test_never_against_the_senders_wish_is_refused() -> None:
    done = decided(KeyVerdict.NO_KEY, NEVER, requested=True)
    assert (done.action, done.rule, done.reason.code) == (Action.REFUSE, "rule 1: encrypt", "wished")


@pytest.mark.parametrize(
    "mode",
    [
        "",
        'local_domains = ["example.org"]',
        'mode = "inbound"\nlocal_domains = ["here.example"]',
        'mode = "auto"\nlocal_domains = ["here.example"]',
    ],
)
@pytest.mark.parametrize("verdict", FAILURES)
def test_require_wants_a_key_whatever_the_mode_and_never_lets_plaintext_pass(mode: str, verdict: KeyVerdict) -> None:
    plain = '[policy]\nno_key = "plain"\ninsecure = "plain"\nunusable_key = "plain"\n'
    done = decided(verdict, f"{mode}\n{plain}{REQUIRE}")
    if verdict in (KeyVerdict.BOGUS, KeyVerdict.UNREACHABLE):
        assert (done.action, done.rule) == (Action.DEFER, f"policy: {verdict.value}")
    elif verdict is KeyVerdict.UNCLEAR:
        assert done.action in (Action.REFUSE, Action.DEFER)
        assert done.rule == "policy: unclear"
    else:
        assert (done.action, done.rule) == (Action.REFUSE, "rule 1: encrypt")


def test_require_does_not_change_what_is_no_plaintext() -> None:
    assert decided(KeyVerdict.NO_KEY, REQUIRE + 'no_key = "hold"\n').action is Action.HOLD


@pytest.mark.parametrize("text", [NEVER, REQUIRE])
def test_routed_address_is_refused_whatever_a_rule_says(text: str) -> None:
    done = decided(KeyVerdict.NO_KEY, text, "bob%there.example@example.org")
    assert (done.action, done.reason.code) == (Action.REFUSE, "routed_address")


@pytest.mark.parametrize(("verdict", "action"), TABLE)
def test_senders_wish_turns_plaintext_into_a_refusal_and_nothing_else(verdict: KeyVerdict, action: str) -> None:
    for text in (
        f'[policy]\n{verdict.value} = "{action}"\n',
        f'[[rule]]\nsender = "*"\n{verdict.value} = "{action}"\n',
    ):
        done = decided(verdict, text, requested=True)
        if action == "plain":
            assert (done.action, done.rule) == (Action.REFUSE, "the sender's wish")
        else:
            assert done.action is Action(action)


def test_senders_wish_reaches_whom_mode_leaves_out() -> None:
    settings, to = parse('local_domains = ["example.org"]'), recipient("bob@example.org")
    wanted = policy.on_request(policy.wanted(to, Circumstances("sam@sender.example", CLIENT), settings))
    assert (wanted.wanted, wanted.reason.code) == (True, "wished")
    found = lookup("bob@example.org", KeyVerdict.NO_KEY)
    done = policy.decide(to, wanted, found, settings, requested=True)
    assert (done.action, done.rule) == (Action.REFUSE, "the sender's wish")


def test_a_wish_and_no_look_up_is_refused_whatever_mode_says() -> None:
    done = policy.decide(recipient("bob@example.org"), requirement(wanted=False), None, Config(), requested=True)
    assert (done.action, done.reason.code, done.rule) == (Action.REFUSE, "wished", "mode")


# --- how S/MIME is written ---------------------------------------------------------------------------------

SMIME = '[smime]\ncipher = "aes256-gcm"\nrsa_padding = "oaep-sha256"\necdh_kdf = "sha256"\n'
CBC_128, GCM_256 = "aes128-cbc", "aes256-gcm"


def styled(text: str, *announced: str, to: str = "bob@example.org") -> tuple[Style, str]:
    settings = parse(text)
    wanted = policy.wanted(recipient(to), Circumstances("sam@sender.example", CLIENT), settings)
    return policy.styled(replace(certificate(), ciphers=announced), wanted, settings)


def test_style_is_that_of_smime_and_of_a_rule_for_what_it_names() -> None:
    assert styled("") == (Style(), "smime.cipher")
    assert styled(SMIME) == (Style(GCM_256, "oaep-sha256", "sha256"), "smime.cipher")
    rule = '[[rule]]\nrecipient = "bob@*"\n'
    assert styled(SMIME + rule + 'ecdh_kdf = "sha1"\n')[0] == Style(GCM_256, "oaep-sha256", "sha1")
    assert styled(SMIME + rule + 'rsa_padding = "pkcs1"\n')[0] == Style(GCM_256, "pkcs1", "sha256")
    chosen = styled(SMIME + rule + f'cipher = "{CBC_128}"\n')
    assert chosen == (Style(CBC_128, "oaep-sha256", "sha256"), "rule 1: cipher")
    assert styled(SMIME + rule + f'cipher = "{CBC_128}"\n', to="eve@example.org")[0].cipher == GCM_256


def test_what_the_certificate_announces_decides_where_no_rule_does_and_is_told() -> None:
    style, why = styled("", CBC_128)
    assert style == Style(CBC_128)
    assert why == "the certificate announces aes128-cbc, not aes256-cbc of smime.cipher"
    assert styled("", CBC_128, "aes256-cbc") == (Style(), "smime.cipher")
    assert styled("", GCM_256) == (Style(), f"smime.cipher, though the certificate announces {GCM_256} only")
    rule = '[[rule]]\nrecipient = "*"\ncipher = "aes256-cbc"\n'
    assert styled(rule, CBC_128) == (Style(), "rule 1: cipher")


def test_decision_has_the_style() -> None:
    settings = parse(SMIME)
    found = lookup("bob@example.org", KeyVerdict.USABLE, certificate())
    decided = policy.decide(recipient("bob@example.org"), requirement(), found, settings)
    assert decided.style == Style(GCM_256, "oaep-sha256", "sha256")


def test_style_of_openpgp_is_none_of_smime() -> None:
    """So that no option of S/MIME keeps OpenPGP recipients apart."""
    settings = parse(SMIME)
    assert policy.styled(openpgp_key(), requirement(), settings) == (Style(), "")


# --- what a mutation run (make mutants) left alive ---------------------------------------------------------


def test_whose_requirement_is_unclear_never_waits_for_the_stage() -> None:
    settings = parse(
        'mode = "auto"\nlocal_domains = ["inside.test"]\n[keys]\naliases = "expanded"\n[policy]\nmixed = "stage"\n'
    )
    to = recipient("team@inside.test")
    clear = requirement(INBOUND)
    assert policy.awaits_expansion(
        policy.decide(to, clear, lookup(TEAM, KeyVerdict.NO_KEY), settings), clear, CLIENT, settings
    )
    unclear = replace(clear, unclear=Reason("unclear_sender", "nobody can tell"))
    decision = policy.decide(to, unclear, None, settings)
    assert decision.action is Action.DEFER
    assert not policy.awaits_expansion(decision, unclear, CLIENT, settings)


def test_refusal_of_a_wish_says_whether_a_rule_or_the_mode_is_against_it() -> None:
    assert decided(KeyVerdict.NO_KEY, NEVER, requested=True).reason.text.endswith("but rule 1 says never")
    done = policy.decide(recipient("bob@example.org"), requirement(wanted=False), None, Config(), requested=True)
    assert done.reason.text.endswith("but wanted")


def test_senders_wish_changes_nothing_where_a_key_is_wanted_or_nobody_can_tell() -> None:
    unclear = Reason("unclear_sender", "nobody can tell")
    for known in (requirement(), replace(requirement(wanted=False), unclear=unclear)):
        assert policy.on_request(known) is known


@pytest.mark.parametrize("to", ["(x)bob@r.test", "bob(x(y)z)@r.test", "bob@(x)r.test"])
def test_rule_holds_for_an_address_with_comments(to: str) -> None:
    settings = parse('[[rule]]\nrecipient = "bob@r.test"\nunclear = "hold"\n')
    assert policy.wanted(recipient(to), Circumstances("", CLIENT), settings).number == 1
    assert (
        decided(KeyVerdict.UNCLEAR, '[[rule]]\nrecipient = "bob@r.test"\nunclear = "hold"\n', to).action is Action.HOLD
    )


@pytest.mark.parametrize(("network", "ip"), [("::ffff:0:0/96", "192.0.2.1"), ("10.0.0.1/8", "10.2.3.4")])
def test_network_of_all_mapped_addresses_and_one_with_host_bits_hold_their_clients(network: str, ip: str) -> None:
    assert rules.is_within(ip, (network,))


@pytest.mark.parametrize(("sender", "doubtful"), [("boss@a.test", False), ("boss@localhost", False), ("boss@a", True)])
def test_only_a_sender_whose_domain_may_be_completed_is_doubtful(sender: str, *, doubtful: bool) -> None:
    settings = parse('[[rule]]\nsender = "boss@*.b.test"\nencrypt = "require"\n')
    case = rules.Case(recipient("bob@example.org"), sender, CLIENT, OUTBOUND)
    assert rules.hinges_on_sender(settings.rule, case) is doubtful
