"""``smilla mailbox``: replaces the messages that lie in a mailbox already."""

from __future__ import annotations

import argparse
import hashlib
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from smilla import address, config, log
from smilla.adapters.moves import MoveJournal
from smilla.cli import (
    EX_NO,
    EX_NOPERM,
    EX_TEMPFAIL,
    UsageError,
    mailbox_keys,
    mailbox_place,
    mailbox_run,
    say,
    with_config,
)
from smilla.config import Config
from smilla.errors import AddressError, ConfigError
from smilla.mailbox.change import Changer
from smilla.mailbox.encrypting import Encryptor, settings_for
from smilla.model import Action, Decision
from smilla.model.mailbox import Wanted
from smilla.server.runtime import make_ports

_EXIT = {Action.DEFER: EX_TEMPFAIL, Action.HOLD: EX_TEMPFAIL, Action.REFUSE: EX_NOPERM}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla mailbox`` takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    encrypt = with_config(actions.add_parser("encrypt", help="encrypt what lies there as the filter would"))
    encrypt.add_argument("--address", metavar="ADDR", required=True, help="the owner, whose keys are used")
    _add_mailbox_arguments(encrypt)
    decrypt = actions.add_parser("decrypt", help="decrypt what lies there, for good")
    mailbox_keys.add_arguments(decrypt)
    _add_mailbox_arguments(decrypt)


def _add_mailbox_arguments(parser: argparse.ArgumentParser) -> None:
    mailbox_place.add_arguments(parser)
    parser.add_argument(
        "--since", metavar="DATE", type=_date, help="only what came in on this day or later (YYYY-MM-DD)"
    )
    parser.add_argument("--before", metavar="DATE", type=_date, help="only what came in before this day")
    parser.add_argument(
        "--search", metavar="CRITERIA", type=_criteria, default="", help="with --imap: only what IMAP's SEARCH finds"
    )
    parser.add_argument("--keep-original", metavar="NAME", default="", help="move the old messages to this folder")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--journal", metavar="FILE", help="where to note how far it has come")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--quiet", action="store_true", help="no progress, and no line for what is left")


def _criteria(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise argparse.ArgumentTypeError("give printable ASCII")
    return text


def _date(text: str) -> datetime:
    """The beginning of a day, in the time of this machine."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").astimezone()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no date like 2026-01-31") from error


def run(options: argparse.Namespace) -> int:
    """Exit 0: nothing is left to do; 1: some message was left as it is; 75: some could not be done now; 77: refused."""
    mailbox_place.check(options)
    if options.action == "decrypt":
        return _run(options, mailbox_keys.decryptor(options), "decrypt")
    owner = _owner(options.address)
    settings = _settings(options.config)
    log.silence()
    encryptor = Encryptor(owner, make_ports(settings), settings)
    if (code := _foreseen(encryptor.foresee())) is not None:
        return code
    return _run(options, encryptor, f"encrypt for {owner}")


def _run(options: argparse.Namespace, change: Changer, what: str) -> int:
    if options.mbox:
        return mailbox_run.run_file(options, change)
    with ExitStack() as stack:
        place = mailbox_place.Place(options, stack)
        wanted = Wanted(options.since, options.before, options.search)
        if options.dry_run:
            return mailbox_run.run(options, change, None, wanted, place)
        if options.keep_original:
            place.mailbox.make(options.keep_original)
        purpose = f"{what}: {place.what}"
        journal = stack.enter_context(MoveJournal(_journal(options.journal, purpose), purpose))
        return mailbox_run.run(options, change, journal, wanted, place)


def _owner(text: str) -> str:
    try:
        return address.parse(text).raw
    except AddressError as error:
        raise UsageError(f"--address: {error}") from error


def _settings(name: str) -> Config:
    """Raises ConfigError, also for a configuration that encrypts nothing at rest."""
    found = config.load(Path(name)).behind("postfix")
    if found.mode == "outbound":
        told = 'give that of the filter that encrypts what arrives: mode = "inbound" or "auto"'
        raise ConfigError([f'{name}: mode is "outbound", which encrypts nothing for a mailbox here; {told}'])
    return settings_for(found)


def _foreseen(decision: Decision | None) -> int | None:
    """The exit code if no message can be encrypted, and why; None if some can."""
    if decision is None or decision.action is Action.ENCRYPT:
        return None
    say("error", f"{decision.recipient.shown}: nothing is encrypted: {decision.reason.text} ({decision.rule})")
    return _EXIT.get(decision.action, EX_NO)


def _journal(given: str | None, purpose: str) -> Path:
    """The file for this purpose and no other.  Raises UsageError."""
    if given:
        return Path(given)
    try:
        home = Path.home()
    except RuntimeError as error:
        raise UsageError("this user has no home folder: give --journal FILE") from error
    name = hashlib.sha256(purpose.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return home / ".local/state/smilla" / f"mailbox-{name}.sqlite"
