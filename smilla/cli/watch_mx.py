"""``smilla watch --mx``: the mail servers of one's own domains, as a sender who asks for safe TLS meets them."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from smilla.adapters import new_file, smtp_tls
from smilla.adapters.clock import SystemClock
from smilla.adapters.smtp_tls import Presented
from smilla.cli import EX_NO, EX_OK, EX_TEMPFAIL, UsageError, address_list, printable, together
from smilla.cli.progress import Progress
from smilla.cli.watch_mail import MX, Summary, send
from smilla.config import Config
from smilla.errors import AddressError, FetchError, HopError
from smilla.hops import mx, policy_server, rdata, tlsa, tlsa_base
from smilla.hops.mta_sts import Mode, Policy
from smilla.hops.mx import UNTOLD, WELL, Finding, Part, State
from smilla.model import DNSAnswer
from smilla.server.runtime import PolicyServer, make_resolver

_TIMEOUT_S = 30.0  # for the dialogue with one address
_FETCH_S = 60.0  # for a policy (RFC 8461 section 3.3)
_OWN = ""  # --mx without a domain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is asked of mail servers."""
    parser.add_argument(
        "--mx",
        metavar="DOMAIN",
        action="append",
        nargs="?",
        const=_OWN,
        default=[],
        help="look at this domain's mail servers instead of keys; those of local_domains if none is named",
    )
    parser.add_argument("--port", metavar="N", type=int, default=25, help="the port of the mail servers (25)")
    parser.add_argument(
        "--https-port", metavar="N", type=int, default=443, help="the port of the MTA-STS policy's server (443)"
    )
    parser.add_argument("--ca-file", metavar="FILE", default="", help="authorities for MTA-STS, not the system's")


def run(options: argparse.Namespace, settings: Config) -> int:
    """Exit 0: all is well; 1: something is to be done; 75: nothing that is known, but some could not be told."""
    if options.address or options.file is not None:
        raise UsageError("--mx looks at mail servers: give no addresses with it")
    for name, port in (("--port", options.port), ("--https-port", options.https_port)):
        if not 0 < port < 65536:
            raise UsageError(f"{name}: give a port from 1 to 65535")
    look = _Look(options, settings)
    domains = _domains(options.mx, settings)
    looked = together.each(domains, look.at, lambda domain: domain, Progress(is_wanted=not options.quiet))
    found = [finding for findings in looked for finding in findings]
    if options.metrics:
        new_file.replace(Path(options.metrics), _metrics(found, look.now).encode("ascii"))
    shown = [one for one in found if one.state not in WELL or not options.quiet]
    if options.json:
        print(json.dumps([_as_json(one) for one in shown], indent=2, ensure_ascii=False))
    else:
        for one in shown:
            print(printable(_in_words(one)))
    return _exit_code(found) if not options.mail or _mailed(found, options, settings, look.now) else EX_TEMPFAIL


def _in_words(one: Finding) -> str:
    return f"{one.subject}: {one.part.value} {one.state.value}: {one.text}"


def _mailed(found: Sequence[Finding], options: argparse.Namespace, settings: Config, now: datetime) -> bool:
    """Without the text, which counts the days that are left."""
    todo = [one for one in found if one.state not in WELL]
    facts = [f"{one.domain} {one.subject} {one.part.value} {one.state.value} {one.ends_at or ''}" for one in todo]
    return send(Summary(MX, [_in_words(one) for one in todo], facts), options, settings, now)


def _as_json(one: Finding) -> dict[str, object]:
    return asdict(one) | {"ends_at": one.ends_at.isoformat() if one.ends_at else None}


def _metrics(found: Sequence[Finding], now: datetime) -> str:
    """Counts, never a domain or a host.  The end of the certificate that ends first is left out if none was seen."""
    counts = Counter((one.part, one.state) for one in found)
    ends = [one.ends_at.timestamp() for one in found if one.ends_at]
    lines = [
        "# HELP smilla_watch_mx_findings What was found about the mail servers, by what was looked at and its state.",
        "# TYPE smilla_watch_mx_findings gauge",
        *(
            f'smilla_watch_mx_findings{{part="{part.value}",state="{state.value}"}} {counts[part, state]}'
            for part in Part
            for state in State
        ),
        "# HELP smilla_watch_mx_certificate_end_timestamp_seconds When the first of the certificates ends.",
        "# TYPE smilla_watch_mx_certificate_end_timestamp_seconds gauge",
        *([f"smilla_watch_mx_certificate_end_timestamp_seconds {min(ends):.0f}"] if ends else []),
        "# HELP smilla_watch_mx_timestamp_seconds When smilla watch last looked at the mail servers.",
        "# TYPE smilla_watch_mx_timestamp_seconds gauge",
        f"smilla_watch_mx_timestamp_seconds {now.timestamp():.0f}",
    ]
    return "\n".join(lines) + "\n"


