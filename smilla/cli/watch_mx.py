"""``smilla watch --mx``: the mail servers of one's own domains, as a sender who asks for safe TLS meets them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from datetime import datetime

from smilla import address
from smilla.adapters import smtp_tls
from smilla.adapters.clock import SystemClock
from smilla.adapters.smtp_tls import Presented
from smilla.cli import EX_NO, EX_OK, EX_TEMPFAIL, UsageError, printable
from smilla.config import Config
from smilla.errors import AddressError, HopError
from smilla.hops import mx, rdata, tlsa
from smilla.hops.mx import UNTOLD, WELL, Finding, Part, State
from smilla.model import DNSAnswer
from smilla.server.runtime import make_resolver

_TIMEOUT_S = 30.0  # for the dialogue with one address


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is asked of mail servers."""
    parser.add_argument(
        "--mx", metavar="DOMAIN", action="append", default=[], help="look at this domain's mail servers instead of keys"
    )
    parser.add_argument("--port", metavar="N", type=int, default=25, help="the port of the mail servers (25)")


def run(options: argparse.Namespace, settings: Config) -> int:
    """Exit 0: all is well; 1: something is to be done; 75: nothing that is known, but some could not be told."""
    if options.address:
        raise UsageError("--mx looks at mail servers: give no addresses with it")
    if options.json or options.metrics:
        raise UsageError("--mx has neither --json nor --metrics yet")
    if not 0 < options.port < 65536:
        raise UsageError("--port: give a port from 1 to 65535")
    look = _Look(options, settings)
    found = [finding for domain in _domains(options.mx) for finding in look.at(domain)]
    for one in found:
        if one.state not in WELL or not options.quiet:
            print(printable(f"{one.subject}: {one.part.value} {one.state.value}: {one.text}"))
    return _exit_code(found)


def _exit_code(found: Sequence[Finding]) -> int:
    states = {one.state for one in found} - WELL
    if states - UNTOLD:
        return EX_NO
    return EX_TEMPFAIL if states else EX_OK


def _domains(texts: Sequence[str]) -> list[str]:
    """In A-labels, each once.  Raises UsageError."""
    try:
        return list(dict.fromkeys(address.parse(f"postmaster@{text}").domain for text in texts))
    except AddressError as error:
        raise UsageError(f"--mx: {error}") from error


class _Look:
    """Asks the resolver and the servers, one domain after the other."""

    def __init__(self, options: argparse.Namespace, settings: Config) -> None:
        self._days, self._port = options.days, options.port
        self._resolver, self._dns_s = make_resolver(settings), settings.dns.timeout_s
        self._now: datetime = SystemClock().now()

    def at(self, domain: str) -> list[Finding]:
        """All that is found about one domain."""
        finding, hosts = mx.exchanges(domain, *self._ask(f"{domain}.", rdata.MX))
        return [finding, *(one for host in hosts for one in self._host(domain, host))]

    def _host(self, domain: str, host: str) -> list[Finding]:
        found, addresses = mx.addresses(domain, host, self._ask(f"{host}.", rdata.A, rdata.AAAA))
        (answer,) = self._ask(f"_{self._port}._tcp.{host}.", rdata.TLSA)
        judgements = []
        for ip in addresses:
            subject = f"{host}[{ip}]"
            finding, presented = self._presented(domain, subject, host, ip)
            found.append(finding)
            if presented is None:
                continue
            judgements.append(tlsa.judge(answer, presented.raw_chain, [host, domain], self._now))
            found.append(mx.certificate(domain, subject, presented.raw_chain, self._now, self._days))
            found.append(mx.tlsa(domain, subject, answer, judgements[-1]))
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

    def _ask(self, owner: str, *rdtypes: int) -> list[DNSAnswer]:
        pending = [self._resolver.ask(owner, rdtype) for rdtype in rdtypes]
        deadline = time.monotonic() + self._dns_s
        return [one.result(deadline) for one in pending]
