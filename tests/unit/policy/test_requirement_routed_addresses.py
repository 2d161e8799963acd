"""Addresses that the MTA rewrites are no way around encryption, and recipients without a domain are local."""

from __future__ import annotations

import pytest

from smilla import config, policy
from smilla.model import Action, Client
from smilla.policy import Circumstances
from smilla.session import Session

OUTBOUND = config.parse('local_domains = ["mta.test"]')
INBOUND = config.parse('mode = "inbound"\nlocal_domains = ["*.home.test", "home.test"]')
HELD = config.parse('[policy]\nunclear = "hold"')
UNCLEAR = [(OUTBOUND, Action.REFUSE), (INBOUND, Action.DEFER), (HELD, Action.HOLD)]


@pytest.mark.parametrize(
    "address",
    ["bob%r.test@mta.test", '"bob@r.test"@mta.test', "r.test!bob", "bob%r.test", '"bob@r.test"', "a!b@x.test"],
)
@pytest.mark.parametrize(("settings", "action"), UNCLEAR)
def test_address_that_routes_mail_on_is_unclear_and_never_plain(
    address: str, settings: config.Config, action: Action
) -> None:
    recipient = Session(Client(), "a@x.test").recipient(f"<{address}>")
    requirement = policy.wanted(recipient, Circumstances("a@x.test", Client()), settings)
    assert not requirement.wanted
    decision = policy.decide(recipient, requirement, None, settings)
    assert (decision.action, decision.reason.code) == (action, "routed_address")


@pytest.mark.parametrize(
    "address",
    [
        "<(x)bob@r.test>", "<bob@(x)r.test>", "<bob(x)@r.test>", r"<b\ob@r.test>", "<bob @r.test>", "<bob@ r.test>",
        "<bob@r. test>", "<bob\t@r.test>", "<bob@r.test;>", "<bob@r.test,>", "<x:bob@r.test;>", "<<bob@r.test>>",
        "<x <bob@r.test>>", "<bob@r.test>x", '<"bob" @r.test>', '<bob@"r.test">', '<"bob"(c)@r.test>', "<bob@r.test..>",
        "<bob@[r.test]>", "(x)bob@r.test", "<x y>", "<bob@127.0.0.1>", "<bob@1.2.3.4.>", "<bob@127.1>",
        '<"big\tbob"@r.test>', '<"big\\\tbob"@r.test>', '"\tbob"@r.test', '<"bob\t"@r.test>', "<@a(:bob@r.test>",
    ],
)  # fmt: skip
@pytest.mark.parametrize(("settings", "action"), UNCLEAR)
def test_address_that_the_mta_may_read_as_another_is_unclear_and_never_plain(
    address: str, settings: config.Config, action: Action
) -> None:
    recipient = Session(Client(), "a@x.test").recipient(address)
    requirement = policy.wanted(recipient, Circumstances("a@x.test", Client()), settings)
    assert not requirement.wanted
    decision = policy.decide(recipient, requirement, None, settings)
    assert (decision.action, decision.reason.code) == (action, "unclear_address")


@pytest.mark.parametrize(
    "address",
    ["<>", "<bob>", '<"john smith">', "<k\udce4se@r.test>", "<bob@[192.0.2.1]>", "<bob@[IPv6:::1]>", "< a@r.test >"],
)
def test_odd_but_clear_address_is_not_taken_for_another(address: str) -> None:
    assert not policy.is_unclear(Session(Client(), "").recipient(address))


@pytest.mark.parametrize(
    "sender", ["(x)boss@s.test", "((x)y)boss@s.test", r"b\oss@s.test", "boss @s.test", "boss@(x)S.test"]
)
def test_rule_for_a_sender_is_not_missed_however_the_sender_spells_it(sender: str) -> None:
    settings = config.parse('[[rule]]\nsender = "boss@s.test"\nno_key = "refuse"\n')
    recipient = Session(Client(), sender).recipient("<alice@r.test>")
    requirement = policy.wanted(recipient, Circumstances(sender, Client()), settings)
    assert policy.decide(recipient, requirement, None, settings).reason.code == "unclear_sender"


@pytest.mark.parametrize("address", ["bob@r.test", "bob+tag@r.test", '"john smith"@r.test', "prvs=1=a@r.test"])
def test_ordinary_address_is_not_taken_for_one_that_routes(address: str) -> None:
    assert not policy.hides_destination(Session(Client(), "").recipient(f"<{address}>"))


def test_recipient_without_a_domain_is_looked_up_under_the_origin() -> None:
    recipient = Session(Client(), "", (), INBOUND.completion).recipient("<alice>")
    assert recipient.address is not None
    assert (recipient.address.local_part, recipient.address.domain) == ("alice", "home.test")
    assert policy.wanted(recipient, Circumstances("", Client()), INBOUND).wanted


@pytest.mark.parametrize("address", ["<alice>", "<alice@[127.0.0.1]>"])
def test_recipient_without_a_known_domain_is_wanted_inbound(address: str) -> None:
    assert policy.wanted(Session(Client(), "").recipient(address), Circumstances("", Client()), INBOUND).wanted


def test_origin_is_the_first_local_domain_that_is_no_pattern_or_the_option() -> None:
    assert INBOUND.origin == "home.test"
    assert config.parse('append_origin = "my.test"\nlocal_domains = ["x.test"]').origin == "my.test"
    assert config.Config().origin == ""


@pytest.mark.parametrize("condition", ['recipient = "*@home.test"', 'domain = ["home.test"]'])
def test_rule_holds_for_a_recipient_without_a_domain_too(condition: str) -> None:
    settings = config.parse(
        f'mode = "inbound"\nlocal_domains = ["home.test"]\n[[rule]]\n{condition}\nno_key = "refuse"\n'
    )
    for address in ("<alice@home.test>", "<alice>"):
        recipient = Session(Client(), "", (), settings.completion).recipient(address)
        requirement = policy.wanted(recipient, Circumstances("", Client()), settings)
        assert (requirement.number, requirement.rule) == (1, settings.rule[0])


# --- what a mutation run (make mutants) left alive ---------------------------------------------------------


@pytest.mark.parametrize("sign", [":", ",", ";", "<", ">", "(", ")", "\\", '"', "\x7f"])
def test_odd_sign_at_the_beginning_alone_makes_an_address_unclear(sign: str) -> None:
    assert policy.is_unclear(Session(Client(), "").recipient(f"<{sign}bob@r.test>"))


def test_reason_for_local_mail_names_the_domain_or_says_that_there_is_none() -> None:
    for address, named in (("bob@home.test", "home.test"), ("bob", "without a domain")):
        recipient = Session(Client(), "a@x.test").recipient(f"<{address}>")
        reason = policy.wanted(recipient, Circumstances("a@x.test", Client()), INBOUND).reason
        assert reason.text == f"inbound, and {named}: it is local, or may be"


def test_routed_local_part_of_what_is_no_address_hides_its_destination() -> None:
    recipient = Session(Client(), "").recipient("<bob%there.test@r. test>")
    assert recipient.address is None
    assert policy.hides_destination(recipient)
