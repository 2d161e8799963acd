"""What ``encrypt`` and ``explain`` share: a message from a file goes through the pipeline as from the MTA."""

from __future__ import annotations

import argparse
import ipaddress
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from smilla import address, config, log, pipeline
from smilla.cli import UsageError, say, with_config
from smilla.config import Config
from smilla.errors import AddressError
from smilla.filter import Filter, TurnedAway
from smilla.message import ParsedMessage, parse, without_beginning
from smilla.model import Client, Outcome
from smilla.ports import Ports
from smilla.server.runtime import make_ports
from smilla.session import Session


@dataclass(frozen=True, slots=True)
class Transaction:
    """A message, its envelope and what the pipeline made of them."""

    config: Config
    session: Session
    parsed: ParsedMessage
    outcome: Outcome
    ports: Ports
    turned_away: tuple[TurnedAway, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The message, its envelope and its client."""
    with_config(parser)
    parser.add_argument("--from", dest="sender", metavar="ADDR", required=True, help='envelope sender; "<>": null')
    parser.add_argument("--to", dest="recipients", metavar="ADDR", action="append", required=True, help="recipient")
    parser.add_argument("--client-ip", metavar="IP", type=_ip, default="127.0.0.1", help="the client, for mode auto")
    parser.add_argument("--authenticated-as", metavar="USER", default="", help="its user, for mode auto")
    parser.add_argument("message", metavar="MESSAGE", nargs="?", help="a file; default: standard input")


def _ip(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address") from error


def process(options: argparse.Namespace, *, over_smtp: bool = False) -> Transaction:
    """Reads configuration and message and decides.  Raises UsageError, ConfigError or SmillaError.

    ``over_smtp``: recipients may be turned away at RCPT, as the milter does; if that leaves nobody, the outcome is that
    of all of them.  Otherwise the outcome is final: no alias is expanded later.
    """
    settings = config.load(Path(options.config)).behind("postfix")
    if not over_smtp:
        settings = replace(settings, keys=replace(settings.keys, aliases=""))
    log.silence()
    ports = make_ports(settings)
    client = Client(options.client_ip, "", options.authenticated_as)
    session = Session(client, _sender(options.sender), (), settings.completion)
    deciding = Filter(session, ports, settings)
    answers = [deciding.recipient(f"<{_recipient(text)}>", alone=over_smtp) for text in options.recipients]
    turned_away = tuple(away for away in answers if away is not None)
    if len(turned_away) < len(answers):
        for away in turned_away:
            session.withdraw(away.decision.recipient)
    raw, skipped = without_beginning(read_message(options.message))
    for what in skipped:
        say("warning", f"the message begins with {what}, which is skipped: it is not part of the message")
    parsed = parse(raw)
    for header in parsed.message.headers:
        session.header(header.raw_name, header.raw_value)
    for block in parsed.message.body.blocks():
        session.body_chunk(block)
    return Transaction(settings, session, parsed, pipeline.process(session, ports, settings), ports, turned_away)


def _recipient(text: str) -> str:
    try:
        return address.parse(text).raw
    except AddressError as error:
        raise UsageError(f"--to: {error}") from error


def _sender(text: str) -> str:
    if text.strip() in ("", "<>"):
        return ""
    try:
        return address.parse(text).raw
    except AddressError as error:
        raise UsageError(f"--from: {error}") from error


def read_message(name: str | None) -> bytes:
    """A file, or standard input if there is no name.  Raises UsageError."""
    if name in (None, "-"):
        return sys.stdin.buffer.read()
    try:
        return Path(str(name)).read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from error
