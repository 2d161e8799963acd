"""Single labels, the names of this machine, and domains that programs read in two ways."""

from __future__ import annotations

import pytest

from smilla import config, decide, policy
from smilla.config import Config
from smilla.keys import lookup
from smilla.model import Action, Client, Direction, DNSSECStatus, KeyLookup, KeyVerdict
from smilla.policy import Circumstances, Requirement
from smilla.session import Asked, Session
from tests.vectors.memory import NOW, TableResolver, make_ports

OUTBOUND, INBOUND = Direction.OUTBOUND, Direction.INBOUND

MTA = Client("203.0.113.9", mta="mail.home.test")
AUTO = 'mode = "auto"\nlocal_domains = ["home.test"]\n'
AT_REST = 'mode = "inbound"\nlocal_domains = ["home.test"]\n'
COMPLETED = 'append_domain = "corp.test"\n'
FOLDER = '[keys]\nsources = ["directory"]\ndirectory = "/tmp"\n'


def wished_for(text: str, to: str, client: Client = MTA) -> Requirement:
    settings = config.parse(text)
    recipient = Session(client, "sam@x.test", (), settings.completion).recipient(f"<{to}>")
    return policy.wanted(recipient, Circumstances("sam@x.test", client), settings)


def searched(text: str, to: str, status: DNSSECStatus = DNSSECStatus.SECURE) -> tuple[KeyLookup, TableResolver]:
    """The search for a recipient's key, as the pipeline makes it; no name has a record."""
    settings, resolver = config.parse(text), TableResolver()
    for record in ("smimea", "openpgpkey"):
        resolver.publish(to, record, status.value)
    ports = make_ports(resolver)
    session = Session(MTA, "sam@x.test", (), settings.completion)
    requirement = decide.begin_lookup(session, session.recipient(f"<{to}>"), ports, settings)
    assert requirement.wanted
    assert requirement.address is not None
    return lookup.finish(session.lookups[Asked(requirement.address)], 0.0, NOW, ports), resolver


# --- single labels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["bob@partner", "bob@PARTNER", '"bob"@partner', "@relay.test:bob@partner"])
def test_single_label_is_completed_for_the_look_up_and_for_rules(to: str) -> None:
    for condition in ('recipient = "bob@partner.corp.test"', 'domain = ["*.corp.test"]'):
        requirement = wished_for(f'{COMPLETED}[[rule]]\n{condition}\nno_key = "refuse"\n', to)
        assert (requirement.wanted, requirement.number, requirement.address and requirement.address.domain) == (
            True,
            1,
            "partner.corp.test",
        )


@pytest.mark.parametrize("to", ["bob@partner.", "bob@[192.0.2.1]", "bob@a.test"])
def test_what_the_mta_completes_by_nothing_is_left_alone(to: str) -> None:
    requirement = wished_for(COMPLETED, to)
    assert requirement.address
    assert "corp" not in requirement.address.domain


def test_completion_may_be_internationalized_and_reaches_the_origin() -> None:
    text = 'append_origin = "mail"\nappend_domain = "bücher.test"\n'
    requirement = wished_for(text, "bob")
    assert requirement.address
    assert requirement.address.domain == "mail.xn--bcher-kva.test"


@pytest.mark.parametrize("text", ["", FOLDER, AUTO, AUTO + FOLDER, AT_REST, AT_REST + FOLDER])
@pytest.mark.parametrize("to", ["bob@partner", "bob@partner."])
def test_single_label_that_nobody_completes_is_unclear_whatever_the_sources(text: str, to: str) -> None:
    found, resolver = searched(text, to)
    assert (found.verdict, found.reason.code) == (KeyVerdict.UNCLEAR, "single_label")
    assert resolver.asked == []


def test_single_label_that_is_local_is_a_domain_like_any_other() -> None:
    text = 'mode = "inbound"\nlocal_domains = ["corp"]\n'
    for extra in ("", FOLDER):
        found, _ = searched(text + extra, "bob@corp")
        assert (found.verdict, found.address.domain) == (KeyVerdict.NO_KEY, "corp")


def test_single_label_in_auto_mode_goes_by_the_client() -> None:
    assert wished_for(AUTO, "bob@partner").direction == INBOUND
    assert wished_for(AUTO, "bob@partner", Client("127.0.0.1")).direction == OUTBOUND


# --- this machine ------------------------------------------------------------------------------------------

OWN = ["localhost", "LOCALHOST.", "mail.home.test", "localhost.home.test", "localhost.localdomain"]


