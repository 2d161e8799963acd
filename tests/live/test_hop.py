"""secure-hop between real mail servers: who gets what, what the log says, and what the sender is told
(tests/live/hops.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.processes import wait_until
from tests.live.hops import CANARY, OPEN, SENDER

if TYPE_CHECKING:
    from tests.live.hops import World

pytestmark = pytest.mark.live


def test_the_sniffer_sees_what_travels_in_the_clear(hops: World) -> None:
    reply, _, mark = hops.send(["open@none.test"], body=OPEN)
    assert reply.code == 250
    hops.postfix.wait_until_empty()
    assert len(hops.at_relay(mark)) == 1
    assert wait_until(lambda: OPEN in hops.sniffer.to("127.0.0.9"), 30)


VERIFIED = {  # the way, as smilla's log has it
    "dane.test": "dane",  # 3 1 1
    "anchor.test": "dane",  # 2 0 1, an authority that nobody else trusts
    "rolling.test": "dane",  # two TLSA records: the next certificate's, then that of today
    "expired-dane.test": "dane",  # usage 3 knows no date (RFC 7671 section 5.1)
    "alias.test": "dane",  # the MX host is an alias of mx.dane.test, in signed zones
    "enforce.test": "mta-sts",
    "unsigned-sts.test": "mta-sts",  # the policy needs no DNSSEC
    "two.test": "mta-sts",  # the best MX host is not in the policy: it is passed over
    "inside.test": "circle",
    "postfix.test": "dane",  # a Postfix takes it
}
REFUSED = {
    "none.test": "no_secure_hop",
    "insecure.test": "no_secure_hop",  # its TLSA record is right, but its zone is not signed
    "usage1.test": "unusable_tlsa",  # RFC 7672 section 3.1.3
    "testing.test": "mta_sts_testing",
    "mismatch.test": "mta_sts_mismatch",  # the MX host is not in the policy
    "outside.test": "no_secure_hop",  # of the circle's authority, but not in the circle
}
UNKNOWN = {
    "forged.test": "tlsa_bogus",
    "bogus.test": "bogus",
    "noweb.test": "mta_sts_unreachable",
    "moved.test": "mta_sts_unclear",
}
KEPT = {  # what Postfix's log says
    "wrong.test": "Server certificate not verified",
    "stripped.test": "TLS is required, but was not offered",
    "badcert.test": "Server certificate not verified",  # MTA-STS, and another authority
    "othername.test": "Server certificate not verified",  # MTA-STS, and a certificate for another name
    "stripped-sts.test": "TLS is required, but was not offered",
    "both.test": "Server certificate not verified",  # the policy would fit, but DANE goes first (RFC 8461 section 2)
    "stranger.test": "Server certificate not verified",  # in the circle, of a public authority; its policy would fit
    "lapsed.test": "Server certificate not verified",  # in the circle, expired
}


def test_every_domain_of_the_world_has_a_test(hops: World) -> None:
    assert {*VERIFIED, *REFUSED, *UNKNOWN, *KEPT, "short.test"} == hops.sites.keys()


@pytest.mark.parametrize("domain", VERIFIED)
def test_verified_hop_takes_the_message(hops: World, domain: str) -> None:
    reply, found, mark = hops.send([f"frank@{domain}"])
    assert reply.code == 250
    mail = hops.delivered("dane.test" if domain == "alias.test" else domain, mark)
    assert (mail.mail_from, mail.rcpt_to) == (SENDER, (f"frank@{domain}",))
    for event in ("sealed", "secure-hop"):
        line = hops.smilla.wait_for_log(f"{found} {event} rcpt=frank@{domain} ")
        assert f" hop={VERIFIED[domain]} reason=no_key " in line


@pytest.mark.parametrize("domain", REFUSED)
def test_proven_absence_of_a_verified_hop_refuses_the_message(hops: World, domain: str) -> None:
    reply, _, mark = hops.send([f"frank@{domain}"])
    why = "offers none (DANE, MTA-STS)"
    if domain == "mismatch.test":
        why = "'s MTA-STS names other hosts"
    text = f"550 5.7.5 <frank@{domain}>: it may leave over a verified connection only, and the domain {why}"
    assert str(reply) == text.replace(" '", "'")
    assert f" reason={REFUSED[domain]} " in hops.smilla.wait_for_log(f" refused rcpt=frank@{domain} ")
    hops.postfix.wait_until_empty()
    assert not hops.everywhere(mark)


@pytest.mark.parametrize("domain", UNKNOWN)
def test_what_nobody_knows_defers_the_message(hops: World, domain: str) -> None:
    reply, _, mark = hops.send([f"frank@{domain}"])
    assert (reply.code, reply.text[:6]) == (451, "4.7.5 ")
    assert f" reason={UNKNOWN[domain]} " in hops.smilla.wait_for_log(f" deferred rcpt=frank@{domain} ")
    hops.postfix.wait_until_empty()
    assert not hops.everywhere(mark)


@pytest.mark.parametrize("domain", KEPT)
def test_server_that_is_not_the_verified_one_gets_nothing(hops: World, domain: str) -> None:
    reply, found, mark = hops.send([f"frank@{domain}"])
    assert reply.code == 250
    hops.smilla.wait_for_log(f"{found} secure-hop rcpt=frank@{domain} ")
    hops.waits(domain, KEPT[domain])
    assert not hops.everywhere(mark)
    assert not hops.receivers[domain].cut_off


def test_recipient_with_a_key_gets_it_encrypted_over_any_hop(hops: World) -> None:
    reply, _, mark = hops.send(["alice@r.test"])
    assert reply.code == 250
    hops.postfix.wait_until_empty()
    (mail,) = hops.at_relay(mark)
    assert b"application/pkcs7-mime" in mail.raw
    assert CANARY not in mail.raw


def test_one_message_to_all_kinds_of_recipients_goes_to_each_as_it_must(hops: World) -> None:
    to = ["alice@r.test", "open@none.test", "frank@dane.test", "fred@dane.test", "frank@enforce.test"]
    to += ["frank@inside.test"]
    # What may travel in the clear is the same letter, so this one has no canary.
    reply, _, mark = hops.send(to, body=OPEN)
    assert reply.code == 250
    hops.postfix.wait_until_empty()
    assert sorted(mail.rcpt_to for mail in hops.at_relay(mark)) == [("alice@r.test",), ("open@none.test",)]
    assert [mail.rcpt_to for mail in hops.at("dane.test", mark)] == [("frank@dane.test", "fred@dane.test")]
    for domain in ("dane.test", "enforce.test", "inside.test"):
        (mail,) = hops.at(domain, mark)
        assert mail.over_tls
        assert b"x-smilla-hop" not in mail.raw.lower()
        assert OPEN not in hops.sniffer.to(hops.addresses[domain])


def test_one_recipient_without_a_verified_hop_refuses_the_whole_message_before_anybody_has_it(hops: World) -> None:
    reply, _, mark = hops.send(["frank@dane.test", "frank@none.test"])
    assert reply.code == 550
    assert "<frank@none.test>" in reply.text
    hops.postfix.wait_until_empty()
    assert not hops.everywhere(mark)


def test_one_slow_server_delays_its_own_mail_only(hops: World) -> None:
    reply, _, mark = hops.send(["frank@dane.test", "frank@wrong.test", "frank@enforce.test"])
    assert reply.code == 250
    hops.waits("wrong.test")
    assert wait_until(lambda: len(hops.everywhere(mark)) == 2, 60)
    assert len(hops.at("dane.test", mark)) == len(hops.at("enforce.test", mark)) == 1
    assert len(hops.everywhere(mark)) == 2


def test_policy_without_a_dns_record_is_remembered_and_an_expired_one_is_not(hops: World) -> None:
    try:
        for domain in ("enforce.test", "short.test"):
            _, _, mark = hops.send([f"frank@{domain}"])
            hops.delivered(domain, mark)
            hops.forget_policy(domain)
        hops.dns.reload()
        reply, _, mark = hops.send(["frank@enforce.test"])
        assert reply.code == 250
        hops.delivered("enforce.test", mark)
        assert wait_until(lambda: hops.send(["frank@short.test"])[0].code == 550, 30)  # max_age is a second
    finally:
        for domain in ("enforce.test", "short.test"):
            hops.forget_policy(domain)
            hops.announce_policy(domain)
        hops.dns.reload()


def test_policy_that_is_asked_for_again_and_not_found_still_applies(hops: World) -> None:
    _, _, mark = hops.send(["frank@enforce.test"])
    hops.delivered("enforce.test", mark)
    try:
        hops.forget_policy("enforce.test")
        hops.announce_policy("enforce.test", number=2)
        hops.web.answers["enforce.test"].status = 404
        hops.dns.reload()
        reply, _, mark = hops.send(["frank@enforce.test"])
        assert reply.code == 250
        hops.delivered("enforce.test", mark)
        hops.smilla.wait_for_log("sts-policy-failed domain=enforce.test policy_id=2 ")
    finally:
        hops.web.answers["enforce.test"].status = 200
        hops.forget_policy("enforce.test")
        hops.announce_policy("enforce.test")
        hops.dns.reload()
