"""Notifications about bounced recipients, read by Python's own parser."""

from __future__ import annotations

import email
from datetime import UTC, datetime
from typing import Any

import pytest

from smilla.answer import dsn
from smilla.message import MemoryBody
from smilla.model import Envelope, Header, Message, Recipient

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def built(recipient: Recipient, *headers: Header, parameters: tuple[str, ...] = ()) -> tuple[bytes, Any]:
    body = MemoryBody()
    body.append(b"the secret\r\n")
    envelope = Envelope("sam@s.test", (recipient,), parameters)
    raw = dsn.build(
        envelope, Message(headers, body), [dsn.Failure(recipient, "4.7.5", "no\r\nanswer")], "mta.test", NOW
    )
    return raw, email.message_from_bytes(raw)


def test_it_is_a_report_of_three_parts_with_the_header_only() -> None:
    raw, message = built(Recipient("<zoe@r.test>", None), Header(b"Subject", b" x"), Header(b"Bcc", b" dora@r.test"))
    assert message["To"] == "<sam@s.test>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert (message.get_content_type(), message.get_param("report-type")) == ("multipart/report", "delivery-status")
    told, status, original = message.get_payload()
    assert [part.get_content_type() for part in (told, status, original)] == [
        "text/plain", "message/delivery-status", "text/rfc822-headers",
    ]  # fmt: skip
    whole, one = status.get_payload()
    assert whole["Reporting-MTA"] == "dns; mta.test"
    assert (one["Final-Recipient"], one["Action"], one["Status"]) == ("rfc822; zoe@r.test", "failed", "5.7.5")
    assert original.get_payload() == "Subject: x\n" or original.get_payload() == "Subject: x\r\n"
    assert b"the secret" not in raw
    assert b"dora" not in raw
    assert raw.isascii()
    assert b"\n" not in raw.replace(b"\r\n", b"")


def test_fields_that_name_files_are_not_shown() -> None:
    raw, _ = built(
        Recipient("<zoe@r.test>", None),
        Header(b"Content-Type", b' application/pdf; name="Dismissal.pdf"'),
        Header(b"Content-Description", b" about Charles"),
        Header(b"Content-Disposition", b' attachment; filename="Dismissal.pdf"'),
    )
    assert b"Dismissal" not in raw
    assert b"Charles" not in raw


def test_the_sender_s_own_names_of_envelope_and_recipient_are_told() -> None:
    recipient = Recipient("<zoe@r.test>", None, ("ORCPT=rfc822;z+2Boe@r.test",))
    _, message = built(recipient, parameters=("ENVID=QQ+3D1",))
    whole, one = message.get_payload()[1].get_payload()
    assert whole["Original-Envelope-Id"] == "QQ=1"
    assert one["Original-Recipient"] == "rfc822;z+oe@r.test"


@pytest.mark.parametrize("value", [" \xe4\xfc\0".encode("latin-1"), b" --x\r\n --smilla", b" a\r\n\tb"])
def test_odd_header_fields_break_nothing(value: bytes) -> None:
    raw, message = built(Recipient("<zoe@r.test>", None), Header(b"Subject", value))
    assert len(message.get_payload()) == 3
    assert raw.isascii()


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ((), True),
        (("NOTIFY=NEVER",), False),
        (("NOTIFY=SUCCESS",), False),
        (("notify=success,failure",), True),
        (("ORCPT=rfc822;x", "NOTIFY=DELAY"), False),
    ],
)
def test_notify_decides_whether_the_sender_hears(parameters: tuple[str, ...], wanted: bool) -> None:
    assert dsn.may_notify(Recipient("<zoe@r.test>", None, parameters)) is wanted
