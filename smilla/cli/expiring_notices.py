"""The notices of ``smilla expiring --mail``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from smilla import address
from smilla.adapters import sent_notices
from smilla.adapters.sent_notices import SentNotices
from smilla.adapters.smtp import Listener
from smilla.answer import ending_notice
from smilla.answer.ending_notice import EndingKey
from smilla.cli import UsageError, mailing, say
from smilla.config import Config
from smilla.config.options import RULE
from smilla.errors import AddressError, ReinjectError
from smilla.keys.ending import Ending, Standing, Successor, expired
from smilla.model import Client, Recipient, Submission

_STATE = "expiring.json"


def add_notice_arguments(parser: argparse.ArgumentParser) -> None:
    """What belongs to ``--mail``."""
    parser.add_argument("--mail", action="store_true", help="write to each owner, unless another key takes over")
    mailing.add_arguments(parser, sender="needed for --mail", days=14, state=_STATE)
    parser.add_argument("--dry-run", action="store_true", help="print the notices on stderr, and send none")


def ended_key(one: Ending) -> EndingKey | None:
    """The key that ends or has ended; None if there is none."""
    where, found = str(one.found.address), one.found
    if one.standing is Standing.ENDS and found.key is not None:
        key = found.key
        return EndingKey(where, key.format.value, key.fingerprint, found.source, _place(one), one.ends_at)
    if (old := expired(found)) is None:
        return None
    fingerprint, candidate = old.facts.get("fingerprint", "unknown"), old.candidate
    ends_at = _instant(old.facts.get("not_after") or old.facts.get("expires") or "")
    return EndingKey(
        where, candidate.format.value, fingerprint, candidate.source, candidate.where, ends_at, has_ended=True
    )


def _place(one: Ending) -> str:
    """The file or owner name of the key that is used now."""
    judged = (a for finding in one.found.findings for a in finding.assessments)
    return next((a.candidate.where for a in judged if a.key is not None and a.key == one.found.key), one.found.source)


def _instant(text: str) -> datetime | None:
    with suppress(ValueError):
        found = datetime.fromisoformat(text.removesuffix(" UTC"))
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


def send_notices(found: Sequence[Ending], options: argparse.Namespace, settings: Config, now: datetime) -> bool:
    """Writes to the owners who have to act.  False if a notice could not be handed over."""
    sender = _sender(options)
    ending = (ended_key(one) for one in found if one.successor is not Successor.YES)
    keys = [key for key in ending if key is not None and key.source != RULE]  # a rule names nobody to write to
    if options.repeat < 0:
        raise UsageError("--repeat: give 0 or more")
    if options.dry_run:
        for key in keys:
            print(ending_notice.build(key, sender, now).decode("utf-8", "replace"), file=sys.stderr)
        return True
    state = Path(options.state) if options.state else Path(settings.reinject.spool) / _STATE
    listener, repeat = listener_of(options, settings), timedelta(days=options.repeat)
    with sent_notices.opened(state) as sent:
        post = _Post(sender, listener, sent, repeat, now)
        refused = [key for key in keys if not post.has_served(key)]
    return not refused


@dataclass(frozen=True)
class _Post:
    """Hands notices over, each to the same owner about the same key once within ``repeat``."""

    sender: str
    listener: Listener
    sent: SentNotices
    repeat: timedelta
    now: datetime

    def has_served(self, key: EndingKey) -> bool:
        """A notice that was not accepted is tried again the next time."""
        name = f"{key.address} {key.fingerprint}"
        if self.repeat and self.sent.was_sent_since(name, self.now - self.repeat):
            return True
        if problem := self._problem(key):
            say("error", f"no notice to {key.address}: {problem}")
            return False
        self.sent.remember(name, self.now, max(self.repeat, timedelta(days=1)))
        return True

    def _problem(self, key: EndingKey) -> str:
        """What became of the notice, "" if the MTA has it."""
        return hand_over(self.listener, self.sender, key.address, ending_notice.build(key, self.sender, self.now))


def hand_over(listener: Listener, sender: str, to: str, raw: bytes) -> str:
    """What became of the message, "" if the MTA has it."""
    parameters = () if raw.isascii() else ("BODY=8BITMIME",)
    notice = Submission(sender, parameters, (Recipient(f"<{to}>", None),), lambda: iter([raw]), Client(), "")
    try:
        with listener.connect() as connection:
            handed = connection.send(notice, lambda _: None)
    except ReinjectError as error:
        return str(error)
    if handed.accepted:
        return ""
    return handed.refused[0][1] if handed.refused else "the connection ended before the reply"


def _sender(options: argparse.Namespace) -> str:
    if not options.sender:
        raise UsageError("--mail needs --from ADDR, which owners may answer to")
    try:
        return str(address.parse(options.sender))
    except AddressError as error:
        raise UsageError(f"--from: {error}") from error


def listener_of(options: argparse.Namespace, settings: Config) -> Listener:
    """Where notices go.  Raises UsageError where --smtp names no port."""
    host, _, port = (options.smtp or settings.reinject.smtp).rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError("--smtp: give HOST:PORT")
    return Listener(f"{host}:{port}", settings.reinject.timeout_s)