@pytest.mark.parametrize("text", [AUTO, AT_REST])
@pytest.mark.parametrize("domain", OWN)
def test_names_of_this_machine_are_looked_up_under_the_origin_where_mail_is_inbound(text: str, domain: str) -> None:
    for client in (MTA, Client("127.0.0.1", mta="Mail.home.test")):
        requirement = wished_for(text, f"root@{domain}", client)
        assert (requirement.wanted, requirement.direction) == (True, INBOUND)
        assert requirement.address
        assert (requirement.address.local_part, requirement.address.domain) == ("root", "home.test")


@pytest.mark.parametrize("text", [AUTO.replace("home", "*.other"), AT_REST.replace("home", "*.other")])
@pytest.mark.parametrize("domain", ["localhost", "mail.home.test"])
def test_names_of_this_machine_are_unclear_at_rest_where_the_origin_is_not_known(text: str, domain: str) -> None:
    requirement = wished_for(text, f"root@{domain}")
    assert (requirement.wanted, requirement.direction, requirement.address) == (True, INBOUND, None)


@pytest.mark.parametrize(
    "condition", ['recipient = "root@home.test"', 'domain = ["localhost"]', 'domain=["home.test"]']
)
def test_rule_holds_for_a_mailbox_of_this_machine_by_either_name(condition: str) -> None:
    assert wished_for(f'{AT_REST}[[rule]]\n{condition}\nno_key = "refuse"\n', "root@localhost").number == 1
    assert wished_for(f'{AT_REST}[[rule]]\n{condition}\nno_key = "refuse"\n', "root@x.test").number == 0


def test_name_that_only_begins_like_one_of_this_machine_is_elsewhere() -> None:
    for domain in ("localhost.x.test", "mail.home.test.x.test", "mail.x.test", "notlocalhost.home.test"):
        assert wished_for(AUTO, f"root@{domain}").direction == OUTBOUND


def test_localhost_is_no_business_of_outbound_mail_unless_a_rule_or_the_sender_says_so() -> None:
    assert not wished_for("", "root@localhost").wanted
    assert not wished_for("", "root@box", Client(mta="box.")).wanted
    assert wished_for("", "root@mail.home.test").wanted  # a key may be published for it
    found, _ = searched('[[rule]]\nrecipient = "root@*"\nencrypt = "require"\n', "root@localhost")
    assert (found.verdict, found.reason.code) == (KeyVerdict.UNCLEAR, "special_use")


# --- private networks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["x.internal", "home.arpa", "a.home.arpa", "printer.local"])
@pytest.mark.parametrize(
    ("status", "verdict"),
    [(DNSSECStatus.SECURE, KeyVerdict.NO_KEY), (DNSSECStatus.INSECURE, KeyVerdict.UNCLEAR)],
)
def test_private_domain_is_asked_for_and_its_silence_counts_where_it_is_signed(
    domain: str, status: DNSSECStatus, verdict: KeyVerdict
) -> None:
    found, resolver = searched("", f"bob@{domain}", status)
    assert (found.verdict, len(resolver.asked)) == (verdict, 2)
    assert found.reason.code == ("no_key" if verdict is KeyVerdict.NO_KEY else "special_use")


# --- domains that programs read in two ways ----------------------------------------------------------------


@pytest.mark.parametrize("domain", ["straße.test", "STRAẞE.test", "ὀδυσσεύς.test", "\u0646\u200c\u0627.test", "a.faß"])
@pytest.mark.parametrize(
    ("text", "action"), [("", Action.REFUSE), (AUTO, Action.DEFER), ('[policy]\nunclear = "hold"', Action.HOLD)]
)
def test_domain_that_programs_read_in_two_ways_is_unclear(domain: str, text: str, action: Action) -> None:
    settings: Config = config.parse(text)
    recipient = Session(MTA, "").recipient(f"<bob@{domain}>")
    requirement = policy.wanted(recipient, Circumstances("", MTA), settings)
    assert not requirement.wanted
    decision = policy.decide(recipient, requirement, None, settings)
    assert decision.reason.code == "ambiguous_domain"
    assert decision.action is action


@pytest.mark.parametrize(
    ("pattern", "to"),
    [
        ("*@i❤.test", "bob@xn--i-7iq.test"),
        ("*@xn--i-7iq.test", "bob@I❤.test"),
        ("*@*.i❤.test", "bob@a.i❤\ufe0f.test"),
        ("*@straße.test", "bob@STRASSE.test".replace("SS", "ß")),
    ],
)
def test_rule_holds_for_a_label_that_idna_2008_refuses(pattern: str, to: str) -> None:
    for condition in (f'recipient = "{pattern}"', f'domain = ["{pattern[2:]}"]'):
        assert wished_for(f'[[rule]]\n{condition}\nno_key = "refuse"\n', to).number == 1
    assert wished_for(f'mode = "inbound"\nlocal_domains = ["{pattern[2:]}"]', to.replace("ß", "ü")).direction == INBOUND


