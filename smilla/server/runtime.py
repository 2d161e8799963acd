"""Makes the real ports for a configuration: the one place where adapters are chosen."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from smilla.adapters import circles, https, openpgp, smtp_tls, stores
from smilla.adapters.clock import SystemClock
from smilla.adapters.folder import KeyDirectory, KeyFiles
from smilla.adapters.hop_store import HopStore
from smilla.adapters.journal import SQLiteJournal
from smilla.adapters.libunbound import ValidatingResolver
from smilla.adapters.pool import Pool
from smilla.adapters.postfix_lines import PostfixLines
from smilla.adapters.resolver import LoopbackResolver
from smilla.adapters.seal_keys import SealKeys
from smilla.adapters.smtp import Listener
from smilla.adapters.tls_server import ServerTLS
from smilla.address import EmailAddress
from smilla.config import Config
from smilla.config.options import KEY_FAILURES, RelayOptions
from smilla.errors import ConfigError, EngineMissing, FetchError, ParseError, SmillaError
from smilla.hops import mta_sts
from smilla.hops.policies import Fetched, Policies
from smilla.hops.search import Finder
from smilla.keys.discovery import cache, directory, finder, ldap, rule, wkd
from smilla.keys.discovery.network import Find, Network, Partial, counted
from smilla.keys.memory import Memory
from smilla.keys.validity import x509
from smilla.model import DNSAnswer, SourceAnswer
from smilla.ports import Metrics, NetworkSource, OpenPGPEngine, Ports, Resolver
from smilla.server.next_hop import NextHop

_FETCH_S, _KEY_S = 10.0, 6.0  # for one answer of a web server


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
        raw_trust_store=raw_authorities(config),
        raw_crls=raw_crls(config),
        metrics=metrics,
        hops=make_finder(config, caching, metrics) if needs_hops(config) else None,
        circles=circles.authorities(config.circle) if config.transport.circles else (),
        network=_make_network(config, caching, metrics),
        learned=stores.learned(config) if config.uses_learned else None,
        read_key_file=KeyFiles().read,
    )


def _make_network(config: Config, resolver: Resolver, metrics: Metrics) -> dict[str, NetworkSource]:
    """The sources that are asked over a network other than DNS."""
    network: dict[str, NetworkSource] = {}
    if "wkd" in config.keys.sources:
        web = KeyServer(config.keys.wkd_ca_file, resolver)
        _open(web, "[keys] wkd_ca_file")
        network["wkd"] = Network("wkd", counted(web.find, "wkd", metrics), Pool().start, config.dns)
    if "ldap" in config.keys.sources:
        find = counted(_in_directory(config), "ldap", metrics)
        asked = Network("ldap", find, Pool().start, config.dns, "ldap")
        network["ldap"] = Partial(asked, partial(ldap.unasked, options=config.ldap))
    return network


def make_directory(config: Config, timeout_s: float = _KEY_S) -> Any:
    """The adapters.ldap.Directory of [ldap].  Raises ConfigError or EngineMissing."""
    options = config.ldap
    try:
        adapter = importlib.import_module("smilla.adapters.ldap")  # its library may be missing
        return adapter.Directory(options.url, options.ca_file, ldap.ASKED, timeout_s)
    except ImportError as error:
        told = "pip install 'smilla[ldap]' (the Debian package has it)"
        raise EngineMissing(f"[keys] sources has ldap, which needs ldap3: {told}") from error
    except SmillaError as error:
        raise ConfigError([f"[ldap] {error}"]) from error


def _in_directory(config: Config) -> Find:
    """Asks the directory of [ldap].  Raises ConfigError or EngineMissing."""
    options, directory = config.ldap, make_directory(config)

    def search(text: str) -> ldap.Found:
        code, told, entries, is_referred = directory.search(options.base, text, options.bind_dn, options.password_file)
        return ldap.Found(code, told, entries, is_referred)

    return lambda address, _: ldap.find(address, options, search)


def make_next_hop(config: Config) -> NextHop:
    """The server to which the relay hands every copy.  Raises ConfigError."""
    options = config.relay
    try:
        context = smtp_tls.verifying(options.ca_file) if options.tls != "none" else None
    except SmillaError as error:
        raise ConfigError([f"[relay] ca_file {error}"]) from error
    return Listener(options.next_hop, options.timeout_s, options.tls, context, is_foreign=True)


def make_relay_tls(options: RelayOptions) -> ServerTLS | None:
    """The relay's own certificate, None if it has none.  Raises ConfigError."""
    try:
        return ServerTLS(options.tls_certificate, options.tls_key) if options.tls_certificate else None
    except SmillaError as error:
        raise ConfigError([f"[relay] tls_certificate {error}"]) from error.__cause__


def make_relay_ports(config: Config, next_hop: NextHop, metrics: Metrics | None = None) -> Ports:
    """The ports of the relay: every copy goes to the next hop, and there is a journal whatever [policy] mixed says.
    Raises ConfigError or EngineMissing."""
    return replace(
        make_ports(config, metrics),
        journal=SQLiteJournal(config.reinject.spool, config.reinject.remember_s),
        mailer=next_hop,
        secure_mailer=None,
        seal_keys=None,
        size_limit=next_hop.size_limit,
    )


