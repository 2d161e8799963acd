"""What the stages need from outside, as protocols.  The adapters implement them; tests replace them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from smilla.address import EmailAddress
from smilla.model import (
    Authorities,
    DNSAnswer,
    Handover,
    Hop,
    Judgement,
    PGPKey,
    Reason,
    Recipient,
    SourceAnswer,
    Style,
    Submission,
)
from smilla.ports_learned import LearnedKeys
from smilla.ports_metrics import Metrics as Metrics  # noqa: PLC0414 - as a name of this module
from smilla.value import value


class Clock(Protocol):
    """Time, so that a test can choose it."""

    def now(self) -> datetime:
        """The current time, in UTC, by which keys are judged."""

    def monotonic(self) -> float:
        """Seconds that never go back, for deadlines."""


class PendingAnswer(Protocol):
    """A DNS question that is under way."""

    def result(self, deadline: float) -> DNSAnswer:
        """The answer; at ``deadline`` (monotonic seconds) one whose status is UNREACHABLE.  Never raises for anything
        that a network or a name server can do."""

    def done(self) -> bool:
        """Is the answer there, so that ``result`` does not wait?"""


class Resolver(Protocol):
    """Authenticated DNS."""

    def ask(self, owner: str, rdtype: int) -> PendingAnswer:
        """Starts the question for ``owner`` (absolute, with final dot, in A-labels) and returns at once."""


@value
class SourceQuestion:
    """A source that was asked.  ``answer(deadline)`` waits no longer than that, and raises nothing for anything that a
    network, a name server or a file can do."""

    source: str
    answer: Callable[[float], SourceAnswer]


class PendingSource(Protocol):
    """A question to a source over a network other than DNS, under way: as a PendingAnswer."""

    def result(self, deadline: float) -> SourceAnswer:
        """What was found; at ``deadline`` (monotonic seconds) an answer that is unreachable."""

    def done(self) -> bool:
        """Is the answer there?"""


class NetworkSource(Protocol):
    """A source over a network other than DNS.  Safe for any number of threads."""

    def begin(self, address: EmailAddress) -> PendingSource:
        """Starts the question about exactly this address, and returns at once."""


@value
class PendingLookup:
    """The search for one address's key, under way since ``asked_at`` (monotonic seconds).  ``prefer`` is
    [keys] prefer; ``untrusted`` are the sources that are not asked."""

    address: EmailAddress
    questions: tuple[SourceQuestion, ...]
    asked_at: float
    prefer: str = "compatible"
    untrusted: tuple[str, ...] = ()


class Judgements(Protocol):
    """Remembers recent findings from DNS answers; bounded, and safe for any number of threads."""

    def recall(self, question: Hashable, /) -> Judgement | None:
        """The finding for this question, if remembered."""

    def remember(self, question: Hashable, judgement: Judgement, weight: int, /) -> None:
        """Keeps a finding; with its question it takes ``weight`` octets."""


class PendingHop(Protocol):
    """The search for a verified hop to one domain, under way."""

    def result(self, deadline: float) -> Hop:
        """What was found; at ``deadline`` (monotonic seconds) one whose verdict is UNREACHABLE.  Never raises for
        anything that a network, a name server or a web server can do."""


class HopFinder(Protocol):
    """Finds out how mail for a domain can be protected on its way.  Safe for any number of threads."""

    def begin(self, domain: str) -> PendingHop:
        """Starts the search for ``domain`` (in A-labels, without final dot) and returns at once."""


class KeyFolder(Protocol):
    """The administrator's folder of keys."""

    def names(self, folded: str) -> Sequence[str]:
        """The names of an address's files.  ``folded`` has the local part in lower case and the domain in A-labels;
        files are compared in that form.  Raises SmillaError if the folder cannot be read."""

    def all_names(self) -> Sequence[str]:
        """The names of all files.  Raises SmillaError if the folder cannot be read."""

    def read(self, name: str) -> bytes | None:
        """The octets of the file with that name, None if there is none.  Raises SmillaError if it exists but cannot be
        read."""


class OpenPGPEngine(Protocol):
    """A program or library that writes OpenPGP messages."""

    name: str

    def fault(self, key: PGPKey) -> Reason | None:
        """Why this engine cannot encrypt to a key that passed the gate; None if it can, or if a trial cannot tell.  In
        that case the encryption itself may fail, and the mail is deferred.  Remembered; raises nothing."""

    def only_by(self, key: PGPKey) -> str:
        """If only one of several engines can encrypt to this key, its name; otherwise ""."""

    def encrypt(self, content: Iterable[bytes], size: int, keys: Sequence[PGPKey], style: Style) -> Iterator[bytes]:
        """One OpenPGP message for all ``keys``, as binary packets, in blocks; no block before the engine has succeeded.
        The message is uncompressed binary literal data in SEIPDv1, or in SEIPDv2 if the engine, ``style.seipd2`` and
        every key allow it.  ``content`` has ``size`` octets.  Raises EncryptionError, also if the engine cannot do what
        the style asks for."""


