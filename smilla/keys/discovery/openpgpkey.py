"""OPENPGPKEY records (RFC 7929 section 2.3: RDATA is one transferable public key) to candidates."""

from __future__ import annotations

from smilla.model import Candidate, DNSAnswer, Format


def candidates(answer: DNSAnswer) -> tuple[Candidate, ...]:
    """One candidate for each record, in an order that does not depend on the resolver's."""
    return tuple(
        Candidate("openpgpkey", answer.owner, Format.OPENPGP, rdata, answer.status)
        for rdata in sorted(answer.raw_rdata)
    )
