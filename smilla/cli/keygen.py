"""``smilla keygen``: a new certificate or OpenPGP key, fit for publishing, and the record that publishes it.

Files are made and never written over.  Private ones have mode 0600 and are encrypted with a password, which comes from
``--password-file``, or is made here and shown once.
"""

from __future__ import annotations

import argparse
import secrets
from datetime import UTC, datetime
from pathlib import Path

from smilla.adapters import new_file
from smilla.adapters.new_file import PRIVATE, PUBLIC
from smilla.address import EmailAddress
from smilla.cli import EX_OK, UsageError, material, say
from smilla.errors import FileProblem
from smilla.records import openpgp_key, pkcs12, smime_certificate
from smilla.records.record import Record, openpgpkey_record, smimea_record
from smilla.records.wanted import Wanted

_Files = dict[str, tuple[bytes, int]]  # by the end of the name: content and mode
_MOST_DAYS = 3650
_UNAMBIGUOUS = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # without l, i, o, I, O, 0 and 1
_PLAIN = "@._+-="
_IN_FOLDER = "a key that only goes into a key folder ([keys] directory) need not be published"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla keygen`` takes."""
    parser.add_argument("address", metavar="ADDR")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--smime", action="store_true", help="an S/MIME certificate with its PKCS #12 file (the default)")
    kind.add_argument("--openpgp", action="store_true", help="an OpenPGP key with its revocation certificate")
    parser.add_argument("--name", metavar="NAME", default="", help="the person's name")
    parser.add_argument("--days", type=int, default=730, help="how long it is valid (730)")
    parser.add_argument("--ec", choices=smime_certificate.CURVES, default="", help="a curve for S/MIME instead of RSA")
    parser.add_argument("--bits", type=int, choices=smime_certificate.RSA_BITS, default=3072, help="RSA bits (3072)")
    parser.add_argument("--output-dir", metavar="DIR", default=".", help="where the files go (here)")
    material.with_password(parser)


def run(options: argparse.Namespace) -> int:
    """Exit 0, 1 where a file exists or cannot be made, or 2 for an address that cannot publish."""
    owner = material.owner_of(options.address)
    wanted = Wanted(owner, _name(options.name), datetime.now(UTC), _days(options.days))
    if options.openpgp and options.ec:
        raise UsageError("--ec is for S/MIME; an OpenPGP key is Ed25519 and Curve25519")
    base = Path(options.output_dir) / file_name(owner)
    _refuse_existing(base, (".asc", ".secret.asc", ".revocation.asc") if options.openpgp else (".crt", ".p12"))
    password = material.read_password(options.password_file) if options.password_file else _made_password()
    record, files = _openpgp(wanted, password) if options.openpgp else _smime(wanted, password, options)
    line = record.line()
    assessment = material.read_back(line, record, owner)
    if assessment.key is None:
        raise UsageError(f"{owner}: no key was made, for senders would not use it: {assessment.reasons[0].text}")
    _write(base, files)
    print(line)  # first, since it may be so long that it scrolls away what is before it
    if not options.password_file:
        say("hint", f"the password, shown this once: {password.decode('ascii')}")
    for hint in _what_next(base, options, owner):
        say("hint", hint)
    return EX_OK


def _write(base: Path, files: _Files) -> None:
    """All files or none: a private key whose password nobody was told is of no use.  Raises FileProblem."""
    made: list[Path] = []
    try:
        for suffix, (octets, mode) in files.items():
            new_file.write(Path(f"{base}{suffix}"), octets, mode)
            made.append(Path(f"{base}{suffix}"))
    except FileProblem:
        for path in made:
            path.unlink()
        raise


def _smime(wanted: Wanted, password: bytes, options: argparse.Namespace) -> tuple[Record, _Files]:
    made = smime_certificate.make(wanted, options.ec, options.bits)
    raw = pkcs12.written(wanted.name or str(wanted.address), made.key, made.raw, password)
    return smimea_record(wanted.address, made.raw, 3), {".p12": (raw, PRIVATE), ".crt": (made.public_file, PUBLIC)}


def _openpgp(wanted: Wanted, password: bytes) -> tuple[Record, _Files]:
    made = openpgp_key.make(wanted, password)
    files = {
        ".secret.asc": (made.secret, PRIVATE),
        ".revocation.asc": (made.revocation, PRIVATE),
        ".asc": (made.public_file, PUBLIC),
    }
    return openpgpkey_record(wanted.address, made.public), files


def _what_next(base: Path, options: argparse.Namespace, owner: EmailAddress) -> list[str]:
    if options.openpgp:
        return [
            f"{base}.secret.asc is for the mail program: import it there, keep a copy in a safe place, delete it here",
            f"{base}.revocation.asc ends the key if it is lost or stolen: keep it apart from the key",
            f"publish the line above, or run: smilla publish {owner} --key {base}.asc",
            _IN_FOLDER,
        ]
    return [
        f"{base}.p12 is for the mail program: import it there, keep a copy in a safe place, delete it here",
        f"publish the line above, or run: smilla publish {owner} --cert {base}.crt",
        _IN_FOLDER,
    ]


def _name(text: str) -> str:
    if not text.isprintable() or set(text) & set("<>") or len(text.encode()) > 200:
        raise UsageError("--name takes up to 200 octets of printable text without angle brackets")
    return text.strip()


def _days(days: int) -> int:
    if not 1 <= days <= _MOST_DAYS:
        raise UsageError(f"--days takes a number from 1 to {_MOST_DAYS}")
    return days


def _refuse_existing(base: Path, suffixes: tuple[str, ...]) -> None:
    """Before a key is made for nothing."""
    for suffix in suffixes:
        if Path(f"{base}{suffix}").exists():
            raise UsageError(f"{base}{suffix}: exists, and keys are never written over; move it, or use --output-dir")


def _made_password() -> bytes:
    """About 115 bits, in groups that can be typed."""
    letters = "".join(secrets.choice(_UNAMBIGUOUS) for _ in range(20))
    return "-".join(letters[at : at + 5] for at in range(0, 20, 5)).encode("ascii")


def file_name(owner: EmailAddress) -> str:
    """The address as the name of a file, as the directory source knows it; what a folder or a shell could mistake is
    written as %XX."""
    return "".join(
        c if c.isalnum() or c in _PLAIN else "".join(f"%{octet:02X}" for octet in c.encode()) for c in str(owner)
    )
