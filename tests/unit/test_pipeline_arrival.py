"""How a message came, through all stages: every copy says so, held and hidden ones too, and the stage says it once."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from smilla import pipeline
from smilla.answer import reply
from smilla.config import parse
from smilla.copies import rewrap
from smilla.handover import seal
from smilla.message import MemoryBody
from smilla.model import Client, Copy, CopyForm, Disposition, Message, Outcome, Transport
from smilla.ports import Journal, SealKey
from smilla.session import Session
from tests.vectors.memory import TableResolver, make_ports, make_session, raw_key, smimea

HUGH, PIA, ZOE = "hugh@example.org", "pia@example.org", "zoe@example.org"
OPTION = '[transport]\nauthserv_id = "mx.example.org"\n'
INBOUND = f'mode = "inbound"\nlocal_domains = ["example.org"]\n{OPTION}'
AUTO = f'mode = "auto"\nlocal_domains = ["example.org"]\n{OPTION}'
STRANGER = Client("203.0.113.9", "smtpd")
FORGED = (
    b"Authentication-Results: mx.example.org; x-tls=pass smtp.cipher=FORGED\r\n"
    b"X-Smilla-Transport: FORGED TLSv1.3 TLS_AES_256_GCM_SHA384\r\n"
)
MESSAGE = (
    b"Received: by mx\r\n" + FORGED + b"From: sam@sender.example\r\nTo: hugh@example.org, pia@example.org\r\n"
    b"Subject: TLSv1.3 TLS_AES_256_GCM_SHA384\r\n\r\nhello\r\n"
)
FIRST = (
    b"Authentication-Results: mx.example.org;\r\n\tx-tls=pass smtp.version=TLSv1.3 "
    b"smtp.cipher=TLS_AES_256_GCM_SHA384 smtp.bits=256\r\n"
    b"X-Smilla-Transport: tls TLSv1.3 TLS_AES_256_GCM_SHA384; e2e=none\r\n"
)


def processed(
    *recipients: str, text: str = INBOUND, raw: bytes = MESSAGE, client: Client = STRANGER
) -> tuple[Session, Outcome]:
    resolver = TableResolver().publish(HUGH, "smimea", "secure", smimea("hugh.crt"))
    resolver.publish(PIA, "openpgpkey", "secure", raw_key("pia.pgp"))
    session = make_session(raw, recipients, client=client)
    session.transport = Transport("TLSv1.3", "TLS_AES_256_GCM_SHA384", "256")
    return session, pipeline.process(session, make_ports(resolver), parse(text))


def octets(session: Session, copy: Copy) -> bytes:
    return b"".join(rewrap.applied(session.message, copy.rewrite))


def test_every_copy_says_how_the_message_came_before_all_other_fields_and_once() -> None:
    session, outcome = processed(HUGH, PIA, ZOE)
    assert {copy.form for copy in outcome.copies} == {CopyForm.SMIME, CopyForm.OPENPGP, CopyForm.PLAIN}
    assert outcome.arrival.way == "tls"
    for copy in outcome.copies:
        raw = octets(session, copy)
        assert raw.startswith(FIRST + b"Received: by mx\r\n")
        assert b"FORGED" not in raw
        assert raw.count(b"X-Smilla-Transport") == raw.count(b"x-tls") == 1


@pytest.mark.parametrize("protect", ["copy", "hide"])
def test_it_stays_outside_even_where_it_shows_the_words_of_a_hidden_subject(protect: str) -> None:
    _, outcome = processed(HUGH, text=f'{INBOUND}[headers]\nprotect = "{protect}"\n')
    copy = outcome.copies[0]
    assert copy.rewrite.inserted == outcome.arrival.edits.inserted
    assert set(copy.protection.inside).isdisjoint({"Authentication-Results", "X-Smilla-Transport"})
    assert {1, 2} <= set(copy.rewrite.removed)


def test_what_another_server_said_of_the_way_is_no_field_to_protect() -> None:
    for text in ('[headers]\nprotect = "copy"\n', f'{INBOUND}[headers]\nprotect = "copy"\n'):
        _, outcome = processed(HUGH, text=text)
        assert outcome.copies[0].protection.inside == ("From", "To", "Subject")


def test_a_copy_of_ours_that_comes_back_keeps_what_it_says() -> None:
    """Only the first hop knows how the message came; this one is a listener that should not have the filter."""
    token = "ab" * 16
    received = f"Received: from c (c [203.0.113.9])\r\n\tby mx (smilla) with ESMTP id {token};\r\n\tFri\r\n"
    session = make_session(received.encode() + MESSAGE, [ZOE], client=Client("127.0.0.1"))
    session.transport = Transport()

    class Known:
        def is_own(self, *_: object) -> bool:
            return True

    ports = replace(make_ports(TableResolver()), journal=cast("Journal", Known()))
    outcome = pipeline.process(session, ports, parse(INBOUND))
    assert outcome.classification.reason.code == "own_copy"
    assert octets(session, outcome.copies[0]) == received.encode() + MESSAGE


def test_a_held_message_says_it_too_since_whoever_releases_it_sends_it_on() -> None:
    session, outcome = processed(ZOE, text=f'{INBOUND}[policy]\nno_key = "hold"\n')
    assert outcome.disposition is Disposition.HOLD
    assert octets(session, outcome.copies[0]).startswith(FIRST)
    assert b"FORGED" not in octets(session, outcome.copies[0])


@pytest.mark.parametrize(
    ("text", "client"),
    [
        ('[transport]\nauthserv_id = "mx.example.org"\n', STRANGER),
        (AUTO, Client("127.0.0.1")),
        (AUTO, replace(STRANGER, authenticated_as="sam")),
        (INBOUND.replace(OPTION, ""), STRANGER),
    ],
)
def test_outbound_mail_and_mail_without_the_option_keeps_its_octets(text: str, client: Client) -> None:
    session, outcome = processed(ZOE, text=text, client=client)
    assert outcome.arrival.way == ""
    assert octets(session, outcome.copies[0]) == MESSAGE


def test_in_mode_auto_mail_from_outside_is_told() -> None:
    session, outcome = processed(ZOE, text=AUTO)
    assert octets(session, outcome.copies[0]).startswith(FIRST)


def test_where_the_message_is_ours_or_of_another_server_only_forged_fields_of_ours_go() -> None:
    others = b"Authentication-Results: relay.test; x-tls=pass\r\nAuthentication-Results: mx.example.org; spf=pass\r\n"
    session, outcome = processed(ZOE, raw=others + MESSAGE)
    assert octets(session, outcome.copies[0]) == FIRST + others + MESSAGE.replace(FORGED, b"")


def test_more_forged_fields_than_an_mta_can_remove_are_a_reason_to_refuse() -> None:
    _, outcome = processed(ZOE, raw=FORGED * 400 + MESSAGE)
    assert (outcome.disposition, outcome.reason.code) == (Disposition.REFUSE, "too_many_fields")
    assert reply.for_outcome(outcome, "stage", observe=False).code == "550"
    _, outbound = processed(ZOE, raw=FORGED * 400 + MESSAGE, text=OPTION)
    assert outbound.disposition is Disposition.DELIVER


def test_the_sealed_message_and_what_is_inside_it_say_it_once() -> None:
    session, outcome = processed(HUGH, PIA)
    facts = seal.facts(session.envelope, outcome.decisions, "4X", session.client, outcome.direction)
    key = SealKey(bytes(8), bytes(32))
    rewrite = seal.rewrite(session.message, facts, key, outcome.arrival.edits)
    sealed = rewrap.edited(session.message, rewrite)
    outside = b"".join(header.raw for header in sealed.headers)
    assert outside.startswith(FIRST + b"Received: by mx\r\n")
    assert b"FORGED" not in outside
    assert rewrite.body is not None
    message = Message(sealed.headers, MemoryBody([b"".join(rewrite.body())]))
    opened = seal.opened(message, key).message
    assert b"".join(header.raw for header in opened.headers).startswith(FIRST + b"Received: by mx\r\n")
    assert b"FORGED" not in b"".join(header.raw for header in opened.headers)
