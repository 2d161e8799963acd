"""What the stages need from outside, as protocols: the adapters implement them, tests replace them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from smilla.address import EmailAddress
from smilla.model import DNSAnswer, PGPKey, SourceAnswer


class Clock(Protocol):
    """Time, so that a test can choose it."""

    def now(self) -> datetime:
        """The instant, in UTC, by which keys are judged."""

    def monotonic(self) -> float:
        """Seconds that only grow, for deadlines."""


class PendingAnswer(Protocol):
    """A DNS question that is under way."""

    def result(self, deadline: float) -> DNSAnswer:
        """The answer; at ``deadline`` (monotonic seconds) at the latest one whose status is UNREACHABLE.
        Never raises for what a network or a name server can do."""


class Resolver(Protocol):
    """Authenticated DNS."""

    def ask(self, owner: str, rdtype: int) -> PendingAnswer:
        """Starts the question for ``owner`` (absolute, with final dot, in A-labels) and returns at once."""


@dataclass(frozen=True, slots=True)
class SourceQuestion:
    """A source that has been asked; ``answer(deadline)`` waits until then at most and raises nothing for what a
    network, a name server or a file can do."""

    source: str
    answer: Callable[[float], SourceAnswer]


@dataclass(frozen=True, slots=True)
class PendingLookup:
    """The search for one address's key, under way since ``asked_at`` (monotonic seconds)."""

    address: EmailAddress
    questions: tuple[SourceQuestion, ...]
    asked_at: float


class KeyFolder(Protocol):
    """The administrator's folder of keys."""

    def read(self, name: str) -> bytes | None:
        """The octets of the file of that name, None where there is none.  Raises SmillaError where it is there
        and cannot be read."""


class OpenPGPEngine(Protocol):
    """A program or library that writes OpenPGP messages."""

    name: str

    def encrypt(self, content: Iterable[bytes], keys: Sequence[PGPKey]) -> Iterator[bytes]:
        """One armoured OpenPGP message (SEIPDv1, and SEIPDv2 where every key
        is of version 6; binary literal data, uncompressed) for all ``keys``,
        as octets with CRLF line ends, in blocks.  Raises EncryptionError."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything outside, handed to ``pipeline.process``.

    ``raw_trust_store`` is the PEM of [smime] ca_file, ``raw_crls`` the octets of crl_file.  ``probe(timeout_s)`` asks
    every nameserver for something known to be signed: pairs of its name and what is wrong, "" where it validates.
    """

    clock: Clock
    resolver: Resolver
    folder: KeyFolder
    openpgp: OpenPGPEngine
    raw_trust_store: bytes = b""
    raw_crls: bytes = b""
    probe: Callable[[float], list[tuple[str, str]]] = lambda _: []