@value
class Fingerprint:
    """Identifies a message when its client tries again (see handover/reinject.py).

    ``quick`` is cheap to make and may match by chance; ``content`` includes the body.  ``identified`` says that no
    other message can have this fingerprint (a sealed message), so the journal remembers it even when finished.
    """

    quick: bytes
    content: Callable[[], bytes]
    identified: bool


@dataclass(frozen=True, slots=True)
class StageNote:
    """What the stage notes about a sealed message while somebody is owed a copy: the queue ID, the message ID in its
    mark, when it was sealed (seconds since 1970), and the code and reason of the last answer.  No address."""

    queue_id: str
    message_id: str
    sealed_at: float
    answer: str


class JournalEntry(Protocol):
    """What the journal knows of one message; nobody else has it open.  Names are mailboxes; the notification about a
    bounced recipient is named by copies.sharing.notice.

    A method that changes something returns only once the change is on the disk; otherwise it raises JournalError.
    """

    def is_accepted(self, mailbox: str) -> bool:
        """Did the MTA accept a copy for this mailbox?"""

    def is_unknown(self, mailbox: str) -> bool:
        """Was a copy for this mailbox cut off after its final dot and before its reply was recorded?"""

    def owe(self, mailboxes: Iterable[str], token: str, queue_id: str) -> None:
        """Before anything leaves: these are owed copies.  ``token`` marks our own copies (see ``is_own``)."""

    def committing(self, mailboxes: Iterable[str]) -> None:
        """The final dot of the copy for these is sent next."""

    def settle(self, accepted: Iterable[str], owed: Iterable[str]) -> None:
        """The reply to the final dot: accepted for some, still owed to others."""

    def answered(self, owed: Collection[str], gone: Collection[str], note: StageNote) -> None:
        """The stage answered 4yz for those ``owed`` a copy, and 5yz for those ``gone``."""

    @property
    def has_owed(self) -> bool:
        """Is anybody owed a copy, by this attempt or another?"""

    def finish(self, names: Iterable[str] | None = None) -> None:
        """No copy is owed any more to these; None means to anybody."""


class Journal(Protocol):
    """Remembers copies owed and accepted.  All workers share it, and it outlives them."""

    def prepare(self, user: str) -> None:
        """Makes the folder for ``user``, if we have the rights.  Raises JournalError."""

    def is_there(self) -> bool:
        """Has anything been written yet?  Asked for every message, before its fingerprint is made.  Raises
        JournalError."""

    def known(self, fingerprint: Fingerprint) -> bool:
        """May this message have an entry?  Cheap; asked for every message.  Raises JournalError."""

    def open(self, fingerprint: Fingerprint) -> AbstractContextManager[JournalEntry]:
        """The entry, made if there is none, and exclusive until closed.  An entry in which nothing is owed or accepted
        leaves nothing behind.  Raises JournalBusy if somebody else has it open, JournalError."""

    def is_own(self, token: str, mailboxes: Collection[str]) -> bool:
        """Does this token belong to a copy that is on its way now, and are all these mailboxes owed copies of that
        message?"""


@dataclass(frozen=True, slots=True)
class SealKey:
    """smilla's own key for messages that wait in the MTA's queue: a random ID, which is not secret, and 32 secret
    octets."""

    raw_id: bytes
    raw: bytes = field(repr=False)


class SealKeyStore(Protocol):
    """The keys that seal messages for the MTA's queue.  Every method raises SealKeyMissing."""

    def prepare(self, user: str, rotate_days: int) -> SealKey | None:
        """Makes the folder for ``user``.  Makes and returns a key if there is none or the newest is older than
        ``rotate_days``."""

    def current(self) -> SealKey:
        """The key that seals."""

    def find(self, raw_id: bytes) -> SealKey:
        """The key with that ID."""


class MailerConnection(Protocol):
    """A connection to the listener."""

    def send(
        self,
        submission: Submission,
        before_dot: Callable[[Sequence[Recipient]], None],
        waiting: Callable[[], object] = lambda: None,
    ) -> Handover:
        """Hands over one message.  When all but the final dot is sent, calls ``before_dot`` with the recipients
        accepted at RCPT.  Then calls ``waiting``, which must not raise, now and then until the dot is answered.  If
        ``octets`` or ``before_dot`` raises, cuts the connection, so that nothing is accepted, and raises on.  Raises
        ReinjectError if it fails before the final dot."""


