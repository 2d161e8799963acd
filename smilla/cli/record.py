"""``smilla record``: the resource record that publishes a certificate or an OpenPGP key.

It prints one line for a zone file: in presentation form (RFC 8162 section 2, RFC 7929 section 2.4) or, for older name
servers, in the generic form of RFC 3597.  Before that it reads the line back as a name server would, and judges what it
read as a sender's smilla would.  If that one would not use the certificate or key for the address, the line is printed
anyway, with a warning that says why.
"""

from __future__ import annotations

import argparse

from smilla.cli import EX_OK, material


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla record`` takes."""
    material.add_arguments(parser)
    parser.add_argument("--generic", action="store_true", help="in the form of RFC 3597, for older name servers")


def run(options: argparse.Namespace) -> int:
    """Exit 0, or 2 for an address or a file that cannot be published."""
    owner = material.owner_of(options.address)
    record = material.record_of(options, owner)
    line = record.line(generic=options.generic)
    material.warn(material.read_back(line, record, owner), is_key=bool(options.key))
    print(line)
    return EX_OK
