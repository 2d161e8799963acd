"""SMIMEA records (RFC 8162, RDATA as TLSA in RFC 6698 section 2.1) to candidates."""

from __future__ import annotations

from smilla.model import DNSAnswer, Format, SMIMEACandidate


def candidates(answer: DNSAnswer) -> tuple[SMIMEACandidate, ...]:
    """One candidate for each record, in an order that does not depend on the resolver's.  RDATA shorter than its three
    fixed octets becomes a malformed candidate, so that nobody takes it for absence."""
    return tuple(_candidate(rdata, answer) for rdata in sorted(answer.raw_rdata))


def _candidate(rdata: bytes, answer: DNSAnswer) -> SMIMEACandidate:
    usage, selector, matching_type = rdata[:3] if len(rdata) >= 3 else (3, 0, 0)
    return SMIMEACandidate(
        "smimea", answer.owner, Format.SMIME, rdata[3:], answer.status, usage, selector, matching_type
    )
