"""The values that everything in smilla speaks.  Frozen, without behaviour that could fail, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from smilla.address import EmailAddress
from smilla.style import OAEP, Style

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey, MLKEM1024PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.asymmetric.x448 import X448PublicKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    EncryptionPublicKey = (
        RSAPublicKey | EllipticCurvePublicKey | X25519PublicKey | X448PublicKey | MLKEM768PublicKey | MLKEM1024PublicKey
    )


class Format(StrEnum):
    """The two ways of encrypting a message."""

    SMIME = "smime"
    OPENPGP = "openpgp"


class DNSSECStatus(StrEnum):
    """What validation says of an answer (RFC 4035 section 4.3), and that there was none.

    ``INDETERMINATE`` is also an answer of a resolver that does not validate.
    """

    SECURE = "secure"
    INSECURE = "insecure"
    BOGUS = "bogus"
    INDETERMINATE = "indeterminate"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class DNSAnswer:
    """One answer, or why there was none.

    ``raw_rdata`` holds the RDATA of each record of the asked type, in wire form, CNAMEs followed.
    ``proven_by`` says in words what the status rests on.  ``malformed`` counts records that could not be read.
    ``ttl_s`` bounds how long the answer may be kept.  ``memory`` is for what follows from it, as long as it is kept.
    """

    owner: str
    rdtype: str
    status: DNSSECStatus
    raw_rdata: tuple[bytes, ...] = ()
    malformed: int = 0
    ttl_s: int = 0
    detail: str = ""
    proven_by: str = ""
    memory: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)


# --- candidates and what becomes of them -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """A certificate or key that a source named for an address, not yet judged.

    ``where`` is the owner name or the file; ``dnssec`` is None for sources outside DNS;
    ``raw`` is DER (or a hash, or a SubjectPublicKeyInfo) for S/MIME and OpenPGP packets or armour otherwise.
    """

    source: str
    where: str
    format: Format
    raw: bytes
    dnssec: DNSSECStatus | None = None


@dataclass(frozen=True, slots=True)
class SMIMEACandidate(Candidate):
    """An SMIMEA record (RFC 8162 section 2): the fields of a TLSA record (RFC 6698 section 2.1)."""

    usage: int = 3
    selector: int = 0
    matching_type: int = 0


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something holds or fails: a stable word for programs and the log, a sentence for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class SourceAnswer:
    """What a source says: where it was asked, the DNSSEC status (None outside DNS), the candidates, and in
    ``detail`` why there is none.  ``malformed`` counts records that could not be read at all.  ``told_by`` is the
    answer of DNS that all this was read from.  ``unclear`` is why the source could not be asked, so that its silence
    proves nothing.  ``local_part`` is that under which DNS has it: in lower case, say, or without a tag."""

    source: str
    where: str
    status: DNSSECStatus | None
    candidates: tuple[Candidate, ...] = ()
    malformed: int = 0
    ttl_s: int = 0
    detail: str = ""
    proven_by: str = ""
    told_by: DNSAnswer | None = field(default=None, repr=False, compare=False)
    unclear: Reason | None = None
    local_part: str = ""


class UsableKey:
    """A key that passed the gate for one address at one time.  Only ``smilla.validity`` constructs one.

    The encrypters accept nothing else, so an unchecked key cannot reach them.
    """

    __slots__ = ()
    format: Format


@dataclass(frozen=True, slots=True)
class X509Key(UsableKey):
    """A certificate that may be encrypted to; ``issued_at`` is its notBefore, ``raw_issuer_and_serial`` the DER of
    IssuerAndSerialNumber (RFC 5652 section 10.2.4), its issuer octet for octet as in the certificate.

    ``oaep`` is the only padding that an id-RSAES-OAEP key may be used with; ``ciphers`` are those of [smime] cipher
    that the certificate announces, in its order (RFC 4262); ``is_common``: common programs open what goes to it.
    """

    raw: bytes
    fingerprint: str
    algorithm: str
    strength: int
    expires_at: datetime
    raw_issuer_and_serial: bytes
    public_key: EncryptionPublicKey
    issued_at: datetime | None = None
    oaep: OAEP | None = None
    ciphers: tuple[str, ...] = ()
    is_common: bool = True
    format: Format = field(default=Format.SMIME, init=False)


@dataclass(frozen=True, slots=True)
class PGPKey(UsableKey):
    """An OpenPGP certificate that may be encrypted to.

    ``raw`` is binary and cut down to what passed: the primary key, the user IDs and encryption subkeys that hold
    today, and their valid self-signatures; an engine that takes "every encryption subkey" takes the right ones.
    ``raw_bound`` is the same encryption key as the engines get it, where that is something else than ``raw`` (see
    formats/openpgp_binding.py), and ``raw_bound_seipd2`` the same once more where it announces SEIPDv2 (RFC 9580
    section 5.2.3.32).  ``fingerprint`` is the primary key's, ``encrypts_to`` that of what is encrypted to.
    """

    raw: bytes
    fingerprint: str
    algorithm: str
    strength: int
    expires_at: datetime | None
    version: int
    raw_bound: bytes = b""
    raw_bound_seipd2: bytes = b""
    issued_at: datetime | None = None
    encrypts_to: str = ""
    is_common: bool = True
    format: Format = field(default=Format.OPENPGP, init=False)

    @property
    def raw_for_engine(self) -> bytes:
        """The certificate to hand to an OpenPGP engine."""
        return self.raw_bound or self.raw

    @property
    def raw_for_seipd2(self) -> bytes:
        """The same for an engine that may write SEIPDv2 where every certificate announces it."""
        return self.raw_bound_seipd2 or self.raw_for_engine


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the gate says of one candidate: a key, or every reason against it.

    ``meant_for_encryption`` is False for what was published for another purpose (a hash, a signing or CA
    certificate alone, an unknown usage): that counts as no key.  ``facts`` describes the candidate to a person:
    subject, fingerprint, algorithm, not_before, not_after, created, user_ids … as far as they could be read.
    """

    candidate: Candidate
    key: X509Key | PGPKey | None
    reasons: tuple[Reason, ...]
    meant_for_encryption: bool = True
    facts: Mapping[str, str] = field(default_factory=dict)


