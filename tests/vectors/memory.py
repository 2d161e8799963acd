"""The ports in memory: a clock that stands still, DNS as a table, a folder as a dictionary.  No socket, no file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from smilla import address
from smilla.adapters.folder import KeyFiles
from smilla.adapters.sequoia import SequoiaEngine
from smilla.address import EmailAddress
from smilla.config.options import LDAPOptions
from smilla.errors import DirectoryError, EncryptionError, FetchError, SmillaError
from smilla.keys.discovery import directory, ldap, wkd
from smilla.keys.discovery.owner import OPENPGPKEY, SMIMEA, owner_name
from smilla.keys.memory import Memory
from smilla.message import parse
from smilla.model import (
    Client,
    DNSAnswer,
    DNSSECStatus,
    Format,
    Hop,
    HopVerdict,
    HopWay,
    LearnedKey,
    PGPKey,
    Reason,
    SourceAnswer,
    Style,
)
from smilla.ports import Ports
from smilla.session import Session

KEYS = Path(__file__).parent / "keys"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
TYPES = {"smimea": SMIMEA, "openpgpkey": OPENPGPKEY}


@dataclass
class StillClock:
    """Always the same instant."""

    instant: datetime = NOW

    def now(self) -> datetime:
        return self.instant

    def monotonic(self) -> float:
        return 1000.0


@dataclass
class _Answered:
    answer: DNSAnswer
    deadlines: list[float]

    def done(self) -> bool:
        return True

    def result(self, deadline: float) -> DNSAnswer:
        self.deadlines.append(deadline)
        return self.answer


@dataclass
class TableResolver:
    """Answers from a table; what is not in it is proven not to exist."""

    table: dict[tuple[str, int], DNSAnswer] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)

    def ask(self, owner: str, rdtype: int) -> _Answered:
        self.asked.append((owner, rdtype))
        absent = DNSAnswer(owner, str(rdtype), DNSSECStatus.SECURE, ttl_s=300, detail="no such name")
        return _Answered(self.table.get((owner, rdtype), absent), self.deadlines)

    def publish(self, mailbox: str, record: str, status: str, *rdata: bytes, malformed: int = 0) -> TableResolver:
        """What is found at the owner name of ``mailbox``: "smimea" or "openpgpkey"."""
        parsed, rdtype = address.parse(mailbox), TYPES[record]
        owner = owner_name(parsed.local_part, parsed.domain, rdtype)
        self.table[owner, rdtype] = DNSAnswer(owner, record, DNSSECStatus(status), rdata, malformed, 300)
        return self


class _Said:
    def __init__(self, answer: SourceAnswer) -> None:
        self._answer = answer

    def done(self) -> bool:
        return True

    def result(self, deadline: float) -> SourceAnswer:
        return self._answer


@dataclass
class TableWeb:
    """Web Key Directories: what each host answers to every path, None if nobody answers there; a host that is not in
    the table does not exist.  ``asked`` are the URLs."""

    resolver: TableResolver
    hosts: dict[str, wkd.Fetched | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def serve(self, host: str, answer: wkd.Fetched | None, dns: str = "insecure") -> TableWeb:
        """A host with one address; with another ``dns`` than secure or insecure, that address is not told."""
        status = DNSSECStatus(dns)
        rdata = (b"\xc0\0\2\1",) if status in (DNSSECStatus.SECURE, DNSSECStatus.INSECURE) else ()
        for rdtype, raw in ((1, rdata), (28, ())):
            self.resolver.table[f"{host}.", rdtype] = DNSAnswer(f"{host}.", str(rdtype), status, raw, ttl_s=300)
        self.hosts[host] = answer
        return self

    def begin(self, address: address.EmailAddress) -> _Said:
        return _Said(wkd.find(address, self._ask, self._get))

    def _ask(self, owner: str, rdtypes: Sequence[int]) -> list[DNSAnswer]:
        return [self.resolver.ask(owner, rdtype).result(0.0) for rdtype in rdtypes]

    def _get(self, host: str, target: str, address: str) -> wkd.Fetched:
        self.asked.append(f"https://{host}{target}")
        answer = self.hosts[host]
        if answer is None:
            raise FetchError(f"{host}: [Errno 111] Connection refused", temporary=True)
        return answer


@dataclass
class OneDirectory:
    """A company's directory that answers everything alike; None is one that is away."""

    found: ldap.Found | None = field(default_factory=lambda: ldap.Found(0))

    def begin(self, address: address.EmailAddress) -> _Said:
        return _Said(ldap.find(address, LDAPOptions(url="ldaps://ldap.sender.example"), self._search))

    def _search(self, _: str) -> ldap.Found:
        if self.found is None:
            raise DirectoryError("ldaps://ldap.sender.example: [Errno 111] Connection refused")
        return self.found


class _Found:
    def __init__(self, hop: Hop) -> None:
        self._hop = hop

    def result(self, deadline: float) -> Hop:
        return self._hop


