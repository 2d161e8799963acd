"""What ``encrypt`` and ``explain`` share: a message from a file, taken through the pipeline as the MTA would."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from smilla import address, config, log, pipeline, reply
from smilla.cli import UsageError, say
from smilla.config import Config
from smilla.errors import AddressError
from smilla.message import ParsedMessage, parse, without_beginning
from smilla.model import Action, Client, Decision, Outcome, Reason, Recipient
from smilla.policy import Wish
from smilla.ports import Ports
from smilla.runtime import make_ports
from smilla.session import Session


@dataclass(frozen=True, slots=True)
class Transaction:
    """A message, its envelope and what the pipeline made of them."""

    config: Config
    session: Session
    parsed: ParsedMessage
    outcome: Outcome
    turned_away: tuple[TurnedAway, ...] = ()


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """A recipient who is answered alone, at RCPT."""

    decision: Decision
    reply: reply.Reply


def process(options: argparse.Namespace, *, over_smtp: bool = False) -> Transaction:
    """Reads configuration and message and decides.  Raises UsageError, ConfigError or SmillaError.

    ``over_smtp``: recipients may be turned away at RCPT, as the milter does; where that leaves nobody, the outcome is
    that of all of them.
    """
    settings = config.load(Path(options.config))
    log.silence()
    ports = make_ports(settings)
    client = Client(options.client_ip, "", options.authenticated_as)
    session = Session(client, _sender(options.sender), (), settings.completion)
    given_wishes: list[tuple[Recipient, Wish]] = []
    for text in options.recipients:
        try:
            recipient = address.parse(text)
        except AddressError as error:
            raise UsageError(f"--to: {error}") from error
        given = session.recipient(f"<{recipient.raw}>")
        given_wishes.append((given, pipeline.begin_lookup(session, given, ports, settings)))
    turned_away = _turned_away(session, given_wishes, ports, settings) if over_smtp else ()
    if len(turned_away) < len(given_wishes):
        for away in turned_away:
            session.withdraw(away.decision.recipient)
    raw, skipped = without_beginning(_read(options.message))
    for what in skipped:
        say("warning", f"the message begins with {what}, which is skipped: it is no part of the message")
    parsed = parse(raw)
    for header in parsed.message.headers:
        session.header(header.raw_name, header.raw_value)
    for block in parsed.message.body.blocks():
        session.body_chunk(block)
    return Transaction(settings, session, parsed, pipeline.process(session, ports, settings), turned_away)


def _turned_away(
    session: Session, given: list[tuple[Recipient, Wish]], ports: Ports, settings: Config
) -> tuple[TurnedAway, ...]:
    """Who is answered at RCPT: past the bound, or failing where a rule asks for it."""
    found, wanted = [], 0
    for recipient, wish in given:
        if settings.policy.mixed == "reinject" and wanted + wish.wanted > settings.reinject.max_copies:
            why = Reason("too_many", f"past [reinject] max_copies = {settings.reinject.max_copies}")
            found.append(TurnedAway(Decision(recipient, Action.DEFER, why, "max_copies"), reply.TOO_MANY))
            continue
        if wish.at_rcpt:
            decision = pipeline.decide_at_rcpt(session, recipient, wish, ports, settings)
            if (answer := reply.for_recipient(decision)) is not None:
                found.append(TurnedAway(decision, answer))
                continue
        wanted += wish.wanted
    return tuple(found)


def _sender(text: str) -> str:
    if text.strip() in ("", "<>"):
        return ""
    try:
        return address.parse(text).raw
    except AddressError as error:
        raise UsageError(f"--from: {error}") from error


def _read(name: str | None) -> bytes:
    if name in (None, "-"):
        return sys.stdin.buffer.read()
    try:
        return Path(str(name)).read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from error
