"""What a survey needs from outside, as protocols; the command brings the adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from smilla.address import EmailAddress
from smilla.config.options import Circle
from smilla.hops.pkix import Authorities
from smilla.hops.policies import Fetch
from smilla.model import KeyLookup
from smilla.ports import Resolver


class Presented(Protocol):
    """What a server presents after STARTTLS; ``offered`` is None if it did not answer EHLO again."""

    @property
    def version(self) -> str:
        """Of TLS."""

    @property
    def cipher(self) -> str:
        """The cipher suite."""

    @property
    def raw_chain(self) -> tuple[bytes, ...]:
        """In DER, the server's own certificate first."""

    @property
    def offered(self) -> tuple[str, ...] | None:
        """The keywords of the reply to EHLO inside TLS, in capitals."""


@dataclass(frozen=True, slots=True)
class Outside:
    """``present(address, server_name)`` raises HopError, ``fetch(host, address)`` FetchError.  ``look_up`` searches the
    key of an address.  ``wait_s``: for so long the answers to one batch of questions are waited for.  The rest is
    what the configuration says: [keys] sources, what [policy] does for each verdict of a look-up, [hop] mta_sts, and
    each [[circle]] with its authorities, by ca_file."""

    resolver: Resolver
    present: Callable[[str, str], Presented]
    fetch: Fetch
    look_up: Callable[[EmailAddress], KeyLookup]
    authorities: Authorities
    now: datetime
    monotonic: Callable[[], float]
    wait_s: float
    port: int = 25
    days: int = 30
    sources: tuple[str, ...] = ()
    policy: Mapping[str, str] = field(default_factory=dict)
    mta_sts: str = "enforce"
    circles: tuple[Circle, ...] = ()
    in_circles: Mapping[str, Authorities] = field(default_factory=dict)
