"""Do the resolvers validate, is there room for all our questions, and is the clock right?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from smilla import log
from smilla.adapters import unbound
from smilla.adapters.resolver import LoopbackResolver
from smilla.config import Config
from smilla.config.options import WITHOUT_RESOLVER
from smilla.config.values import nameserver
from smilla.doctor.finding import Finding, Kind, error, fine, hint
from smilla.server import listener
from smilla.server.runtime import make_resolver

_CONNECTIONS = 6  # that one worker opens to a nameserver, at most
_START = "start the validating resolver (systemctl start unbound), or correct [dns] nameservers"
_DOWN = "smilla cannot ask for any key"
_UNPROVEN = "without validation nobody can tell that no key is published"
_DEFERRED, _OBSERVED = "so mail is deferred", "so mail would be deferred if smilla did more than observe"
_ANCHOR = (
    "let it validate (unbound: auto-trust-anchor-file, and no val-permissive-mode or module-config without validator)"
)
_SERVFAIL = (
    "can it reach the root servers (port 53 to the Internet)? if not, let it forward to a resolver that passes DNSSEC "
    "on (forward-zone in unbound.conf(5)); is the clock right? is root.key current?"
)
_PERMISSIVE = "server: val-permissive-mode: no, in unbound.conf; then unbound-control reload"
_BELIEVED = "what is forged or broken looks like an unsigned zone, so mail to people who have keys leaves in plaintext"
_OFF = "signatures look expired or not valid yet, so mail is deferred, and expired keys may look valid"


def problems(settings: Config) -> Iterator[Finding]:
    """Nothing if all keys come from elsewhere."""
    if set(settings.keys.sources) <= set(WITHOUT_RESOLVER):
        yield fine(Kind.RESOLVER, "resolver", "not needed, because all keys come from the directory")
        return
    log.silence()
    resolver = make_resolver(settings)
    validates = True
    for name, problem in resolver.probe(settings.dns.timeout_s):
        if not problem:
            yield fine(Kind.RESOLVER, name, f"validates ({settings.dns.probe})")
            continue
        validates = False
        yield _of_server("" if name in problem else name, name, problem, settings)
    signed = resolver.signed_between(settings.dns.timeout_s) if isinstance(resolver, LoopbackResolver) else None
    yield from clock(time.time(), signed, unbound.clock_is_kept())
    yield from _permissive(settings)
    if validates:
        yield from _room(settings)


def advice(problem: str) -> str:
    """What to do about a resolver of which this is told."""
    if "SERVFAIL" in problem:
        return _SERVFAIL
    if unbound.is_installed():
        return _START
    return "apt-get install unbound dns-root-data"


def _of_server(subject: str, name: str, problem: str, settings: Config) -> Finding:
    """A server to which nobody can connect is down; every other one does not prove that it validates."""
    host, _, port = name.partition("@")
    then = _OBSERVED if settings.observe else _DEFERRED
    if port and not listener.can_connect(f"inet:{port}@{host}"):
        what = f"{problem}: nobody takes connections there"
        return error(Kind.RESOLVER_DOWN, subject, what, advice(problem), f"{_DOWN}, {then}")
    if port and "SERVFAIL" in problem:
        what = f'{name} answers SERVFAIL: it runs, but cannot prove "{settings.dns.probe}"'
        return error(Kind.RESOLVER_NOT_VALIDATING, "", what, _SERVFAIL, f"{_UNPROVEN}, {then}")
    return error(Kind.RESOLVER_NOT_VALIDATING, subject, problem, _ANCHOR, f"{_UNPROVEN}, {then}")


def clock(now: float, signed: tuple[int, int] | None, is_kept: bool | None) -> Iterator[Finding]:
    """The clock beside the signature of the probe, which is made anew before it ends."""
    if signed is not None and not signed[0] <= now <= signed[1]:
        when = f"the signature of the probe holds from {_date(signed[0])} to {_date(signed[1])}"
        mend = "set the clock (timedatectl set-ntp true); if it is right, the zone's signature is out of date"
        yield error(Kind.CLOCK, "clock", f"says {_date(now)}, but {when}", mend, _OFF)
    elif is_kept is False:
        mend = "if nothing else keeps it, timedatectl set-ntp true"
        yield hint(Kind.CLOCK, "clock", "the kernel says that nothing keeps it synchronised", mend)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _permissive(settings: Config) -> Iterator[Finding]:
    """With val-permissive-mode unbound sets the AD bit as usual, so the probe sees nothing; but it answers what is
    bogus as if it were unsigned, which nobody can tell from outside."""
    if settings.dns.dnssec == "resolver" and unbound.option("val-permissive-mode") == "yes" and _is_asked(settings):
        what = "val-permissive-mode is on: it hands out bogus answers as if they were unsigned"
        yield error(Kind.RESOLVER_NOT_VALIDATING, "unbound", what, _PERMISSIVE, _BELIEVED)


def _is_asked(settings: Config) -> bool:
    """Does this machine's unbound listen on one of the ports?  An interface may have a port of its own."""
    ports = {nameserver(text)[1] for text in settings.dns.nameservers}
    own = (line.partition("@")[2] for line in unbound.option("interface").split())
    return not ports.isdisjoint(int(text) for text in (unbound.option("port"), *own) if text.isdecimal())


def _room(settings: Config) -> Iterator[Finding]:
    """unbound closes connections beyond incoming-num-tcp, for each of its threads."""
    ports = {nameserver(text)[1] for text in settings.dns.nameservers}
    said = {name: unbound.option(name) for name in ("port", "incoming-num-tcp", "num-threads")}
    if settings.dns.dnssec != "resolver" or not all(text.isdecimal() for text in said.values()):
        return
    wanted = (settings.milter.workers or os.cpu_count() or 1) * _CONNECTIONS
    threads = max(1, int(said["num-threads"]))
    if int(said["port"]) in ports and int(said["incoming-num-tcp"]) * threads < wanted:
        what = f"incoming-num-tcp is {said['incoming-num-tcp']}, but smilla's workers open up to {wanted} connections"
        mend = f"server: incoming-num-tcp: {max(100, wanted)}, in unbound.conf"
        yield hint(Kind.RESOLVER_TCP, "unbound", what, mend, "under load it closes connections that still wait")
