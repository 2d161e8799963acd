"""Whose keys stand beside each other in one file, or in one answer?

A file often holds more than the key that was meant: the CAs above it, an older one, somebody else's.  While the right
one can be used it comes first; once it has expired the next in line must not take its place.  What others do: they take
whatever can be encrypted to.  What we do: a CA that issued another certificate beside it is nobody's mailbox, and
where a file has a key that names the address, one that names others only is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from smilla.address import EmailAddress
from smilla.keys.validity import pgp, x509
from smilla.keys.validity.certificate import Certificate, read
from smilla.model import Assessment, Candidate, Format, Reason

OWN, NOBODYS, ANOTHERS = 2, 1, 0
_ISSUER = Reason("issuer", "the CA that issued another certificate beside it: nothing to encrypt to")


def named(candidate: Candidate, address: EmailAddress) -> int:
    """Whether a key names the address, nobody, or others only; the higher the better."""
    if candidate.format is Format.SMIME:
        certificate = _certificate(candidate)
        mailboxes = x509.addresses(certificate.raw) if certificate else ()
    else:
        mailboxes = pgp.addresses(candidate)
    if any(name.folded == address.folded for name in mailboxes):
        return OWN
    return ANOTHERS if mailboxes else NOBODYS


def without_issuers(assessments: Sequence[Assessment]) -> tuple[Assessment, ...]:
    """No key of a CA that issued another certificate among these; one that is renewed under its own name is no CA."""
    issuers = {
        c.parsed.issuer.public_bytes()
        for c in map(_certificate, (a.candidate for a in assessments))
        if c is not None and c.parsed.issuer != c.parsed.subject
    }
    if not issuers:
        return tuple(assessments)

    def is_issuer(found: Assessment) -> bool:
        certificate = _certificate(found.candidate) if found.key else None
        return certificate is not None and certificate.is_ca and certificate.parsed.subject.public_bytes() in issuers

    return tuple(replace(a, key=None, reasons=(_ISSUER,)) if is_issuer(a) else a for a in assessments)


def without_others(assessments: Sequence[Assessment], address: EmailAddress) -> tuple[Assessment, ...]:
    """No key that names others only where another one of its file names the address, even one that cannot be used."""
    if len(assessments) < 2:
        return tuple(assessments)
    names = [named(a.candidate, address) for a in assessments]
    spoken_for = {a.candidate.where for a, name in zip(assessments, names, strict=True) if name == OWN}
    text = f"it names others only, and beside it stands a key that names {address}"
    theirs = Reason("other_address", text)
    return tuple(
        replace(a, key=None, reasons=(theirs,)) if a.key and name == ANOTHERS and a.candidate.where in spoken_for else a
        for a, name in zip(assessments, names, strict=True)
    )


def _certificate(candidate: Candidate) -> Certificate | None:
    if candidate.format is not Format.SMIME:
        return None
    return read(candidate.raw, pem=candidate.source == "directory").certificate
