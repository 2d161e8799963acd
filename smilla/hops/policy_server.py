"""The web server of an MTA-STS policy that is announced: where it is, and what it gives (RFC 8461 section 3.3).

Its addresses are asked one after the other until one gives a whole answer, or one that will not change.
"""

from __future__ import annotations

from collections.abc import Sequence

from smilla.errors import FetchError
from smilla.hops import mx
from smilla.hops.mta_sts import Policy
from smilla.hops.mx import Finding, State
from smilla.hops.policies import Fetch
from smilla.model import DNSAnswer

_MOST_TRIED = 4  # addresses


def name_of(domain: str) -> str:
    """The server's name."""
    return f"mta-sts.{domain}"


def located(domain: str, answers: Sequence[DNSAnswer]) -> tuple[Finding | None, tuple[str, ...]]:
    """The addresses to be asked, from the answers about its A and AAAA records; or why there are none."""
    faults, addresses = mx.addresses(domain, name_of(domain), answers)
    if addresses:
        return None, addresses[:_MOST_TRIED]
    is_told = faults[0].state is State.MISSING
    return mx.no_policy(domain, f"{name_of(domain)}: {faults[0].text}", temporary=not is_told), ()


def fetched(domain: str, addresses: Sequence[str], fetch: Fetch, hosts: Sequence[str]) -> tuple[Finding, Policy | None]:
    """The policy, and what to say of it and of the MX hosts; there is at least one address."""
    for address in addresses:
        try:
            found = fetch(name_of(domain), address)
        except FetchError as error:
            finding = mx.no_policy(domain, str(error), temporary=error.temporary)
            if error.temporary:
                continue
            return finding, None
        return mx.policy(domain, found.status, found.media_type, found.raw, hosts)
    return finding, None
