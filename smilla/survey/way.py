"""How smilla would send to a domain, and why: what is published, as the search for a verified hop judges it
(smilla.hops.verified), against what the servers present.  Pure.

1. To a key: of the address, if one was given; of a domain alone, where its zone of keys has names, since then some
   address there may have one.
2. Over a circle, DANE or MTA-STS, if a server that was met satisfies it.
3. Over TLS that nobody verifies, where a server offers it; else in the clear.

What is published, or asked for by a circle, and fails is "not now", never a lesser way: somebody may stand between.
What nobody could be asked about is "unknown".

Where the RFC leaves a choice: without a policy at hand, one that is announced and cannot be fetched counts as none (RFC
8461 section 3.3), and the text says so; secure-hop defers such mail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from smilla.hops.mx import State
from smilla.model import DNSSECStatus, Format, Hop, HopVerdict, HopWay, KeyLookup, KeyVerdict
from smilla.survey.found import Found, Host, Names, Result, Server, Way

_BY_FORMAT = {Format.SMIME: Way.SMIME, Format.OPENPGP: Way.OPENPGP}
_ZONES: Mapping[str, tuple[Way, Callable[[Found], Names]]] = {
    "smimea": (Way.SMIME, lambda found: found.smimea),
    "openpgpkey": (Way.OPENPGP, lambda found: found.openpgpkey),
}
_OWNERS = {"smimea": "_smimecert", "openpgpkey": "_openpgpkey"}
_GOES_ON = ("plain", "secure-hop")
_PROOFS: Mapping[HopWay, tuple[Way, Callable[[Server], Result | None]]] = {
    HopWay.CIRCLE: (Way.CIRCLE, lambda server: server.chain),
    HopWay.DANE: (Way.DANE, lambda server: server.tlsa),
    HopWay.MTA_STS: (Way.MTA_STS, lambda server: server.chain),
}
Judged = tuple[Way, str]


def judged(
    found: Found, hop: Hop, lookup: KeyLookup | None, sources: Sequence[str], policy: Mapping[str, str]
) -> Found:
    """The same with ``way`` and ``why``.  ``hop`` is what is published; ``sources`` are [keys] sources; ``policy`` says
    for each verdict of a look-up what smilla does, as [policy] has it."""
    by_key = _of_key(lookup, policy) if lookup else _of_zones(found, sources)
    way, why = by_key or _of_hop(found, hop)
    return replace(found, way=way, why=why)


def _of_key(lookup: KeyLookup, policy: Mapping[str, str]) -> Judged | None:
    if lookup.verdict is KeyVerdict.USABLE and lookup.key is not None:
        return _BY_FORMAT[lookup.key.format], f"the address has a key ({lookup.source})"
    action = policy.get(lookup.verdict.value, "defer")
    if action in _GOES_ON:
        return None
    return Way.NOT_NOW, f"the key: {lookup.verdict.value}, {lookup.reason.text}; the configuration says {action}"


def _of_zones(found: Found, sources: Sequence[str]) -> Judged | None:
    if found.zone != DNSSECStatus.SECURE:
        return None
    for source in sources:
        if source in _ZONES and _ZONES[source][1](found) is Names.HAS_NAMES:
            return _ZONES[source][0], f"{_OWNERS[source]} has names, so some address there may have a key"
    return None


def _of_hop(found: Found, hop: Hop) -> Judged:
    return _without_servers(found, hop) or _of_servers(found, hop, [host for host in found.hosts if host.servers])


def _without_servers(found: Found, hop: Hop) -> Judged | None:
    """What the answers of DNS settle; None if the servers count."""
    if found.mx.state in (State.BOGUS, State.UNREACHABLE, State.UNCLEAR):
        return Way.NOT_NOW if found.mx.state is State.BOGUS else Way.UNKNOWN, f"MX: {found.mx.text}"
    if found.hosts and (hop.verdict is HopVerdict.BOGUS or hop.reason.code.startswith("tlsa_")):
        return Way.NOT_NOW, hop.reason.text
    if any(host.servers for host in found.hosts):
        return None
    for host in found.hosts:
        if host.address.state is not State.MISSING:
            return Way.UNKNOWN, f"{host.name}: {host.address.text}"
    return Way.NO_MAIL, f"no MX host has an address: {found.hosts[0].name}" if found.hosts else found.mx.text


def _of_servers(found: Found, hop: Hop, hosts: Sequence[Host]) -> Judged:
    if hop.is_verified and hop.way is not None:
        named = [host for host in hosts if host.name in hop.names or hop.way is HopWay.CIRCLE]
        return _proven(hop, hop.way, named, found)
    if hop.reason.code == "mta_sts_mismatch" and found.mta_sts_mode == "enforce":
        return Way.NOT_NOW, hop.reason.text
    return _unverified(found, hosts)


def _proven(hop: Hop, how: HopWay, hosts: Sequence[Host], found: Found) -> Judged:
    """Does a server of these hosts satisfy what is published, or what its circle asks for?"""
    way, proof = _PROOFS[how]
    wants = hop.reason.text if how is HopWay.CIRCLE else f"{way.value} is published"
    results = [(host, result) for host in hosts for server in host.servers if (result := proof(server))]
    good = [(host, result) for host, result in results if result.state is State.OK]
    if good:
        host, result = good[0]
        count = len({one.name for one, _ in good})
        share = f" ({count} of {len(found.hosts)} MX hosts)" if len(found.hosts) > 1 else ""
        begins = f"{wants}; its certificate is " if how is HopWay.CIRCLE else ""
        return way, f"{begins}{result.text} at {host.name}{share}"
    if results:
        host, result = results[0]
        return Way.NOT_NOW, f"{wants}, and at {host.name}: {result.text}"
    servers = [server for host in hosts for server in host.servers]
    if any(server.starttls.state is State.MISSING for server in servers):
        return Way.NOT_NOW, f"{wants}, and {hosts[0].name} offers no STARTTLS"
    return Way.UNKNOWN, f"{wants}, and {_why_not(servers)}"


def _unverified(found: Found, hosts: Sequence[Host]) -> Judged:
    """A sender goes to a host that offers TLS, or sends in the clear."""
    servers = [server for host in hosts for server in host.servers]
    encrypted = next((one for one in servers if one.starttls.state is State.OK), None)
    clear = [one for one in servers if one.starttls.state is State.MISSING]
    if encrypted is not None:
        some = f"; {len(clear)} of {len(servers)} servers offer no STARTTLS" if clear else ""
        return Way.OPPORTUNISTIC, f"{encrypted.version}, {_unverified_why(found, servers)}{some}"
    if clear:
        return Way.PLAIN, "no STARTTLS"
    return Way.UNKNOWN, _why_not(servers)


_OF_TLSA = {
    State.OK: "and TLSA records match, but the MX records are not signed",
    State.INSECURE: "and the TLSA records are in a zone that is not signed, so no sender uses them",
    State.UNUSABLE: "and there are TLSA records of which no sender can use one",
}


def _unverified_why(found: Found, servers: Iterable[Server]) -> str:
    states = {server.tlsa.state for server in servers if server.tlsa}
    for state, why in _OF_TLSA.items():
        if state in states:
            return why
    if found.mta_sts.state in (State.UNREACHABLE, State.UNUSABLE):
        return f"and no sender finds the MTA-STS policy: {found.mta_sts.text}"
    return "and nothing that is published verifies it"


def _why_not(servers: Iterable[Server]) -> str:
    text = next((one.starttls.text for one in servers if one.starttls.state is not State.OK), "")
    return f"no server could be asked{f': {text}' if text else ''}"
