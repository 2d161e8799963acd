"""What is found about the mail servers of a domain: its MX hosts, what they present, and what is published of them.

Where the RFCs leave a choice: a host without TLSA records, or in a zone without signatures, is no fault; nobody must
have DANE, nor MTA-STS.  What no sender can use is one, since somebody believes in it: TLSA records in an unsigned zone,
a policy that is announced and not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from smilla.errors import ParseError
from smilla.hops import mta_sts, rdata
from smilla.hops.mta_sts import Mode, Policy
from smilla.hops.tlsa import Judgement, Record, Verdict
from smilla.model import DNSAnswer, DNSSECStatus
from smilla.value import value


class Part(StrEnum):
    """What a finding is about."""

    MX = "mx"
    ADDRESS = "address"
    STARTTLS = "starttls"
    CERTIFICATE = "certificate"
    TLSA = "tlsa"
    NEXT_KEY = "next_key"
    POLICY = "mta_sts"
    POLICY_CERTIFICATE = "mta_sts_certificate"


class State(StrEnum):
    """How it stands.  ABSENT is proven absence, and UNSIGNED is absence in a zone without signatures; neither is a
    fault.  With INSECURE there are records that no sender uses, since their zone is not signed."""

    OK = "ok"
    ABSENT = "absent"
    UNSIGNED = "unsigned"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    MISMATCH = "mismatch"
    UNUSABLE = "unusable"
    INSECURE = "insecure"
    BOGUS = "bogus"
    MISSING = "missing"
    UNTRUSTED = "untrusted"
    UNREACHABLE = "unreachable"
    UNCLEAR = "unclear"


_MOST_SHOWN = 20  # MX records in a text
WELL = frozenset({State.OK, State.ABSENT, State.UNSIGNED})
UNTOLD = frozenset({State.UNREACHABLE, State.UNCLEAR})
_UNPROVEN = {
    DNSSECStatus.BOGUS: State.BOGUS,
    DNSSECStatus.INDETERMINATE: State.BOGUS,
    DNSSECStatus.UNREACHABLE: State.UNREACHABLE,
}
_OF_VERDICT = {
    Verdict.MATCH: State.OK,
    Verdict.MISMATCH: State.MISMATCH,
    Verdict.UNUSABLE: State.UNUSABLE,
    Verdict.ABSENT: State.ABSENT,
    Verdict.BOGUS: State.BOGUS,
    Verdict.UNREACHABLE: State.UNREACHABLE,
    Verdict.UNCLEAR: State.UNCLEAR,
}
_TO_DO = {
    State.MISMATCH: "publish the TLSA record of this certificate, or put the former one back",
    State.UNUSABLE: "publish 3 1 1",
    State.BOGUS: "mend the signatures of the zone, or the resolver",
}


@value
class Finding:
    """One thing about ``subject``: the domain, HOST or HOST[ADDRESS].  ``text`` says what it is, and after a semicolon
    what to do.  ``ends_at`` is the end of a certificate; ``records`` are TLSA records in full, as in a zone file: all
    that can be used, and of ``next_key`` those that match no live certificate."""

    domain: str
    subject: str
    part: Part
    state: State
    text: str
    ends_at: datetime | None = None
    records: tuple[str, ...] = ()


def unproven(answer: DNSAnswer) -> State | None:
    """The state of an answer that says nothing; None if it has records or proves that there are none."""
    if answer.malformed:
        return State.UNCLEAR
    return _UNPROVEN.get(answer.status)


def exchanges(domain: str, answer: DNSAnswer) -> tuple[Finding, tuple[str, ...]]:
    """The MX hosts without final dots, the best first, and what to say of them.  A domain without MX records is its own
    host (RFC 5321 section 5.1); with a null MX it has none (RFC 7505)."""
    if state := unproven(answer):
        text = f"{answer.detail or answer.status.value}; {_TO_DO.get(state, 'look again')}"
        return Finding(domain, domain, Part.MX, state, text), ()
    try:
        found = sorted(rdata.exchange(raw) for raw in answer.raw_rdata)
    except ParseError as error:
        return Finding(domain, domain, Part.MX, State.UNCLEAR, f"{error}; mend the MX records"), ()
    hosts = tuple(host.removesuffix(".").lower() for _, host in found)
    if not any(hosts):
        state = State.ABSENT if answer.status is DNSSECStatus.SECURE else State.UNSIGNED
        text = "the domain takes no mail (null MX)" if found else "no MX record, so the domain is its own host"
        return Finding(domain, domain, Part.MX, state, text), () if found else (domain,)
    further = f" and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
    shown = ", ".join(f"{preference} {host}" for preference, host in found[:_MOST_SHOWN])
    text = f"{shown}{further} ({answer.status.value})"
    return Finding(domain, domain, Part.MX, State.OK, text), tuple(filter(None, hosts))


def addresses(domain: str, host: str, answers: Sequence[DNSAnswer]) -> tuple[list[Finding], tuple[str, ...]]:
    """The addresses of a host from its A and AAAA records, and what is wrong with them."""
    faults, found = [], []
    for answer in answers:
        if state := unproven(answer):
            text = f"{answer.rdtype}: {answer.detail or answer.status.value}; {_TO_DO.get(state, 'look again')}"
            faults.append(Finding(domain, host, Part.ADDRESS, state, text))
        else:
            found += [rdata.address(raw) for raw in answer.raw_rdata]
    if not found and not faults:
        text = "the host has no address; publish one, or take it out of the MX records"
        faults.append(Finding(domain, host, Part.ADDRESS, State.MISSING, text))
    return faults, tuple(dict.fromkeys(found))


def certificate(domain: str, subject: str, chain: Sequence[bytes], now: datetime, days: int) -> Finding:
    """Does the server's own certificate, the first of the chain, last for so many days?"""
    try:
        leaf = x509.load_der_x509_certificate(chain[0])
        begins_at, ends_at = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    except (IndexError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        text = f"the server's certificate cannot be read: {error}"
        return Finding(domain, subject, Part.CERTIFICATE, State.UNCLEAR, text)
    left = (ends_at - now).days
    if now > ends_at:
        state, text = State.EXPIRED, f"it ended on {ends_at:%Y-%m-%d}; renew it"
    elif now < begins_at:
        state, text = State.NOT_YET_VALID, f"it begins on {begins_at:%Y-%m-%d}; look at the clock, or wait to use it"
    elif ends_at <= now + timedelta(days=days):
        state, text = State.EXPIRING, f"{left} days left, until {ends_at:%Y-%m-%d}; renew it"
    else:
        state, text = State.OK, f"{left} days left"
    return Finding(domain, subject, Part.CERTIFICATE, state, text, ends_at)


def of_alias(finding: Finding, host: str, base: str) -> Finding:
    """Says whose TLSA records they are, if not the host's own."""
    return finding if base == host else replace(finding, text=f"{host} is an alias of {base}: {finding.text}")


def tlsa(domain: str, subject: str, answer: DNSAnswer, judgement: Judgement) -> Finding:
    """The TLSA records against what one address presents, as tlsa.judge found."""
    if judgement.verdict is Verdict.INSECURE:
        if answer.raw_rdata or answer.malformed:
            text = "there are TLSA records, but the zone is not signed, so no sender uses them; sign the zone"
            return Finding(domain, subject, Part.TLSA, State.INSECURE, text)
        return Finding(domain, subject, Part.TLSA, State.UNSIGNED, "no TLSA record, and the zone is not signed")
    state = _OF_VERDICT[judgement.verdict]
    text = "; ".join(filter(None, (judgement.text, _TO_DO.get(state))))
    records = tuple(_whole(one.record) for one in judgement.findings if one.is_usable)
    return Finding(domain, subject, Part.TLSA, state, text, records=records)


def _whole(record: Record) -> str:
    return f"{record.usage} {record.selector} {record.matching_type} {record.raw.hex()}"


def next_key(domain: str, host: str, judgements: Sequence[Judgement]) -> Finding | None:
    """Is there a usable TLSA record that matches none of the host's live certificates: that of the next key (RFC 7671
    section 8.1), or of a former one?  None where no address matches."""
    findings = [one for judgement in judgements for one in judgement.findings if one.is_usable]
    live = {one.record for one in findings if one.is_match}
    if not live:
        return None
    others = list(dict.fromkeys(one.record for one in findings if one.record not in live))
    if not others:
        text = "no TLSA record besides that of the live key; publish the next one before the key changes"
        return Finding(domain, host, Part.NEXT_KEY, State.ABSENT, text)
    text = f"present: {', '.join(record.shown for record in others)}"
    return Finding(domain, host, Part.NEXT_KEY, State.OK, text, records=tuple(map(_whole, others)))


def announcement(domain: str, answer: DNSAnswer) -> Finding | None:
    """What is to be said of the TXT records of ``_mta-sts.DOMAIN``; None if they announce a policy, which needs no
    DNSSEC (RFC 8461 section 3.1)."""
    if state := unproven(answer):
        text = f"_mta-sts: {answer.detail or answer.status.value}; {_TO_DO.get(state, 'look again')}"
        return Finding(domain, domain, Part.POLICY, state, text)
    try:
        if mta_sts.policy_id([rdata.text(raw) for raw in answer.raw_rdata]):
            return None
    except ParseError as error:
        return Finding(domain, domain, Part.POLICY, State.UNUSABLE, f"{error}; mend the record")
    state = State.ABSENT if answer.status is DNSSECStatus.SECURE else State.UNSIGNED
    return Finding(domain, domain, Part.POLICY, state, "no _mta-sts record announces a policy, or several do")


def no_policy(domain: str, text: str, *, temporary: bool) -> Finding:
    """The policy that is announced cannot be fetched."""
    state = State.UNREACHABLE if temporary else State.UNUSABLE
    return Finding(domain, domain, Part.POLICY, state, f"{text}; senders find no policy until it is mended")


def policy(
    domain: str, status: int, media_type: str, raw: bytes, hosts: Sequence[str]
) -> tuple[Finding, Policy | None]:
    """What the web server answered (RFC 8461 section 3.2 and 3.3), and the policy against the MX hosts."""
    if status != 200:
        return no_policy(domain, f"the policy's server answers {status}, not 200", temporary=status >= 500), None
    if media_type.partition(";")[0].strip().lower() != "text/plain":
        return no_policy(domain, f"the policy is {media_type or 'of no type'}, not text/plain", temporary=False), None
    try:
        found = mta_sts.read(raw)
    except ParseError as error:
        return no_policy(domain, str(error), temporary=False), None
    text = f"mode {found.mode.value}, max_age {found.max_age_s} s"
    if forbidden := found.forbidden(hosts):
        effect = "senders do not deliver there" if found.mode is Mode.ENFORCE else "senders report it"
        text = f"{text}: no mx of the policy allows {', '.join(forbidden)}, so {effect}; add it, then change the id"
        return Finding(domain, domain, Part.POLICY, State.MISMATCH, text), found
    return Finding(domain, domain, Part.POLICY, State.OK, text), found


def verified(domain: str, subject: str, fault: str, *, is_told: bool = True) -> Finding:
    """Is the certificate valid for the MX host under the authorities (RFC 8461 section 4.2)?  ``fault`` is "" if so;
    without ``is_told`` nobody knows."""
    if not fault:
        return Finding(domain, subject, Part.POLICY_CERTIFICATE, State.OK, "valid for the host")
    if not is_told:
        return Finding(domain, subject, Part.POLICY_CERTIFICATE, State.UNREACHABLE, f"{fault}; look again")
    text = f"{fault}; get a certificate for the MX host from an authority that senders know"
    return Finding(domain, subject, Part.POLICY_CERTIFICATE, State.UNTRUSTED, text)
