"""``smilla record``: the resource record that publishes a certificate or an OpenPGP key.

It prints one line for a zone file: in presentation form (RFC 8162 section 2, RFC 7929 section 2.4) or, for older name
servers, in the generic form of RFC 3597.  If smilla itself would not use the certificate or key for the address, the
line is printed anyway, with a warning that says why.
"""

from __future__ import annotations

import argparse
import base64
from datetime import UTC, datetime
from pathlib import Path

from smilla import address
from smilla.address import EmailAddress
from smilla.cli import EX_OK, UsageError, say
from smilla.errors import AddressError
from smilla.formats import key_file
from smilla.keys.discovery.owner import OPENPGPKEY, SMIMEA, not_asked, owner_name
from smilla.keys.validity import certificate, pgp, x509
from smilla.model import Assessment, Candidate, Format, SMIMEACandidate

_EXPORT = "export a public key, e.g. gpg --export ADDRESS"
_LARGE = 16384  # octets; RFC 7929 section 2.1 asks for small keys, because answers over UDP get lost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla record`` takes."""
    parser.add_argument("address", metavar="ADDR")
    key = parser.add_mutually_exclusive_group(required=True)
    key.add_argument("--cert", metavar="FILE", help="certificate, PEM or DER: an SMIMEA record")
    key.add_argument("--key", metavar="FILE", help="OpenPGP public key, armoured or binary: an OPENPGPKEY record")
    parser.add_argument("--usage", type=int, choices=range(4), default=3, help="SMIMEA certificate usage (3)")
    parser.add_argument("--generic", action="store_true", help="in the form of RFC 3597, for older name servers")


def run(options: argparse.Namespace) -> int:
    """Exit 0, or 2 for an address or a file that cannot be published."""
    try:
        owner = address.parse(options.address)
    except AddressError as error:
        raise UsageError(str(error)) from error
    if why := not_asked(owner.domain):
        raise UsageError(f"{owner}: nobody would look up this record: {why}")
    rdtype = SMIMEA if options.cert else OPENPGPKEY
    name = owner_name(owner.local_part, owner.domain, rdtype)
    if rdtype == SMIMEA:
        raw = _certificate(options.cert, owner, options.usage)
        _warn(_assess_certificate(raw, owner, options.usage))
        print(_smimea(name, options.usage, raw, options.generic))
    else:
        raw = _key(options.key, owner)
        _warn(_assess_key(raw, owner))
        print(_openpgpkey(name, raw, options.generic))
    return EX_OK


def _smimea(name: str, usage: int, raw: bytes, generic: bool) -> str:
    """Selector 0, matching type 0: the whole certificate, the only form that one can encrypt to."""
    if generic:
        return _generic(name, SMIMEA, bytes([usage, 0, 0]) + raw)
    return f"{name} IN SMIMEA {usage} 0 0 {raw.hex()}"


def _openpgpkey(name: str, raw: bytes, generic: bool) -> str:
    if generic:
        return _generic(name, OPENPGPKEY, raw)
    return f"{name} IN OPENPGPKEY {base64.b64encode(raw).decode('ascii')}"


def _generic(name: str, rdtype: int, rdata: bytes) -> str:
    """RFC 3597 section 5."""
    return f"{name} IN TYPE{rdtype} \\# {len(rdata)} {rdata.hex()}"


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from error


def _certificate(name: str, owner: EmailAddress, usage: int) -> bytes:
    """The DER of the certificate in a file that fits the address best.  Raises UsageError."""
    raw = _read(name)
    held = [key for form, key in key_file.contents(raw, Format.SMIME).keys if form is Format.SMIME]
    read = [key for key in held if certificate.read(key, pem=False).certificate]
    if not read:
        fault = certificate.read(held[0], pem=False).fault if held else "there is nothing like it in it"
        raise UsageError(f"{name}: holds no certificate, neither PEM nor DER ({fault})")
    chosen = max(read, key=lambda key: _suits(_assess_certificate(key, owner, usage), owner))
    if len(read) > 1:
        facts = certificate.read(chosen, pem=False).facts
        say(
            "hint", f"{name}: of {len(read)} certificates in it, this is {facts.get('subject') or facts['fingerprint']}"
        )
    return chosen


def _suits(assessment: Assessment, owner: EmailAddress) -> tuple[bool, bool, float]:
    """A usable one first, then one that names the address, then the newest."""
    named = any(name.folded == owner.folded for name in x509.addresses(assessment.candidate.raw))
    issued_at = assessment.key.issued_at if assessment.key else None
    return assessment.key is not None, named, issued_at.timestamp() if issued_at else 0.0


def _key(name: str, owner: EmailAddress) -> bytes:
    """The one OpenPGP key in a file, in binary.  Raises UsageError."""
    raw = _read(name)
    found = key_file.contents(raw, Format.OPENPGP)
    if found.has_private:
        raise UsageError(f"{name}: holds a secret key, which must never be published; {_EXPORT}")
    keys = [key for form, key in found.keys if form is Format.OPENPGP]
    if len(keys) != 1:
        raise UsageError(f"{name}: holds {len(keys) or 'no'} OpenPGP keys, and a record has one; {_EXPORT}")
    for reason in _assess_key(keys[0], owner).reasons:
        if reason.code == "malformed":
            raise UsageError(f"{name}: {reason.text}; {_EXPORT}")
    return keys[0]


def _assess_key(raw: bytes, owner: EmailAddress) -> Assessment:
    return pgp.assess(Candidate("openpgpkey", str(owner), Format.OPENPGP, raw), owner, datetime.now(UTC))


def _assess_certificate(raw: bytes, owner: EmailAddress, usage: int) -> Assessment:
    candidate = SMIMEACandidate("smimea", str(owner), Format.SMIME, raw, None, usage, 0, 0)
    return x509.assess(candidate, owner, datetime.now(UTC), None, require_address=True)


def _warn(assessment: Assessment) -> None:
    if assessment.key is None:
        for reason in assessment.reasons:
            say("warning", f"senders will not use it: {reason.text}")
    if len(assessment.candidate.raw) > _LARGE:
        size = len(assessment.candidate.raw)
        say("hint", f"the record has {size} octets; publish a minimal key, e.g. gpg --export-options export-minimal")
