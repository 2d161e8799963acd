"""A result in words: one line, or in full.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from smilla.survey.found import Found, Host, Names, Result, Server, Way

_ZONES = {
    Names.HAS_NAMES: "has names",
    Names.NONE: "no names",
    Names.ANY_NAME: "nobody can tell: the zone denies no name",
    Names.UNKNOWN: "nobody can tell",
}
_MOST_NAMES = 3
_MOST_SHOWN = 24  # characters of a TLSA record's data


def line(found: Found) -> str:
    """The sender's view."""
    return f"{found.asked}: smilla would send: {found.way.value}: {found.why}"


def in_full(found: Found) -> Iterator[str]:
    """The same, and below it all that was found."""
    yield line(found)
    if found.key is not None:
        yield f"  key: {_result(found.key)}"
    yield f"  keys in DNS: _smimecert {_ZONES[found.smimea]}; _openpgpkey {_ZONES[found.openpgpkey]}"
    yield f"  zone: {found.zone}"
    yield f"  MX: {_result(found.mx)}; DNSSEC {found.mx_dnssec}"
    for host in found.hosts:
        yield from (f"  {text}" for text in _of_host(host))
    yield f"  MTA-STS: {_result(found.mta_sts)}"
    yield f"  TLSRPT: {_result(found.tlsrpt)}"
    yield f"  SPF: {_result(found.spf)}"
    yield f"  DMARC: {_result(found.dmarc)}{f' (policy {found.dmarc_policy})' if found.dmarc_policy else ''}"


def _of_host(host: Host) -> Iterator[str]:
    allowed = {True: ", allowed by MTA-STS", False: ", not allowed by MTA-STS", None: ""}[host.in_policy]
    yield f"{host.name}: {_result(host.address)}; DNSSEC {host.address_dnssec}{allowed}"
    if host.tlsa:
        records = ", ".join(_shortened(one) for one in host.tlsa)
        yield f"  TLSA ({host.tlsa_dnssec}): {records}"
    else:
        yield f"  TLSA: none ({host.tlsa_dnssec})"
    if host.next_key is not None:
        yield f"  next key: {_result(host.next_key)}"
    for server in host.servers:
        yield from (f"  {text}" for text in _of_server(server))


def _of_server(server: Server) -> Iterator[str]:
    if server.certificate is None:
        yield f"{server.address}: {_result(server.starttls)}"
        return
    requires = {True: ", REQUIRETLS", False: "", None: ", no EHLO inside TLS"}[server.requiretls]
    yield f"{server.address}: {server.version} {server.cipher}{requires}"
    yield f"  certificate: {_result(server.certificate)}; {_few(server.names)}; by {server.issuer}"
    if server.chain is not None:
        yield f"  chain: {_result(server.chain)}"
    if server.tlsa is not None:
        yield f"  TLSA: {_result(server.tlsa)}"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"for {', '.join(names[:_MOST_NAMES]) or 'no host'}{more}"


def _result(result: Result) -> str:
    return f"{result.state.value}, {result.text}" if result.text else result.state.value


def _shortened(record: str) -> str:
    fields, _, data = record.rpartition(" ")
    return f"{fields} {data if len(data) <= _MOST_SHOWN else data[:_MOST_SHOWN] + '…'}"


def summary(all_found: Sequence[Found]) -> Iterator[str]:
    """How many domains would be sent to in which way, the safest first."""
    counted = Counter(found.way for found in all_found)
    width = max(len(way.value) for way in Way)
    for way in Way:
        if counted[way]:
            yield f"{way.value:<{width}}  {counted[way]:>5}  {100 * counted[way] / len(all_found):5.1f} %"
