"""``smilla withdraw``: takes an address's records out of DNS, and waits until no server shows them any more."""

from __future__ import annotations

import argparse

from smilla.cli import material, publishing
from smilla.cli.publishing import Change
from smilla.keys.discovery.owner import OPENPGPKEY, SMIMEA, owner_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla withdraw`` takes."""
    parser.add_argument("address", metavar="ADDR")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--smimea", action="store_true", help="the certificate only")
    kind.add_argument("--openpgpkey", action="store_true", help="the OpenPGP key only")
    publishing.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Exit 0: no server shows them (or nobody is to wait); 1: refused; 75: not yet.  Both records go, one after the
    other, unless one of them is named."""
    settings = publishing.checked(options)
    owner = material.owner_of(options.address)
    kinds = [SMIMEA] if options.smimea else [OPENPGPKEY] if options.openpgpkey else [SMIMEA, OPENPGPKEY]
    codes = [
        publishing.made(options, Change(owner, owner_name(owner.local_part, owner.domain, kind), kind, None), settings)
        for kind in kinds
    ]
    return max(codes)
