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
from smilla.keys import for_address
from smilla.keys.discovery import directory
from smilla.model import KeyLookup, KeyVerdict, X509Key
from smilla.policy import rules
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
    looked_up = for_address.look_up(asked, ports, settings)
    found = looked_up.lookup
    if options.json:
        print(json.dumps(_as_json(found, settings), indent=2, ensure_ascii=False))
    else:
        print("\n".join(_in_words(found, settings)))
    for problem in unread:
        say("warning", f"smilla itself may not read it: {problem.line}")
    for text in (*looked_up.others, *_not_for_outbound(asked, settings)):
        say("hint", text)
    return _EXIT.get(found.verdict, EX_NO)


def _not_for_outbound(asked: EmailAddress, settings: Config) -> Iterator[str]:
    """A key for an address of one's own, which the filter does not look up."""
    is_wanted = any(rule.encrypt or rule.key for _, rule in rules.for_address(settings.rule, asked))
    if settings.mode == "outbound" and rules.is_in(asked.domain, settings.local_domains) and not is_wanted:
        yield f"the filter uses no key for this address: mode is outbound, and local_domains has {asked.domain}"


def _unread(asked: EmailAddress, settings: Config, configuration: Path, ports: Ports) -> Iterator[Finding]:
    """Files of this address that the filter's user may not read.  Nobody but root, or that user, can tell."""
    if os.geteuid() != 0:
        return
    paths = [each.key for _, each in rules.for_address(settings.rule, asked) if each.key]
    yield from rights.of_key_files(settings, configuration, paths) if paths else ()
    if "directory" in settings.keys.sources:
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