class OpenPGPOpener(Protocol):
    """Holds private keys, or asks an agent that does."""

    def opened(self, raw: bytes) -> bytes:
        """The content of an encrypted message in binary packets, once its code or tag has been checked over all of it.
        Raises NotDecrypted."""


class OpenPGPReader(OpenPGPOpener, Protocol):
    """Also says who signed what it opens."""

    def signature(self, raw: bytes, raw_certificates: Sequence[bytes]) -> tuple[str, str]:
        """The result and reason, as in decrypt.signature, for a message that was opened: is it signed by one of these
        certificates?  Raises NotDecrypted."""


class Mailer(Protocol):
    """The MTA's own listener, without this filter."""

    def connect(self) -> AbstractContextManager[MailerConnection]:
        """Raises ReinjectError."""

    def size_limit(self) -> int:
        """The size in octets of the largest message it takes, 0 if unknown.  Remembered for a while; raises nothing."""


class MTA(Protocol):
    """What a filter may ask of the MTA at the end of a message.  Every change raises MTALost where it is not taken."""

    def replace_body(self, block: bytes) -> None:
        """The new body, block by block."""

    def change_header(self, name: str, number: int, value: str) -> None:
        """The field of that number among those of its name, from 1, gets this value, "" takes it away; number 0 adds
        one at the end, -1 one before all others but the Received field of the MTA itself."""

    def delete_recipient(self, raw: str) -> None:
        """This recipient, as it was given, does not get the MTA's message."""

    def change_sender(self, sender: str, parameters: str) -> None:
        """The envelope sender, "" for the null sender, and its ESMTP parameters."""

    def quarantine(self, text: str) -> None:
        """The message is held until somebody releases it."""

    def alive(self) -> None:
        """The filter is at work, and the MTA is to wait.  Raises nothing."""


@value
class Ports:
    """Everything outside, handed to ``pipeline.process``.

    ``raw_trust_store`` is the PEM of [smime] ca_file, ``raw_crls`` the octets of crl_file.  ``probe(timeout_s)`` asks
    every nameserver for something known to be signed; it gives pairs of its name and what is wrong, "" if it validates.
    ``seal_keys`` are set if [policy] mixed may be stage, or as long as a key is left, so that messages sealed earlier
    are still delivered.  ``journal`` and ``mailer`` are set with them, and if mixed may be reinject.  ``judgements``
    lives as long as the ports; None remembers nothing.  ``stage_problem()`` says why nothing may be sealed now, and
    what to do; "" if sealing is allowed.  ``size_limit()`` is the size in octets of the largest message that the MTA
    takes, 0 if nobody knows.  ``metrics`` count; they outlive the configuration.  ``hops`` is set if some action is
    secure-hop, or Postfix asks for policies; ``secure_mailer``, the listener for copies that may leave over a verified
    hop only, is set with ``mailer``.  ``circles`` are set if [transport] circles is.  ``network`` has the sources of
    [keys] sources that are asked over a network other than DNS, by name.  ``read_key_file(path)`` gives the octets of
    the key file that a rule names, None if there is no such file; it raises SmillaError if there is one and it cannot
    be read.  ``learned`` is set if learned keys are used, or learned.
    """

    clock: Clock
    resolver: Resolver
    folder: KeyFolder
    openpgp: OpenPGPEngine
    raw_trust_store: bytes = b""
    raw_crls: bytes = b""
    probe: Callable[[float], list[tuple[str, str]]] = lambda _: []
    journal: Journal | None = None
    mailer: Mailer | None = None
    seal_keys: SealKeyStore | None = None
    judgements: Judgements | None = None
    stage_problem: Callable[[], str] = lambda: ""
    size_limit: Callable[[], int] = lambda: 0
    metrics: Metrics = Metrics()
    hops: HopFinder | None = None
    secure_mailer: Mailer | None = None
    circles: tuple[Authorities, ...] = ()
    network: Mapping[str, NetworkSource] = field(default_factory=dict)
    read_key_file: Callable[[str], bytes | None] = lambda _: None
    learned: LearnedKeys | None = None

    def without_handover(self) -> Ports:
        """The same, where no copy may be handed over."""
        nothing_to_drop = self.journal is None and self.mailer is None
        return self if nothing_to_drop else replace(self, journal=None, mailer=None, secure_mailer=None)