class KeyVerdict(StrEnum):
    """The outcome of the search for an address's key; each but USABLE is also the name of a [policy] option.

    ``NO_KEY`` is proven absence and nothing else; what ended without a key and without such a proof is ``UNCLEAR``.
    """

    USABLE = "usable"
    BOGUS = "bogus"
    UNREACHABLE = "unreachable"
    UNCLEAR = "unclear"
    UNUSABLE_KEY = "unusable_key"
    INSECURE = "insecure"
    NO_KEY = "no_key"


@dataclass(frozen=True, slots=True)
class SourceFinding:
    """What one source answered: where it looked, what DNSSEC says, each candidate's assessment, the verdict."""

    source: str
    where: str
    verdict: KeyVerdict
    status: DNSSECStatus | None
    ttl_s: int
    reason: Reason
    assessments: tuple[Assessment, ...] = ()
    proven_by: str = ""


@dataclass(frozen=True, slots=True)
class KeyLookup:
    """The whole search for one address, source by source in the order asked; ``engine`` alone takes the key, if any."""

    address: EmailAddress
    verdict: KeyVerdict
    reason: Reason
    key: X509Key | PGPKey | None
    source: str
    status: DNSSECStatus | None
    findings: tuple[SourceFinding, ...] = ()
    engine: str = ""


# --- the message -------------------------------------------------------------------------------------------


_USUAL_NAME = 80  # octets; a stranger may send a thousand names of 60 KB, which are not worth remembering


def _folded_name(raw_name: bytes) -> str:
    return raw_name.decode("ascii", "replace").rstrip(" \t").lower()


_remembered_name = lru_cache(maxsize=1024)(_folded_name)


@dataclass(frozen=True, slots=True)
class Header:
    """One header field, octet for octet: ``raw_value`` is all after the colon, folding included (CRLF), without the
    final line end.  ``name`` is the field name in lower case, for comparison."""

    raw_name: bytes
    raw_value: bytes
    name: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        folded = _remembered_name if len(self.raw_name) <= _USUAL_NAME else _folded_name
        object.__setattr__(self, "name", folded(self.raw_name))

    @property
    def raw(self) -> bytes:
        """The field as it stands in a message, with its final CRLF."""
        return self.raw_name + b":" + self.raw_value + b"\r\n"


class Body(Protocol):
    """The octets after the header, wherever they are kept; readable more than once, in blocks."""

    @property
    def size(self) -> int:
        """Length in octets."""

    def blocks(self) -> Iterator[bytes]:
        """The octets from the beginning, in pieces of any length."""


class GrowingBody(Body, Protocol):
    """A body that still arrives."""

    def append(self, block: bytes) -> None:
        """Adds octets at the end."""


