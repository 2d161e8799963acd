"""Who is behind a mail server, so that no provider is asked by too many at once.  Pure.

A provider is the registered domain of a host, or a block of addresses (/24 of IPv4, /48 of IPv6), whichever is busy.
Without the list of public suffixes the registered domain is guessed: two labels, or three below what looks like co.uk.
A wrong guess puts strangers together, and they wait for each other; it never asks one provider more often.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

_SHORT = 3  # co, com, net, org, gov, ac: second-level labels that are no one's own
_BLOCKS = {4: 24, 6: 48}
AT_ONCE = 4  # connections to one provider


def registered(host: str) -> str:
    """The registered domain of a host, as far as it can be guessed."""
    labels = host.lower().rstrip(".").split(".")
    is_below = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= _SHORT
    return ".".join(labels[-3:] if is_below else labels[-2:])


def block(address: str) -> str:
    """The block that an address is in."""
    ip = ip_address(address)
    return str(ip_network(f"{ip}/{_BLOCKS[ip.version]}", strict=False))


def limits(host: str, address: str) -> dict[str, int]:
    """How many jobs with the same name may run at once: one for the address, a few for its provider."""
    return {address: 1, f"host {registered(host)}": AT_ONCE, f"block {block(address)}": AT_ONCE}
