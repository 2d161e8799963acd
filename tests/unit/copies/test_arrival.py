"""How a message came: what is said, what is removed, and that no stranger can say it."""

from __future__ import annotations

import re

import pytest

from smilla.config.options import TransportOptions
from smilla.copies import arrival
from smilla.formats import authentication_results
from smilla.message import parse
from smilla.model import Arrival, Authorities, Classification, Format, MessageKind, Reason, Transport
from tests.unit.decisions import PLAIN

OPTIONS = TransportOptions("mx.example.org")
WITH_CIRCLES = TransportOptions("mx.example.org", circles=True)
MESSAGE = parse(b"From: a@s.test\r\n\r\nhello\r\n").message
TLS = Transport("TLSv1.3", "TLS_AES_256_GCM_SHA384", "256")
OURS = Authorities("ours", frozenset({"Our CA"}), frozenset({"/C=ES/O=Our Network/CN=Our CA"}))
OTHERS = Authorities("others", frozenset({"Their CA"}), frozenset({"/CN=Their CA"}))


def told(transport: Transport | None, *circles: Authorities, options: TransportOptions = OPTIONS) -> Arrival:
    return arrival.told(MESSAGE, transport, PLAIN, options, circles)


def fields(transport: Transport, *circles: Authorities, options: TransportOptions = OPTIONS) -> tuple[str, str]:
    (name, results), (field, way) = told(transport, *circles, options=options).edits.inserted
    assert (name, field) == ("Authentication-Results", "X-Smilla-Transport")
    return results, way


def test_without_tls_it_is_plain() -> None:
    assert fields(Transport()) == ("mx.example.org;\r\n\tx-tls=none", "plain; e2e=none")


def test_with_tls_version_and_cipher_are_told() -> None:
    results, way = fields(TLS)
    assert results == (
        "mx.example.org;\r\n\tx-tls=pass smtp.version=TLSv1.3 smtp.cipher=TLS_AES_256_GCM_SHA384 smtp.bits=256"
    )
    assert way == "tls TLSv1.3 TLS_AES_256_GCM_SHA384; e2e=none"


@pytest.mark.parametrize("form", Format)
def test_what_was_encrypted_end_to_end_is_told_in_either_format(form: Format) -> None:
    found = Classification(MessageKind.ENCRYPTED, Reason("already_encrypted", ""), form)
    edits = arrival.told(MESSAGE, Transport(), found, OPTIONS).edits
    assert edits.inserted[1][1] == f"plain; e2e={form}"


def test_if_nobody_told_how_it_came_nothing_is_said() -> None:
    found = told(None)
    assert (found.way, found.edits.inserted) == ("unknown", ())


NASTY = [
    "a b",
    "a;b",
    "x; x-tls=pass",
    "a\r\nBcc: eve@evil.test",
    "(a",
    'a"b',
    "a=b",
    "é",
    "\0",
    "a" * 65,
    "a/b",
    "a\\b",
    " ",
]


@pytest.mark.parametrize("text", NASTY)
def test_a_value_that_no_mta_gives_is_dropped_and_opens_no_way_into_the_header(text: str) -> None:
    results, way = fields(Transport(text, text, text, text, text, text), OURS, options=WITH_CIRCLES)
    assert results == "mx.example.org;\r\n\tx-tls=pass"
    assert way == "tls unknown unknown; e2e=none"


def test_whatever_a_certificate_says_stands_nowhere() -> None:
    transport = Transport("TLSv1.3", "C", "128", "eve.test; x-tls=pass (", 'evil"\r\nSubject: x', "OK")
    everything = "".join(fields(transport, OURS, options=WITH_CIRCLES))
    assert re.fullmatch(r"[!-~ \t\r\n]*", everything)
    assert not any(word in everything for word in ("eve", "evil", "Subject", "secure"))


# --- circles


POSTFIX = Transport("TLSv1.3", "C", "256", "mail.member.test", "Our CA")
SENDMAIL = Transport("TLSv1.3", "C", "256", "/CN=mail.member.test", "/C=ES/O=Our+20Network/CN=Our+20CA", "OK")


@pytest.mark.parametrize("transport", [POSTFIX, SENDMAIL])
def test_a_client_of_a_circle_is_told_with_its_name(transport: Transport) -> None:
    assert fields(transport, OTHERS, OURS, options=WITH_CIRCLES)[1] == "circle ours TLSv1.3 C; e2e=none"
    assert told(transport, OURS, options=WITH_CIRCLES).way == "circle"


