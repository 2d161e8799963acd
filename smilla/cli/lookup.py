"""``smilla lookup``: the keys of one address, with every reason for or against each."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from smilla import address, config, log, lookup
from smilla.cli import EX_NO, EX_OK, EX_TEMPFAIL, UsageError, describe
from smilla.errors import AddressError
from smilla.model import KeyVerdict
from smilla.runtime import make_ports

_EXIT = {KeyVerdict.USABLE: EX_OK, KeyVerdict.BOGUS: EX_TEMPFAIL, KeyVerdict.UNREACHABLE: EX_TEMPFAIL}


def run(options: argparse.Namespace) -> int:
    """Exit 0: a usable key; 1: none; 75: cannot be told now."""
    settings = config.load(Path(options.config))
    log.silence()
    try:
        asked = address.parse(options.address)
    except AddressError as error:
        raise UsageError(str(error)) from error
    ports = make_ports(settings)
    pending = lookup.begin(asked, ports, settings)
    found = lookup.finish(pending, pending.asked_at + settings.dns.timeout_s, ports.clock.now(), ports)
    if options.json:
        print(json.dumps(describe.lookup_as_json(found), indent=2, ensure_ascii=False))
    else:
        print("\n".join(describe.lookup_in_words(found)))
    return _EXIT.get(found.verdict, EX_NO)
