"""Delivery status notifications (RFC 3461, RFC 3464) about recipients that were bounced while the others got the mail.

They quote only header fields of the original, never an octet of its body.  They leave out the Content fields, which may
name files and which the encrypted copies hide.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from smilla.model import Envelope, Message, Recipient

_NOT_ENCRYPTED = "it could not be encrypted", "it could not be\r\nencrypted for them."
_REFUSED = "a recipient was refused", "the next mail\r\nserver refused them."
_NOT_SHOWN = re.compile("bcc|resent-bcc|x-smilla|content-.*")


@dataclass(frozen=True, slots=True)
class Failure:
    """One recipient who gets nothing: the enhanced status code (RFC 3463), and the reason in words.  ``is_remote``: the
    next mail server gave both."""

    recipient: Recipient
    status: str
    text: str
    is_remote: bool = False


def may_notify(recipient: Recipient) -> bool:
    """Does the sender want to hear of a failure (RFC 3461 section 4.1)?"""
    for parameter in recipient.parameters:
        name, _, value = parameter.partition("=")
        if name.upper() == "NOTIFY":
            return "FAILURE" in value.upper().split(",")
    return True


def build(envelope: Envelope, message: Message, failures: Sequence[Failure], mta: str, now: datetime) -> bytes:
    """The notification, with CRLF line ends, 7-bit unless the sender's address is not ASCII."""
    boundary = f"smilla-{secrets.token_hex(16)}"
    date, mta = format_datetime(now), _ascii(mta)
    subject, why = _REFUSED if all(failure.is_remote for failure in failures) else _NOT_ENCRYPTED
    head = [
        f"From: Mail filter <MAILER-DAEMON@{mta}>",
        f"To: <{envelope.sender}>",
        f"Subject: Undelivered mail: {subject}",
        f"Date: {date}",
        f"Message-ID: <{secrets.token_hex(16)}@{mta}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"',
        "",
        f"--{boundary}",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        f"Your message was not delivered to the recipients below, since {why}",
        "All others get it.",
        "",
    ]
    reasons = [f"  {_ascii(failure.recipient.shown)[:200]}: {_ascii(failure.text)[:600]}" for failure in failures]
    status = [f"Reporting-MTA: dns; {mta}", *_envelope_id(envelope), f"Arrival-Date: {date}"]
    for failure in failures:
        status += ["", *_about(failure)]
    parts = [
        *head,
        *reasons,
        "",
        f"--{boundary}",
        "Content-Type: message/delivery-status",
        "",
        *status,
        "",
        f"--{boundary}",
        "Content-Type: text/rfc822-headers",
        "",
    ]
    fields = b"".join(header.raw for header in message.headers if not _NOT_SHOWN.fullmatch(header.name))
    shown = bytes(octet if octet < 0x80 and octet else 0x3F for octet in fields)
    start = "\r\n".join(parts).encode("utf-8", "replace") + b"\r\n"
    return start + shown + f"\r\n--{boundary}--\r\n".encode("ascii")


def _about(failure: Failure) -> list[str]:
    original = [p.partition("=")[2] for p in failure.recipient.parameters if p.upper().startswith("ORCPT=")]
    kind, _, address = (original or [""])[0].partition(";")
    lines = [f"Original-Recipient: {_ascii(kind)};{_ascii(_from_xtext(address))}"] if address else []
    return [
        *lines,
        f"Final-Recipient: rfc822; {failure.recipient.shown[:300]}",
        "Action: failed",
        f"Status: {failure.status if failure.is_remote else '5.7.' + failure.status.rpartition('.')[2]}",
        f"Diagnostic-Code: smtp; {'' if failure.is_remote else f'550 {failure.status} '}{_ascii(failure.text)[:600]}",
    ]


def _envelope_id(envelope: Envelope) -> list[str]:
    given = [p.partition("=")[2] for p in envelope.parameters if p.upper().startswith("ENVID=")]
    return [f"Original-Envelope-Id: {_ascii(_from_xtext(given[0]))[:300]}"] if given else []


def _from_xtext(text: str) -> str:
    """RFC 3461 section 4."""
    return re.sub(r"\+([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), text)


def _ascii(text: str) -> str:
    """The text with a question mark for everything but printable ASCII, so that nothing can end a line."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)
