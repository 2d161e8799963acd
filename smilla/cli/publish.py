"""``smilla publish``: puts a certificate or an OpenPGP key into DNS, and waits until senders can use it."""

from __future__ import annotations

import argparse

from smilla.cli import EX_NOPERM, material, publishing, say
from smilla.cli.publishing import Change

_TTL_S = 3600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla publish`` takes."""
    material.add_arguments(parser)
    publishing.add_arguments(parser)
    parser.add_argument("--ttl", metavar="S", type=int, default=_TTL_S, help=f"the record's TTL in seconds ({_TTL_S})")
    parser.add_argument("--force", action="store_true", help="publish a key, too, that smilla itself would not use")


def run(options: argparse.Namespace) -> int:
    """Exit 0: every server shows it, and it is secure (or nobody is to wait); 1: refused; 75: not yet; 77: a key that
    senders would not use; 2 for an address or a file that cannot be published."""
    settings = publishing.checked(options)
    owner = material.owner_of(options.address)
    record = material.record_of(options, owner)
    assessment = material.read_back(record.line(ttl_s=options.ttl), record, owner)
    material.warn(assessment, is_key=bool(options.key))
    if assessment.key is None and not options.force:
        say("error", f"{owner}: not published, since senders will not use it; --force publishes it anyway")
        return EX_NOPERM
    return publishing.made(options, Change(owner, record.owner, record.rdtype, record), settings)
