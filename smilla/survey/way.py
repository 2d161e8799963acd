"""How smilla would send to a domain, and why, in the order in which it would try.  Pure.

1. To a key: of the address, if one was given; of a domain alone, where its zone of keys has names, since then some
   address there may have one.
2. Over DANE (RFC 7672): the MX records are secure, and a server of an MX host matches secure TLSA records.
3. Over MTA-STS in mode enforce (RFC 8461): the policy allows an MX host, whose certificate is valid for it.  DANE wins
   where both exist (section 2).
4. Over TLS that nobody verifies, where a server offers it; else in the clear.

What is published and fails is "not now", never a lesser way: somebody may stand between.  What nobody could be asked
about is "unknown".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from smilla.hops.mx import State
from smilla.model import DNSSECStatus, Format, KeyLookup, KeyVerdict
from smilla.survey.found import Found, Host, Names, Server, Way

_BY_FORMAT = {Format.SMIME: Way.SMIME, Format.OPENPGP: Way.OPENPGP}
_ZONES: Mapping[str, tuple[Way, Callable[[Found], Names]]] = {
    "smimea": (Way.SMIME, lambda found: found.smimea),
    "openpgpkey": (Way.OPENPGP, lambda found: found.openpgpkey),
}
_OWNERS = {"smimea": "_smimecert", "openpgpkey": "_openpgpkey"}
_UNPROVEN = {
    str(DNSSECStatus.BOGUS): State.BOGUS,
    str(DNSSECStatus.INDETERMINATE): State.BOGUS,
    str(DNSSECStatus.UNREACHABLE): State.MISMATCH,  # a sender defers (RFC 7672 section 2.1.1)
}
_FAILED = (State.MISMATCH, State.BOGUS, State.UNCLEAR)
Judged = tuple[Way, str]


def judged(found: Found, lookup: KeyLookup | None, sources: Sequence[str], policy: Mapping[str, str]) -> Found:
    """The same with ``way`` and ``why``.  ``sources`` are [keys] sources; ``policy`` says for each verdict of a look-up
    what smilla does, as [policy] has it."""
    way, why = _of_key(lookup, policy) if lookup else _of_zones(found, sources)
    if way is None:
        way, why = _of_hop(found)
    return replace(found, way=way, why=why)


def _of_key(lookup: KeyLookup, policy: Mapping[str, str]) -> tuple[Way | None, str]:
    if lookup.verdict is KeyVerdict.USABLE and lookup.key is not None:
        return _BY_FORMAT[lookup.key.format], f"the address has a key ({lookup.source})"
    action = policy.get(lookup.verdict.value, "defer")
    if action in ("plain", "secure-hop"):
        return None, ""
    return Way.DEFERRED, f"the key: {lookup.verdict.value}, {lookup.reason.text}; the configuration says {action}"


def _of_zones(found: Found, sources: Sequence[str]) -> tuple[Way | None, str]:
    if found.zone != DNSSECStatus.SECURE:
        return None, ""
    for source in sources:
        if source in _ZONES and _ZONES[source][1](found) is Names.HAS_NAMES:
            return _ZONES[source][0], f"{_OWNERS[source]} has names, so some address there may have a key"
    return None, ""


def _of_hop(found: Found) -> Judged:
    if found.mx.state in (State.BOGUS, State.UNREACHABLE, State.UNCLEAR):
        return (Way.DEFERRED if found.mx.state is State.BOGUS else Way.UNKNOWN), f"the MX records: {found.mx.text}"
    hosts = [host for host in found.hosts if host.address.state is State.OK or host.servers]
    if not found.hosts or not any(host.servers for host in hosts):
        return _without_servers(found)
    for judge in (_of_dane, _of_mta_sts):
        if (safe := judge(found, hosts)) is not None:
            return safe
    return _unverified(found, hosts)


def _without_servers(found: Found) -> Judged:
    if not found.hosts:
        return Way.NO_MAIL, found.mx.text
    untold = [host for host in found.hosts if host.address.state is not State.MISSING]
    if untold:
        return Way.UNKNOWN, f"{untold[0].name}: {untold[0].address.text}"
    return Way.NO_MAIL, f"no MX host has an address: {found.hosts[0].name}"


def _of_dane(found: Found, hosts: Sequence[Host]) -> Judged | None:
    """None without TLSA records that bind a sender."""
    states = {host.name: _dane(host) for host in hosts}
    good = [name for name, state in states.items() if state is State.OK]
    bound = [host for host in hosts if states[host.name] is not State.ABSENT]
    if not bound:
        return None
    if good and found.mx_dnssec != DNSSECStatus.SECURE:
        return None  # TLSA records for a name that nobody proves (RFC 7672 section 2.2.1)
    if good:
        host = next(one for one in hosts if one.name == good[0])
        text = next(s.tlsa.text for s in host.servers if s.tlsa and s.tlsa.state is State.OK)
        return Way.DANE, f"{text} at {host.name}{_share(len(good), len(found.hosts))}"
    if len(bound) < len(hosts):
        return None  # a sender goes to the other hosts
    counted = Counter(states.values())
    if counted[State.UNREACHABLE] == len(hosts):
        return Way.UNKNOWN, f"{bound[0].name}: there are TLSA records, and {_why_not(bound[0].servers)}"
    failed = next(host for host in bound if states[host.name] is not State.UNREACHABLE)
    return Way.DEFERRED, f"{failed.name}: {_fault(failed)}"


def _dane(host: Host) -> State:
    """OK: a server matches; ABSENT: nothing binds a sender; UNREACHABLE: no server could be asked; else it fails."""
    if host.tlsa_dnssec in _UNPROVEN:
        return _UNPROVEN[host.tlsa_dnssec]
    if host.tlsa_dnssec != DNSSECStatus.SECURE or not host.tlsa:
        return State.ABSENT
    states = {server.tlsa.state for server in host.servers if server.tlsa}
    if State.OK in states:
        return State.OK
    if states and states <= {State.UNUSABLE, State.ABSENT}:
        return State.ABSENT
    is_clear = any(server.starttls.state is State.MISSING for server in host.servers)
    return State.MISMATCH if states or is_clear else State.UNREACHABLE


def _fault(host: Host) -> str:
    if host.tlsa_dnssec != DNSSECStatus.SECURE:
        return f"its TLSA records are {host.tlsa_dnssec}"
    text = next((s.tlsa.text for s in host.servers if s.tlsa and s.tlsa.state in _FAILED), "")
    return text or "there are TLSA records, and no STARTTLS"


def _of_mta_sts(found: Found, hosts: Sequence[Host]) -> Judged | None:
    """None without a policy in mode enforce."""
    if found.mta_sts_mode != "enforce":
        return None
    allowed = [host for host in hosts if host.in_policy]
    good = [host for host in allowed if any(s.chain and s.chain.state is State.OK for s in host.servers)]
    if good:
        return Way.MTA_STS, f"mode enforce, valid at {good[0].name}{_share(len(good), len(found.hosts))}"
    if not allowed:
        return Way.DEFERRED, f"MTA-STS in mode enforce allows no MX host: {found.mta_sts.text}"
    faults = [s.chain.text for host in allowed for s in host.servers if s.chain]
    clear = [host for host in allowed if any(s.starttls.state is State.MISSING for s in host.servers)]
    if faults or clear:
        return Way.DEFERRED, f"MTA-STS in mode enforce, and at {allowed[0].name}: {(faults or ['no STARTTLS'])[0]}"
    return Way.UNKNOWN, f"MTA-STS in mode enforce, and {_why_not(allowed[0].servers)}"


def _unverified(found: Found, hosts: Sequence[Host]) -> Judged:
    """A sender goes to a host that offers TLS, or sends in the clear."""
    hosts = [host for host in hosts if _dane(host) not in _FAILED] or list(hosts)
    servers = [server for host in hosts for server in host.servers]
    encrypted = next((one for one in servers if one.starttls.state is State.OK), None)
    clear = [one for one in servers if one.starttls.state is State.MISSING]
    if encrypted is not None:
        some = f"; {len(clear)} of {len(servers)} servers offer no STARTTLS" if clear else ""
        return Way.OPPORTUNISTIC, f"{encrypted.version}, {_unverified_why(found, hosts)}{some}"
    if clear:
        return Way.PLAIN, "no STARTTLS"
    return Way.UNKNOWN, _why_not(servers)


def _unverified_why(found: Found, hosts: Sequence[Host]) -> str:
    if any(_dane(host) is State.OK for host in hosts):
        return "and TLSA records match, but the MX records are not signed"
    if found.mta_sts.state in (State.UNREACHABLE, State.UNUSABLE):
        return f"and no sender finds the MTA-STS policy: {found.mta_sts.text}"
    return "and nothing that is published verifies it"


def _why_not(servers: Iterable[Server]) -> str:
    text = next((one.starttls.text for one in servers if one.starttls.state is not State.OK), "")
    return f"no server could be asked: {text}"


def _share(part: int, whole: int) -> str:
    return f" ({part} of {whole} MX hosts)" if whole > 1 else ""
