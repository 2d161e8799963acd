"""``smilla survey``: how smilla would send to strangers' domains, and what they have for safe mail."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

from smilla import address, config, log
from smilla.adapters import smtp_tls
from smilla.adapters.clock import SystemClock
from smilla.address import EmailAddress
from smilla.cli import UsageError, address_list, surveying, with_config
from smilla.config import Config
from smilla.config.options import Circle
from smilla.errors import AddressError, EngineMissing, FetchError, HopError, ParseError
from smilla.hops import verified
from smilla.hops.pkix import Authorities
from smilla.keys import lookup
from smilla.model import KeyLookup
from smilla.server.runtime import PolicyServer, make_ports, make_resolver
from smilla.survey.look import Asked
from smilla.survey.outside import Outside

_TIMEOUT_S, _LONGEST_S = 30, 600
_THREADS, _MOST_THREADS = 32, 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla survey`` takes."""
    with_config(parser)
    parser.add_argument(
        "-f", "--file", metavar="FILE", help='domains or addresses, one a line; # begins a comment; "-": standard input'
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("-v", "--full", action="store_true", help="all that was found, not one line a domain")
    shown.add_argument("--json", action="store_true", help="one JSON object a line, for each domain")
    parser.add_argument("--html", metavar="FILE", help="also write a report with plots and tables")
    parser.add_argument("--resume", metavar="FILE", help="keep results there, and ask about none that it has")
    parser.add_argument("--quiet", action="store_true", help="no progress, no results; for --html and --resume")
    parser.add_argument("--days", metavar="N", type=int, default=30, help="a certificate ends soon within N days (30)")
    parser.add_argument("--port", metavar="N", type=int, default=25, help="the port of the mail servers (25)")
    parser.add_argument(
        "--https-port", metavar="N", type=int, default=443, help="the port of the MTA-STS policies' servers (443)"
    )
    parser.add_argument("--ca-file", metavar="FILE", default="", help="authorities, not those of [hop] ca_file")
    parser.add_argument("--ehlo", metavar="NAME", default="", help="what we call ourselves (this machine's name)")
    parser.add_argument(
        "--timeout",
        metavar="S",
        type=int,
        default=_TIMEOUT_S,
        help=f"how long to wait for a server, in seconds ({_TIMEOUT_S})",
    )
    parser.add_argument("--parallel", metavar="N", type=int, default=_THREADS, help=f"connections at once ({_THREADS})")
    parser.add_argument("domain", metavar="DOMAIN", nargs="*", help="a domain, or an address, whose key is looked up")


def run(options: argparse.Namespace) -> int:
    """Exit 0: it can be said of every domain; 75: of some it cannot, or outgoing connections seem to be blocked."""
    _check(options)
    asked = address_list.each(options.domain, options.file, _asked)
    if not asked:
        raise UsageError("give domains or addresses, or -f FILE")
    if options.html and find_spec("jinja2") is None:
        raise EngineMissing("--html needs jinja2: pip install 'smilla[web]' (the Debian package has it)")
    settings = config.load(Path(options.config))
    log.silence()
    return surveying.run(options, asked, _outside(options, settings, asked))


def _check(options: argparse.Namespace) -> None:
    bounds = (("port", 1, 65535), ("https_port", 1, 65535), ("timeout", 1, _LONGEST_S), ("parallel", 1, _MOST_THREADS))
    for name, least, most in (*bounds, ("days", 0, 36500)):
        if not least <= getattr(options, name) <= most:
            raise UsageError(f"--{name.replace('_', '-')}: give a number from {least} to {most}")
    if not options.ehlo.isascii() or not options.ehlo.isprintable() or " " in options.ehlo:
        raise UsageError("--ehlo: give a host's name")


def _asked(text: str) -> Asked:
    """Raises AddressError."""
    one = address.parse(text) if "@" in text else address_list.postmaster(text)
    if not verified.HOST.fullmatch(one.domain):
        raise AddressError(f"{text[:80]!r}: {one.domain[:80]!r} is no domain name")
    return Asked(str(one), one.domain, one) if "@" in text else Asked(one.domain, one.domain)


def _outside(options: argparse.Namespace, settings: Config, asked: list[Asked]) -> Outside:
    """Raises UsageError or ConfigError."""
    ca_file = options.ca_file or settings.hop.ca_file
    try:
        authorities = Authorities(Path(ca_file).read_bytes())
        web = PolicyServer(ca_file, options.https_port, options.timeout)
        web.open()
    except (OSError, ParseError, FetchError) as error:
        raise UsageError(f"{ca_file}: {error}; --ca-file names another one") from error
    own_name = options.ehlo or smtp_tls.own_host_name()
    wait_s = max(settings.dns.timeout_s, float(options.timeout))
    return Outside(
        resolver=make_resolver(settings),
        present=lambda ip, name: smtp_tls.survey(ip, options.port, name, options.timeout, own_name),
        fetch=web.fetch,
        look_up=_look_up(settings, wait_s) if any(one.address for one in asked) else _not_asked,
        authorities=authorities,
        now=SystemClock().now(),
        monotonic=time.monotonic,
        wait_s=wait_s,
        port=options.port,
        days=options.days,
        sources=settings.keys.sources,
        mta_sts=settings.hop.mta_sts,
        circles=settings.circle,
        in_circles={circle.ca_file: _of_circle(circle) for circle in settings.circle},
        policy={one.name: str(getattr(settings.policy, one.name)) for one in fields(settings.policy)},
    )


def _of_circle(circle: Circle) -> Authorities:
    """Raises UsageError."""
    try:
        return Authorities(Path(circle.ca_file).read_bytes())
    except (OSError, ParseError) as error:
        raise UsageError(f"[[circle]] {circle.name}, ca_file {circle.ca_file}: {error}") from error


def _look_up(settings: Config, wait_s: float) -> Callable[[EmailAddress], KeyLookup]:
    ports = make_ports(settings)

    def look_up(one: EmailAddress) -> KeyLookup:
        pending = lookup.begin(one.completed(settings.append_domain), ports, settings)
        return lookup.finish(pending, pending.asked_at + wait_s, ports.clock.now(), ports)

    return look_up


def _not_asked(one: EmailAddress) -> KeyLookup:
    raise HopError(f"{one}: no address was given", code="internal")
