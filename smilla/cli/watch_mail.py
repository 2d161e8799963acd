"""The summary of ``smilla watch --mail``: what is to be done, when it has changed or still waits."""

from __future__ import annotations

import argparse
import hashlib
import json
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from pathlib import Path

from smilla import address
from smilla.adapters import sent_notices
from smilla.cli import UsageError, mailing, printable, say
from smilla.cli.expiring_notices import hand_over, listener_of
from smilla.config import Config
from smilla.errors import AddressError

_STATE = "watch.json"
_WELL = "All is well again: what is published is what is held."


def add_mail_arguments(parser: argparse.ArgumentParser) -> None:
    """What belongs to ``--mail``."""
    parser.add_argument("--mail", metavar="ADDR", help="mail there what is to be done, when it changes or still waits")
    mailing.add_arguments(parser, sender="the one of --mail", days=7, state=_STATE)


def send_summary(
    lines: Sequence[str], facts: Sequence[str], options: argparse.Namespace, settings: Config, now: datetime
) -> bool:
    """Mails ``lines``, what is to be done, if ``facts`` are others than in the last mail, or are the same and as old as
    --repeat says.  No lines: says once that all is well again.  False if the mail could not be handed over."""
    to = _parsed("--mail", options.mail)
    sender = _parsed("--from", options.sender) if options.sender else to
    if options.repeat < 0:
        raise UsageError("--repeat: give 0 or more")
    listener = listener_of(options, settings)
    name = f"{to} {hashlib.sha256(json.dumps(sorted(facts)).encode()).hexdigest()}"
    state = Path(options.state) if options.state else Path(settings.reinject.spool) / _STATE
    with sent_notices.opened(state) as sent:
        earliest = now - timedelta(days=options.repeat) if lines else datetime.min.replace(tzinfo=now.tzinfo)
        if sent.was_sent_since(name, earliest) or (not lines and sent.is_empty()):
            return True
        if problem := hand_over(listener, sender, to, build(lines, sender, to, now)):
            say("error", f"no mail to {to}: {problem}")
            return False
        sent.remember(name, now, timedelta(0))  # the last one alone
    return True


def build(lines: Sequence[str], sender: str, to: str, now: datetime) -> bytes:
    """The message with CRLF line ends, marked as made by a program (RFC 3834 section 5)."""
    mail = EmailMessage(policy=SMTP if (sender + to).isascii() else SMTPUTF8)
    mail["From"], mail["To"] = sender, to
    mail["Subject"] = f"smilla watch: {len(lines)} to look at" if lines else "smilla watch: all is well again"
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{secrets.token_hex(16)}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("\n".join(printable(line) for line in lines or [_WELL]) + "\n")
    return mail.as_bytes()


def _parsed(option: str, text: str) -> str:
    try:
        return str(address.parse(text))
    except AddressError as error:
        raise UsageError(f"{option}: {error}") from error
