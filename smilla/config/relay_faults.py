"""Faults of what the configuration says about the relay, seen together."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

from smilla.config.options import FAILURES, SECURE_HOP, Config, RelayOptions
from smilla.config.values import UNIX, is_local, is_loopback

_LEAST_IPV4, _LEAST_IPV6 = 8, 16
_OWN_IPV6 = ipaddress.IPv6Network("fc00::/7")  # RFC 4193
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - as a file may have it
_NEITHER = {
    SECURE_HOP: "which needs the milter: the relay hands every copy to one next hop",
    "hold": "which the relay cannot do: it has no quarantine",
}


def of_relay(config: Config) -> Iterator[tuple[str, str]]:
    """What is wrong with [relay]: the option, and the problem.  Nothing is where the relay does not run."""
    options = config.relay
    yield from _of_clients(options)
    if options.next_hop and options.tls == "none" and not is_loopback(options.next_hop):
        yield (
            "tls",
            f'is "none", but next_hop = "{options.next_hop}" is not an address on loopback: plaintext would be on the '
            'wire; write "starttls" or "tls"',
        )
    if _is_itself(options):
        yield "next_hop", f'is "{options.next_hop}", the relay\'s own socket: every message would come back to it'
    if options.next_hop and options.auth and options.tls == "none":
        yield "auth", 'is true, but tls = "none": a password goes over verified TLS only; write "starttls" or "tls"'
    if options.next_hop and options.auth and options.protocol == "lmtp":
        yield "auth", 'is true, but protocol = "lmtp": no mail program speaks it; write "smtp"'
    for name in ("ca_file", "tls_certificate", "tls_key"):
        path = getattr(options, name)
        if path and not _is_file(path):
            yield name, f'is "{path}", which is no file that this user can see'


def _is_itself(options: RelayOptions) -> bool:
    """Is the next hop the relay?  Another name of this machine may hide that."""
    where = options.socket.partition(":")[2]
    port, _, host = where.partition("@")
    to, _, to_port = options.next_hop.rpartition(":")
    if options.socket.startswith(UNIX) or port != to_port:
        return False
    host, to = host.strip("[]"), to.strip("[]")
    if "localhost" in (host, to):
        return is_local(f"inet:1@{host}") and is_local(f"inet:1@{to}")
    return host == to or (is_local(f"inet:1@{to}") and host == _EVERYWHERE[":" in to])


def _of_clients(options: RelayOptions) -> Iterator[tuple[str, str]]:
    """Who may send, and whether in the clear."""
    if options.tls_key and not options.tls_certificate:
        yield "tls_key", "is set, but tls_certificate is not"
    if is_local(options.socket):
        return
    if not options.tls_certificate:
        yield (
            "socket",
            f'is "{options.socket}", which other machines reach: without tls_certificate, plaintext would be on the '
            "wire",
        )
    if not options.clients:
        yield (
            "socket",
            f'is "{options.socket}", which other machines reach: list those that may send in clients',
        )
    for network in options.clients if not options.auth else ():
        if _is_wide(network):
            yield (
                "clients",
                f"has {network}, and auth is false: strangers could send through next_hop; name the networks of your "
                "own servers",
            )


def _is_wide(network: str) -> bool:
    """Is it larger than anybody's own network?"""
    found = ipaddress.ip_network(network, strict=False)
    if isinstance(found, ipaddress.IPv6Network):
        return found.prefixlen < _LEAST_IPV6 and not found.subnet_of(_OWN_IPV6)
    return found.prefixlen < _LEAST_IPV4


def of_keys(config: Config) -> Iterator[tuple[str, str]]:
    """What in [keys] the relay cannot do."""
    if config.relay.next_hop and config.keys.aliases == "expanded":
        yield "aliases", 'is "expanded", but the relay has no stage: it never sees where an alias leads'


def of_policy(config: Config) -> Iterator[tuple[str, str]]:
    """What in [policy] the relay cannot do."""
    for name in FAILURES if config.relay.next_hop else ():
        action = getattr(config.policy, name)
        if action in _NEITHER:
            yield name, f'is "{action}", {_NEITHER[action]}'


def of_rules(config: Config) -> Iterator[tuple[int, str]]:
    """The same for rules: the number of the rule, and the problem."""
    for number, rule in enumerate(config.rule, 1):
        for name in FAILURES if config.relay.next_hop else ():
            action = getattr(rule, name)
            if action in _NEITHER:
                yield number, f'has {name} = "{action}", {_NEITHER[action]}'


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except PermissionError:
        return False
