"""Bound copies in Postfix's queue: requeued, held, and waiting while each part is away or says something else
(tests/live/hops.py)."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.lab.processes import port_answers, session_members, wait_until
from tests.live.hops import CANARY, SENDER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.live.hops import World

pytestmark = pytest.mark.live


@contextlib.contextmanager
def deferred(hops: World, domain: str = "dane.test", sender: str = SENDER) -> Iterator[tuple[str, bytes]]:
    """A bound copy that its server takes from the end on: its queue ID and its mark.

    An attempt may be under way at the end: what keeps the copy back otherwise is seen before.
    """
    with hops.busy(domain):
        reply, sealed, mark = hops.send([f"frank@{domain}"], sender=sender)
        assert reply.code == 250
        found = hops.waits(domain, "later")
        hops.told(rf"postfix/smilla/lmtp\[\d+\]: {sealed}: .*status=sent")  # smilla has recorded the copy
        yield found, mark


def bound_again(hops: World, domain: str, before: str) -> str:
    """Waits until a copy was requeued and put off once more under another ID, over a verified hop."""
    assert wait_until(lambda: hops.waits(domain) != before, 60), hops.log[-4000:]
    return hops.waits(domain)


def hold(hops: World, found: str) -> None:
    """Holds a copy that lies still: an attempt that is under way just now could deliver it yet."""
    path = hops.postfix.queue / "hold" / found

    def is_held() -> bool:
        hops.postfix.postsuper("-h", found, "incoming", "deferred")
        return path.exists()

    assert wait_until(is_held, 60, step_s=0.3)


@pytest.mark.parametrize("sender", [SENDER, "", "old@s.test"])
@pytest.mark.parametrize("domain", ["dane.test", "enforce.test", "inside.test"])
def test_requeued_copy_is_bound_anew_and_comes_once(hops: World, domain: str, sender: str) -> None:
    with deferred(hops, domain, sender) as (found, mark):
        before = hops.smilla.log.count(" bound-again ")
        hops.postfix.postsuper("-r", found)
        again = bound_again(hops, domain, found)
        assert wait_until(lambda: hops.smilla.log.count(" bound-again ") == before + 1, 60)
        hops.postfix.postsuper("-r", again)
        bound_again(hops, domain, again)
    mail = hops.delivered(domain, mark)
    assert mail.mail_from == sender.replace("old@", "new@")


def test_requeued_copy_still_goes_to_no_server_that_is_not_verified(hops: World) -> None:
    _, _, mark = hops.send(["frank@wrong.test"])
    hops.postfix.postsuper("-r", found := hops.waits("wrong.test"))
    bound_again(hops, "wrong.test", found)
    assert not hops.everywhere(mark)


def test_copy_that_is_held_and_released_keeps_its_way(hops: World) -> None:
    with deferred(hops) as (found, mark):
        hold(hops, found)
    hops.postfix.release(found)
    hops.delivered("dane.test", mark)


def test_held_copy_that_is_requeued_is_bound_anew(hops: World) -> None:
    with deferred(hops) as (found, mark):
        hold(hops, found)
    before = hops.smilla.log.count(" bound-again ")
    hops.postfix.postsuper("-r", found)
    hops.delivered("dane.test", mark)
    assert hops.smilla.log.count(" bound-again ") == before + 1


def test_whole_queue_that_is_requeued_goes_the_right_ways(hops: World) -> None:
    with hops.busy("dane.test"), hops.busy("inside.test"):
        marks, found = {}, {}
        for domain in ("dane.test", "inside.test"):
            _, _, marks[domain] = hops.send([f"frank@{domain}"])
            found[domain] = hops.waits(domain)
            hold(hops, found[domain])  # postsuper misses what moves from one folder to another just now
        hops.postfix.postsuper("-r", "ALL")
        for domain, before in found.items():
            bound_again(hops, domain, before)
    for domain, mark in marks.items():
        hops.delivered(domain, mark)


def test_copy_that_is_requeued_while_smilla_is_away_waits_for_it(hops: World) -> None:
    with deferred(hops) as (found, mark):
        hops.smilla.stop()
        try:
            hops.postfix.postsuper("-r", found)
            hops.told(r"postfix/smilla/lmtp\[\d+\]: \w+: to=<frank@dane.test>.*status=deferred")
            assert not hops.everywhere(mark)
        finally:
            hops.smilla.start()
    hops.delivered("dane.test", mark)


def test_bound_copies_outlast_a_restart_of_each_part(hops: World) -> None:
    with deferred(hops) as (_, mark):
        hops.smilla.stop()
        try:
            hops.dns.reload()
            hops.postfix.stop()
        finally:
            hops.smilla.start()
            hops.postfix.start()
        assert wait_until(lambda: port_answers(587), 60)
    hops.delivered("dane.test", mark)


def test_killed_processes_of_smilla_hold_up_bound_copies_and_no_more(hops: World) -> None:
    parent = hops.smilla.child.pid
    with deferred(hops) as (_, mark):
        for pid in session_members(parent):
            if pid != parent:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    hops.delivered("dane.test", mark)
    _, _, mark = hops.send(["frank@enforce.test"])
    hops.delivered("enforce.test", mark)


def test_without_the_socketmap_bound_copies_wait(hops: World) -> None:
    socket = hops.postfix.queue / "smilla/tls.sock"
    away = socket.with_name("away")
    socket.rename(away)
    hops.postfix.reload()  # an open connection would go on
    try:
        reply, _, mark = hops.send(["frank@dane.test", "frank@enforce.test"])
        assert reply.code == 250
        for domain in ("dane.test", "enforce.test"):
            hops.waits(domain, "client TLS configuration problem")
        assert not hops.everywhere(mark)
    finally:
        away.rename(socket)
    hops.postfix.wait_until_empty()
    assert len(hops.everywhere(mark)) == 2
    assert all(mail.over_tls for mail in hops.everywhere(mark))


def test_without_a_resolver_bound_copies_wait(hops: World) -> None:
    with deferred(hops) as (_, mark):
        hops.dns.stop()
        try:
            hops.waits("dane.test", "Name service error for name=dane.test type=MX")
            assert not hops.everywhere(mark)
        finally:
            hops.dns.start()
    hops.delivered("dane.test", mark)


def test_tlsa_records_that_vanish_before_delivery_keep_the_copy(hops: World) -> None:
    zone = hops.dns.zone("dane.test")
    before = list(zone.records)
    with deferred(hops) as (_, mark):
        try:
            zone.records = [record for record in before if record[1] != "TLSA"]
            hops.dns.reload()
            hops.told("temporary error: no_secure_hop: dane.test: neither DANE nor MTA-STS")
            hops.waits("dane.test", "client TLS configuration problem")
            assert not hops.everywhere(mark)
        finally:
            zone.records = before
            hops.dns.reload()
    hops.delivered("dane.test", mark)


def test_policy_that_is_no_longer_announced_before_delivery_is_remembered(hops: World) -> None:
    try:
        with deferred(hops, "enforce.test") as (_, mark):
            hops.forget_policy("enforce.test")
            hops.web.answers["enforce.test"].status = 404
            hops.dns.reload()
        hops.delivered("enforce.test", mark)
    finally:
        hops.web.answers["enforce.test"].status = 200
        hops.announce_policy("enforce.test")
        hops.dns.reload()


def test_hop_that_is_gone_before_the_stage_decides_bounces_without_the_body(hops: World) -> None:
    zone = hops.dns.zone("dane.test")
    before = list(zone.records)
    socket = hops.postfix.queue / "smilla/stage.sock"
    away = socket.with_name("stage-away")
    socket.rename(away)
    try:
        reply, found, mark = hops.send(["frank@dane.test"])
        assert reply.code == 250
        hops.told(rf"postfix/smilla/lmtp\[\d+\]: {found}: .*status=deferred")
        zone.records = [record for record in before if record[1] != "TLSA"]
        hops.dns.reload()
        away.rename(socket)
        hops.postfix.wait_until_empty()
    finally:
        if away.exists():
            away.rename(socket)
        zone.records = before
        hops.dns.reload()
    (bounce,) = hops.everywhere(mark)
    assert (bounce.mail_from, bounce.rcpt_to) == ("", (SENDER,))
    assert b"it may leave over a verified connection only" in b" ".join(bounce.raw.split())
    assert CANARY not in bounce.raw


def test_bound_copies_outlast_the_action_as_long_as_somebody_answers_postfix(hops: World) -> None:
    before = dict(hops.smilla.settings)
    hop, policy = before["hop"], before["policy"]
    assert isinstance(hop, dict)
    assert isinstance(policy, dict)
    plain = {**before, "policy": {**policy, "no_key": "plain"}, "circle": []}
    try:
        with deferred(hops) as (_, mark):
            hops.smilla.write_config(plain)
            hops.smilla.reload()
            hops.told("temporary error: smilla has no secure-hop in its configuration")
        assert not hops.everywhere(mark)
        hops.smilla.write_config({**plain, "hop": {**hop, "policy_server": True}})
        hops.smilla.reload()
        hops.delivered("dane.test", mark)
    finally:
        hops.smilla.write_config(before)
        hops.smilla.reload()


def test_copy_that_is_given_up_bounces_without_the_body(hops: World) -> None:
    with deferred(hops) as (found, mark):
        hops.postfix.postsuper("-e", found)
        hops.postfix.wait_until_empty()
    (bounce,) = hops.everywhere(mark)
    assert (bounce.mail_from, bounce.rcpt_to) == ("", (SENDER,))
    assert b"Subject: a letter" in bounce.raw
    assert CANARY not in bounce.raw
