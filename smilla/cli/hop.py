"""``smilla hop``: can the hop to a domain be verified, how that was found, and what Postfix is told."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smilla import address, config, log
from smilla.adapters.hop_store import HopStore
from smilla.answer import describe
from smilla.cli import EX_NO, EX_OK, EX_TEMPFAIL, UsageError, printable, say, with_config
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
    store = HopStore(settings.hop_store, makes=False)
    resolver = cache.CachingResolver(make_resolver(settings), settings.dns)
    finder = make_finder(settings, resolver, store=store)
    deadline = time.monotonic() + _PATIENCE_S
    hops = [pending.result(deadline) for pending in [finder.begin(domain) for domain in domains]]
    if options.json:
        print(json.dumps([_as_json(hop, settings) for hop in hops], indent=2, ensure_ascii=False))
    else:
        print("\n".join(line for hop in hops for line in _in_words(hop, settings)))
    if store.problem:
        say("warning", f"{settings.hop_store}: {store.problem}; policies that smilla remembers were not looked at")
    return _exit_code([hop.verdict for hop in hops])


def _domain(text: str) -> str:
    """In A-labels.  Raises UsageError."""
    try:
        return address.parse(text if "@" in text else f"postmaster@{text}").domain
    except AddressError as error:
        raise UsageError(str(error)) from error


def _exit_code(verdicts: list[HopVerdict]) -> int:
    if HopVerdict.NONE in verdicts:
        return EX_NO
    return EX_OK if set(verdicts) == {HopVerdict.VERIFIED} else EX_TEMPFAIL


def _as_json(hop: Hop, settings: Config) -> dict[str, Any]:
    told = {"secure": tls_policy.secure(hop, settings.hop), "policy": tls_policy.policy(hop, settings.hop)}
    return describe.hop_as_json(hop) | {"postfix": told}


def _in_words(hop: Hop, settings: Config) -> Iterator[str]:
    yield from describe.hop_in_words(hop)
    yield printable(f"  Postfix, map secure: {tls_policy.secure(hop, settings.hop).strip()}")
    yield printable(f"  Postfix, map policy: {tls_policy.policy(hop, settings.hop).strip()}")
