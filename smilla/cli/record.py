"""``smilla record``: the resource record that publishes a certificate or an OpenPGP key.

What is printed is one line for a zone file: in presentation form (RFC 8162 section 2, RFC 7929 section 2.4) or, for
older name servers, in the generic form of RFC 3597.  A certificate or key that smilla itself would not use for the
address is printed all the same, with a warning that says why.
"""

from __future__ import annotations

import argparse
import base64
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate, load_pem_x509_certificate

from smilla import address
from smilla.address import EmailAddress
from smilla.cli import EX_OK, UsageError, say
from smilla.discovery.owner import OPENPGPKEY, SMIMEA, not_asked, owner_name
from smilla.errors import AddressError, ParseError
from smilla.formats import armour
from smilla.model import Assessment, Candidate, Format, SMIMEACandidate
from smilla.validity import pgp, x509

_LARGE = 16384  # octets; RFC 7929 section 2.1 asks for small keys, since answers over UDP get lost


def run(options: argparse.Namespace) -> int:
    """Exit 0; 2 for an address or a file that cannot be published."""
    try:
        owner = address.parse(options.address)
    except AddressError as error:
        raise UsageError(str(error)) from error
    if why := not_asked(owner.domain):
        raise UsageError(f"{owner}: nobody would ask for this record: {why}")
    rdtype = SMIMEA if options.cert else OPENPGPKEY
    name = owner_name(owner.local_part, owner.domain, rdtype)
    if rdtype == SMIMEA:
        raw = _certificate(options.cert)
        _warn(_assess_certificate(raw, owner, options.usage))
        print(_smimea(name, options.usage, raw, options.generic))
    else:
        raw = _key(options.key)
        _warn(pgp.assess(Candidate("openpgpkey", name, Format.OPENPGP, raw), owner, datetime.now(UTC)))
        print(_openpgpkey(name, raw, options.generic))
    return EX_OK


def _smimea(name: str, usage: int, raw: bytes, generic: bool) -> str:
    """Selector 0, matching type 0: the whole certificate, the one form that can be encrypted to."""
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


def _certificate(name: str) -> bytes:
    """The DER of the first certificate in a file.  Raises UsageError."""
    raw = _read(name)
    try:
        load = load_pem_x509_certificate if b"-----BEGIN" in raw else load_der_x509_certificate
        return load(raw).public_bytes(Encoding.DER)
    except ValueError as error:
        raise UsageError(f"{name}: holds no certificate, neither PEM nor DER ({error})") from error


def _key(name: str) -> bytes:
    raw = _read(name)
    try:
        if armour.is_armoured(raw):
            raw = armour.dearmour(raw).data
    except ParseError as error:
        raise UsageError(f"{name}: is no OpenPGP key: {error}") from error
    nobody = EmailAddress("nobody", "invalid", "nobody@invalid")
    assessed = pgp.assess(Candidate("openpgpkey", name, Format.OPENPGP, raw), nobody, datetime.now(UTC))
    for reason in assessed.reasons:
        if reason.code in ("malformed", "secret_key", "several_keys"):
            secret = reason.code == "secret_key"
            text = "holds a secret key, which must never be published" if secret else reason.text
            raise UsageError(f"{name}: {text}; export one public key, e.g. gpg --export ADDRESS")
    return raw


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