def test_local_domain_may_have_a_label_that_idna_2008_refuses() -> None:
    assert wished_for('mode = "inbound"\nlocal_domains = ["i❤.test"]', "bob@xn--i-7iq.test").wanted
    assert not wished_for('local_domains = ["i❤.test"]', "bob@XN--I-7IQ.test").wanted


@pytest.mark.parametrize("to", ["bob@r.test", '"bob"@r.test', '"b\\ob"@R.TEST.', "@a.test:bob@r.test"])
def test_quotes_in_the_pattern_of_a_rule_are_a_way_of_writing_the_address(to: str) -> None:
    assert wished_for("[[rule]]\nrecipient = '\"b\\ob\"@r.test'\nno_key = 'refuse'\n", to).number == 1
    assert wished_for("[[rule]]\nrecipient = '\"bob\"@r.test'\nno_key = 'refuse'\n", to).number == 1


# --- the envelope sender -----------------------------------------------------------------------------------

SENDER_RULE = (
    'append_origin = "home.test"\nappend_domain = "test"\n[[rule]]\nsender = "*@home.test"\nno_key = "refuse"\n'
)


@pytest.mark.parametrize(
    "sender",
    [
        "sam@home.test",
        "sam",
        '"sam"',
        "sam@home",
        "sam@HOME",
        "@a.test:sam@home",
    ],
)
def test_rule_for_a_sender_holds_for_what_the_mta_makes_of_another_spelling(sender: str) -> None:
    settings = config.parse(SENDER_RULE)
    recipient = Session(MTA, sender, (), settings.completion).recipient("<bob@r.test>")
    assert policy.wanted(recipient, Circumstances(sender, MTA), settings).number == 1


@pytest.mark.parametrize(
    "sender", ["", "sam@a.test", "sam@home.", "sam@localhost", "sam%a.test@b.test", '"sam@home.test"@b.test']
)
def test_rule_for_a_sender_does_not_hold_for_others(sender: str) -> None:
    settings = config.parse(SENDER_RULE)
    recipient = Session(MTA, sender, (), settings.completion).recipient("<bob@r.test>")
    assert policy.wanted(recipient, Circumstances(sender, MTA), settings).number == 0


def test_sender_without_a_domain_is_a_further_reader_under_the_origin() -> None:
    settings = config.parse('append_origin = "home.test"\n[[rule]]\nsender = "*"\nalso_to = ["sender"]\n')
    session = Session(MTA, "sam", (), settings.completion)
    decide.begin_lookup(session, session.recipient("<bob@r.test>"), make_ports(TableResolver()), settings)
    assert [str(asked.address) for asked in session.lookups] == ["bob@r.test", "sam@home.test"]


# --- what a mutation run (make mutants) left alive ---------------------------------------------------------


def test_host_of_the_mta_under_the_appended_domain_is_this_machine_and_no_other_host_there_is() -> None:
    client = Client("203.0.113.9", mta="mail")
    for to, direction in (("root@mail.corp.test", INBOUND), ("bob@partner.corp.test", OUTBOUND)):
        requirement = wished_for(AUTO + COMPLETED, to, client)
        assert (requirement.wanted, requirement.direction) == (True, direction)
    assert wished_for(AUTO, "root@mail.corp.test", client).direction == OUTBOUND


def test_name_of_the_mta_that_is_in_local_domains_keeps_its_own_mailboxes() -> None:
    text = AUTO.replace('"]', '", "mail.home.test"]') + 'append_origin = "home.test"\n'
    address = wished_for(text, "root@mail.home.test").address
    assert address is not None
    assert address.domain == "mail.home.test"


def test_localhost_under_the_domain_of_the_mta_is_this_machine_though_that_domain_is_not_local() -> None:
    assert wished_for(AUTO.replace("home", "*.other"), "root@localhost.home.test").direction == INBOUND


def test_recipient_without_a_known_domain_goes_by_the_client() -> None:
    text = AUTO.replace("home", "*.other")
    assert wished_for(text, "bob").direction == INBOUND
    assert wished_for(text, "bob", Client("127.0.0.1")).direction == OUTBOUND