def _exit_code(found: Sequence[Finding]) -> int:
    states = {one.state for one in found} - WELL
    if states - UNTOLD:
        return EX_NO
    return EX_TEMPFAIL if states else EX_OK


def _domains(texts: Sequence[str], settings: Config) -> list[str]:
    """In A-labels, each once.  Raises UsageError."""
    named = [text for text in texts if text != _OWN]
    if len(named) < len(texts):
        own = [name for name in settings.local_domains if not set(name) & set("*?[")]
        if not own:
            raise UsageError("local_domains names no domain, patterns apart: give --mx DOMAIN")
        named += own
    try:
        return list(dict.fromkeys(address_list.postmaster(text).domain for text in named))
    except AddressError as error:
        raise UsageError(f"--mx: {error}") from error


class _Look:
    """Asks the resolver and the servers about one domain; several threads may, each about another one."""

    def __init__(self, options: argparse.Namespace, settings: Config) -> None:
        self._days, self._port = options.days, options.port
        self._resolver, self._dns_s = make_resolver(settings), settings.dns.timeout_s
        self.now = SystemClock().now()
        self._ca_file = options.ca_file
        self._web = PolicyServer(options.ca_file, options.https_port, _FETCH_S)
        try:
            self._web.open()
        except FetchError as error:
            raise UsageError(f"--ca-file: {error}") from error

    def at(self, domain: str) -> list[Finding]:
        """All that is found about one domain."""
        finding, hosts = mx.exchanges(domain, *self._ask(f"{domain}.", rdata.MX))
        about, policy = self._policy(domain, hosts)
        return [finding, about, *(one for host in hosts for one in self._host(domain, host, policy))]

    def _host(self, domain: str, host: str, policy: Policy | None) -> list[Finding]:
        answers = self._ask(f"{host}.", rdata.A, rdata.AAAA)
        found, addresses = mx.addresses(domain, host, answers)
        located = tlsa_base.locate(host, self._port, answers, self._answer)
        answer, judgements = tlsa_base.published(host, self._port, located, self._answer), []
        for ip in addresses:
            subject = f"{host}[{ip}]"
            finding, presented = self._presented(domain, subject, located.base, ip)
            found.append(finding)
            if presented is None:
                continue
            judgements.append(tlsa.judge(answer, presented.raw_chain, [located.base, domain], self.now))
            found.append(mx.certificate(domain, subject, presented.raw_chain, self.now, self._days))
            judged = mx.tlsa(domain, subject, answer, judgements[-1])
            found.append(mx.of_alias(judged, host, located.base))
            if policy and policy.mode is not Mode.NONE:
                found.append(self._verified(domain, subject, host, ip))
        following = mx.next_key(domain, host, judgements)
        return [*found, following] if following else found

    def _presented(self, domain: str, subject: str, host: str, ip: str) -> tuple[Finding, Presented | None]:
        try:
            found = smtp_tls.starttls(ip, self._port, host, _TIMEOUT_S)
        except HopError as error:
            is_missing = error.code == "no_starttls"
            state = State.MISSING if is_missing else State.UNREACHABLE
            text = f"{error}; {'switch TLS on' if is_missing else 'look whether the server runs and can be reached'}"
            return Finding(domain, subject, Part.STARTTLS, state, text), None
        text = f"{found.version} {found.cipher}, {len(found.raw_chain)} certificates"
        return Finding(domain, subject, Part.STARTTLS, State.OK, text), found

    def _verified(self, domain: str, subject: str, host: str, ip: str) -> Finding:
        try:
            smtp_tls.verify(ip, self._port, host, _TIMEOUT_S, self._ca_file)
        except HopError as error:
            return mx.verified(domain, subject, str(error), is_told=error.code == "untrusted")
        return mx.verified(domain, subject, "")

    def _policy(self, domain: str, hosts: Sequence[str]) -> tuple[Finding, Policy | None]:
        (announced,) = self._ask(f"_mta-sts.{domain}.", rdata.TXT)
        if finding := mx.announcement(domain, announced):
            return finding, None
        name = policy_server.name_of(domain)
        fault, addresses = policy_server.located(domain, self._ask(f"{name}.", rdata.A, rdata.AAAA))
        return (fault, None) if fault else policy_server.fetched(domain, addresses, self._web.fetch, hosts)

    def _answer(self, owner: str, rdtype: int) -> DNSAnswer:
        return self._ask(owner, rdtype)[0]

    def _ask(self, owner: str, *rdtypes: int) -> list[DNSAnswer]:
        pending = [self._resolver.ask(owner, rdtype) for rdtype in rdtypes]
        deadline = time.monotonic() + self._dns_s
        return [one.result(deadline) for one in pending]
