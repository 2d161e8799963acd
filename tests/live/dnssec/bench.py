"""What a case is, and the bench on which cases put their zones, keys and servers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509

from smilla.address import parse
from smilla.config import Config
from smilla.config import parse as parse_config
from smilla.keys import lookup
from smilla.model import DNSSECStatus, KeyLookup, KeyVerdict
from smilla.ports import Ports
from tests.certificates import make_certificate
from tests.lab.dns import DNSLab, Kind, Zone
from tests.lab.servers import Behaviour, MisbehavingServer
from tests.openpgp_maker import packet, secret, subkey, user_id

if TYPE_CHECKING:
    from pathlib import Path

SECURE, INSECURE, BOGUS, INDETERMINATE, UNREACHABLE = DNSSECStatus
USABLE, NO_KEY, UNUSABLE = KeyVerdict.USABLE, KeyVerdict.NO_KEY, KeyVerdict.UNUSABLE_KEY
NOT_PROVEN, BAD, SILENCE = KeyVerdict.INSECURE, KeyVerdict.BOGUS, KeyVerdict.UNREACHABLE
UNCLEAR = KeyVerdict.UNCLEAR
# The contract's table, once more.
EXIT = {
    USABLE: 0,
    NO_KEY: 1,
    UNUSABLE: 1,
    NOT_PROVEN: 1,
    BAD: 75,
    SILENCE: 75,
    UNCLEAR: 75,
}
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
MADE = int((NOW - 300 * DAY).timestamp())


Put = Callable[["Bench"], object]
PutZone = Callable[["Bench"], Zone]


@dataclass(frozen=True)
class Expected:
    """The DNSSEC status (of the answer that decides) and the verdict."""

    status: DNSSECStatus | None
    verdict: KeyVerdict


@dataclass(frozen=True)
class Case:
    """One look-up.  ``says`` is the line that says what it tests; ``put`` puts what it needs on the bench.

    ``validate`` is what libunbound makes of it, where that differs; ``reason`` stands in the verdict's reason.
    """

    says: str
    address: str
    expected: Expected
    put: Put
    validate: Expected | None = None
    reason: str = ""

    @property
    def is_asked(self) -> bool:
        """Whether DNS is asked for the address at all."""
        return self.expected.status is not None


def case(
    says: str,
    address: str,
    status: DNSSECStatus | None,
    verdict: KeyVerdict,
    put: Put,
    **more: Any,
) -> Case:
    """A case in one line."""
    return Case(says, address, Expected(status, verdict), put, **more)


class Bench:
    """The laboratory with a non-validating resolver beside the validating one, and servers that misbehave."""

    def __init__(self, folder: Path) -> None:
        self.lab = DNSLab(folder)
        self.lab.with_plain_resolver = True
        self.servers: list[MisbehavingServer] = []

    def zone(self, name: str, kind: Kind = Kind.SECURE, **traits: Any) -> Zone:
        """The zone of that name, with these attributes of Zone set."""
        zone = self.lab.zone(name, kind)
        for trait, value in traits.items():
            setattr(zone, trait, value)
        return zone

    def served(self, name: str, behaviour: Behaviour, *, tcp: bool = True, kind: Kind = Kind.INSECURE) -> Zone:
        """A zone whose server behaves like that (and nsd has it too)."""
        server = MisbehavingServer(behaviour, tcp=tcp)
        self.servers.append(server)
        return self.zone(name, kind, ports=(server.port,))

    def start(self) -> None:
        """Starts the servers and the laboratory."""
        for server in self.servers:
            server.start()
        self.lab.start()

    def stop(self) -> None:
        """Ends both."""
        with contextlib.ExitStack() as stack:
            for server in self.servers:
                stack.callback(server.stop)
            stack.callback(self.lab.stop)

    def config(self, dnssec: str, *nameservers: str, trust_anchor: Path | None = None, **more: object) -> Config:
        """A configuration with these [dns] options; ``more`` are further ones of [dns]."""
        options = {"timeout_s": 10, "probe": "test.", **more}
        lines = [f"{name} = {_toml(value)}" for name, value in options.items()]
        servers = ", ".join(f'"{server}"' for server in nameservers)
        anchor = trust_anchor or self.lab.trust_anchor
        return parse_config(
            "\n".join(
                ("[dns]", f'dnssec = "{dnssec}"', f"nameservers = [{servers}]", f'trust_anchor = "{anchor}"', *lines)
            )
        )


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def look_up(address: str, ports: Ports, config: Config, now: datetime | None = None) -> KeyLookup:
    """``smilla lookup``, in process."""
    pending = lookup.begin(parse(address), ports, config)
    return lookup.finish(pending, pending.asked_at + config.dns.timeout_s, now or ports.clock.now(), ports)


def certificate(address: str | Sequence[str] = (), kind: str = "p256", **options: Any) -> bytes:
    """The DER of a certificate for the address, valid today unless ``options`` (of make_certificate) say otherwise."""
    options = {"not_before": NOW - 30 * DAY, "not_after": NOW + 30 * DAY, **options}
    return make_certificate(kind, email=address, **options)[1]


def padded_certificate(address: str, octets: int) -> bytes:
    """A certificate with a large extension that nobody knows."""
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), bytes(octets))
    return certificate(address, extensions=[(extension, False)])


PRIMARY = secret("eddsa", MADE)
START = packet(6, PRIMARY.body)
BOUND = subkey(PRIMARY, secret("cv25519", MADE), MADE)


def pgp_key(*user_ids: str) -> bytes:
    """A binary OpenPGP certificate with these user IDs."""
    return START + b"".join(user_id(PRIMARY, text, MADE) for text in user_ids) + BOUND
