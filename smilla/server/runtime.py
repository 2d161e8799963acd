"""Makes the real ports for a configuration: the one place where adapters are chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from smilla.adapters import circles, https, openpgp
from smilla.adapters.clock import SystemClock
from smilla.adapters.folder import KeyDirectory
from smilla.adapters.hop_store import HopStore
from smilla.adapters.journal import SQLiteJournal
from smilla.adapters.libunbound import ValidatingResolver
from smilla.adapters.postfix_lines import PostfixLines
from smilla.adapters.resolver import LoopbackResolver
from smilla.adapters.seal_keys import SealKeys
from smilla.adapters.smtp import Listener
from smilla.config import Config
from smilla.config.options import KEY_FAILURES
from smilla.errors import ConfigError, EngineMissing, ParseError, SmillaError
from smilla.hops import mta_sts
from smilla.hops.policies import Fetched, Policies
from smilla.hops.search import Finder
from smilla.keys.discovery import cache, directory, finder
from smilla.keys.memory import Memory
from smilla.keys.validity import x509
from smilla.ports import Metrics, OpenPGPEngine, Ports, Resolver

_FETCH_S = 10.0


def make_ports(config: Config, metrics: Metrics | None = None) -> Ports:
    """The ports, which live as long as the configuration; only ``metrics`` outlive it.  Raises ConfigError or
    EngineMissing."""
    metrics = metrics or Metrics()
    resolver = make_resolver(config, metrics)
    seal_keys = SealKeys(config.stage.keys)
    has_stage = config.may_seal or seal_keys.exist()
    splits = has_stage or config.may_split
    lines = PostfixLines(config.stage)
    caching = cache.CachingResolver(resolver, config.dns, metrics)
    return Ports(
        clock=SystemClock(),
        resolver=caching,
        judgements=Memory(config.dns.cache_entries, cache.octets(config.dns)),
        folder=KeyDirectory(config.keys.directory, directory.address_of),
        openpgp=_make_engine(config),
        probe=resolver.probe,
        journal=SQLiteJournal(config.reinject.spool, config.reinject.remember_s) if splits else None,
        mailer=Listener(config.reinject.smtp, config.reinject.timeout_s) if splits else None,
        secure_mailer=Listener(config.reinject.secure_smtp, config.reinject.timeout_s) if has_stage else None,
        seal_keys=seal_keys if has_stage else None,
        stage_problem=lines.problem,
        size_limit=lines.size_limit,
        raw_trust_store=_read("ca_file", config.smime.ca_file, x509.load_trust_store),
        raw_crls=_read("crl_file", config.smime.crl_file, x509.RevocationLists.load),
        metrics=metrics,
        hops=make_finder(config, caching, metrics) if needs_hops(config) else None,
        circles=circles.authorities(config.circle) if config.transport.circles else (),
    )


def needs_hops(config: Config) -> bool:
    """May somebody ask for a verified hop?"""
    actions = [config.policy, *config.rule]
    wanted = any(getattr(one, name) == "secure-hop" for one in actions for name in KEY_FAILURES)
    return wanted or bool(config.circle) or config.hop.policy_server


def make_finder(
    config: Config, resolver: Resolver, metrics: Metrics | None = None, store: HopStore | None = None
) -> Finder:
    """What searches for verified hops; ``store`` in place of the usual one."""
    policies = Policies(store or HopStore(config.hop_store), PolicyServer(config.hop.ca_file).fetch)
    return Finder(resolver, policies, config, metrics)


class PolicyServer:
    """The web server of an MTA-STS policy (RFC 8461 section 3.3)."""

    def __init__(self, ca_file: str, port: int = 443, timeout_s: float = _FETCH_S) -> None:
        self._ca_file, self._timeout_s = ca_file, timeout_s
        self._port = "" if port == 443 else f":{port}"
        self._client: https.Client | None = None

    def open(self) -> https.Client:
        """Reads the authorities, if that is still to be done.  Raises FetchError."""
        if self._client is None:
            self._client = https.Client(self._ca_file, self._timeout_s, mta_sts.LARGEST)
        return self._client

    def fetch(self, host: str, address: str) -> Fetched:
        """See hops.policies.Fetch."""
        found = self.open().request("GET", f"https://{host}{self._port}/.well-known/mta-sts.txt", {}, at=address)
        return Fetched(found.status, found.headers.get("content-type", ""), found.body)


def _make_engine(config: Config) -> OpenPGPEngine:
    """If no source has OpenPGP keys, no engine need be installed."""
    if not any(finder.can_yield(source, ("openpgp",)) for source in config.keys.sources):
        return openpgp.NoEngine()
    hides = config.openpgp.hidden_recipients or any(rule.hidden_recipients for rule in config.rule)
    return openpgp.engine(config.openpgp.engine, config.spool.folder, hides=hides)


def make_resolver(config: Config, metrics: Metrics | None = None) -> LoopbackResolver | ValidatingResolver:
    """The resolver that [dns] asks for.  Raises ConfigError or EngineMissing."""
    options = config.dns
    if options.dnssec == "resolver":
        return LoopbackResolver(options.nameservers, options.probe, metrics)
    try:
        return ValidatingResolver(options.nameservers, options.trust_anchor, options.probe, metrics)
    except EngineMissing:
        raise
    except SmillaError as error:
        raise ConfigError([str(error)]) from error


def _read(option: str, path: str, load: Callable[[bytes], object]) -> bytes:
    """The octets of a file named in [smime]; ``load`` must be able to read them.  Raises ConfigError."""
    if not path:
        return b""
    try:
        raw = Path(path).read_bytes()
        load(raw)
    except (OSError, ParseError) as error:
        raise ConfigError([f"[smime] {option} {path}: {error}"]) from error
    return raw
