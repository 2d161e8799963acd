"""From what was found about a domain to one Hop: is there a way on which the next mail server is verified?  Pure.

The order: a circle of the configuration, then DANE (RFC 7672), then MTA-STS (RFC 8461).  DANE goes first where a domain
has both, and where nobody knows whether it has DANE, a policy does not replace it (RFC 8461 section 2).

Where the RFCs leave a choice:

* MX records in an unsigned zone: no DANE, also if the hosts' own zones are signed (RFC 7672 section 2.2.1 allows
  either).  Postfix's dane-only does the same.
* Several MX hosts, and one of them has usable TLSA records: verified, whatever the others have.  dane-only passes over
  hosts without such records, and over those whose records cannot be looked up.
* TLSA records that no client can use ask for TLS with anybody (RFC 7672 section 2.2), which verifies nothing.  An
  MTA-STS policy may still do so.
* MTA-STS: the names are the MX hosts that the policy allows, never its wildcards, which Postfix would read as any
  number of labels.  A server may then bear the name of another MX host that is allowed, too.
* A policy in mode testing verifies nothing, unless [hop] mta_sts says otherwise.
* A policy in mode enforce allows none of the MX hosts (RFC 8461 section 5: do not deliver).  Where DNSSEC proves the MX
  records, that settles it.  Where it does not, they may be those of the forger against whom the policy is: UNCLEAR.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from smilla.config import patterns
from smilla.config.options import Circle
from smilla.hops import mx, tlsa
from smilla.hops.mta_sts import Mode, Policy
from smilla.hops.mx import State
from smilla.hops.tlsa_base import Located
from smilla.model import DNSAnswer, DNSSECStatus, Hop, HopVerdict, HopWay, Reason
from smilla.value import value

HOST = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")
MOST_HOSTS = 32  # MX hosts whose TLSA records are looked for, the best first
MOST_NAMES = 100  # MX hosts that a policy allows, the best first: Postfix takes no answer of more than 100,000 octets
_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]{2,63}")
_UNPROVEN = {
    DNSSECStatus.BOGUS: HopVerdict.BOGUS,
    DNSSECStatus.INDETERMINATE: HopVerdict.BOGUS,
    DNSSECStatus.UNREACHABLE: HopVerdict.UNREACHABLE,
}
_OF_STATE = {
    State.BOGUS: HopVerdict.BOGUS,
    State.UNREACHABLE: HopVerdict.UNREACHABLE,
    State.UNCLEAR: HopVerdict.UNCLEAR,
}


def _mx_unknown(verdict: HopVerdict, text: str) -> Reason:
    if verdict is HopVerdict.BOGUS:
        return Reason("mx_bogus", text)
    return Reason("mx_unclear", text) if verdict is HopVerdict.UNCLEAR else Reason("mx_unreachable", text)


def _tlsa_unknown(verdict: HopVerdict, text: str) -> Reason:
    if verdict is HopVerdict.BOGUS:
        return Reason("tlsa_bogus", text)
    return Reason("tlsa_unclear", text) if verdict is HopVerdict.UNCLEAR else Reason("tlsa_unreachable", text)


def policy_unknown(verdict: HopVerdict, text: str) -> Reason:
    """Why nobody knows the MTA-STS policy."""
    if verdict is HopVerdict.BOGUS:
        return Reason("mta_sts_bogus", text)
    return Reason("mta_sts_unclear", text) if verdict is HopVerdict.UNCLEAR else Reason("mta_sts_unreachable", text)


def of_status(answer: DNSAnswer) -> HopVerdict | None:
    """What an answer that says nothing makes of the hop; None if it has records or proves that there are none."""
    if answer.malformed:
        return HopVerdict.UNCLEAR
    return _UNPROVEN.get(answer.status)


# --- circles


def circle_of(domain: str, circles: Iterable[Circle]) -> Circle | None:
    """The first circle that the domain, in A-labels, is inside of."""
    names = patterns.forms(domain)
    for circle in circles:
        wanted = (form for text in circle.domains for form in patterns.forms(patterns.domain_pattern(text)))
        if any(fnmatchcase(name, pattern) for pattern in wanted for name in names):
            return circle
    return None


def by_circle(domain: str, circle: Circle, ttl_s: int) -> Hop:
    """Nothing else is asked: mail for the domain goes over no other hop."""
    text = f"{domain} is in the circle {circle.name}"
    return Hop(
        domain,
        HopVerdict.VERIFIED,
        Reason("circle", text),
        HopWay.CIRCLE,
        tuple(patterns.in_a_labels(name) or name for name in circle.match),
        ca_file=circle.ca_file,
        circle=circle.name,
        ttl_s=ttl_s,
        steps=(f"{text}, whose authorities are in {circle.ca_file}",),
    )


# --- the MX hosts


@value
class Exchanges:
    """The MX hosts, the best first; ``stop`` is the Hop if they settle the matter."""

    hosts: tuple[str, ...]
    is_secure: bool
    step: str
    stop: Hop | None = None


def exchanges(domain: str, answer: DNSAnswer) -> Exchanges:
    """From the answer about MX records.  Without any, the domain is its own host (RFC 5321 section 5.1); but only if
    that is proven or the zone is unsigned.  Hosts whose names no host can have are passed over, as Postfix does."""
    finding, hosts = mx.exchanges(domain, answer)
    step = f"MX: {finding.text}"
    if verdict := _OF_STATE.get(finding.state):
        hop = Hop(domain, verdict, _mx_unknown(verdict, step), steps=(step,))
        return Exchanges((), is_secure=False, step=step, stop=hop)
    if not hosts:
        hop = Hop(domain, HopVerdict.NONE, Reason("null_mx", finding.text), ttl_s=answer.ttl_s, steps=(step,))
        return Exchanges((), is_secure=False, step=step, stop=hop)
    named = tuple(dict.fromkeys(host for host in hosts if HOST.fullmatch(host)))
    if not named:
        hop = no_name(domain, f"{step}; none of these is the name of a host")
        return Exchanges((), is_secure=False, step=step, stop=hop)
    return Exchanges(named, answer.status is DNSSECStatus.SECURE, step)


def no_name(domain: str, text: str) -> Hop:
    """The domain, or what its MX records say, is no name that a host could have."""
    return Hop(domain, HopVerdict.UNCLEAR, _mx_unknown(HopVerdict.UNCLEAR, text), steps=(text,))


# --- DANE


@value
class Host:
    """An MX host, and where its TLSA records are."""

    name: str
    located: Located
    ttl_s: int


def by_dane(domain: str, found: Exchanges, hosts: Sequence[Host]) -> Hop:
    """From the TLSA records of MX hosts whose MX records are secure.  NONE: proven, no host has usable ones."""
    judged = [(host, *_of_host(host.located.answer)) for host in hosts]
    steps = (found.step, *(f"TLSA of {host.name}: {text}" for host, _, text in judged))
    ttl_s = min((host.ttl_s for host in hosts), default=0)
    if names := tuple(host.name for host, verdict, _ in judged if verdict is HopVerdict.VERIFIED):
        reason = Reason("dane", f"TLSA records of {', '.join(names)}")
        return Hop(domain, HopVerdict.VERIFIED, reason, HopWay.DANE, names, found.hosts, ttl_s=ttl_s, steps=steps)
    for wanted in (HopVerdict.BOGUS, HopVerdict.UNREACHABLE, HopVerdict.UNCLEAR):
        for host, verdict, text in judged:
            if verdict is wanted:
                reason = _tlsa_unknown(verdict, f"TLSA of {host.name}: {text}")
                return Hop(domain, verdict, reason, hosts=found.hosts, steps=steps)
    if len(found.hosts) > len(hosts):
        text = f"there are more than {len(hosts)} MX hosts, and none of the first has usable TLSA records"
        return Hop(domain, HopVerdict.UNCLEAR, _tlsa_unknown(HopVerdict.UNCLEAR, text), hosts=found.hosts, steps=steps)
    reason, wants_tls = _no_dane(hosts), _has_unusable(hosts)
    return Hop(domain, HopVerdict.NONE, reason, hosts=found.hosts, ttl_s=ttl_s, steps=steps, wants_tls=wants_tls)


def without_dane(domain: str, found: Exchanges, ttl_s: int) -> Hop:
    """The same where the MX records are not secure, so that nobody asks for TLSA records."""
    text = "DANE: not asked for, since the MX records are not secure"
    return Hop(domain, HopVerdict.NONE, _no_dane(()), hosts=found.hosts, ttl_s=ttl_s, steps=(found.step, text))


def _no_dane(hosts: Sequence[Host]) -> Reason:
    if _has_unusable(hosts):
        return Reason("unusable_tlsa", "no TLSA record can be used, and no MTA-STS policy is in force")
    return Reason("no_secure_hop", "neither DANE nor MTA-STS")


def _has_unusable(hosts: Sequence[Host]) -> bool:
    """Has a host TLSA records, where none has usable ones?"""
    answers = [host.located.answer for host in hosts]
    return any(answer.raw_rdata for answer in answers if answer.status is DNSSECStatus.SECURE)


def _of_host(answer: DNSAnswer) -> tuple[HopVerdict, str]:
    if answer.status is DNSSECStatus.SECURE and (records := tlsa.usable(answer)):
        return HopVerdict.VERIFIED, ", ".join(record.shown for record in records)
    if verdict := of_status(answer):
        return verdict, answer.detail or verdict.value
    if answer.status is DNSSECStatus.INSECURE:
        return HopVerdict.NONE, answer.detail or "not secure"
    if answer.raw_rdata:
        return HopVerdict.NONE, "none that a client can use (usage 2 or 3, RFC 7672 section 3.1)"
    return HopVerdict.NONE, answer.detail or "none"


# --- MTA-STS


@value
class Announced:
    """What is known of a domain's MTA-STS policy now.  Without ``policy``, ``verdict`` and ``reason`` say why: NONE if
    the domain has none.  ``left_s`` is how long it may still be used; ``ttl_s`` is how long this stands before anybody
    need ask again."""

    steps: tuple[str, ...]
    policy: Policy | None = None
    policy_id: str = ""
    lines: tuple[str, ...] = ()
    left_s: int = 0
    ttl_s: int = 0
    verdict: HopVerdict = HopVerdict.NONE
    reason: Reason | None = None


def by_policy(before: Hop, announced: Announced, mta_sts: str, *, is_signed: bool) -> Hop:
    """What DANE left open (``before``, whose verdict is NONE), decided by the policy; ``mta_sts`` is [hop] mta_sts.
    ``is_signed``: DNSSEC proves the MX records."""
    steps = (*before.steps, *announced.steps)
    policy = announced.policy
    if policy is None:
        ttl_s = min(before.ttl_s, announced.ttl_s)
        reason = announced.reason or before.reason
        return replace(before, verdict=announced.verdict, reason=reason, ttl_s=ttl_s, steps=steps)
    names = tuple(host for host in policy.allowed(before.hosts) if _NAME.fullmatch(host))[:MOST_NAMES]
    reason = _of_mode(policy, mta_sts) or _of_names(policy, names)
    is_verified = reason.code == "mta_sts"
    may_be_forged = reason.code == "mta_sts_mismatch" and policy.mode is Mode.ENFORCE and not is_signed
    other = HopVerdict.UNCLEAR if may_be_forged else HopVerdict.NONE
    return replace(
        before,
        verdict=HopVerdict.VERIFIED if is_verified else other,
        reason=reason,
        way=HopWay.MTA_STS if is_verified else None,
        names=names if is_verified else (),
        mode=policy.mode.value,
        policy_id=announced.policy_id,
        ttl_s=min(before.ttl_s, announced.ttl_s, announced.left_s),
        steps=steps,
        policy_lines=announced.lines,
    )


def _of_mode(policy: Policy, mta_sts: str) -> Reason | None:
    """Why a policy of this mode verifies nothing; None if it may."""
    if policy.mode is Mode.NONE:
        return Reason("mta_sts_none", "the MTA-STS policy has mode none, and there is no DANE")
    if policy.mode is Mode.TESTING and mta_sts != "testing":
        return Reason("mta_sts_testing", "the MTA-STS policy has mode testing, and there is no DANE")
    return None


def _of_names(policy: Policy, names: Sequence[str]) -> Reason:
    if names:
        return Reason("mta_sts", f"the MTA-STS policy allows {', '.join(names)}")
    allowed = policy.shown
    return Reason("mta_sts_mismatch", f"the MTA-STS policy allows {allowed}, and no MX host is one of these")
