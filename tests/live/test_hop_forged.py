"""Fields that would lead a bound copy elsewhere, or mail past smilla, and what bounces tell (tests/live/hops.py)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.lab.processes import wait_until
from tests.live.hops import CANARY, OPEN, SENDER, knows_tls_required
from tests.live.mta import letter

if TYPE_CHECKING:
    from tests.live.hops import World

pytestmark = pytest.mark.live
FORGED = b"X-Smilla-Hop: " + b"0123456789abcdef" * 2 + b" 0123456789abcdef " + b"0123456789abcdef" * 4


def sent_here(hops: World, sender: str, recipient: str, *fields: bytes, body: bytes = CANARY) -> bytes:
    """A letter by sendmail(1); its mark."""
    hops.sent += 1
    mark = b"X-Mark: %d-\r\n" % hops.sent
    hops.postfix.sendmail(mark + letter(*fields, body=body + b"\r\n", to=recipient.encode()), sender, recipient)
    return mark


def bounced(hops: World, reply: bytes, domain: str = "dane.test") -> tuple[bytes, bytes]:
    """A message whose bound copy its server refuses: the field that bound it, as the bounce tells it, and the mark."""
    with hops.busy(domain, reply):
        _, _, mark = hops.send([f"frank@{domain}"])
        hops.postfix.wait_until_empty()
    (bounce,) = hops.everywhere(mark)
    assert (bounce.mail_from, bounce.rcpt_to) == ("", (SENDER,))
    assert reply[4:] in b" ".join(bounce.raw.split())
    assert CANARY not in bounce.raw
    assert b"Subject: a letter" in bounce.raw
    (field,) = re.findall(rb"(?m)^X-Smilla-Hop: [0-9a-f ]+(?:\r\n[ \t][0-9a-f ]+)*", bounce.raw)
    return b" ".join(field.split()), mark


def is_kept(hops: World, why: str) -> None:
    """Waits until a message was put off by the stage for this reason, and has been nowhere else."""
    hops.smilla.wait_for_log(why)
    hops.told(r"postfix/smilla/lmtp\[\d+\]: \w+: to=<.*status=deferred")


@pytest.mark.parametrize("domain", ["dane.test", "enforce.test", "inside.test"])
def test_sender_who_says_that_tls_is_not_required_is_not_believed(hops: World, domain: str) -> None:
    reply, _, mark = hops.send([f"frank@{domain}"], b"TLS-Required: no")
    assert reply.code == 250
    hops.delivered(domain, mark)


@pytest.mark.parametrize("domain", ["wrong.test", "stripped.test", "stripped-sts.test", "stranger.test"])
def test_nobody_gets_clear_text_because_the_sender_says_that_tls_is_not_required(hops: World, domain: str) -> None:
    reply, _, mark = hops.send([f"frank@{domain}"], b"TLS-Required: no")
    assert reply.code == 250
    hops.waits(domain)
    assert not hops.everywhere(mark)


def test_message_that_says_so_after_a_requeue_gets_no_clear_text_either(hops: World) -> None:
    _, _, mark = hops.send(["frank@stripped.test"], b"TLS-Required: no")
    found = hops.waits("stripped.test")
    hops.postfix.postsuper("-r", found)
    assert wait_until(lambda: hops.waits("stripped.test") != found, 60)
    assert not hops.everywhere(mark)


@pytest.mark.parametrize("recipient", ["frank@dane.test", "alice@r.test", "open@none.test"])
@pytest.mark.parametrize("field", [FORGED, b"X-Smilla-Hop: x", b"x-smilla-hop : y"])
def test_message_from_outside_with_the_field_is_refused(hops: World, field: bytes, recipient: str) -> None:
    reply, _, mark = hops.send([recipient], field)
    assert (reply.code, "5.7.1" in reply.text) == (550, True)
    hops.postfix.wait_until_empty()
    assert not hops.everywhere(mark)


def test_forged_field_from_this_machine_leads_nowhere(hops: World) -> None:
    mark = sent_here(hops, SENDER, "open@none.test", FORGED)
    is_kept(hops, "seal-key-missing .*there is no seal key 0123456789abcdef")
    assert not hops.everywhere(mark)


def test_mail_of_this_machine_is_bound_as_well(hops: World) -> None:
    mark = sent_here(hops, SENDER, "frank@dane.test")
    hops.delivered("dane.test", mark)


@pytest.mark.parametrize("domain", ["bogus.test", "noweb.test"])
def test_deferred_mail_of_this_machine_goes_to_no_fallback_relay(hops: World, domain: str) -> None:
    mark = sent_here(hops, SENDER, f"frank@{domain}")
    hops.told(rf"postfix/smilla-in/smtp\[\d+\]: \w+: to=<frank@{domain}>.*status=(deferred|sent)")
    assert not hops.everywhere(mark)


def test_bounce_has_header_fields_only_and_its_field_is_good_for_no_other_sender(hops: World) -> None:
    field, _ = bounced(hops, b"550 5.1.1 nobody is called so")
    mark = sent_here(hops, "thief@s.test", "open@none.test", field)
    is_kept(hops, "seal-broken .*made for another envelope sender")
    assert not hops.everywhere(mark)
    assert hops.send(["frank@dane.test"], field)[0].code == 550


def test_field_that_is_used_again_by_its_sender_still_leads_over_a_verified_hop_only(hops: World) -> None:
    field, _ = bounced(hops, b"550 5.1.1 nobody is called so")
    mark = sent_here(hops, SENDER, "frank@stripped.test", field)
    hops.waits("stripped.test")
    assert not hops.everywhere(mark)


def test_two_fields_in_one_message_lead_nowhere(hops: World) -> None:
    field, _ = bounced(hops, b"550 5.1.1 nobody is called so")
    mark = sent_here(hops, SENDER, "frank@dane.test", field, FORGED)
    is_kept(hops, "seal-broken .*or there are several")
    assert not hops.everywhere(mark)


def test_null_sender_is_bound_and_not_answered(hops: World) -> None:
    reply, _, mark = hops.send(["frank@dane.test"], sender="")
    assert reply.code == 250
    assert hops.delivered("dane.test", mark).mail_from == ""
    with hops.busy("dane.test", b"550 5.1.1 nobody"):
        _, _, mark = hops.send(["frank@dane.test"], sender="")
        hops.postfix.wait_until_empty()
    assert not hops.everywhere(mark)


def test_attached_message_may_have_the_field(hops: World) -> None:
    raw = b"MIME-Version: 1.0\r\nContent-Type: message/rfc822"
    reply, _, mark = hops.send(["frank@dane.test"], raw, body=FORGED + b"\r\nSubject: y\r\n\r\n" + CANARY)
    assert reply.code == 250
    hops.postfix.wait_until_empty()
    (mail,) = hops.at("dane.test", mark)
    assert mail.over_tls
    assert mail.raw.count(b"X-Smilla-Hop") == 1


def test_what_is_too_large_or_refused_by_its_server_bounces_in_no_more_than_its_header(hops: World) -> None:
    for reply in (b"552 5.3.4 too large", b"554 5.7.1 not wanted"):
        bounced(hops, reply, "enforce.test")


def test_plain_mail_is_not_held_up_by_any_of_this(hops: World) -> None:
    reply, _, mark = hops.send(["open@none.test"], b"TLS-Required: no", body=OPEN)
    assert reply.code == 250
    hops.postfix.wait_until_empty()
    assert len(hops.at_relay(mark)) == 1


def test_postfix_that_knows_tls_required_is_told_to_forget_it(hops: World) -> None:
    """Where Postfix is older than 3.10, the field has no effect."""
    said = hops.postfix.run("postconf", "-hx", "tls_required_enable") if knows_tls_required(hops.postfix) else "no"
    assert said.strip() == "no"
