"""Checks that a resolver validates: it must set the AD bit for a zone that is known to be signed."""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import Protocol

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from smilla import log, log_recovery

FAILURES = (OSError, EOFError, TimeoutError, dns.exception.DNSException)
_PROOF_LASTS_S = 300.0
_DOUBT_LASTS_S = 5.0
_TIMEOUT_S = 4.0


class Exchanging(Protocol):
    """A server that answers queries."""

    name: str

    async def exchange(self, query: dns.message.Message) -> dns.message.Message:
        """The response, checked.  Raises one of FAILURES."""


async def signed_between(zone: dns.name.Name, server: Exchanging) -> tuple[int, int] | None:
    """When the latest signature of a zone's SOA record begins and ends, in seconds since 1970 (RFC 4034 section 3.1.5);
    None if there is none.  The resolver is told not to validate it: to a clock outside that time, all is bogus."""
    query = dns.message.make_query(zone, "SOA", flags=dns.flags.RD | dns.flags.CD, want_dnssec=True)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            response = await server.exchange(query)
    except FAILURES:
        return None
    signatures = [found for rrset in response.answer if rrset.rdtype == dns.rdatatype.RRSIG for found in rrset]
    latest = max(signatures, key=lambda signature: int(signature.expiration), default=None)
    return (latest.inception, latest.expiration) if latest is not None else None


TOLD_LASTS_S = 3600.0  # the log has a doubt once, and again each hour as long as it lasts


class Proof:
    """Whether a server has proven that it validates, with an AD bit for a zone that is known to be signed."""

    def __init__(self, zone: dns.name.Name, server: Exchanging) -> None:
        self.zone = zone
        self.proven_at = self._doubted_at = self._told_at = float("-inf")
        self._server = weakref.ref(server)
        self._doubt = ""
        self._probing: asyncio.Task[str] | None = None

    async def doubt(self) -> str:
        """Why this is not proven, "" if it is."""
        now = time.monotonic()
        if now - self.proven_at < _PROOF_LASTS_S:
            return ""
        if now - self._doubted_at < _DOUBT_LASTS_S:
            return self._doubt
        if self._probing is None:
            self._probing = asyncio.ensure_future(self._ask())
            self._probing.add_done_callback(lambda _: setattr(self, "_probing", None))
        return await asyncio.shield(self._probing)

    async def _ask(self) -> str:
        query = dns.message.make_query(self.zone, "SOA", use_edns=0, flags=dns.flags.RD | dns.flags.AD)
        server = self._server()
        if server is None:
            return "the resolver is gone"
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                response = await server.exchange(query)
        except FAILURES as error:
            why = f"within {_TIMEOUT_S:g} s" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            problem = f"the probe {self.zone} got no answer ({why})"
        else:
            if response.flags & dns.flags.AD:
                self.proven_at, self._told_at = time.monotonic(), float("-inf")
                log_recovery.resolver_works(server.name, str(self.zone))
                return ""
            problem = f"no AD bit on the probe {self.zone} ({dns.rcode.to_text(response.rcode())})"
        self._doubted_at = time.monotonic()
        self._doubt = f"the resolver {server.name} does not prove that it validates: {problem}"
        if self._doubted_at - self._told_at >= TOLD_LASTS_S:
            self._told_at = self._doubted_at
            log.resolver_not_validating(server.name, str(self.zone), problem)
        return self._doubt
