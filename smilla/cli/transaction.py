"""What ``encrypt`` and ``explain`` share: a message from a file, taken through the pipeline as the MTA would."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from smilla import address, config, log, pipeline
from smilla.cli import UsageError
from smilla.config import Config
from smilla.errors import AddressError
from smilla.message import ParsedMessage, parse
from smilla.model import Client, Outcome
from smilla.runtime import make_ports
from smilla.session import Session


@dataclass(frozen=True, slots=True)
class Transaction:
    """A message, its envelope and what the pipeline made of them."""

    config: Config
    session: Session
    parsed: ParsedMessage
    outcome: Outcome


def process(options: argparse.Namespace) -> Transaction:
    """Reads configuration and message and decides.  Raises UsageError, ConfigError or SmillaError."""
    settings = config.load(Path(options.config))
    log.silence()
    ports = make_ports(settings)
    client = Client(options.client_ip, "", options.authenticated_as)
    session = Session(client, _sender(options.sender), (), settings.origin)
    for text in options.recipients:
        try:
            recipient = address.parse(text)
        except AddressError as error:
            raise UsageError(f"--to: {error}") from error
        pipeline.begin_lookup(session, session.recipient(f"<{recipient.raw}>"), ports, settings)
    parsed = parse(_read(options.message))
    for header in parsed.message.headers:
        session.header(header.raw_name, header.raw_value)
    for block in parsed.message.body.blocks():
        session.body_chunk(block)
    return Transaction(settings, session, parsed, pipeline.process(session, ports, settings))


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
