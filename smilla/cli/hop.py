"""``smilla hop``: can the hop to a domain be verified, how that was found, and what Postfix is told."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smilla import address, config, log
from smilla.adapters import stores
from smilla.answer import describe
from smilla.cli import EX_NO, EX_OK, EX_TEMPFAIL, UsageError, address_list, printable, say, with_config
from smilla.config import Config
from smilla.errors import AddressError
from smilla.hops import tls_policy
from smilla.keys.discovery import cache
from smilla.model import Hop, HopVerdict
from smilla.server.runtime import make_finder, make_resolver

_PATIENCE_S = 60.0  # a search ends before


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla hop`` takes."""
    with_config(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("domain", metavar="DOMAIN", nargs="+", help="a domain, or an address in it")


def run(options: argparse.Namespace) -> int:
    """Exit 0: the hop to each domain is verified; 1: to one it is provably not; 75: unknown for one, and no 1."""
    settings = config.load(Path(options.config))
    log.silence()
    domains = [_domain(text) for text in options.domain]
    store = stores.hops(settings, only_looks=True)
    resolver = cache.CachingResolver(make_resolver(settings), settings.dns)
    finder = make_finder(settings, resolver, store=store)
    deadline = time.monotonic() + _PATIENCE_S
    hops = [pending.result(deadline) for pending in [finder.begin(domain) for domain in domains]]
    if options.json:
        print(json.dumps([_as_json(hop, settings) for hop in hops], indent=2, ensure_ascii=False))
    else:
        print("\n".join(line for hop in hops for line in _in_words(hop, settings)))
    if store.problem:
        say("warning", f"{store.name}: {store.problem}; policies that smilla remembers were not looked at")
    return _exit_code([hop.verdict for hop in hops])


def _domain(text: str) -> str:
    """In A-labels.  Raises UsageError."""
    try:
        return (address.parse(text) if "@" in text else address_list.postmaster(text)).domain
    except AddressError as error:
        raise UsageError(str(error)) from error


def _exit_code(verdicts: list[HopVerdict]) -> int:
    if HopVerdict.NONE in verdicts:
        return EX_NO
    return EX_OK if set(verdicts) == {HopVerdict.VERIFIED} else EX_TEMPFAIL


def _as_json(hop: Hop, settings: Config) -> dict[str, Any]:
    return describe.hop_as_json(hop) | {"postfix": _told(hop, settings)}


def _in_words(hop: Hop, settings: Config) -> Iterator[str]:
    yield from describe.hop_in_words(hop)
    for name, answer in _told(hop, settings).items():
        yield printable(f"  Postfix, map {name}: {answer.strip()}")


def _told(hop: Hop, settings: Config) -> dict[str, str]:
    """What each map tells Postfix, which asks about addresses, too, and hears that there is nothing."""
    if not tls_policy.domain_of(hop.domain):
        return dict.fromkeys(tls_policy.MAPS, tls_policy.NOTFOUND)
    return {"secure": tls_policy.secure(hop, settings.hop), "policy": tls_policy.policy(hop, settings.hop)}
