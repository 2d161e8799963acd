"""What is found about one MX host and its addresses: answers and what servers present, judged.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from smilla.errors import HopError, ParseError
from smilla.hops import mx, tlsa
from smilla.hops.mta_sts import Policy
from smilla.hops.mx import Finding, State
from smilla.hops.pkix import Authorities
from smilla.hops.tlsa_base import Located
from smilla.model import DNSAnswer
from smilla.survey.found import Host, Result, Server
from smilla.survey.outside import Presented

_MOST_NAMES = 20


@dataclass(frozen=True, slots=True)
class HostAnswers:
    """What DNS says about one MX host: ``ips`` are the addresses to be asked; ``tlsa`` has its TLSA records, also those
    in an unsigned zone, which ``located`` leaves out."""

    name: str
    address: Result
    ips: tuple[str, ...]
    dnssec: str
    located: Located
    tlsa: DNSAnswer


@dataclass(frozen=True, slots=True)
class Trust:
    """Who must have issued the certificates of a domain's servers, and which names these may bear, as Postfix's
    ``match`` has them; none: the host's own."""

    authorities: Authorities
    names: tuple[str, ...] = ()

    def judge(self, chain: Sequence[bytes], host: str, now: datetime) -> Result:
        """What a server presents."""
        fault = self.authorities.fault_among(chain, self.names or (host,), now)
        return Result(State.UNTRUSTED if fault else State.OK, fault or "valid for the host")


@dataclass(frozen=True, slots=True)
class Judge:
    """What all judgements of one survey share: the clock, and how many days are too few."""

    now: datetime
    days: int

    def host(
        self,
        domain: str,
        about: HostAnswers,
        seen: Mapping[str, Presented | HopError],
        policy: Policy | None,
        trust: Trust,
    ) -> Host:
        """``seen`` is what was presented at each address, or why it was not; ``policy`` is that of MTA-STS."""
        servers, judgements = [], []
        for ip, one in seen.items():
            if isinstance(one, HopError):
                servers.append(_unseen(ip, one))
                continue
            judgement = tlsa.judge(about.tlsa, one.raw_chain, [about.located.base, domain], self.now)
            judgements.append(judgement)
            finding = mx.of_alias(mx.tlsa(domain, ip, about.tlsa, judgement), about.name, about.located.base)
            chain = trust.judge(one.raw_chain, about.name, self.now)
            servers.append(self._server(ip, about.name, one, chain, fact(finding)))
        following = mx.next_key(domain, about.name, judgements)
        return Host(
            name=about.name,
            address=about.address,
            address_dnssec=about.dnssec,
            tlsa=_records(about.tlsa),
            tlsa_dnssec=about.tlsa.status.value,
            next_key=fact(following) if following else None,
            in_policy=policy.allows(about.name) if policy and policy.mx else None,
            servers=tuple(servers),
        )

    def _server(self, ip: str, host: str, one: Presented, chain: Result, is_tlsa: Result) -> Server:
        finding = mx.certificate(host, host, one.raw_chain, self.now, self.days)
        names, issuer = _about(one.raw_chain)
        return Server(
            address=ip,
            starttls=Result(State.OK),
            version=one.version,
            cipher=one.cipher,
            requiretls=None if one.offered is None else "REQUIRETLS" in one.offered,
            certificate=fact(finding),
            names=names,
            issuer=issuer,
            ends_at=finding.ends_at.isoformat() if finding.ends_at else "",
            days_left=(finding.ends_at - self.now).days if finding.ends_at else None,
            chain=chain,
            tlsa=is_tlsa,
        )


def fact(finding: Finding) -> Result:
    """Without what to do about it, which a stranger's administrator alone can do."""
    text, _, _ = finding.text.rpartition("; ")
    return Result(finding.state, text or finding.text)


def _unseen(ip: str, error: HopError) -> Server:
    if error.code == "no_starttls":
        return Server(ip, Result(State.MISSING, "no STARTTLS"))
    return Server(ip, Result(State.UNREACHABLE, str(error)), is_connected=error.code != "no_connection")


def _records(answer: DNSAnswer) -> tuple[str, ...]:
    return tuple(_shown(answer.raw_rdata[:20]))


def _shown(raws: Iterable[bytes]) -> Iterable[str]:
    for raw in raws:
        try:
            record = tlsa.read(raw)
        except ParseError:
            yield f"malformed {raw.hex()}"
        else:
            yield f"{record.usage} {record.selector} {record.matching_type} {record.raw.hex()}"


def _about(chain: Sequence[bytes]) -> tuple[tuple[str, ...], str]:
    """The hosts that the server's certificate names, and who issued it; nothing if it cannot be read."""
    try:
        leaf = x509.load_der_x509_certificate(chain[0])
        return tuple(tlsa.dns_names(leaf)[:_MOST_NAMES]), leaf.issuer.rfc4514_string()[:200]
    except (IndexError, ValueError, TypeError, UnsupportedAlgorithm):
        return (), ""
