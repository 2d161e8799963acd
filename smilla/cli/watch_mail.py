"""The summary of ``smilla watch --mail``: what is to be done, when it has changed or still waits."""

from __future__ import annotations

import argparse
import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class About:
    """What a mail is about: how its subject begins, what it says once all is well, and the name of the file that knows
    what was mailed last.  Each has a file of its own, since each file knows one mail."""

    subject: str
    well: str
    state: str


KEYS = About("smilla watch", "All is well again: what is published is what is held.", "watch.json")
MX = About("smilla watch --mx", "All is well again at the mail servers.", "watch-mx.json")


def add_mail_arguments(parser: argparse.ArgumentParser) -> None:
    """What belongs to ``--mail``."""
    parser.add_argument("--mail", metavar="ADDR", help="mail there what is to be done, when it changes or still waits")
    mailing.add_arguments(parser, sender="the one of --mail", days=7, state=KEYS.state)


@dataclass(frozen=True, slots=True)
class Summary:
    """``lines`` say what is to be done.  ``facts`` are what must change before the same is worth another mail: what a
    line says without numbers that change every day."""

    about: About
    lines: Sequence[str]
    facts: Sequence[str]


def send(summary: Summary, options: argparse.Namespace, settings: Config, now: datetime) -> bool:
    """Mails the lines if the facts are others than in the last mail, or are the same and as old as --repeat says.  No
    lines: says once that all is well again.  False if the mail could not be handed over."""
    lines = summary.lines
    to = _parsed("--mail", options.mail)
    sender = _parsed("--from", options.sender) if options.sender else to
    if options.repeat < 0:
        raise UsageError("--repeat: give 0 or more")
    listener = listener_of(options, settings)
    name = f"{to} {hashlib.sha256(json.dumps(sorted(summary.facts)).encode()).hexdigest()}"
    state = Path(options.state) if options.state else Path(settings.reinject.spool) / summary.about.state
    with sent_notices.opened(state) as sent:
        earliest = now - timedelta(days=options.repeat) if lines else datetime.min.replace(tzinfo=now.tzinfo)
        if sent.was_sent_since(name, earliest) or (not lines and sent.is_empty()):
            return True
        if problem := hand_over(listener, sender, to, _built(summary, sender, to, now)):
            say("error", f"no mail to {to}: {problem}")
            return False
        sent.remember(name, now, timedelta(0))  # the last one alone
    return True


def _built(summary: Summary, sender: str, to: str, now: datetime) -> bytes:
    """The message with CRLF line ends, marked as made by a program (RFC 3834 section 5)."""
    mail = EmailMessage(policy=SMTP if (sender + to).isascii() else SMTPUTF8)
    mail["From"], mail["To"] = sender, to
    lines, about = summary.lines, summary.about
    mail["Subject"] = f"{about.subject}: {len(lines)} to look at" if lines else f"{about.subject}: all is well again"
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{secrets.token_hex(16)}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("\n".join(printable(line) for line in lines or [about.well]) + "\n")
    return mail.as_bytes()


def _parsed(option: str, text: str) -> str:
    try:
        return str(address.parse(text))
    except AddressError as error:
        raise UsageError(f"{option}: {error}") from error
