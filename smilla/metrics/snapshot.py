"""What smilla knows of itself at one moment: for ``smilla status``, ``smilla top`` and the status page.

Counts in all fields are since smilla started, except in ``minutes`` and ``tens``.  Instants are seconds since 1970.
No field has an address; only ``domains`` has domains, and it is empty unless somebody asked for it.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

from smilla.errors import SmillaError

VERSION = 1  # of the JSON; a reader refuses any other
MINUTES, MINUTE_S = 60, 60
TENS, TEN_S = 144, 600
# what went on; already-sent has been counted before, sealed will be
DELIVERED = ("encrypted", "unchanged", "secure-hop", "plain")
PROTECTED = ("encrypted", "unchanged")  # unchanged is what came encrypted
BOUND = ("secure-hop",)  # as it came, over a verified hop only
FAILED = ("deferred", "refused", "held")
_JUST_NOW = 5  # minutes


class SnapshotError(SmillaError):
    """What was read is no snapshot of this version."""


@dataclass(frozen=True, slots=True)
class Count:
    """Recipients with one fate.  ``action`` is the event of the log (encrypted, deferred …), ``reason`` its reason.
    ``observed``: smilla only observes, so this would have happened, and the mail went on as it was."""

    action: str
    reason: str
    recipients: int
    observed: bool = False


@dataclass(frozen=True, slots=True)
class Slot:
    """The counts of one minute, or of ten, from ``began_at``; the last one is not over yet."""

    began_at: int
    counts: tuple[Count, ...] = ()


@dataclass(frozen=True, slots=True)
class DomainCount:
    """The recipients of one domain within the last day, by action."""

    domain: str
    action: str
    recipients: int


@dataclass(frozen=True, slots=True)
class Workers:
    """Processes that answer the MTA: how many the configuration asks for, run now, and have died since the start.  The
    stage's and the status page's count, too."""

    wanted: int = 0
    running: int = 0
    died: int = 0


@dataclass(frozen=True, slots=True)
class Resolver:
    """How many nameservers the workers asked for a proof that they validate, and how many gave it.  If workers differ,
    the worst counts.  ``asked`` is 0 until the first probe, and if no source is in DNS."""

    asked: int = 0
    proven: int = 0


@dataclass(frozen=True, slots=True)
class Journal:
    """Messages with copies owed (``unfinished``), the copies ``owed``, and those of ``unknown`` acceptance; the age of
    the oldest such message.  ``problem``: why the journal cannot be read; then the numbers are of no use."""

    unfinished: int = 0
    owed: int = 0
    unknown: int = 0
    oldest_s: float = 0.0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """Whether messages may be sealed at all (``used``), why nothing is sealed now (``problem``, "" if the gate is
    open), and the seal keys: how many, and when the newest was made (0 if there is none)."""

    used: bool = False
    problem: str = ""
    keys: int = 0
    newest_key_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Latency:
    """How long something took: how often, seconds together, and the medians and 95th percentiles in seconds, which are
    the upper bounds of histogram buckets.  ``of`` is message (the end of a message), encryption, lookup or fetch
    (from a web server or a directory)."""

    of: str
    count: int
    total_s: float
    p50_s: float
    p95_s: float


@dataclass(frozen=True, slots=True)
class Expiring:
    """Keys used for encryption within the last week that end within ``days`` days (rounded down; 0: today)."""

    days: int
    keys: int


@dataclass(frozen=True, slots=True)
class Cache:
    """DNS answers remembered: questions answered from memory and not, since the start; entries and octets now."""

    hits: int = 0
    misses: int = 0
    entries: int = 0
    octets: int = 0


@dataclass(frozen=True, slots=True)
class Reloads:
    """Reloads that took the new configuration, those that did not, and whether the last one did not.  The file was last
    read for one that did at ``read_at``; 0: never since the start."""

    done: int = 0
    failed: int = 0
    last_failed: bool = False
    read_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Decryption:
    """What smilla decrypt did since its start: recipients whose mail was ``decrypted`` (or would have been, while it
    observes), those whose mail was left encrypted, by reason, and the signatures found, by result."""

    decrypted: int = 0
    left: tuple[tuple[str, int], ...] = ()
    signatures: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at ``taken_at``.  ``minutes`` has the last hour, ``tens`` the last day in steps of ten minutes: the
    oldest first, without gaps, the current one last.  ``replies`` counts messages by the code of the reply ("250" for
    accept).  ``spool_octets`` lie in files of [spool] folder now."""

    version: str
    taken_at: float
    started_at: float
    observing: bool
    workers: Workers = Workers()
    resolver: Resolver = Resolver()
    journal: Journal = Journal()
    stage: Stage = Stage()
    reloads: Reloads = Reloads()
    cache: Cache = Cache()
    spool_octets: int = 0
    latencies: tuple[Latency, ...] = ()
    expiring: tuple[Expiring, ...] = ()
    replies: tuple[tuple[str, int], ...] = ()
    minutes: tuple[Slot, ...] = ()
    tens: tuple[Slot, ...] = ()
    domains: tuple[DomainCount, ...] = ()
    decryption: Decryption = Decryption()

    def to_json(self) -> str:
        """One JSON document; ``from_json`` reads it back."""
        return json.dumps({"smilla_snapshot": VERSION, **asdict(self)})

    @staticmethod
    def from_json(raw: str | bytes) -> Snapshot:
        """Raises SnapshotError unless it is exactly what ``to_json`` writes."""
        try:
            document = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise SnapshotError(f"this is no JSON: {error}") from error
        if not isinstance(document, dict) or document.pop("smilla_snapshot", None) != VERSION:
            raise SnapshotError("another version of smilla is running: restart it, or use its own command")
        found: Snapshot = _read(Snapshot, document, "snapshot")
        return found


