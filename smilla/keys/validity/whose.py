"""Whose are the keys that share a file or an answer?

A file often holds more than the intended key: the CAs above it, an older key, somebody else's.  While the right one is
usable it comes first; once it expires, the next in line must not replace it.  What others do: they take anything that
can be encrypted to.  What we do: a CA that issued another certificate in the file is nobody's mailbox, and if a key in
the file names the address, a key that names only others is theirs, and a CA that names nobody is a CA.  A key that
cannot be read may be the one that names the address.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from smilla.address import EmailAddress
from smilla.config.options import OUTSIDE_DNS
from smilla.keys.validity import pgp, x509
from smilla.keys.validity.certificate import Certificate, raw_subject, read
from smilla.model import Assessment, Candidate, Format, Reason

OWN, NOBODYS, ANOTHERS = 2, 1, 0
_ISSUER = Reason("issuer", "this is the CA that issued another certificate beside it: nothing to encrypt to")


def named(candidate: Candidate, address: EmailAddress) -> int:
    """Whether a key names the address, nobody, or only others; higher is better."""
    if candidate.format is Format.SMIME:
        certificate = _certificate(candidate)
        mailboxes = x509.addresses(certificate.raw) if certificate else ()
    else:
        mailboxes = pgp.addresses(candidate)
    if any(name.folded == address.folded for name in mailboxes):
        return OWN
    return ANOTHERS if mailboxes else NOBODYS


def without_issuers(assessments: Sequence[Assessment]) -> tuple[Assessment, ...]:
    """Drops keys of CAs that issued another of these certificates; a certificate renewed under its own name is no
    CA."""
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
    """Drops keys that name only others, and CAs that name nobody, if another key of the same file names the address,
    even an unusable one, or cannot be read, so that it may name it."""
    if len(assessments) < 2:
        return tuple(assessments)
    names = [named(a.candidate, address) for a in assessments]
    issuers = {c.parsed.issuer.public_bytes() for c in map(_certificate, (a.candidate for a in assessments)) if c}
    spoken_for: dict[str, str] = {}
    for found, name in zip(assessments, names, strict=True):
        if name == OWN:
            spoken_for[found.candidate.where] = f"names {address}"
        elif _is_unread(found, name) and raw_subject(found.candidate.raw) not in issuers:
            spoken_for.setdefault(found.candidate.where, f"cannot be read, and may be that of {address}")
    return tuple(
        _unless_theirs(found, name, spoken_for.get(found.candidate.where, ""))
        for found, name in zip(assessments, names, strict=True)
    )


def _is_unread(found: Assessment, name: int) -> bool:
    return found.key is None and name == NOBODYS and any(reason.code == "malformed" for reason in found.reasons)


def _unless_theirs(found: Assessment, name: int, beside: str) -> Assessment:
    """The key as it was judged, or dropped; ``beside`` says what a key beside it is, "" if there is no such key."""
    if found.key is None or not beside:
        return found
    if name == ANOTHERS:
        reason = Reason("other_address", f"it names only others, and a key beside it {beside}")
        return replace(found, key=None, reasons=(reason,))
    if name == NOBODYS and (certificate := _certificate(found.candidate)) is not None and certificate.is_ca:
        reason = Reason("issuer", f"it is the certificate of a CA, and a key beside it {beside}")
        return replace(found, key=None, reasons=(reason,), meant_for_encryption=False)
    return found


def _certificate(candidate: Candidate) -> Certificate | None:
    if candidate.format is not Format.SMIME:
        return None
    return read(candidate.raw, pem=candidate.source in OUTSIDE_DNS).certificate
