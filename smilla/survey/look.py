"""Looks at domains: questions to DNS first, then the servers and the policy's web server, then the judgement.

Each step is a job of a crew, so that no thread waits for a provider that has its share.  A server is asked once in a
survey for each name that it is asked for (SNI), however many domains it serves: they share what it presented.

Bounds: a domain has as many MX hosts and addresses as its administrator likes; the first ones are asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from smilla.address import EmailAddress
from smilla.errors import HopError, SmillaError
from smilla.hops import mx, policy_server, rdata, tlsa_base, verified
from smilla.hops.mta_sts import Policy
from smilla.hops.mx import Finding, State
from smilla.hops.verified import Announced
from smilla.model import DNSAnswer, DNSSECStatus, Hop, HopVerdict, HopWay, KeyLookup
from smilla.survey import published, way
from smilla.survey.crew import Crew
from smilla.survey.found import Found, Names, Result, Way
from smilla.survey.hosts import HostAnswers, Judge, Trust, fact
from smilla.survey.outside import Outside, Presented
from smilla.survey.providers import limits

_SOA, _SMIMEA, _OPENPGPKEY = 6, 53, 61
_LONGEST_NAME = 254  # characters, with the final dot (RFC 1035 section 3.1)
_FAULTS = (SmillaError, ValueError, TypeError, LookupError)  # of ours, at something that nobody thought of
_MOST_HOSTS, _MOST_ADDRESSES = 8, 8
Seen = Presented | HopError


@dataclass(frozen=True, slots=True)
class Asked:
    """What was given: a domain in A-labels, or an address, with its domain.  ``text`` names it in all output."""

    text: str
    domain: str
    address: EmailAddress | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class _Task:
    """One domain, as far as it has come.  ``left`` counts the jobs that are still to be done."""

    asked: Asked
    answers: dict[str, DNSAnswer] = field(default_factory=dict)
    dmarc: list[DNSAnswer] = field(default_factory=list)
    exchanges: Result = field(default_factory=lambda: Result(State.UNCLEAR))
    hosts: list[HostAnswers] = field(default_factory=list)
    names: tuple[str, ...] = ()
    seen: dict[tuple[str, str], Seen] = field(default_factory=dict)
    sts: Finding | None = None
    policy: Policy | None = None
    lookup: KeyLookup | None = None
    left: int = 0
    is_over: bool = False


class Survey:
    """``askers`` ask DNS and judge, ``callers`` call servers: a crowd of silent servers keeps its callers waiting, and
    nobody else.  ``deliver`` gets each result, in a thread of the askers."""

    def __init__(self, outside: Outside, askers: Crew, callers: Crew, deliver: Callable[[Found], None]) -> None:
        self._outside, self._askers, self._callers, self._deliver = outside, askers, callers, deliver
        self._judge = Judge(outside.now, outside.days)
        self._lock = threading.Lock()
        self._servers: dict[tuple[str, str], Seen | list[Callable[[Seen], None]]] = {}

    def begin(self, asked: Asked) -> None:
        """Returns at once."""
        task = _Task(asked)
        self._askers.add(partial(self._guarded, task, self._ask_dns))

    def _guarded(self, task: _Task, step: Callable[[_Task], None]) -> None:
        """One domain at which we fail is unknown, and ends nothing else."""
        try:
            step(task)
        except _FAULTS as error:
            self._done(task, _failed(task.asked, self._outside.now, error))

    def _done(self, task: _Task, found: Found) -> None:
        """Once a domain, whatever else still comes."""
        with self._lock:
            is_over, task.is_over = task.is_over, True
        if not is_over:
            self._deliver(found)

    # --- DNS

    def _ask_dns(self, task: _Task) -> None:
        domain = task.asked.domain
        questions = {
            "mx": (f"{domain}.", rdata.MX),
            "soa": (f"{domain}.", _SOA),
            "txt": (f"{domain}.", rdata.TXT),
            "tlsrpt": (f"_smtp._tls.{domain}.", rdata.TXT),
            "mta_sts": (f"_mta-sts.{domain}.", rdata.TXT),
            "smimea": (f"_smimecert.{domain}.", _SMIMEA),
            "openpgpkey": (f"_openpgpkey.{domain}.", _OPENPGPKEY),
            "nobody": (f"{published.NOBODY}.{domain}.", rdata.TXT),
        }
        names = published.dmarc_names(domain)
        found = self._answers([*questions.values(), *((name, rdata.TXT) for name in names)])
        task.answers = dict(zip(questions, found, strict=False))
        task.dmarc = found[len(questions) :]
        if task.asked.address is not None:
            task.lookup = self._outside.look_up(task.asked.address)
        self._ask_about_hosts(task)

    def _ask_about_hosts(self, task: _Task) -> None:
        finding, _ = mx.exchanges(task.asked.domain, task.answers["mx"])
        task.exchanges, found = fact(finding), verified.exchanges(task.asked.domain, task.answers["mx"])
        hosts = found.hosts
        if found.stop is not None and found.stop.verdict is HopVerdict.UNCLEAR:
            task.exchanges = Result(State.UNCLEAR, found.stop.reason.text)
        if task.answers["mx"].is_denied:
            task.exchanges, hosts = Result(finding.state, "there is no such domain"), ()
        task.names = hosts
        if len(hosts) > _MOST_HOSTS:
            text = f"{task.exchanges.text}; only the first {_MOST_HOSTS} hosts were asked"
            task.exchanges = Result(task.exchanges.state, text)
        task.hosts = [self._host(task.asked.domain, host) for host in hosts[:_MOST_HOSTS]]
        self._ask_servers(task)

    def _host(self, domain: str, host: str) -> HostAnswers:
        answers = self._answers([(f"{host}.", rdata.A), (f"{host}.", rdata.AAAA)])
        faults, ips = mx.addresses(domain, host, answers)
        located = tlsa_base.locate(host, self._outside.port, answers, self._answer)
        result = fact(faults[0]) if faults else Result(State.OK, ", ".join(ips[:_MOST_ADDRESSES]))
        dnssec = next((one.status for one in answers if one.raw_rdata), answers[0].status)
        shown = tlsa_base.published(host, self._outside.port, located, self._answer)
        return HostAnswers(host, result, ips[:_MOST_ADDRESSES], dnssec.value, located, shown)

    def _answer(self, owner: str, rdtype: int) -> DNSAnswer:
        return self._answers([(owner, rdtype)])[0]

    def _answers(self, questions: Sequence[tuple[str, int]]) -> list[DNSAnswer]:
        pending = {one: self._outside.resolver.ask(*one) for one in questions if len(one[0]) <= _LONGEST_NAME}
        deadline = self._outside.monotonic() + self._outside.wait_s
        return [pending[one].result(deadline) if one in pending else _too_long(*one) for one in questions]

    # --- the servers

    def _ask_servers(self, task: _Task) -> None:
        wanted = list(dict.fromkeys((host.located.base, ip) for host in task.hosts for ip in host.ips))
        fetch = self._policy_job(task)
        task.left = len(wanted) + (fetch is not None)
        if not task.left:
            self._finish(task)
            return
        if fetch is not None:
            self._callers.add(*fetch)
        for server in wanted:
            self._ask_once(server, partial(self._saw, task, server))

    def _ask_once(self, server: tuple[str, str], tell: Callable[[Seen], None]) -> None:
        with self._lock:
            known = self._servers.setdefault(server, [])
            if isinstance(known, list):
                known.append(tell)
                if len(known) == 1:
                    self._callers.add(partial(self._ask_server, server), limits(*server))
                return
        tell(known)

    def _ask_server(self, server: tuple[str, str]) -> None:
        name, ip = server
        seen: Seen
        try:
            seen = self._outside.present(ip, name)
        except HopError as error:
            seen = error
        except _FAULTS as error:
            seen = HopError(f"{ip}: {error!r}", code="unreachable")
        with self._lock:
            waiting, self._servers[server] = self._servers[server], seen
        for tell in waiting if isinstance(waiting, list) else ():
            tell(seen)

    def _saw(self, task: _Task, server: tuple[str, str], seen: Seen) -> None:
        with self._lock:
            task.seen[server] = seen
        self._came_on(task)

    def _came_on(self, task: _Task) -> None:
        with self._lock:
            task.left -= 1
            is_last = task.left == 0
        if is_last:
            self._askers.add(partial(self._guarded, task, self._finish))

    # --- the policy

    def _policy_job(self, task: _Task) -> tuple[Callable[[], None], Mapping[str, int]] | None:
        """None if there is nothing to fetch."""
        domain = task.asked.domain
        task.sts = mx.announcement(domain, task.answers["mta_sts"])
        if task.sts is not None:
            return None
        name = policy_server.name_of(domain)
        answers = self._answers([(f"{name}.", rdata.A), (f"{name}.", rdata.AAAA)])
        task.sts, ips = policy_server.located(domain, answers)
        if not ips:
            return None
        shared = {key: most for ip in ips for key, most in limits(name, ip).items()}
        return partial(self._fetch, task, ips), shared

    def _fetch(self, task: _Task, ips: Sequence[str]) -> None:
        try:
            task.sts, task.policy = policy_server.fetched(task.asked.domain, ips, self._outside.fetch, task.names)
        except _FAULTS as error:
            task.sts = mx.no_policy(task.asked.domain, repr(error), temporary=True)
        self._came_on(task)

    # --- the judgement

    def _finish(self, task: _Task) -> None:
        domain, hop = task.asked.domain, self._hop(task)
        trust = self._trust(hop)
        hosts = tuple(
            self._judge.host(domain, about, self._seen_at(task, about), task.policy, trust) for about in task.hosts
        )
        spf, spf_all = published.spf(task.answers["txt"])
        dmarc, dmarc_policy = published.dmarc(domain, task.dmarc)
        zones = {
            kind: published.key_zone(task.answers[kind], task.answers["nobody"]) for kind in ("smimea", "openpgpkey")
        }
        found = Found(
            asked=task.asked.text,
            domain=domain,
            at=self._outside.now.isoformat(timespec="seconds"),
            way=Way.UNKNOWN,
            why="",
            zone=task.answers["soa"].status.value,
            mx=task.exchanges,
            mx_dnssec=task.answers["mx"].status.value,
            mta_sts=fact(task.sts) if task.sts else Result(State.UNCLEAR),
            mta_sts_mode=task.policy.mode.value if task.policy else "",
            tlsrpt=published.tlsrpt(task.answers["tlsrpt"]),
            spf=spf,
            spf_all=spf_all,
            dmarc=dmarc,
            dmarc_policy=dmarc_policy,
            smimea=zones["smimea"],
            openpgpkey=zones["openpgpkey"],
            key=_of_key(task.lookup) if task.lookup else None,
            hosts=hosts,
        )
        given = self._outside
        self._done(task, way.judged(found, hop, task.lookup, given.sources, given.policy))

    def _trust(self, hop: Hop) -> Trust:
        if hop.way is not HopWay.CIRCLE:
            return Trust(self._outside.authorities)
        return Trust(self._outside.in_circles[hop.ca_file], hop.names or (hop.domain, f".{hop.domain}"))

    def _hop(self, task: _Task) -> Hop:
        """What is published, as the search for a verified hop judges it."""
        domain, answer = task.asked.domain, task.answers["mx"]
        if (circle := verified.circle_of(domain, self._outside.circles)) is not None:
            return verified.by_circle(domain, circle, answer.ttl_s)
        exchanges = verified.exchanges(domain, answer)
        if exchanges.stop is not None:
            return exchanges.stop
        exchanges = replace(exchanges, hosts=exchanges.hosts[:_MOST_HOSTS])
        hop = verified.without_dane(domain, exchanges, answer.ttl_s)
        if exchanges.is_secure:
            hosts = [verified.Host(host.name, host.located, answer.ttl_s) for host in task.hosts]
            hop = verified.by_dane(domain, exchanges, hosts)
        if hop.verdict is HopVerdict.NONE and task.policy is not None and self._outside.mta_sts != "off":
            announced = Announced((), task.policy)
            return verified.by_policy(hop, announced, self._outside.mta_sts, is_signed=exchanges.is_secure)
        return hop

    def _seen_at(self, task: _Task, about: HostAnswers) -> dict[str, Seen]:
        return {ip: task.seen[about.located.base, ip] for ip in about.ips}


def _failed(asked: Asked, now: datetime, error: Exception) -> Found:
    nothing, unknown = Result(State.UNCLEAR, "smilla failed"), DNSSECStatus.INDETERMINATE.value
    return Found(
        asked=asked.text,
        domain=asked.domain,
        at=now.isoformat(timespec="seconds"),
        way=Way.UNKNOWN,
        why=f"smilla failed: {error!r}",
        zone=unknown,
        mx=nothing,
        mx_dnssec=unknown,
        mta_sts=nothing,
        mta_sts_mode="",
        tlsrpt=nothing,
        spf=nothing,
        spf_all="",
        dmarc=nothing,
        dmarc_policy="",
        smimea=Names.UNKNOWN,
        openpgpkey=Names.UNKNOWN,
    )


def _too_long(owner: str, rdtype: int) -> DNSAnswer:
    """Nobody has such a name."""
    text = "the name is too long for DNS"
    return DNSAnswer(owner, f"TYPE{rdtype}", DNSSECStatus.INSECURE, detail=text, is_denied=True)


def _of_key(lookup: KeyLookup) -> Result:
    states = {"usable": State.OK, "no_key": State.ABSENT, "bogus": State.BOGUS, "unreachable": State.UNREACHABLE}
    states |= {"insecure": State.INSECURE, "unusable_key": State.UNUSABLE}
    return Result(states.get(lookup.verdict.value, State.UNCLEAR), lookup.reason.text)
