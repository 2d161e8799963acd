"""``smilla lookup``: the keys of one address, with every reason for or against each."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from smilla import address, config, log, policy
from smilla.address import EmailAddress
from smilla.answer import describe
from smilla.cli import EX_NO, EX_OK, EX_TEMPFAIL, UsageError, say, with_config
from smilla.config import Config
from smilla.doctor import rights
from smilla.doctor.finding import Finding
from smilla.errors import AddressError, SmillaError
from smilla.keys import lookup
from smilla.keys.discovery import directory
from smilla.model import KeyLookup, KeyVerdict, X509Key
from smilla.ports import Ports
from smilla.server.runtime import make_ports

_UNTOLD = (KeyVerdict.BOGUS, KeyVerdict.UNREACHABLE, KeyVerdict.UNCLEAR)  # none of these says whether there is a key
_EXIT = {KeyVerdict.USABLE: EX_OK, **dict.fromkeys(_UNTOLD, EX_TEMPFAIL)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla lookup`` takes."""
    with_config(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("address", metavar="ADDR")


def run(options: argparse.Namespace) -> int:
    """Exit 0: a usable key; 1: none; 75: unknown (bogus, unreachable, unclear)."""
    settings = config.load(Path(options.config))
    log.silence()
    try:
        asked = address.parse(options.address).completed(settings.append_domain)
    except AddressError as error:
        raise UsageError(str(error)) from error
    ports = make_ports(settings)
    unread = list(_unread(asked, settings, Path(options.config), ports))  # forks, so before anything starts a thread
    pending = lookup.begin(asked, ports, settings)
    found = lookup.finish(pending, pending.asked_at + settings.dns.timeout_s, ports.clock.now(), ports)
    if options.json:
        print(json.dumps(_as_json(found, settings), indent=2, ensure_ascii=False))
    else:
        print("\n".join(_in_words(found, settings)))
    for problem in unread:
        say("warning", f"smilla itself may not read it: {problem.line}")
    return _EXIT.get(found.verdict, EX_NO)


def _unread(asked: EmailAddress, settings: Config, configuration: Path, ports: Ports) -> Iterator[Finding]:
    """Files of this address that the filter's user may not read.  Nobody but root, or that user, can tell."""
    if "directory" in settings.keys.sources and os.geteuid() == 0:
        with suppress(SmillaError):  # the look-up itself says what is wrong with the folder
            names = [name for name in ports.folder.all_names() if directory.address_of(name) == asked]
            paths = [str(Path(settings.keys.directory) / name) for name in names]
            yield from rights.of_key_files(settings, configuration, paths) if paths else ()


def _as_json(found: KeyLookup, settings: Config) -> dict[str, Any]:
    """With the form that S/MIME would have, ignoring rules, because the sender is unknown here."""
    style = describe.style_as_json(found.key, *policy.styled(found.key, None, settings)) if found.key else None
    return {**describe.lookup_as_json(found), "style": style}


def _in_words(found: KeyLookup, settings: Config) -> Iterator[str]:
    yield from describe.lookup_in_words(found)
    if isinstance(found.key, X509Key):
        style, why = policy.styled(found.key, None, settings)
        yield f"  written with {describe.style_in_words(found.key, style)}, where no rule says otherwise; {why}"