@pytest.mark.parametrize(
    "transport",
    [
        TLS,
        Transport("TLSv1.3", "C", "256", "mail.member.test", ""),
        Transport("TLSv1.3", "C", "256", "mail.member.test", "Our CA 2"),
        Transport("TLSv1.3", "C", "256", "mail.member.test", "our ca"),
        Transport("TLSv1.3", "C", "256", "/CN=x", "/C=ES/O=Our+20Network/CN=Our+20CA", "FAIL"),
        Transport("TLSv1.3", "C", "256", "/CN=x", "/C=ES/O=Our+20Network/CN=Our+20CA", "NO"),
        Transport("TLSv1.3", "C", "256", "/CN=x", "/C=ES/O=Our+20Network/CN=Our+20CA"),
        Transport("TLSv1.3", "C", "256", "/CN=x", "/CN=Our+20CA", "OK"),
        Transport("TLSv1.3", "C", "256", "x", "Our CA", "FAIL"),
        Transport("", "", "", "mail.member.test", "Our CA"),
    ],
)
def test_no_other_client_is_taken_for_one_of_a_circle(transport: Transport) -> None:
    assert told(transport, OURS, OTHERS, options=WITH_CIRCLES).way in ("tls", "plain")


@pytest.mark.parametrize("transport", [POSTFIX, SENDMAIL])
def test_circles_are_told_only_if_the_option_says_so(transport: Transport) -> None:
    assert told(transport, OURS).way == "tls"


def test_two_circles_with_an_authority_of_one_name_are_not_told_apart() -> None:
    twin = Authorities("twin", OURS.common_names, OURS.whole_names)
    assert told(POSTFIX, OURS, twin, options=WITH_CIRCLES).way == "tls"
    assert told(SENDMAIL, OURS, twin, options=WITH_CIRCLES).way == "tls"


def test_a_circle_whose_name_is_not_ascii_adds_no_octet_that_is_not() -> None:
    named = Authorities("círculo", OURS.common_names, OURS.whole_names)
    assert fields(POSTFIX, named, options=WITH_CIRCLES)[1] == "circle c?rculo TLSv1.3 C; e2e=none"


# --- what came from outside


FORGED = parse(
    b"Authentication-Results: mx.example.org; x-tls=pass\r\n"
    b"Authentication-Results: mx.example.org; dkim=pass header.d=s.test\r\n"
    b"X-SMILLA-Transport: circle ours\r\n"
    b"Subject: x\r\n"
    b"AUTHENTICATION-RESULTS : mx.example.org; dmarc=pass; x-tls=pass\r\n"
    b"Authentication-Results: mx.other.test; x-tls=pass\r\n"
    b"X-Smilla-Transport : \r\n again\r\n"
    b"ARC-Authentication-Results: i=1; mx.example.org; x-tls=pass\r\n"
    b"X-Smilla-Transport-Old: x\r\n\r\n"
).message


def test_what_came_from_outside_and_says_the_same_is_removed_and_nothing_else() -> None:
    assert arrival.foreign(FORGED, "mx.example.org") == (0, 2, 4, 6)
    assert arrival.told(FORGED, None, PLAIN, OPTIONS).edits.removed == (0, 2, 4, 6)
    assert arrival.foreign(MESSAGE, "mx.example.org") == ()


def test_a_message_with_more_of_them_than_an_mta_can_remove_is_refused() -> None:
    field = b"Authentication-Results: mx.example.org; x-tls=pass\r\n"
    assert arrival.problem(parse(field * 500 + b"\r\n").message, "mx.example.org") is None
    found = arrival.problem(parse(field * 501 + b"\r\n").message, "mx.example.org")
    assert found is not None
    assert found.code == "too_many_fields"
    assert arrival.problem(parse(field * 501 + b"\r\n").message, "mx2.example.org") is None


def test_a_message_with_more_of_them_than_can_be_read_at_once_is_refused() -> None:
    field = b"Authentication-Results: mx.other.test; dkim=pass (" + b"x" * 50_000 + b")\r\n"
    assert arrival.problem(parse(field * 5 + b"\r\n").message, "mx.example.org") is None
    found = arrival.problem(parse(field * 6 + b"\r\n").message, "mx.example.org")
    assert found is not None
    assert found.code == "header_too_large"


def test_what_we_write_is_what_we_would_remove() -> None:
    for transport in (Transport(), TLS):
        raw = b" " + fields(transport)[0].encode()
        assert authentication_results.may_claim(raw, "mx.example.org", arrival.METHOD)
