"""``smilla expiring``: whose key ends within some days, and notices to the owners."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from smilla import config, log
from smilla.address import EmailAddress
from smilla.cli import (
    EX_NO,
    EX_OK,
    EX_TEMPFAIL,
    UsageError,
    address_list,
    expiring_used,
    printable,
    together,
    with_config,
)
from smilla.cli.expiring_notices import add_notice_arguments, ended_key, send_notices
from smilla.cli.progress import Progress
from smilla.config import Config
from smilla.keys import lookup
from smilla.keys.discovery import directory
from smilla.keys.ending import Ending, Standing, Successor, examine
from smilla.policy import rules
from smilla.ports import PendingLookup, Ports
from smilla.server.runtime import make_ports

_SHOWN = (Standing.ENDS, Standing.ENDED, Standing.UNTOLD)
_SUCCESSORS = {
    Successor.YES: "another usable key takes over",
    Successor.NO: "no other usable key is there",
    Successor.UNTOLD: "whether another key takes over cannot be told now",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla expiring`` takes."""
    with_config(parser)
    parser.add_argument("--days", metavar="N", type=int, default=30, help="end within so many days (30)")
    parser.add_argument(
        "--directory",
        action="store_true",
        help="every address of the key folder, and the keys of rules (if none is given)",
    )
    address_list.add_file_argument(parser)
    expiring_used.add_arguments(parser)
    parser.add_argument("--all", action="store_true", help="also list the addresses whose key lasts")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--quiet", action="store_true", help="no list; the exit code says it")
    add_notice_arguments(parser)
    parser.add_argument("address", metavar="ADDR", nargs="*")


def run(options: argparse.Namespace) -> int:
    """Exit 0: no key ends; 1: some do, or have; 75: none that is known, but some could not be told."""
    if not 0 <= options.days <= address_list.MOST_DAYS:
        raise UsageError(f"--days: give a number from 0 to {address_list.MOST_DAYS}")
    if options.used:
        return expiring_used.run(options)
    settings = config.load(Path(options.config))
    log.silence()
    ports = make_ports(settings)
    now = ports.clock.now()
    found = list(_examined(options, settings, ports, now))
    if options.json:
        print(json.dumps([_as_json(one, now) for one in _listed(found, options)], indent=2, ensure_ascii=False))
    elif not options.quiet:
        for one in _listed(found, options):
            print(printable(_in_words(one, now)))
    mailed = not options.mail or send_notices(found, options, settings, now)
    return _exit_code(found) if mailed else EX_TEMPFAIL


def _exit_code(found: Sequence[Ending]) -> int:
    """What is certain comes first: somebody must act."""
    standings = {one.standing for one in found}
    if standings & {Standing.ENDS, Standing.ENDED}:
        return EX_NO
    return EX_TEMPFAIL if Standing.UNTOLD in standings else EX_OK


def _listed(found: Sequence[Ending], options: argparse.Namespace) -> list[Ending]:
    """What ends first comes first."""
    shown = [one for one in found if options.all or one.standing in _SHOWN]
    return sorted(shown, key=lambda one: (list(_SHOWN).index(one.standing) if one.standing in _SHOWN else 9, _end(one)))


def _end(one: Ending) -> float:
    return one.ends_at.timestamp() if one.ends_at else 0.0


def _examined(options: argparse.Namespace, settings: Config, ports: Ports, now: datetime) -> Iterator[Ending]:
    """The folder's addresses are asked of the folder alone, the others of every source; a rule's key is in its file."""
    asked = [(one, "") for one in address_list.given(options, settings.append_domain)]
    if options.directory or (not options.address and options.file is None):
        of_rules = list(_of_rules(settings))
        if not settings.keys.directory and not of_rules:
            raise UsageError("give an address or -f FILE; there is no key folder ([keys] directory is empty)")
        folder_only = replace(settings, keys=replace(settings.keys, sources=("directory",), trust=()))
        yield from _each([(one, "") for one in _in_folder(ports)], folder_only, ports, now, options)
        yield from _each(of_rules, settings, ports, now, options)
    yield from _each(asked, settings, ports, now, options)


def _of_rules(settings: Config) -> Iterator[tuple[EmailAddress, str]]:
    """The key file of each rule that names one, with the rule in place of an address."""
    for number, rule in enumerate(settings.rule, 1):
        if rule.key:
            yield EmailAddress("", "", f"rule {number} ({rules.in_words(rule)})"), rule.key


def _each(
    asked: Sequence[tuple[EmailAddress, str]],
    settings: Config,
    ports: Ports,
    now: datetime,
    options: argparse.Namespace,
) -> list[Ending]:
    """``asked`` has each address with the key file of its rule, "" for the sources."""
    until = now + timedelta(days=options.days)

    def look(one: tuple[EmailAddress, str]) -> Ending:
        address, key_file = one
        pending = _begun(address, key_file, ports, settings)
        return examine(pending, pending.asked_at + settings.dns.timeout_s, now, until, ports)

    return together.each(asked, look, lambda one: one[0].domain, Progress(is_wanted=not options.quiet))


def _begun(address: EmailAddress, key_file: str, ports: Ports, settings: Config) -> PendingLookup:
    if key_file:
        return lookup.begin_of_rule(address, key_file, ports, settings)
    return lookup.begin(address, ports, settings)


def _in_folder(ports: Ports) -> list[EmailAddress]:
    found = (directory.address_of(name) for name in ports.folder.all_names())
    return list({str(one): one for one in found if one is not None}.values())


def _in_words(one: Ending, now: datetime) -> str:
    found = one.found
    if one.standing is Standing.UNTOLD:
        return f"{found.address}: cannot be told: {found.reason.text}"
    key = ended_key(one)
    if one.standing is Standing.NO_USABLE_KEY or (key is None and found.key is None):
        return f"{found.address}: no usable key: {found.reason.text}"
    if key is None:
        return f"{found.address}: the key lasts: {found.reason.text}"
    what = f"{key.format} key {key.fingerprint} from {key.source} ({key.where})"
    if key.has_ended:
        return f"{found.address}: ended on {key.last_day}: {what}; no other usable key is there"
    successor = _SUCCESSORS[one.successor or Successor.UNTOLD]
    return f"{found.address}: ends in {_days(one, now)} days, on {key.last_day}: {what}; {successor}"


def _days(one: Ending, now: datetime) -> int | None:
    """Whole days that are left; 0 on the last one."""
    return (one.ends_at - now).days if one.ends_at else None


def _as_json(one: Ending, now: datetime) -> dict[str, Any]:
    key = ended_key(one)
    then = one.then.key.fingerprint if one.then and one.then.key else None
    return {
        "address": str(one.found.address),
        "standing": one.standing.value,
        "days_left": _days(one, now),
        "ends_at": key.ends_at.isoformat() if key and key.ends_at else None,
        "format": key.format if key else None,
        "fingerprint": key.fingerprint if key else None,
        "source": one.found.source or None,
        "where": key.where if key else None,
        "successor": one.successor.value if one.successor else None,
        "successor_fingerprint": then,
        "reason": {"code": one.found.reason.code, "text": one.found.reason.text},
    }