@dataclass(frozen=True, slots=True)
class Message:
    """Header fields in order, and the body; lines end in CRLF."""

    headers: tuple[Header, ...]
    body: Body


@dataclass(frozen=True, slots=True)
class Recipient:
    """An envelope recipient as the MTA named it, its ESMTP parameters, and the parsed address, None for no address."""

    raw: str
    address: EmailAddress | None
    parameters: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The address for logs and replies: no angle brackets, no control or non-ASCII characters."""
        text = self.raw.strip("<>")
        return "".join(c if "!" <= c <= "~" and c not in '"\\' else f"\\u{ord(c):04x}" for c in text)


@dataclass(frozen=True, slots=True)
class Envelope:
    """MAIL FROM and RCPT TO as given; ``sender`` is "" for the null sender."""

    sender: str
    recipients: tuple[Recipient, ...]
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Client:
    """Who handed the message in, as far as the MTA tells (``mta`` is its own name); decides the direction in
    ``mode = "auto"``."""

    ip: str = ""
    daemon_name: str = ""
    authenticated_as: str = ""
    host_name: str = ""
    helo: str = ""
    port: int = 0
    mta: str = ""


# --- decisions ---------------------------------------------------------------------------------------------


class MessageKind(StrEnum):
    """What a message is by its structure (never by mention)."""

    ENCRYPTED = "encrypted"
    SIGNED = "signed"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Classification:
    """The kind and why."""

    kind: MessageKind
    reason: Reason


class Action(StrEnum):
    """What happens for one recipient; the past tense is the log's event."""

    ENCRYPT = "encrypt"
    UNCHANGED = "unchanged"
    PLAIN = "plain"
    DEFER = "defer"
    REFUSE = "refuse"
    HOLD = "hold"
    DONE = "done"  # a copy was accepted at an earlier attempt


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens for one recipient and why; ``rule`` names what in the configuration decided.  ``readers`` are
    the look-ups of further readers (also_to), ``style`` is how their copy is written."""

    recipient: Recipient
    action: Action
    reason: Reason
    rule: str = ""
    lookup: KeyLookup | None = None
    readers: tuple[KeyLookup, ...] = ()
    style: Style = field(default_factory=Style)

    @property
    def key(self) -> X509Key | PGPKey | None:
        """The key to encrypt to, where the action is ENCRYPT."""
        return self.lookup.key if self.lookup and self.action is Action.ENCRYPT else None


class Form(StrEnum):
    """The form of a copy, as ``envelopes.json`` names it."""

    SMIME = "smime"
    OPENPGP = "openpgp"
    PLAIN = "plain"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Rewrite:
    """How a copy differs from the message that came in: the indexes of header fields that go, the fields that come
    (at the end, in order), and the new body, None where it stays.

    ``body`` makes the new body from the start each time it is called, in blocks, and raises before or within them.
    """

    removed: tuple[int, ...] = ()
    added: tuple[tuple[str, str], ...] = ()
    body: Callable[[], Iterator[bytes]] | None = None


@dataclass(frozen=True, slots=True)
class HeaderProtection:
    """What was asked for a copy's header fields (off, copy or hide), the names of those that stand inside it and of
    those hidden outside, and why none does where that was asked for."""

    asked: str = "off"
    inside: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    problem: Reason | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """A message to be delivered: to whom, in which form, how it differs from what came in, and how its header fields
    are protected."""

    form: Form
    recipients: tuple[Recipient, ...]
    rewrite: Rewrite
    protection: HeaderProtection = HeaderProtection()


class Disposition(Enum):
    """What the MTA is told about the message as a whole."""

    DELIVER = "deliver"
    DEFER = "defer"
    REFUSE = "refuse"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What ``pipeline.process`` found: one decision a recipient, and the copies owed where all is delivered.

    ``copies`` is empty unless the disposition is DELIVER or HOLD; all but ``kept`` are re-injected.  ``bounced`` are
    told to the sender, ``relayed`` see policy; ``reason`` and ``culprits`` explain what is not delivered.
    """

    disposition: Disposition
    decisions: tuple[Decision, ...]
    classification: Classification
    direction: str
    copies: tuple[Copy, ...] = ()
    reason: Reason = Reason("ok", "")
    culprits: tuple[Recipient, ...] = ()
    kept: int = 0
    bounced: tuple[Decision, ...] = ()
    relayed: tuple[Recipient, ...] = ()
