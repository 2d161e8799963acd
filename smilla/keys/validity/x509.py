"""May this certificate be used to encrypt to this address now?

Promises: any octets give an Assessment, never an exception.  Every reason against a certificate is collected, not just
the first.  Only a certificate that passed all checks becomes an X509Key.  One that was published for a purpose other
than encryption (a hash, a CA, a signing certificate) is distinguished from one that was meant for it and cannot be
used.

Sources: RFC 8162 (SMIMEA), RFC 6698 section 2.1 (usage, selector, matching type).  ``smimea`` says how records combine,
``x509_checks`` what we check in a certificate.  For usage 3 we check neither the certificate's signature nor its
revocation: DNSSEC vouches for it (RFC 7671 section 5.1), and its publisher revokes it by removing the record.  We do
check its dates (RFC 8162 section 9).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from smilla.address import parse
from smilla.errors import AddressError
from smilla.formats import key_file
from smilla.keys.validity.certificate import Reading, read
from smilla.keys.validity.public_key import is_common, is_for_encryption, mechanism
from smilla.keys.validity.smimea import RecordSet, holds_certificate, shape_fault, unknown
from smilla.keys.validity.x509_checks import Findings, check, check_period
from smilla.keys.validity.x509_paths import Paths, TrustStore, load_trust_store
from smilla.keys.validity.x509_revocation import TEMPORARY, RevocationLists
from smilla.model import Assessment, Reason, SMIMEACandidate, X509Key
from smilla.value import value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from smilla.address import EmailAddress
    from smilla.keys.validity.certificate import Certificate
    from smilla.model import Candidate

_MAX_CANDIDATES = 64  # in one answer

__all__ = ["TEMPORARY", "RevocationLists", "TrustStore", "assess", "assess_all", "load_trust_store", "names_another"]


def assess(
    candidate: Candidate,
    address: EmailAddress,
    now: datetime,
    trusted: TrustStore | None = None,
    *,
    require_address: bool,
) -> Assessment:
    """The gate for a single certificate or record; without ``require_address`` it need not name the address."""
    return assess_all((candidate,), address if require_address else None, now, trusted)[0]


def assess_all(
    candidates: Sequence[Candidate],
    address: EmailAddress | None,
    now: datetime,
    trusted: TrustStore | None = None,
    others: Sequence[bytes] = (),
) -> tuple[Assessment, ...]:
    """The gate for all candidates of one answer: one assessment for each, in the same order.

    If a certificate names addresses, ``address`` must be one of them (RFC 8550 section 3); None skips this, since the
    directory is the administrator's word.  ``now`` is in UTC.  ``trusted`` serves SMIMEA usages 0 and 1.  ``others``
    are certificates in DER or PEM from the directory, which records may name.
    """
    judged = _judged(candidates)
    records = RecordSet([candidates[place] for place in judged], others)
    answer = _Answer(address, now, records, Paths(records, trusted, now))
    assessments = {place: _assess(candidates[place], answer) for place in judged}
    return tuple(assessments.get(place) or _not_judged(candidate) for place, candidate in enumerate(candidates))


def _judged(candidates: Sequence[Candidate]) -> list[int]:
    """The places of the candidates that we look at.  Their order is not the resolver's, so no verdict depends on that:
    whole certificates before names, those that need no path first.  An administrator's file has no bound."""
    places = list(range(len(candidates)))
    if any(not isinstance(candidate, SMIMEACandidate) for candidate in candidates):
        return places
    return sorted(places, key=lambda place: _order(candidates[place]))[:_MAX_CANDIDATES]


def _order(record: Candidate) -> tuple[int, int, int, bytes]:
    if not isinstance(record, SMIMEACandidate):
        return (0, 0, 0, record.raw)
    return (record.selector, record.matching_type, -record.usage, record.raw)


def _not_judged(candidate: Candidate) -> Assessment:
    text = f"the answer has more than {_MAX_CANDIDATES} records; this one was not looked at"
    return Assessment(candidate, None, (Reason("too_many_candidates", text),))


def addresses(raw: bytes) -> tuple[EmailAddress, ...]:
    """The mailboxes that a certificate in DER names."""
    certificate = read(raw, pem=False).certificate
    mailboxes = []
    for text in certificate.addresses if certificate else ():
        with suppress(AddressError):
            mailboxes.append(parse(text))
    return tuple(mailboxes)


def names_another(candidate: Candidate) -> bool:
    """Whether the candidate names a certificate that must come from elsewhere."""
    return isinstance(candidate, SMIMEACandidate) and not holds_certificate(candidate) and not unknown(candidate)


@value
class _Answer:
    """The terms for every candidate of one answer."""

    address: EmailAddress | None
    now: datetime
    records: RecordSet
    paths: Paths


