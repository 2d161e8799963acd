"""What ``record`` and ``publish`` share: from an address and a file to the record, read back and judged."""

from __future__ import annotations

import argparse
import getpass
import sys
from datetime import UTC, datetime
from pathlib import Path

from smilla import address
from smilla.adapters import new_file, zone_line
from smilla.address import EmailAddress
from smilla.cli import UsageError, say
from smilla.errors import AddressError, ParseError
from smilla.keys.discovery.owner import not_asked
from smilla.model import Assessment
from smilla.records import material, minimal
from smilla.records.record import Record, assess, openpgpkey_record, smimea_record

_LARGE = 16384  # octets; RFC 7929 section 2.1 asks for small keys, because answers over UDP get lost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The address, the file, and what becomes of it."""
    parser.add_argument("address", metavar="ADDR")
    key = parser.add_mutually_exclusive_group(required=True)
    key.add_argument("--cert", metavar="FILE", help="certificate, PEM, DER or PKCS #12: an SMIMEA record")
    key.add_argument("--key", metavar="FILE", help="OpenPGP public key, armoured or binary: an OPENPGPKEY record")
    parser.add_argument("--usage", type=int, choices=range(4), default=3, help="SMIMEA certificate usage (3)")
    parser.add_argument(
        "--minimal", action="store_true", help="of an OpenPGP key, only what senders to this address need"
    )
    with_password(parser)


def with_password(parser: argparse.ArgumentParser) -> None:
    """Adds ``--password-file``."""
    parser.add_argument("--password-file", metavar="FILE", help="a file whose first line is the password (PKCS #12)")


def owner_of(text: str) -> EmailAddress:
    """The address whose key is published.  Raises UsageError."""
    try:
        owner = address.parse(text)
    except AddressError as error:
        raise UsageError(str(error)) from error
    if why := not_asked(owner.domain):
        raise UsageError(f"{owner}: nobody would look up this record: {why}")
    return owner


def record_of(options: argparse.Namespace, owner: EmailAddress) -> Record:
    """The record for the file that was given.  Raises UsageError."""
    name = options.cert or options.key
    try:
        raw = Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from error
    now = datetime.now(UTC)
    try:
        if options.key:
            return openpgpkey_record(owner, _key(name, raw, owner, now, is_minimal=options.minimal))
        if options.minimal:
            raise UsageError("--minimal is for an OpenPGP key; of a certificate nothing can be left out")
        chosen = material.best_certificate(raw, owner, options.usage, now, lambda: _password_of(options, name))
    except ParseError as error:
        raise UsageError(f"{name}: {error}") from error
    if chosen.remark:
        say("hint", f"{name}: {chosen.remark}")
    return smimea_record(owner, chosen.raw, options.usage)


def _key(name: str, raw: bytes, owner: EmailAddress, now: datetime, *, is_minimal: bool) -> bytes:
    whole = material.only_key(raw, owner, now).raw
    if not is_minimal:
        return whole
    small = minimal.minimal_key(whole, owner, now)
    if missing := minimal.left_out(whole, owner):
        say("warning", f"{name}: {missing}, which cannot be read here")
    before, after = (assess(openpgpkey_record(owner, octets), owner, now).key for octets in (whole, small))
    if before and after and before.expires_at != after.expires_at:
        say("warning", f"{name}: another user ID says when the key ends; cut down, it ends at {after.expires_at}")
    return small


def _password_of(options: argparse.Namespace, name: str) -> bytes:
    if options.password_file:
        return read_password(options.password_file)
    if not sys.stdin.isatty():
        raise UsageError(f"{name}: is encrypted; give its password by --password-file")
    return getpass.getpass(f"Password of {name}: ").encode()


def read_password(name: str) -> bytes:
    """The first line of the file, without its end.  Raises UsageError."""
    octets = first_line(name)
    if not octets:
        raise UsageError(f"{name}: its first line, the password, is empty")
    return octets


def first_line(name: str) -> bytes:
    """The first line of a file with a secret, which should not be everybody's to read.  Raises FileProblem."""
    if new_file.is_readable_by_all(Path(name)):
        say("warning", f"{name}: everybody on this machine can read it; chmod 600 {name}")
    return new_file.read(Path(name)).split(b"\n", 1)[0].rstrip(b"\r")


def read_back(line: str, record: Record, owner: EmailAddress) -> Assessment:
    """What a sender's smilla will say of the line, once a name server has read it.  Raises ParseError where another
    reader of zone files finds another record in it."""
    found = Record(*zone_line.read(line))
    if (found.owner, found.rdtype, found.rdata) != (record.owner, record.rdtype, record.rdata):
        raise ParseError(f"the line for {owner} does not say what it should; please report this")
    return assess(found, owner, datetime.now(UTC))


def warn(assessment: Assessment, *, is_key: bool) -> None:
    """Why senders would not use it, and whether it is large."""
    if assessment.key is None:
        for reason in assessment.reasons:
            say("warning", f"senders will not use it: {reason.text}")
    size = len(assessment.candidate.raw)
    if size > _LARGE:
        say("hint", f"the record has {size} octets" + ("; publish a minimal key (--minimal)" if is_key else ""))