def total(slots: Iterable[Slot], actions: Iterable[str], *, observed: bool = False) -> int:
    """The recipients with one of these actions in these slots."""
    wanted = frozenset(actions)
    return sum(c.recipients for s in slots for c in s.counts if c.action in wanted and c.observed is observed)


def without_resolver(found: Snapshot) -> int:
    """The recipients of the last minutes whose mail waits, observed or not, because no resolver answered: a proof may
    be older than that."""
    just_now = (count for slot in found.minutes[-_JUST_NOW:] for count in slot.counts)
    return sum(count.recipients for count in just_now if count.action in FAILED and count.reason == "resolver_down")


def share_protected(slots: Iterable[Slot], *, observed: bool = False) -> float | None:
    """Of the recipients whose mail went on, the part that is encrypted, by smilla or before; None if there were
    none."""
    slots = tuple(slots)
    delivered = total(slots, DELIVERED, observed=observed)
    return total(slots, PROTECTED, observed=observed) / delivered if delivered else None


def failures(slots: Iterable[Slot], *, observed: bool = False) -> tuple[tuple[str, str, int], ...]:
    """Action, reason and number of those who were deferred, refused or held; the most frequent first."""
    found: dict[tuple[str, str], int] = {}
    for slot in slots:
        for count in slot.counts:
            if count.action in FAILED and count.observed is observed:
                name = count.action, count.reason
                found[name] = found.get(name, 0) + count.recipients
    return tuple((*name, number) for name, number in sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _read(kind: Any, found: Any, where: str) -> Any:
    """A value of the type ``kind`` from JSON.  Raises SnapshotError."""
    if is_dataclass(kind):
        return _read_fields(kind, found, where)
    if typing.get_origin(kind) is tuple:
        return _read_tuple(typing.get_args(kind), found, where)
    if kind is float and type(found) is int:
        return float(found)
    if type(found) is not kind:
        raise SnapshotError(f"{where} is {found!r}")
    return found


def _read_fields(kind: Any, found: Any, where: str) -> Any:
    names = [field.name for field in fields(kind)]
    if not isinstance(found, dict) or sorted(found) != sorted(names):
        raise SnapshotError(f"{where} has not the fields {', '.join(names)}")
    hints = typing.get_type_hints(kind)
    return kind(**{name: _read(hints[name], found[name], f"{where}.{name}") for name in names})


def _read_tuple(kinds: tuple[Any, ...], found: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(found, list):
        raise SnapshotError(f"{where} is no list")
    if kinds[-1] is not ...:
        if len(kinds) != len(found):
            raise SnapshotError(f"{where} has not {len(kinds)} values")
        return tuple(_read(kind, each, where) for kind, each in zip(kinds, found, strict=True))
    return tuple(_read(kinds[0], each, where) for each in found)
