"""The stage behind Postfix: what the MTA decides after the filter counts, and no plaintext waits in its queue.

client -> smtpd -> smilla: sealed -> cleanup -> queue -> lmtp -> smilla: split -> the listener without a filter
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.chain import Chain
from tests.lab.client import SMTPClient
from tests.lab.postfix import queue_id
from tests.lab.processes import wait_until
from tests.live.mta import CANARY, Mta, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.lab.client import Reply
    from tests.lab.dns import DNSLab
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

_STAGE: dict[str, Any] = {"policy": {"mixed": "stage"}, "dns": {"timeout_s": 10}}
_FILTERS: dict[str, Any] = {
    # The first one's is the stage that requeued messages go to.
    "hold": {**_STAGE, "policy": {"mixed": "stage", "no_key": "hold"}},
    "outbound": _STAGE,
    "held-by-map": _STAGE,
    "redirected": _STAGE,
    "rejected-later": _STAGE,
    "aliased": _STAGE,
}
_MAPS = {
    "held-by-map": "check_recipient_access inline:{n1@r.test=HOLD}",
    "redirected": "check_recipient_access inline:{{n1@r.test = REDIRECT boss@there.test}}",
}


@pytest.fixture(scope="module")
def mta(folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Mta]:
    options = {name: {"smtpd_recipient_restrictions": f"{map_}, permit"} for name, map_ in _MAPS.items()}
    parameters = {
        # Postfix's default, which the laboratory empties elsewhere.
        "local_header_rewrite_clients": "permit_inet_interfaces",
        "virtual_alias_maps": "inline:{{box@inside.test = alice@r.test} {open@inside.test = bob@r.test}}",
        "virtual_alias_domains": "inside.test",
    }

    def make(place: Path) -> Chain:
        chain = Chain(place, lab.resolver, _FILTERS, parameters, options=options)
        # A filter of another kind that stands after smilla, and refuses: it takes the mark for forged.
        chain.listeners["rejected-later"].milters.append(chain.filters["outbound"].milter)  # type: ignore[attr-defined]
        return chain

    with running(folder, "stage", make) as mta:
        yield mta


def letter(*fields: bytes, to: bytes = b"alice@r.test, n1@r.test") -> bytes:
    head = (b"From: Sender <sender@s.test>", b"To: " + to, b"Subject: a letter", *fields)
    return b"\r\n".join(head) + b"\r\n\r\n" + CANARY + b"\r\n"


BOTH = ["alice@r.test", "n1@r.test"]


def forms(mta: Mta, sent: bytes) -> Mapping[tuple[str, str], int]:
    """Who got how many copies, and in which form, once the queue is empty."""
    mta.chain.mta.wait_until_empty()
    mark = sent[: sent.index(b"\r\n")] + b"\r\n"
    found = [mail for mail in mta.chain.sink.messages if mark in mail.raw]
    return Counter((address, form_of(mail.raw)) for mail in found for address in mail.rcpt_to)


def form_of(raw: bytes) -> str:
    if b"\r\nX-Smilla-Stage: " in raw:
        assert CANARY not in raw
        return "sealed"
    if b"\r\nX-Smilla: encrypted; format=" in raw:
        assert CANARY not in raw
        return raw.partition(b"\r\nX-Smilla: encrypted; format=")[2].partition(b"\r\n")[0].decode()
    return "plain" if CANARY in raw else "other"


def queued_as(mta: Mta, reply: Reply) -> str:
    assert reply.code == 250, reply
    name = queue_id(reply.text)
    assert name
    assert name not in [path.name for path in mta.queued_with(CANARY)]
    return name


SPLIT = {("alice@r.test", "smime"): 1, ("n1@r.test", "plain"): 1}


def test_held_message_is_sealed_and_split_only_when_it_is_released(mta: Mta) -> None:
    reply, sent = mta.send(letter(), BOTH, listener="hold")
    name = queued_as(mta, reply)
    held = mta.chain.postfix.queue / "hold" / name
    assert wait_until(held.exists, 60)
    assert CANARY not in held.read_bytes()
    mta.chain.postfix.release(name)
    assert forms(mta, sent) == SPLIT


def test_access_map_holds_a_sealed_message_and_no_copy_has_left(mta: Mta) -> None:
    reply, sent = mta.send(letter(), BOTH, listener="held-by-map")
    name = queued_as(mta, reply)
    held = mta.chain.postfix.queue / "hold" / name
    assert wait_until(held.exists, 60)
    assert CANARY not in held.read_bytes()
    mark = sent[: sent.index(b"\r\n")] + b"\r\n"
    assert not [mail for mail in mta.chain.sink.messages if mark in mail.raw]
    mta.chain.postfix.release(name)
    assert forms(mta, sent) == SPLIT


def test_redirected_message_shows_nothing_to_who_gets_it(mta: Mta) -> None:
    reply, sent = mta.send(letter(), BOTH, listener="redirected")
    queued_as(mta, reply)
    assert forms(mta, sent) == {("boss@there.test", "sealed"): 1}


def test_nobody_has_a_copy_of_what_a_later_filter_refused(mta: Mta) -> None:
    reply, sent = mta.send(letter(), BOTH, listener="rejected-later")
    assert str(reply).startswith("550 5.7.1"), reply
    assert forms(mta, sent) == {}


@pytest.mark.parametrize("how", ["-r", "-h then -H"])
def test_requeued_message_comes_back_to_the_stage(mta: Mta, how: str) -> None:
    reply, sent = mta.send(letter(), BOTH, listener="hold")
    name = queued_as(mta, reply)
    assert wait_until((mta.chain.postfix.queue / "hold" / name).exists, 60)
    if how == "-r":
        mta.chain.postfix.postsuper("-r", name)
    else:
        mta.chain.postfix.release(name)
    assert forms(mta, sent) == SPLIT


@pytest.mark.parametrize("mark", [b"0" * 32 + b" " + b"1" * 16, b"", b"x"])
def test_forged_mark_is_refused_in_the_dialogue(mta: Mta, mark: bytes) -> None:
    for field in (b"X-Smilla-Stage: ", b"x-smilla-STAGE:"):
        reply, sent = mta.send(letter(field + mark), BOTH)
        assert str(reply).startswith("550 5.7.1"), reply
        assert forms(mta, sent) == {}


def test_message_that_somebody_sent_before_swallows_nothing(mta: Mta) -> None:
    raw = letter(b"Message-ID: <known@s.test>", b"Date: Tue, 24 Nov 2026 10:00:00 +0000")
    _, before = mta.send(b"X-Spam-Flag: YES\r\n" + raw, BOTH)
    _, after = mta.send(raw, BOTH)
    assert forms(mta, before) == forms(mta, after) == SPLIT


def test_two_equal_alarms_without_a_message_id_both_arrive(mta: Mta) -> None:
    raw = b"X-Mark: alarm-\r\n" + letter()
    for _ in range(2):
        with SMTPClient(mta.chain.port()) as client:
            assert client.send("sender@s.test", BOTH, raw)[-1].code == 250
    assert forms(mta, raw) == dict.fromkeys(SPLIT, 2)


def test_alias_gets_the_form_of_its_original_address_or_of_whom_it_leads_to(mta: Mta) -> None:
    to = ["box@inside.test", "open@inside.test", "n1@r.test", "bob@r.test"]
    reply, sent = mta.send(letter(to=b"box@inside.test, n1@r.test"), to, listener="aliased")
    queued_as(mta, reply)
    found = forms(mta, sent)
    assert found == {("alice@r.test", "smime"): 1, ("bob@r.test", "openpgp"): 1, ("n1@r.test", "plain"): 1}


def test_stage_that_is_away_keeps_its_own_mail_waiting_and_no_other(mta: Mta) -> None:
    stage = mta.chain.filters["outbound"]
    mta.chain.mta.wait_until_empty()
    stage.stop()
    try:
        reply, other = mta.send(letter(), BOTH, listener="aliased")
        assert reply.code == 250
        assert forms(mta, other) == SPLIT
        assert mta.send(letter(), BOTH)[0].code == 451
    finally:
        stage.start()
    reply, sent = mta.send(letter(), BOTH)
    assert reply.code == 250
    assert forms(mta, sent) == SPLIT
