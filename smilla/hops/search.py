"""Searches for a verified hop to a domain: asks DNS and, for MTA-STS, a web server; remembers what was found.

Promises: ``begin`` returns at once.  A search goes on, though the message that began it has run out of time, so that
the next attempt finds the result.  One search a domain is under way in a process, and everybody shares it.  A slow
domain holds one place of ``_PLACES``; if none is free, a further search is UNREACHABLE at once, and nothing of it is
remembered.  A result is kept no longer than the lowest TTL that it rests on and [dns] cache_ttl_s; one that says that
nobody knows, for [dns] failure_ttl_s.  All results together take half of [dns] cache_mib at most.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from smilla import log_hops
from smilla.config import Config
from smilla.hops import rdata, tlsa_base, verified
from smilla.hops.policies import Policies
from smilla.hops.verified import Host
from smilla.model import DNSAnswer, DNSSECStatus, Hop, HopVerdict, Reason
from smilla.ports import Metrics, PendingAnswer, PendingHop, Resolver

SMTP_PORT = 25
_PLACES = 256
_LONGEST_S = 40.0  # all questions and fetches of one search
_LONGEST_NAME = 253  # characters, without the final dot (RFC 1035 section 3.1)
_OVERHEAD, _A_STRING = (
    1000,
    60,
)  # octets of a result besides those of its strings, and of a string besides its characters
_KNOWN = (HopVerdict.VERIFIED, HopVerdict.NONE)


class Finder:
    """smilla.ports.HopFinder."""

    def __init__(self, resolver: Resolver, policies: Policies, config: Config, metrics: Metrics | None = None) -> None:
        self._resolver, self._policies, self._config = resolver, policies, config
        self._metrics = metrics or Metrics()
        self._lock = threading.Lock()
        self._remembered: OrderedDict[str, tuple[Hop, float]] = OrderedDict()
        self._octets = 0
        self._pending: dict[str, _Search] = {}
        self._places = threading.BoundedSemaphore(_PLACES)

    def begin(self, domain: str) -> PendingHop:
        """See ports.HopFinder."""
        domain = domain.lower().removesuffix(".")
        if (hop := self._unasked(domain)) is not None:
            return _Known(hop)
        with self._lock:
            if (hop := self._recalled(domain)) is not None:
                return _Known(hop)
            if (search := self._pending.get(domain)) is not None:
                return search
            search = _Search(domain)
            if not self._started(lambda: self._run(search)):
                text = f"{_PLACES} other searches are under way"
                return _Known(Hop(domain, HopVerdict.UNREACHABLE, Reason("hop_busy", text)))
            self._pending[domain] = search
            return search

    def _unasked(self, domain: str) -> Hop | None:
        """The result where nobody need be asked."""
        if domain.startswith("["):
            reason = Reason("address_literal", "an address is no domain: nothing says who may answer there")
            return Hop(domain, HopVerdict.NONE, reason)
        if not verified.HOST.fullmatch(domain) or len(domain) > _LONGEST_NAME:
            return verified.no_name(domain, f"{domain[:300]!r} is no domain name")
        circle = verified.circle_of(domain, self._config.circle)
        return verified.by_circle(domain, circle, self._config.dns.cache_ttl_s) if circle is not None else None

    def _started(self, work: Callable[[], object]) -> bool:
        """Runs it in a thread of its own, if a place is free."""
        if not self._places.acquire(blocking=False):
            return False

        def run() -> None:
            try:
                work()
            finally:
                self._places.release()

        try:
            threading.Thread(target=run, name="hop", daemon=True).start()
        except RuntimeError:  # no more threads
            self._places.release()
            return False
        return True

    def _run(self, search: _Search) -> None:
        hop = Hop(search.domain, HopVerdict.UNREACHABLE, Reason("internal", "an error of smilla's ended the search"))
        try:
            hop = self._found(search.domain)
            log_hops.hop(hop)
            self._metrics.hop(hop.way.value if hop.way else "", hop.verdict.value)
        finally:
            with self._lock:
                self._remember(hop)
                self._pending.pop(search.domain, None)
            search.finish(hop)

    # --- what is remembered

    def _recalled(self, domain: str) -> Hop | None:
        hop, until = self._remembered.get(domain, (None, 0.0))
        left_s = until - time.monotonic()
        if hop is None or left_s <= 0:
            self._forget(domain)
            return None
        self._remembered.move_to_end(domain)
        return replace(hop, ttl_s=min(hop.ttl_s, round(left_s)))

    def _remember(self, hop: Hop) -> None:
        options = self._config.dns
        lasts_s = min(hop.ttl_s, options.cache_ttl_s) if hop.verdict in _KNOWN else options.failure_ttl_s
        if lasts_s <= 0:
            return
        self._forget(hop.domain)
        self._remembered[hop.domain] = hop, time.monotonic() + lasts_s
        self._octets += _size(hop)
        while len(self._remembered) > options.cache_entries or self._octets > options.cache_mib << 19:
            self._forget(next(iter(self._remembered)))

    def _forget(self, domain: str) -> None:
        if (entry := self._remembered.pop(domain, None)) is not None:
            self._octets -= _size(entry[0])

    # --- one search

    def _found(self, domain: str) -> Hop:
        deadline = time.monotonic() + _LONGEST_S
        mx = self._asked(f"{domain}.", rdata.MX)
        uses_policies = self._config.hop.mta_sts != "off"
        txt = self._asked(f"_mta-sts.{domain}.", rdata.TXT) if uses_policies else None
        answer = mx.result(deadline)
        found = verified.exchanges(domain, answer)
        if found.stop is not None:
            return found.stop
        hop = verified.without_dane(domain, found, answer.ttl_s)
        if found.is_secure:
            hosts = self._hosts(found.hosts[: verified.MOST_HOSTS], deadline)
            hop = verified.by_dane(domain, found, hosts)
            hop = replace(hop, ttl_s=min(hop.ttl_s, answer.ttl_s))
        if hop.verdict is not HopVerdict.NONE or txt is None:
            return hop

        def ask_txt(most_s: float) -> DNSAnswer:
            return txt.result(min(deadline, time.monotonic() + most_s))

        announced = self._policies.find(domain, ask_txt, self._ask(deadline), self._started)
        return verified.by_policy(hop, announced, self._config.hop.mta_sts, is_signed=found.is_secure)

    def _hosts(self, names: Sequence[str], deadline: float) -> list[Host]:
        """Where each host's TLSA records are.  The usual questions of all hosts are asked together; the further ones,
        of hosts that are aliases, one after the other."""
        asked = {
            (f"{name}.", kind): self._asked(f"{name}.", kind)
            for name in names
            for kind in (rdata.A, rdata.AAAA, rdata.CNAME)
        }
        return [self._host(name, asked, deadline) for name in names]

    def _host(self, name: str, asked: dict[tuple[str, int], PendingAnswer], deadline: float) -> Host:
        used: list[DNSAnswer] = []

        def ask(owner: str, rdtype: int) -> DNSAnswer:
            pending = asked.get((owner, rdtype)) or self._asked(owner, rdtype)
            used.append(pending.result(deadline))
            return used[-1]

        addresses = [ask(f"{name}.", kind) for kind in (rdata.A, rdata.AAAA)]
        located = tlsa_base.locate(name, SMTP_PORT, addresses, ask)
        return Host(name, located, min(answer.ttl_s for answer in used))

    def _ask(self, deadline: float) -> Callable[[str, int], DNSAnswer]:
        return lambda owner, rdtype: self._asked(owner, rdtype).result(deadline)

    def _asked(self, owner: str, rdtype: int) -> PendingAnswer:
        """The question; a name that is too long for DNS has no records, and nobody need be asked."""
        if len(owner) <= _LONGEST_NAME + 1:
            return self._resolver.ask(owner, rdtype)
        return _Absent(DNSAnswer(owner, f"TYPE{rdtype}", DNSSECStatus.INSECURE, detail="the name is too long for DNS"))


def _size(hop: Hop) -> int:
    """Octets that a result takes, or a few more: a stranger's domain may have thousands of MX hosts."""
    return _OVERHEAD + sum(_A_STRING + len(text) for text in (*hop.names, *hop.hosts, *hop.steps, *hop.policy_lines))


class _Known:
    """A result that is already there."""

    __slots__ = ("_hop",)

    def __init__(self, hop: Hop) -> None:
        self._hop = hop

    def result(self, deadline: float) -> Hop:
        """The result, at once."""
        return self._hop


class _Absent:
    """An answer without a question."""

    __slots__ = ("_answer",)

    def __init__(self, answer: DNSAnswer) -> None:
        self._answer = answer

    def done(self) -> bool:
        """It is."""
        return True

    def result(self, deadline: float) -> DNSAnswer:
        """The answer, at once."""
        return self._answer


class _Search:
    """One search under way, shared by everyone who asks for the domain."""

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self._over = threading.Event()
        self._hop: Hop | None = None

    def finish(self, hop: Hop) -> None:
        """The search is over."""
        self._hop = hop
        self._over.set()

    def result(self, deadline: float) -> Hop:
        """See ports.PendingHop."""
        self._over.wait(max(0.0, deadline - time.monotonic()))
        if self._hop is not None:
            return self._hop
        reason = Reason("hop_deadline", "the search was not over in time; it goes on, for the next attempt")
        return Hop(self.domain, HopVerdict.UNREACHABLE, reason)
