"""The notice to somebody whose key ends: what ends when, and what to do, in plain words.  Pure.

It carries nothing but what is published anyway, and is marked as made by a program (RFC 3834 section 5), so that no
answering machine replies.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime

from smilla.answer.describe import printable
from smilla.value import value

_KINDS = {"smime": "S/MIME certificate", "openpgp": "OpenPGP key"}


@value
class EndingKey:
    """One key that ends or has ended: its owner's address, "smime" or "openpgp", where it was found, and its last
    instant, None if it cannot be read."""

    address: str
    format: str
    fingerprint: str
    source: str
    where: str
    ends_at: datetime | None
    has_ended: bool = False

    @property
    def last_day(self) -> str:
        """The day of the end in UTC."""
        return self.ends_at.strftime("%Y-%m-%d") if self.ends_at else "a day unknown"


def build(key: EndingKey, sender: str, now: datetime) -> bytes:
    """The message with CRLF line ends."""
    is_ascii = (sender + key.address).isascii()
    notice = EmailMessage(policy=SMTP if is_ascii else SMTPUTF8)
    notice["From"] = sender
    notice["To"] = key.address
    notice["Subject"] = f"Your key for encrypted mail {'has ended' if key.has_ended else f'ends on {key.last_day}'}"
    notice["Date"] = format_datetime(now)
    notice["Message-ID"] = f"<{secrets.token_hex(16)}@{sender.rpartition('@')[2]}>"
    notice["Auto-Submitted"] = "auto-generated"
    notice.set_content("\n".join(_lines(key, sender)) + "\n")
    return notice.as_bytes()


def _lines(key: EndingKey, sender: str) -> list[str]:
    verb = "ended" if key.has_ended else "ends"
    effect = "can no longer be encrypted with it" if key.has_ended else "can then no longer be encrypted with it"
    return [
        "Hello,",
        "",
        f"the key that encrypts mail to you {verb} on {key.last_day} (UTC).",
        f"Mail to you {effect}: it may be delayed or come back",
        "to its senders.",
        "",
        f"  Address:     {printable(key.address)}",
        f"  Key:         {_KINDS.get(key.format, key.format)}",
        f"  Fingerprint: {printable(key.fingerprint)}",
        f"  Found in:    {_place(key)}",
        "",
        "What to do:",
        "",
        *_steps(key),
        "",
        "Keep the old private key: you need it to read the mail that you have.",
        "",
        f"This notice was written by a program, for {printable(sender)}.",
        "Answer to it if you need help.",
    ]


def _place(key: EndingKey) -> str:
    return f"the mail server's folder, {printable(key.where)}" if _is_stored(key) else f"DNS, {printable(key.where)}"


def _steps(key: EndingKey) -> list[str]:
    first = (
        "1. Prolong the key in your mail program, or make a new one."
        if key.format == "openpgp"
        else "1. Get a new certificate, and put it into your mail program."
    )
    if _is_stored(key):
        return [first, "2. Send the public part, never the private one, to the address below."]
    return [first, "2. Publish the public part in DNS before that day, beside the old one,", "   or ask who does it."]


def _is_stored(key: EndingKey) -> bool:
    return key.source == "directory"
