"""Look-ups in words for a person, and as plain values for ``--json``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from smilla.model import (
    RESTS_ON,
    Assessment,
    DNSSECStatus,
    Format,
    Hop,
    KeyLookup,
    KeyVerdict,
    Mechanism,
    PGPKey,
    SMIMEACandidate,
    SourceFinding,
    Style,
    X509Key,
)

VERDICTS = {
    KeyVerdict.USABLE: "a usable key",
    KeyVerdict.BOGUS: "unknown for now: nothing proves the answer",
    KeyVerdict.UNREACHABLE: "unknown for now",
    KeyVerdict.UNCLEAR: "unknown: smilla does not understand it",
    KeyVerdict.UNUSABLE_KEY: "a key that cannot be used",
    KeyVerdict.INSECURE: "a key that nothing proves",
    KeyVerdict.NO_KEY: "no key",
}


def printable(text: str) -> str:
    """Text that cannot control the terminal, even if it comes from a certificate, a name server or a message."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def lookup_as_json(lookup: KeyLookup) -> dict[str, Any]:
    """The whole story of one address."""
    return {
        "address": str(lookup.address),
        "verdict": lookup.verdict.value,
        "reason": {"code": lookup.reason.code, "text": lookup.reason.text},
        "source": lookup.source or None,
        "dnssec": lookup.proof or None,
        "key": _key_as_json(lookup),
        "findings": [_finding_as_json(finding) for finding in lookup.findings],
        "untrusted": list(lookup.untrusted),
    }


def hop_as_json(hop: Hop) -> dict[str, Any]:
    """The whole story of the hop to one domain."""
    return {
        "domain": hop.domain,
        "verdict": hop.verdict.value,
        "way": hop.way.value if hop.way else None,
        "reason": {"code": hop.reason.code, "text": hop.reason.text},
        "names": list(hop.names),
        "hosts": list(hop.hosts),
        "circle": hop.circle,
        "ca_file": hop.ca_file,
        "mode": hop.mode,
        "policy_id": hop.policy_id,
        "ttl_s": hop.ttl_s,
        "steps": list(hop.steps),
    }


def hop_in_words(hop: Hop) -> Iterator[str]:
    """The same for a person, line by line."""
    way = f" by {hop.way.value}" if hop.way else ""
    yield printable(f"{hop.domain}: {hop.verdict.value}{way}; {hop.reason.code}: {hop.reason.text}")
    for step in hop.steps:
        yield printable(f"  {step}")


def _key_as_json(lookup: KeyLookup) -> dict[str, Any] | None:
    key = lookup.key
    if key is None:
        return None
    expires = key.expires_at.isoformat() if key.expires_at else None
    return {
        "format": key.format.value,
        "fingerprint": key.fingerprint,
        "algorithm": key.algorithm,
        "strength": key.strength,
        "expires_at": expires,
    }


def _finding_as_json(finding: SourceFinding) -> dict[str, Any]:
    return {
        "source": finding.source,
        "where": finding.where,
        "verdict": finding.verdict.value,
        "dnssec": finding.proof or None,
        "proven_by": finding.proven_by or None,
        "ttl_s": finding.ttl_s,
        "reason": {"code": finding.reason.code, "text": finding.reason.text},
        "candidates": [_assessment_as_json(assessment) for assessment in finding.assessments],
    }


def _assessment_as_json(assessment: Assessment) -> dict[str, Any]:
    candidate = assessment.candidate
    record = {}
    if isinstance(candidate, SMIMEACandidate):
        record = {"usage": candidate.usage, "selector": candidate.selector, "matching_type": candidate.matching_type}
    return {
        "format": candidate.format.value,
        **record,
        "usable": assessment.key is not None,
        "meant_for_encryption": assessment.meant_for_encryption,
        "facts": dict(assessment.facts),
        "reasons": [{"code": reason.code, "text": reason.text} for reason in assessment.reasons],
    }


_STYLE_OF = {
    Format.SMIME: ("cipher", "rsa_padding", "ecdh_kdf", "protect_headers"),
    Format.OPENPGP: ("seipd2", "hidden_recipients", "protect_headers"),
}


def style_as_json(key: X509Key | PGPKey, style: Style, why: str) -> dict[str, Any]:
    """How messages to this key are written, and for S/MIME why this cipher was chosen."""
    return {name: getattr(style, name) for name in _STYLE_OF[key.format]} | ({"reason": why} if why else {})


def style_in_words(key: X509Key, style: Style) -> str:
    """The content cipher, and how its key reaches the recipient."""
    if key.oaep:
        return f"{style.cipher} and OAEP as the certificate demands"
    if key.mechanism is Mechanism.RSA:
        return f"{style.cipher} and RSA {style.rsa_padding}"
    if key.mechanism is Mechanism.ECDH:
        return f"{style.cipher} and ECDH by {style.ecdh_kdf}"
    return f"{style.cipher} and {key.algorithm}"


def lookup_in_words(lookup: KeyLookup) -> Iterator[str]:
    """The same for a person, line by line."""
    yield f"{lookup.address}: {VERDICTS[lookup.verdict]}"
    for finding in lookup.findings:
        status = _proof_in_words(finding)
        status += f" by {printable(finding.proven_by)}" if finding.proven_by else ""
        ttl = f", TTL {finding.ttl_s} s" if finding.ttl_s else ""
        yield f"  {finding.source}: {finding.where}"
        yield f"    {status}{ttl}; {VERDICTS[finding.verdict]}: {printable(finding.reason.text)}"
        for number, assessment in enumerate(finding.assessments, 1):
            yield from _assessment_in_words(number, assessment)
    for source in lookup.untrusted:
        yield f"  {source}: not asked, since trust does not name {RESTS_ON[source]}"
    yield f"  verdict: {lookup.verdict.value} ({printable(lookup.reason.text)})"


_SERVERS = {"web": "a web server", "ldap": "an LDAP server"}


def _proof_in_words(finding: SourceFinding) -> str:
    server = _SERVERS.get(RESTS_ON.get(finding.source, ""))
    if finding.status is None:
        return f"by the certificate of {server}, not by DNSSEC" if server else "not from DNS"
    if server and finding.status is DNSSECStatus.UNREACHABLE:
        return "not answered"
    return f"DNSSEC {finding.status.value}"


def _assessment_in_words(number: int, assessment: Assessment) -> Iterator[str]:
    candidate = assessment.candidate
    record = ""
    if isinstance(candidate, SMIMEACandidate):
        record = f", record {candidate.usage} {candidate.selector} {candidate.matching_type}"
    yield f"    candidate {number}: {candidate.format.value}{record}, {len(candidate.raw)} octets"
    for name, value in assessment.facts.items():
        yield f"      {name.replace('_', ' ')}: {printable(value)}"
    for reason in assessment.reasons:
        yield f"      {'+' if assessment.key else '-'} {printable(reason.text)}"
