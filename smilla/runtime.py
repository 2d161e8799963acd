"""Makes the real ports for a configuration: the one place where adapters are chosen."""

from __future__ import annotations

from pathlib import Path

from smilla.adapters import openpgp
from smilla.adapters.clock import SystemClock
from smilla.adapters.folder import KeyDirectory
from smilla.adapters.resolver import LoopbackResolver
from smilla.config import Config
from smilla.errors import ConfigError
from smilla.ports import Ports
from smilla.validity import x509


def make_ports(config: Config) -> Ports:
    """Ports that live as long as the configuration.  Raises ConfigError or EngineMissing."""
    return Ports(
        clock=SystemClock(),
        resolver=LoopbackResolver(config.dns.nameservers, config.dns.probe),
        folder=KeyDirectory(config.keys.directory),
        openpgp=openpgp.engine(config.openpgp.engine),
        raw_trust_store=_trust_store(config.smime.ca_file),
    )


def _trust_store(path: str) -> bytes:
    if not path:
        return b""
    try:
        raw = Path(path).read_bytes()
        x509.load_trust_store(raw)
    except (OSError, ValueError) as error:
        raise ConfigError([f"[smime] ca_file {path}: {error}"]) from error
    return raw
