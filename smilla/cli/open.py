"""``smilla open``: what is inside a sealed message, for an administrator's eyes.

Promises: nothing is shown until all of it is verified and the log has a line that says who asked.  The message is shown
as it came in, octet for octet, in lines that end in CRLF.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smilla import config, log
from smilla.adapters import log_target
from smilla.adapters.seal_keys import SealKeys
from smilla.cli import EX_NO, EX_OK, UsageError, printable, say, with_config
from smilla.cli.transaction import read_message
from smilla.errors import SealBroken
from smilla.formats.seal import MAGIC
from smilla.handover import seal
from smilla.handover.seal import Facts, Opened
from smilla.message import parse, without_beginning

_NO_SEAL = (
    "this is no sealed message: it has neither the X-Smilla-Stage field nor the sealed part; for a message in "
    "Postfix's queue: postcat -bhq QUEUE-ID | smilla open"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla open`` takes."""
    with_config(parser)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--facts", action="store_true", help="sender, recipients and decisions instead of the message")
    shown.add_argument("--json", action="store_true", help="the same as one JSON document")
    parser.add_argument("message", metavar="MESSAGE", nargs="?", help="a file; default: standard input")


def run(options: argparse.Namespace) -> int:
    """Exit 0: shown; 1: the seal is broken; 2: there is none; 75: its key is not here."""
    settings = config.load(Path(options.config))
    log.silence()
    raw = read_message(options.message)
    try:
        octets = _sealed_octets(raw)
        key = SealKeys(settings.stage.keys).find(seal.head(octets).raw_key_id)
        opened = seal.opened_octets(octets, key)
    except SealBroken as error:
        say("error", f"the seal is broken: {error}; nothing is shown")
        return EX_NO
    shown = "facts" if options.facts or options.json else "message"
    # [log] level never filters this: the log must show who read somebody's mail.
    log.configure("info", settings.log.format, log_target.opened(settings.log.target))
    log.sealed_opened(opened.facts.queue_id, opened.raw_message_id.hex(), shown, _who())
    log.flush()
    if options.json:
        print(json.dumps(_as_json(opened), indent=2))
    elif options.facts:
        print("\n".join(_in_words(opened)))
    else:
        for line in _in_words(opened):
            say("hint", line)
        _write(opened)
    return EX_OK


def _sealed_octets(raw: bytes) -> Callable[[], Iterator[bytes]]:
    """From a whole message, or from just its attachment sealed.smilla.  Raises UsageError, SealBroken."""
    if raw.startswith(MAGIC):
        return lambda: iter([raw])
    message = parse(without_beginning(raw)[0]).message
    if seal.mark(message.headers) is None and seal.SEALED_TYPE.encode("ascii") not in raw:
        raise UsageError(_NO_SEAL)
    return seal.sealed_octets(message)


def _who() -> dict[str, str]:
    """The user that the kernel knows, and the one that sudo names."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    return {"by": name, "uid": str(uid), "sudo_user": os.environ.get("SUDO_USER", "")}


def _write(opened: Opened) -> None:
    out = sys.stdout.buffer
    for header in opened.message.headers:
        out.write(header.raw)
    out.write(b"\r\n")
    for block in opened.message.body.blocks():
        out.write(block)
    out.flush()


def _in_words(opened: Opened) -> Iterator[str]:
    facts = opened.facts
    parameters = " ".join(("", *facts.envelope.parameters))
    yield printable(f"message {opened.raw_message_id.hex()}, sealed as {facts.queue_id or '-'}, {facts.direction}")
    yield printable(f"from <{facts.envelope.sender}>{parameters}")
    for recipient in facts.recipients:
        wishes = " ".join(("", *recipient.parameters))
        alias = ", may be an alias" if recipient.waits else ""
        yield printable(f"to {recipient.raw}{wishes}: {_decided(recipient.action.value, recipient.form)}{alias}")
    yield printable(f"client {_client(facts)}")


def _decided(action: str, form: str) -> str:
    return action if form in ("", action) else f"{action} ({form})"


def _client(facts: Facts) -> str:
    client = facts.client
    user = f", authenticated as {client.authenticated_as}" if client.authenticated_as else ""
    names = ", ".join(word for word in (client.host_name, client.helo and f"helo {client.helo}") if word)
    return f"{client.ip or 'unknown'}{f' ({names})' if names else ''}{user}"


def _as_json(opened: Opened) -> dict[str, Any]:
    facts = opened.facts
    return {
        "message_id": opened.raw_message_id.hex(),
        "queue_id": facts.queue_id,
        "direction": facts.direction,
        "sender": facts.envelope.sender,
        "parameters": list(facts.envelope.parameters),
        "recipients": [asdict(recipient) | {"action": recipient.action.value} for recipient in facts.recipients],
        "client": asdict(facts.client),
        "size": opened.message.body.size,
    }
