"""``smilla learned list | forget``: the keys that authenticated mail has brought."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from smilla import address, config, log, log_learned
from smilla.adapters import stores
from smilla.adapters.learned_store import LearnedStore
from smilla.cli import EX_NO, EX_OK, UsageError, audit, printable, say, with_config
from smilla.config import Config
from smilla.errors import AddressError
from smilla.keys import lookup
from smilla.keys.discovery import learned
from smilla.model import KeyLookup, LearnedKey
from smilla.ports import PendingLookup, Ports
from smilla.server.runtime import make_ports


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla learned`` takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = with_config(actions.add_parser("list", help="the keys, and whether they can be used today"))
    listing.add_argument("--json", action="store_true", help="one JSON document")
    listing.add_argument("name", metavar="ADDR|DOMAIN", nargs="*", help="only these")
    forgetting = with_config(actions.add_parser("forget", help="remove the keys of addresses or whole domains"))
    forgetting.add_argument("name", metavar="ADDR|DOMAIN", nargs="+")


def run(options: argparse.Namespace) -> int:
    """Exit 0: done; 1: nothing is known of a name; 75: the store cannot be read or written."""
    settings = config.load(Path(options.config))
    log.silence()
    store = stores.learned(settings)
    if options.action == "forget":
        return _forget(options.name, settings, store)
    wanted = [_mailbox(name) if "@" in name else _domain(name) for name in options.name]
    known = [key for key in store.all() if not wanted or {_mailbox_of(key), key.address.domain} & set(wanted)]
    ports = make_ports(settings)
    if options.json:
        print(json.dumps([_as_json(key, ports, settings) for key in known], indent=2, ensure_ascii=False))
    else:
        for key in known:
            print(printable(_in_words(key, ports, settings)))
    if "learned" not in settings.keys.sources:
        say("hint", '[keys] sources has no "learned": none of these keys is used')
    return EX_OK if known or not wanted else EX_NO


def _forget(names: list[str], settings: Config, store: LearnedStore) -> int:
    counts: dict[str, int] = {}
    for name in names:
        _ = _mailbox(name) if "@" in name else _domain(name)  # every name is looked at before the first is forgotten
    for name in names:
        counts[name] = store.forget(address.parse(name)) if "@" in name else store.forget_domain(_domain(name))
        if counts[name]:
            with audit.logged(settings):
                log_learned.forgotten(name, counts[name])
            print(printable(f"{name}: {counts[name]} forgotten"))
        else:
            say("error", f"{name}: no key was learned")
    return EX_OK if all(counts.values()) else EX_NO


def _mailbox(name: str) -> str:
    """Raises UsageError."""
    try:
        found = address.parse(name)
    except AddressError as error:
        raise UsageError(str(error)) from error
    return f"{found.local_part}@{found.domain}"


def _mailbox_of(key: LearnedKey) -> str:
    return f"{key.address.local_part}@{key.address.domain}"


def _domain(name: str) -> str:
    """Raises UsageError."""
    try:
        return address.parse(f"x@{name}").domain
    except AddressError as error:
        raise UsageError(f"{name!r} is neither an address nor a domain") from error


def _judged(key: LearnedKey, ports: Ports, settings: Config) -> KeyLookup:
    """The gate's verdict of today on this key alone."""
    pending = PendingLookup(key.address, (), 0.0, settings.keys.prefer)
    return lookup.judged(learned.of(key), pending, ports.clock.now(), ports)


def _in_words(key: LearnedKey, ports: Ports, settings: Config) -> str:
    found = _judged(key, ports, settings)
    state = found.reason.text if found.key else f"{found.verdict.value}: {found.reason.text}"
    return f"{_mailbox_of(key)}: {key.format.value}, {key.way}, last sent {_instant(key)}: {state}"


def _as_json(key: LearnedKey, ports: Ports, settings: Config) -> dict[str, Any]:
    found = _judged(key, ports, settings)
    return {
        "address": _mailbox_of(key),
        "format": key.format.value,
        "fingerprint": key.fingerprint,
        "way": key.way,
        "sent_at": _instant(key),
        "verdict": found.verdict.value,
        "reason": {"code": found.reason.code, "text": found.reason.text},
    }


def _instant(key: LearnedKey) -> str:
    return datetime.fromtimestamp(key.sent_at, UTC).isoformat(timespec="seconds")
