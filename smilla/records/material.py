"""From the octets of a file to the one certificate or key in it that an address should publish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from smilla.address import EmailAddress
from smilla.errors import ParseError
from smilla.formats import key_file
from smilla.keys.validity import certificate, pgp, whose, x509
from smilla.model import Assessment, Candidate, Format, SMIMEACandidate
from smilla.records import pkcs12

_EXPORT = "export a public key, e.g. gpg --export ADDRESS"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is published, and what to say about the choice ("" for nothing)."""

    raw: bytes
    remark: str = ""


def best_certificate(
    raw: bytes, address: EmailAddress, usage: int, now: datetime, password: Callable[[], bytes | None]
) -> Chosen:
    """The certificate in DER that fits the address best, of a file in PEM, DER, PKCS #7 or PKCS #12.  ``password`` is
    asked for the last of these only, and only where it is encrypted.  Raises ParseError."""
    read = _read_certificates(raw, password)
    candidates = [SMIMEACandidate("smimea", str(address), Format.SMIME, one, None, usage, 0, 0) for one in read]
    assessments = [x509.assess(candidate, address, now, None, require_address=True) for candidate in candidates]
    best = max(whose.without_issuers(assessments), key=lambda found: _suits(found, address)).candidate.raw
    if len(read) == 1:
        return Chosen(best)
    facts = certificate.read(best, pem=False).facts
    return Chosen(best, f"of {len(read)} certificates in it, this is {facts.get('subject') or facts['fingerprint']}")


def _read_certificates(raw: bytes, password: Callable[[], bytes | None]) -> Sequence[bytes]:
    if pkcs12.is_pkcs12(raw):
        held = _opened(raw, password)
    else:
        held = [key for form, key in key_file.contents(raw, Format.SMIME).keys if form is Format.SMIME]
    readings = {key: certificate.read(key, pem=False) for key in held}
    read = [key for key, reading in readings.items() if reading.certificate]
    if not read:
        fault = readings[held[0]].fault if held else "there is nothing like it in it"
        raise ParseError(f"holds no certificate, neither PEM nor DER ({fault})")
    return read


def _opened(raw: bytes, password: Callable[[], bytes | None]) -> Sequence[bytes]:
    """A file without encryption, or with the empty password, needs nobody to be asked."""
    for known in (None, b""):
        try:
            return pkcs12.certificates(raw, known)
        except ParseError:
            continue
    return pkcs12.certificates(raw, password())


def _suits(assessment: Assessment, address: EmailAddress) -> tuple[bool, bool, float]:
    """A usable one first, then one that names the address, then the newest."""
    named = any(name.folded == address.folded for name in x509.addresses(assessment.candidate.raw))
    issued_at = assessment.key.issued_at if assessment.key else None
    return assessment.key is not None, named, issued_at.timestamp() if issued_at else 0.0


def only_key(raw: bytes, address: EmailAddress, now: datetime) -> Chosen:
    """The one OpenPGP key of a file, armoured or not, in binary.  Raises ParseError."""
    found = key_file.contents(raw, Format.OPENPGP)
    if found.has_private:
        raise ParseError(f"holds a secret key, which must never be published; {_EXPORT}")
    keys = [key for form, key in found.keys if form is Format.OPENPGP]
    if len(keys) != 1:
        raise ParseError(f"holds {len(keys) or 'no'} OpenPGP keys, and a record has one; {_EXPORT}")
    if keys[0].lstrip().startswith(b"-----BEGIN PGP"):
        raise ParseError(f"its OpenPGP armour is damaged or cut off; {_EXPORT}")
    for reason in pgp.assess(Candidate("openpgpkey", str(address), Format.OPENPGP, keys[0]), address, now).reasons:
        if reason.code == "malformed":
            raise ParseError(f"{reason.text}; {_EXPORT}")
    return Chosen(keys[0])