class TableHops:
    """Hops by domain; of any other domain nobody knows."""

    def __init__(self, *hops: Hop) -> None:
        self.table = {hop.domain: hop for hop in hops}
        self.asked: list[str] = []

    def begin(self, domain: str) -> _Found:
        self.asked.append(domain)
        unknown = Hop(domain, HopVerdict.UNREACHABLE, Reason("unreachable", "no answer"))
        return _Found(self.table.get(domain, unknown))


def verified_hop(domain: str, way: HopWay = HopWay.DANE) -> Hop:
    """A hop to the domain that is verified this way."""
    return Hop(domain, HopVerdict.VERIFIED, Reason("verified", f"by {way.value}"), way, (f"mx.{domain}",))


def no_hop(domain: str) -> Hop:
    """There is provably no verified hop to the domain."""
    return Hop(domain, HopVerdict.NONE, Reason("unverifiable", "neither DANE nor MTA-STS"))


@dataclass
class MemoryFolder:
    """The administrator's folder; None stands for a file that cannot be read."""

    files: Mapping[str, bytes | None] = field(default_factory=dict)

    def all_names(self) -> list[str]:
        return sorted(self.files)

    def names(self, folded: str) -> list[str]:
        found = ((name, directory.address_of(name)) for name in self.files)
        return [name for name, address in found if address and address.folded == folded]

    def read(self, name: str) -> bytes | None:
        if name not in self.files:
            return None
        found = self.files[name]
        if found is None:
            raise SmillaError(f"{name}: cannot be read")
        return found


@dataclass
class MemoryLearned:
    """Learned keys; ``fails``: the store cannot be read."""

    keys: list[LearnedKey] = field(default_factory=list)
    fails: bool = False
    asked: list[str] = field(default_factory=list)

    def recall(self, address: EmailAddress) -> list[LearnedKey]:
        self.asked.append(f"{address.local_part}@{address.domain}")
        if self.fails:
            raise SmillaError("the store of learned keys is broken")
        wanted = (address.local_part, address.domain)
        return [key for key in self.keys if (key.address.local_part, key.address.domain) == wanted]

    def learn(self, key: LearnedKey) -> bool:
        self.keys.append(key)
        return True


def learned_key(mailbox: str, name: str, way: str = "autocrypt") -> LearnedKey:
    """A key of the vectors, learned for a mailbox."""
    form = Format.SMIME if name.endswith(".crt") else Format.OPENPGP
    return LearnedKey(address.parse(mailbox), form, raw_key(name), name, way, NOW.timestamp())


class NoEngine:
    """An OpenPGP engine that fails."""

    name = "none"

    def only_by(self, key: PGPKey) -> str:
        return ""

    def fault(self, key: PGPKey) -> Reason | None:
        return None

    def encrypt(self, content: Iterable[bytes], size: int, keys: Sequence[PGPKey], style: Style) -> Iterator[bytes]:
        raise EncryptionError("the engine is broken")


def make_ports(
    resolver: TableResolver | None = None,
    files: Mapping[str, bytes | None] | None = None,
    now: datetime = NOW,
    raw_trust_store: bytes = b"",
    *,
    sequoia: bool = True,
    web: TableWeb | None = None,
    company: OneDirectory | None = None,
) -> Ports:
    """Ports with Sequoia, which works in process, or with an engine that fails."""
    resolver = resolver or (web.resolver if web else TableResolver())
    return Ports(
        clock=StillClock(now),
        resolver=resolver,
        network={"wkd": web or TableWeb(resolver), "ldap": company or OneDirectory()},
        folder=MemoryFolder(files or {}),
        openpgp=SequoiaEngine() if sequoia else NoEngine(),
        raw_trust_store=raw_trust_store,
        judgements=Memory(entries=1000, octets=1 << 24),
        read_key_file=KeyFiles().read,
    )


def make_session(
    raw: bytes, recipients: Iterable[str], sender: str = "sam@sender.example", client: Client | None = None
) -> Session:
    """A session that holds a message from a file, its recipients given without angle brackets."""
    session = Session(client or Client("127.0.0.1"), f"<{sender}>")
    for recipient in recipients:
        session.recipient(f"<{recipient}>")
    parsed = parse(raw)
    for header in parsed.message.headers:
        session.header(header.raw_name, header.raw_value)
    for block in parsed.message.body.blocks():
        session.body_chunk(block)
    return session


def raw_key(name: str) -> bytes:
    """A key of the vectors as a record holds it: DER of a certificate, packets of an OpenPGP key."""
    raw = (KEYS / name).read_bytes()
    if name.endswith(".crt"):
        return x509.load_pem_x509_certificate(raw).public_bytes(Encoding.DER)
    return raw


def smimea(name: str, usage: int = 3, selector: int = 0, matching_type: int = 0) -> bytes:
    """The RDATA of an SMIMEA record with a certificate of the vectors."""
    return bytes([usage, selector, matching_type]) + raw_key(name)
