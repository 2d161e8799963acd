"""How mail for a domain can be protected on its way to the next mail server."""

from __future__ import annotations

from enum import StrEnum

from smilla.model.keys import Reason
from smilla.value import value


class HopWay(StrEnum):
    """What verifies the next mail server: a circle of the configuration, TLSA records (RFC 7672) or a policy of MTA-STS
    (RFC 8461).  The first one that a domain has counts, also where a later one would say something else."""

    CIRCLE = "circle"
    DANE = "dane"
    MTA_STS = "mta-sts"


class HopVerdict(StrEnum):
    """Can a hop to the domain be verified?  ``NONE`` is proven: there is no way.  The other three say that nobody knows
    now; they are never taken for NONE."""

    VERIFIED = "verified"
    NONE = "none"
    BOGUS = "bogus"
    UNREACHABLE = "unreachable"
    UNCLEAR = "unclear"


@value
class Hop:
    """The result of the search for one domain (in A-labels, lower case).

    ``names`` are what the server's certificate may bear: the MX hosts that a policy allows, never a wildcard; of a
    circle its ``match``, in which a leading dot stands for every name below; with DANE, the MX hosts with usable TLSA
    records.  ``hosts`` are all MX hosts, the best first.  ``ca_file`` holds the authorities of a circle, "" otherwise.
    ``mode`` and ``policy_id`` are the MTA-STS policy's, "" without one; ``policy_lines`` are the lines of its text.
    ``wants_tls``: there are TLSA records that no client can use, which ask for TLS with anybody (RFC 7672 section 2.2).
    ``ttl_s``: for so long it holds.  ``steps`` tell how it was found, for people.
    """

    domain: str
    verdict: HopVerdict
    reason: Reason
    way: HopWay | None = None
    names: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    ca_file: str = ""
    circle: str = ""
    mode: str = ""
    policy_id: str = ""
    ttl_s: int = 0
    steps: tuple[str, ...] = ()
    policy_lines: tuple[str, ...] = ()
    wants_tls: bool = False

    @property
    def is_verified(self) -> bool:
        """May a copy that must not go in clear be sent there?"""
        return self.verdict is HopVerdict.VERIFIED and self.way is not None


@value
class KeptPolicy:
    """What is remembered of a domain's MTA-STS policy: its id, its octets as fetched (empty: none was), and when; of
    the last attempt that failed, the id, when, and why.  ``is_unclear``: the web server gave something that is no
    policy.  Times are seconds since 1970."""

    policy_id: str = ""
    raw: bytes = b""
    fetched_at: float = 0.0
    tried_id: str = ""
    tried_at: float = 0.0
    failure: str = ""
    is_unclear: bool = False
