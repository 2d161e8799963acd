"""[keys] aliases = "expanded": whoever an alias leads to gets what they can open, by their own key.

client -> smtpd -> smilla: sealed -> cleanup (virtual_alias_maps) -> queue -> lmtp -> smilla: split -> "plain"
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.chain import Chain
from tests.lab.processes import wait_until
from tests.live.mta import CANARY, Mta, running
from tests.live.test_stage import form_of, forms, letter, queued_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.lab.smilla import Smilla
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

_USUAL: dict[str, Any] = {
    "mode": "auto",
    "local_domains": ["inside.test", "home.test"],
    "keys": {"aliases": "expanded"},
    "policy": {"mixed": "stage"},
    "dns": {"timeout_s": 10},
    "rule": [
        {"recipient": "secret@inside.test", "encrypt": "require"},
        {"recipient": "early@inside.test", "encrypt": "require", "at_rcpt": True},
        {"recipient": "never@inside.test", "encrypt": "never"},
    ],
}
_FILTERS: dict[str, Any] = {
    "outbound": _USUAL,
    "as-given": {**_USUAL, "keys": {"aliases": ""}},
    "one-way": {**_USUAL, "mode": "outbound"},
}
_MAPS = {
    "team@inside.test": "alice@r.test, bob@r.test",
    "half@inside.test": "alice@r.test, n1@r.test",
    "secret@inside.test": "alice@r.test, n1@r.test",
    "early@inside.test": "alice@r.test",
    "never@inside.test": "bob@r.test",
    "outer@inside.test": "team@inside.test, half@inside.test",
    "forged@inside.test": "alice@bogus.test, bob@r.test",
}
_PARAMETERS = {
    "virtual_alias_maps": "inline:{" + " ".join(f"{{{name} = {to}}}" for name, to in _MAPS.items()) + "}",
    "virtual_alias_domains": "inside.test",
}


@pytest.fixture(scope="module")
def mta(folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Mta]:
    with running(folder, "aliases", lambda place: Chain(place, lab.resolver, _FILTERS, _PARAMETERS)) as mta:
        yield mta


def filter_of(mta: Mta) -> Smilla:
    return mta.chain.filters["outbound"]


TEAM = {("alice@r.test", "smime"): 1, ("bob@r.test", "openpgp"): 1}


def to(*names: str) -> bytes:
    return letter(to=", ".join(names).encode())


@pytest.mark.parametrize("listener", ["outbound", "one-way"])
def test_each_member_of_an_alias_opens_their_copy(mta: Mta, keys: Keys, tmp_path: Path, listener: str) -> None:
    reply, sent = mta.send(to("team@inside.test"), ["team@inside.test"], listener=listener)
    queued_as(mta, reply)
    assert forms(mta, sent) == TEAM
    for mail in mta.delivered(sent):
        file = tmp_path / "message.eml"
        file.write_bytes(mail.raw)
        opened = keys.alice.open(file) if mail.rcpt_to == ("alice@r.test",) else keys.bob.open(file)
        assert CANARY in opened


def test_without_the_option_an_alias_alone_is_what_it_says(mta: Mta) -> None:
    reply, sent = mta.send(to("team@inside.test"), ["team@inside.test"], listener="as-given")
    assert reply.code == 250
    assert forms(mta, sent) == {("alice@r.test", "plain"): 1, ("bob@r.test", "plain"): 1}


def test_member_without_a_key_gets_what_policy_says(mta: Mta) -> None:
    reply, sent = mta.send(to("half@inside.test"), ["half@inside.test"])
    queued_as(mta, reply)
    assert forms(mta, sent) == {("alice@r.test", "smime"): 1, ("n1@r.test", "plain"): 1}


def test_member_without_a_key_is_bounced_and_never_plain_where_the_rule_of_the_alias_wants_encryption(mta: Mta) -> None:
    reply, sent = mta.send(to("secret@inside.test"), ["secret@inside.test"])
    queued_as(mta, reply)
    mta.chain.mta.wait_until_empty()
    found = {mail.rcpt_to: mail.raw for mail in mta.delivered(sent)}
    assert form_of(found["alice@r.test",]) == "smime"
    bounce = found["sender@s.test",]
    assert b"n1@r.test" in bounce
    assert CANARY not in bounce
    assert len(found) == 2


def test_rule_that_answers_at_rcpt_waits_for_the_expansion_as_well(mta: Mta) -> None:
    reply, sent = mta.send(to("early@inside.test"), ["early@inside.test"])
    queued_as(mta, reply)
    assert forms(mta, sent) == {("alice@r.test", "smime"): 1}


def test_who_is_named_and_led_to_gets_one_copy(mta: Mta) -> None:
    named = ["team@inside.test", "alice@r.test", "outer@inside.test", "half@inside.test"]
    reply, sent = mta.send(to(*named), named)
    queued_as(mta, reply)
    assert forms(mta, sent) == {**TEAM, ("n1@r.test", "plain"): 1}


def test_rule_that_says_never_is_for_whom_the_alias_leads_to_as_well(mta: Mta) -> None:
    reply, sent = mta.send(to("never@inside.test"), ["never@inside.test"])
    assert reply.code == 250
    assert forms(mta, sent) == {("bob@r.test", "plain"): 1}


def test_member_of_whom_nobody_can_tell_waits_and_gets_no_plaintext(mta: Mta) -> None:
    reply, sent = mta.send(to("forged@inside.test"), ["forged@inside.test"])
    name = queued_as(mta, reply)
    filter_of(mta).wait_for_log(f"{name} deferred rcpt=alice@bogus.test .*reason=bogus")
    mark = sent[: sent.index(b"\r\n")]
    assert wait_until(lambda: any(mark in mail.raw for mail in mta.chain.sink.messages), 60)
    mta.chain.postfix.postsuper("-d", name)
    assert forms(mta, sent) == {("bob@r.test", "openpgp"): 1}


def test_mailbox_without_a_key_has_its_mail_as_before(mta: Mta) -> None:
    reply, sent = mta.send(to("reader@home.test"), ["reader@home.test"])
    queued_as(mta, reply)
    assert CANARY in mta.in_mailbox("reader", sent)


def test_recipients_elsewhere_are_not_sealed_for(mta: Mta) -> None:
    before = filter_of(mta).log.count(" sealed rcpt=")
    reply, sent = mta.send(to("n1@r.test"), ["n1@r.test"])
    assert reply.code == 250
    assert forms(mta, sent) == {("n1@r.test", "plain"): 1}
    assert filter_of(mta).log.count(" sealed rcpt=") == before
