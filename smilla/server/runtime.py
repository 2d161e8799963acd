"""Makes the real ports for a configuration: the one place where adapters are chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from smilla.adapters import openpgp
from smilla.adapters.clock import SystemClock
from smilla.adapters.folder import KeyDirectory
from smilla.adapters.journal import SQLiteJournal
from smilla.adapters.libunbound import ValidatingResolver
from smilla.adapters.postfix_lines import PostfixLines
from smilla.adapters.resolver import LoopbackResolver
from smilla.adapters.seal_keys import SealKeys
from smilla.adapters.smtp import Listener
from smilla.config import Config
from smilla.errors import ConfigError, EngineMissing, ParseError, SmillaError
from smilla.keys.discovery import cache, directory, finder
from smilla.keys.memory import Memory
from smilla.keys.validity import x509
from smilla.ports import Metrics, OpenPGPEngine, Ports


def make_ports(config: Config, metrics: Metrics | None = None) -> Ports:
    """The ports, which live as long as the configuration; only ``metrics`` outlive it.  Raises ConfigError or
    EngineMissing."""
    metrics = metrics or Metrics()
    resolver = make_resolver(config, metrics)
    seal_keys = SealKeys(config.stage.keys)
    has_stage = config.may_seal or seal_keys.exist()
    splits = has_stage or config.may_split
    lines = PostfixLines(config.stage)
    return Ports(
        clock=SystemClock(),
        resolver=cache.CachingResolver(resolver, config.dns, metrics),
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
    )


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
