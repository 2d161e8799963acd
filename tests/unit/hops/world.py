"""A world for the search: DNS answers and web servers in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from smilla.config import Config
from smilla.errors import FetchError
from smilla.hops import rdata
from smilla.hops.policies import Fetched, Policies
from smilla.hops.search import Finder
from smilla.model import DNSAnswer, DNSSECStatus, Hop, KeptPolicy

SECURE, INSECURE = DNSSECStatus.SECURE, DNSSECStatus.INSECURE
BOGUS, UNREACHABLE = DNSSECStatus.BOGUS, DNSSECStatus.UNREACHABLE
DOMAIN = "example.org"
POLICY = "version: STSv1\nmode: {}\nmx: {}\nmax_age: {}\n"


def name(text: str) -> bytes:
    labels = [label for label in text.split(".") if label]
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def mx(*hosts: str) -> list[bytes]:
    return [(10 * number).to_bytes(2) + name(host) for number, host in enumerate(hosts, 1)]


def tlsa(usage: int = 3, selector: int = 1, matching_type: int = 1) -> bytes:
    return bytes([usage, selector, matching_type]) + b"\x07" * 32


def text(content: str) -> bytes:
    return bytes([len(content)]) + content.encode()


@dataclass
class Pending:
    answer: DNSAnswer
    wait: Callable[[float], bool]

    def done(self) -> bool:
        return True

    def result(self, deadline: float) -> DNSAnswer:
        if not self.wait(deadline):
            return replace(self.answer, status=UNREACHABLE, raw_rdata=(), detail="late")
        return self.answer


@dataclass
class World:
    """``answers`` by owner and type; what is not there is proven absent.  ``web`` is what the web server of a host
    gives: octets, or a status with a media type, or an error."""

    answers: dict[tuple[str, int], DNSAnswer] = field(default_factory=dict)
    web: dict[str, Fetched | FetchError] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    kept: dict[str, KeptPolicy] = field(default_factory=dict)
    now: float = 1_800_000_000.0
    waits: Callable[[float], bool] = lambda deadline: True

    def add(
        self, owner: str, rdtype: int, *raw: bytes, status: DNSSECStatus = SECURE, malformed: int = 0, ttl_s: int = 3600
    ) -> None:
        found = DNSAnswer(owner, str(rdtype), status, tuple(raw), malformed, ttl_s)
        self.answers[f"{owner}.", rdtype] = found

    def host(self, host: str, *records: bytes, status: DNSSECStatus = SECURE, at: DNSSECStatus = SECURE) -> None:
        """A host with an address, and its TLSA records; ``at`` is the status of the address."""
        self.add(host, rdata.A, ip_address("192.0.2.1").packed, status=at)
        if at is not SECURE:
            self.add(host, rdata.CNAME, status=at)
            self.add(host, rdata.AAAA, status=at)
        if records or status is not SECURE:
            self.add(f"_25._tcp.{host}", rdata.TLSA, *records, status=status)

    def policy(
        self, mode: str = "enforce", mx: str = "mx.example.org", max_age: int = 86400, sts_id: str = "1"
    ) -> None:
        """An MTA-STS policy of example.org."""
        self.add(f"_mta-sts.{DOMAIN}", rdata.TXT, text(f"v=STSv1; id={sts_id}"), status=INSECURE)
        self.add(f"mta-sts.{DOMAIN}", rdata.A, ip_address("192.0.2.80").packed, status=INSECURE)
        self.web[f"mta-sts.{DOMAIN}"] = Fetched(200, "text/plain", POLICY.format(mode, mx, max_age).encode())

    # --- the ports

    def ask(self, owner: str, rdtype: int) -> Pending:
        self.asked.append((owner, rdtype))
        absent = DNSAnswer(owner, str(rdtype), SECURE, ttl_s=60)
        return Pending(self.answers.get((owner, rdtype), absent), self.waits)

    def fetch(self, host: str, address: str) -> Fetched:
        self.fetched.append(host)
        found = self.web.get(host, FetchError(f"{host}: connection refused", temporary=True))
        if isinstance(found, FetchError):
            raise found
        return found

    def recall(self, domain: str) -> KeptPolicy | None:
        return self.kept.get(domain)

    def keep(self, domain: str, kept: KeptPolicy) -> None:
        self.kept[domain] = kept

    def failed(self, domain: str, kept: KeptPolicy) -> None:
        before = self.kept.get(domain, KeptPolicy())
        self.kept[domain] = replace(kept, policy_id=before.policy_id, raw=before.raw, fetched_at=before.fetched_at)

    # --- the search

    def finder(self, config: Config | None = None) -> Finder:
        return Finder(self, Policies(self, self.fetch, lambda: self.now), config or Config())

    def found(self, config: Config | None = None, domain: str = DOMAIN) -> Hop:
        return self.finder(config).begin(domain).result(time.monotonic() + 30)
