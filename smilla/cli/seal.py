"""``smilla seal list | rotate | prune``: the keys under which messages wait in the MTA's queue.

Promises: a key is removed only if the whole queue was read, no message in it needs the key, and the key has not sealed
for an hour; in doubt, no key is removed.  The newest always stays.  The log has a line for each key that is made or
removed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from smilla import config, log
from smilla.adapters.postfix import Postfix
from smilla.adapters.seal_keys import SealKeys, StoredKey
from smilla.cli import EX_NO, EX_OK, audit, say, with_config, with_postfix
from smilla.config import Config
from smilla.errors import PostfixUnclear, SealBroken, SealKeyMissing
from smilla.handover import binding
from smilla.handover import seal as sealing
from smilla.message import parse

_KEY_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])")
_OURS = b"smilla-"  # in the boundary
_UNDER_WAY_S = 3600.0  # a message sealed under the previous key may not be in the queue yet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla seal`` takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = with_config(actions.add_parser("list", help="the keys, when each was made, and which one seals"))
    listing.add_argument("--json", action="store_true", help="one JSON document")
    with_config(actions.add_parser("rotate", help="make a new key, which seals from now on"))
    prune = with_config(actions.add_parser("prune", help="remove the retired keys that no queued message needs"))
    with_postfix(prune, action="append", several="; repeat it for each instance that shares the keys")


def run(options: argparse.Namespace) -> int:
    """Exit 0: done; 1: the keys cannot be written; 75: the keys or the queue cannot be read."""
    settings = config.load(Path(options.config))
    log.silence()
    keys = SealKeys(settings.stage.keys)
    if options.action == "rotate":
        return _rotate(settings, keys)
    if options.action == "prune":
        return _prune(settings, keys, options.postfix_config or [""])
    return _list(keys, as_json=options.json)


def _list(keys: SealKeys, *, as_json: bool) -> int:
    found = keys.all()
    if as_json:
        listing = [
            {"id": _id(stored), "made_at": _made(stored), "seals": stored is found[-1], "file": str(stored.path)}
            for stored in found
        ]
        print(json.dumps(listing, indent=2))
        return EX_OK
    for stored in found:
        print(f"{_id(stored)}  made {_made(stored)}  {'seals' if stored is found[-1] else 'opens only'}")
    if not found:
        say("hint", "there is no seal key yet; smilla milter makes one when it starts, if mixed is stage")
    return EX_OK


def _rotate(settings: Config, keys: SealKeys) -> int:
    folder = Path(settings.stage.keys)
    try:
        owner = settings.milter.user or folder.owner()
        mine = not os.geteuid() or folder.stat().st_uid == os.geteuid()
    except KeyError:
        say("error", f"{folder}: its owner has no name on this machine; set [milter] user")
        return EX_NO
    except PermissionError as error:
        raise SealKeyMissing(f"{folder}: {error.strerror}; do this as root, or as smilla's user") from error
    except OSError as error:
        raise SealKeyMissing(f"{folder}: {error.strerror}; start smilla once, which makes it") from error
    if not mine:
        say("error", f"{folder}: belongs to {folder.owner()}; do this as root, or smilla could not read the new key")
        return EX_NO
    key = keys.make(owner)
    print(f"{key.raw_id.hex()}  seals from now on")
    with audit.logged(settings):
        log.seal_key(key.raw_id.hex(), str(folder), is_made=True)
    say("hint", f"add it to the backup of {folder}: without it, nobody can open what it seals")
    return EX_OK


def _prune(settings: Config, keys: SealKeys, folders: list[str]) -> int:
    """Reads the queue of every instance before it removes the first key."""
    found = keys.all()
    if not found:
        print("there is no seal key")
        return EX_OK
    needed: Counter[str] = Counter()
    for folder in folders:
        needed += _needed(Postfix(folder))
    now = time.time()
    for stored, following in pairwise(found):
        if count := needed[_id(stored)]:
            print(f"{_id(stored)}  kept: {_messages(count)} it")
        elif now - following.made_at < _UNDER_WAY_S:
            print(f"{_id(stored)}  kept: it sealed within the last hour, so a message may still be on its way")
        else:
            keys.remove(stored)
            print(f"{_id(stored)}  removed")
            with audit.logged(settings):
                log.seal_key(_id(stored), settings.stage.keys, is_made=False)
    print(f"{_id(found[-1])}  kept: the newest; {_messages(needed[_id(found[-1])])} it")
    return EX_OK


def _messages(count: int) -> str:
    if not count:
        return "no queued message needs"
    return f"{count} queued {'message needs' if count == 1 else 'messages need'}"


def _needed(postfix: Postfix) -> Counter[str]:
    """How many queued messages need each key.  Raises PostfixUnclear."""
    needed: Counter[str] = Counter()
    for queue_id, header in postfix.headers_in_queue():
        fields = parse(header).message.headers
        marks = [field.raw_value for field in fields if field.name == sealing.MARK.lower()]
        ids = {found.decode("ascii") for mark in marks for found in _KEY_ID.findall(mark)}
        if marks and not ids:
            raise PostfixUnclear(f"{queue_id}: its {sealing.MARK} field names no key; look at this message first")
        if not marks and any(field.name == "content-type" and _OURS in field.raw_value for field in fields):
            ids = {_key_of(postfix.message(queue_id), queue_id)}
        needed.update(ids | binding.key_ids(fields))
    return needed


def _key_of(raw: bytes, queue_id: str) -> str:
    """The key of a sealed message whose mark somebody has removed."""
    try:
        return sealing.head(sealing.sealed_octets(parse(raw).message)).raw_key_id.hex()
    except SealBroken as error:
        raise PostfixUnclear(f"{queue_id}: looks like a sealed message, but {error}; look at it first") from error


def _id(stored: StoredKey) -> str:
    return stored.key.raw_id.hex()


def _made(stored: StoredKey) -> str:
    return datetime.fromtimestamp(stored.made_at, UTC).isoformat()