def needs_hops(config: Config) -> bool:
    """May somebody ask for a verified hop?"""
    actions = [config.policy, *config.rule]
    wanted = any(getattr(one, name) == "secure-hop" for one in actions for name in KEY_FAILURES)
    return wanted or bool(config.circle) or config.hop.policy_server


def _open(server: PolicyServer | KeyServer, option: str) -> None:
    """Raises ConfigError, else nobody would be told that no server can be asked, and theirs would be blamed."""
    try:
        server.open()
    except FetchError as error:
        raise ConfigError([f"{option}: {error}"]) from error


def make_finder(
    config: Config, resolver: Resolver, metrics: Metrics | None = None, store: HopStore | None = None
) -> Finder:
    """What searches for verified hops; ``store`` in place of the usual one."""
    server = PolicyServer(config.hop.ca_file, metrics=metrics)
    _open(server, "[hop] ca_file")
    policies = Policies(store or stores.hops(config), server.fetch)
    return Finder(resolver, policies, config, metrics)


class PolicyServer:
    """The web server of an MTA-STS policy (RFC 8461 section 3.3)."""

    def __init__(
        self, ca_file: str, port: int = 443, timeout_s: float = _FETCH_S, metrics: Metrics | None = None
    ) -> None:
        self._ca_file, self._timeout_s, self._metrics = ca_file, timeout_s, metrics or Metrics()
        self._port = "" if port == 443 else f":{port}"
        self._client: https.Client | None = None

    def open(self) -> https.Client:
        """Reads the authorities, if that is still to be done.  Raises FetchError."""
        if self._client is None:
            self._client = https.Client(self._ca_file, self._timeout_s, mta_sts.LARGEST)
        return self._client

    def fetch(self, host: str, address: str) -> Fetched:
        """See hops.policies.Fetch."""
        began, result = time.monotonic(), "unreachable"
        try:
            found = self.open().request("GET", f"https://{host}{self._port}/.well-known/mta-sts.txt", {}, at=address)
            result = "found" if found.status == 200 else "unclear"
        finally:
            self._metrics.fetch("mta-sts", result, time.monotonic() - began)
        return Fetched(found.status, found.headers.get("content-type", ""), found.body)


class KeyServer:
    """The web servers of Web Key Directories."""

    def __init__(self, ca_file: str, resolver: Resolver) -> None:
        self._ca_file, self._resolver = ca_file, resolver
        self._client: https.Client | None = None
        self.has_answered = False  # some server, whatever it said
        self.failure: FetchError | None = None  # the last one

    def find(self, address: EmailAddress, deadline: float) -> SourceAnswer:
        """See keys.discovery.network.Find."""

        def ask(owner: str, rdtypes: Sequence[int]) -> list[DNSAnswer]:
            pending = [self._resolver.ask(owner, rdtype) for rdtype in rdtypes]
            return [one.result(deadline) for one in pending]

        return wkd.find(address, ask, partial(self._get, deadline))

    def open(self) -> https.Client:
        """Reads the authorities, if that is still to be done.  Raises FetchError."""
        if self._client is None:
            self._client = https.Client(self._ca_file, _KEY_S, wkd.LARGEST)
        return self._client

    def _get(self, deadline: float, host: str, target: str, address: str) -> wkd.Fetched:
        client = self.open().within(deadline - time.monotonic())
        try:
            found = client.request("GET", f"https://{host}{target}", {}, at=address)
        except FetchError as error:
            self.failure = error
            raise
        self.has_answered = True
        headers = found.headers
        return wkd.Fetched(found.status, headers.get("content-type", ""), found.body, headers.get("location", ""))


def _make_engine(config: Config) -> OpenPGPEngine:
    """If neither a source nor the key file of a rule has OpenPGP keys, no engine need be installed."""
    of_rules = (each.key for each in config.rule if each.key and (not each.formats or "openpgp" in each.formats))
    is_needed = any(finder.can_yield(source, ("openpgp",)) for source in config.keys.sources)
    if not is_needed and not any(map(rule.may_be_openpgp, of_rules)):
        return openpgp.NoEngine()
    hides = config.openpgp.hidden_recipients or any(each.hidden_recipients for each in config.rule)
    return openpgp.engine(config.openpgp.engine, config.spool.folder, hides=hides, sources=config.keys.sources)


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


def raw_authorities(config: Config) -> bytes:
    """The octets of [smime] ca_file, b"" without one.  Raises ConfigError."""
    return _read("ca_file", config.smime.ca_file, x509.load_trust_store)


def raw_crls(config: Config) -> bytes:
    """The octets of [smime] crl_file, b"" without one.  Raises ConfigError."""
    return _read("crl_file", config.smime.crl_file, x509.RevocationLists.load)


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