def _assess(candidate: Candidate, answer: _Answer) -> Assessment:
    if not isinstance(candidate, SMIMEACandidate):
        return _assess_reading(candidate, read(candidate.raw, pem=True), answer)
    if reasons := unknown(candidate):
        facts = read(candidate.raw, pem=False).facts if holds_certificate(candidate) else {}
        return Assessment(candidate, None, reasons, meant_for_encryption=False, facts=facts)
    if holds_certificate(candidate):
        return _assess_reading(candidate, read(candidate.raw, pem=False), answer)
    return _assess_named(candidate, answer)


def _assess_named(record: SMIMEACandidate, answer: _Answer) -> Assessment:
    """A certificate that a record names counts as published under that record's usage.  The result is the newest usable
    one, or what is against one that was meant for encryption."""
    assessments = []
    for certificate in answer.records.named_by(record):
        facts = {"certificate_from": answer.records.origin(certificate), **read(certificate.raw, pem=False).facts}
        assessments.append(_assess_reading(record, Reading(certificate, facts), answer))
    if assessments:
        return max(assessments, key=lambda a: (a.key is not None, a.meant_for_encryption))
    findings = Findings()
    if record.usage == 2:
        _ca_only(record, findings)
    if fault := shape_fault(record):
        findings.against("malformed", fault)
    elif record.matching_type:
        text = "the record holds a hash, which gives nothing to encrypt to; the certificate that it names is unknown"
        findings.not_meant("hash_only", text)
    else:
        findings.not_meant("bare_key", "the record holds a public key without its certificate, which is unknown")
    return Assessment(record, None, tuple(findings.reasons), findings.meant)


def _assess_reading(candidate: Candidate, reading: Reading, answer: _Answer) -> Assessment:
    findings, certificate, key = Findings(facts=dict(reading.facts)), reading.certificate, None
    usage = candidate.usage if isinstance(candidate, SMIMEACandidate) else 3
    if usage == 2 or (usage == 0 and certificate and certificate.is_ca):
        _ca_only(candidate, findings, certificate)
        if certificate:
            check_period(certificate, answer.now, findings)
    elif certificate:
        strength = check(certificate, answer.address, answer.now, findings)
        ends_at = certificate.not_after
        if usage in (0, 1):
            ends_at = min(ends_at, _check_path(certificate, usage, answer.paths, findings))
        key = None if findings.reasons else _usable(certificate, strength, ends_at, findings.facts)
        if key is None and not findings.reasons:
            findings.against("unsupported_key", f"encrypting to a {findings.facts['algorithm']} key is not supported")
    if not certificate:
        told = key_file.problem(candidate.raw)
        findings.against(
            "malformed", f"no certificate: {told}" if told else f"the certificate is malformed: {reading.fault}"
        )
    return Assessment(candidate, key, tuple(findings.reasons), findings.meant, findings.facts)


def _ca_only(record: Candidate, findings: Findings, certificate: Certificate | None = None) -> None:
    usage = record.usage if isinstance(record, SMIMEACandidate) else 0
    text = f"usage {usage} names a CA's certificate, which gives nothing to encrypt to"
    if certificate and not certificate.is_ca:
        text += "; this one is no CA's, so it is no trust anchor either"
    findings.not_meant("ca_only", text)


def _check_path(certificate: Certificate, usage: int, paths: Paths, findings: Findings) -> datetime:
    """PKIX validation; a certificate outside its dates has no path, and that reason is already there.  Returns when the
    path ends: a CA in it may end before the certificate."""
    if not paths.has_anchor:
        text = f"usage {usage} needs a certificate from a trusted CA, and none is configured (smime.ca_file)"
        findings.against("no_trust_store", text)
    if not paths.has_anchor or any(reason.code in ("expired", "not_yet_valid") for reason in findings.reasons):
        return certificate.not_after
    path = paths.find(certificate)
    if isinstance(path, Reason):
        findings.reasons.append(path)
        return certificate.not_after
    findings.facts["path"] = " < ".join(read(c.raw, pem=False).facts["subject"] for c in path)
    findings.reasons.extend(paths.revoked(path))
    return min(c.not_after for c in path)


def _usable(certificate: Certificate, strength: int, ends_at: datetime, facts: dict[str, str]) -> X509Key | None:
    if not is_for_encryption(certificate.public_key):
        return None
    return X509Key(
        raw=certificate.raw,
        fingerprint=facts["fingerprint"],
        algorithm=facts["algorithm"],
        strength=strength,
        expires_at=ends_at,
        raw_issuer_and_serial=certificate.raw_issuer_and_serial,
        public_key=certificate.public_key,
        mechanism=mechanism(certificate.public_key),
        issued_at=certificate.not_before,
        oaep=certificate.oaep,
        ciphers=certificate.ciphers,
        is_common=is_common(certificate.public_key, certificate.oaep),
    )
