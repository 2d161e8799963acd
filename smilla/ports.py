"""What the stages need from outside, as protocols: the adapters implement them, tests replace them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from smilla.address import EmailAddress
from smilla.model import Client, DNSAnswer, Judgement, PGPKey, Reason, Recipient, SourceAnswer, Style
from smilla.value import value


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

    def done(self) -> bool:
        """Whether the answer is there, so that ``result`` does not wait."""


class Resolver(Protocol):
    """Authenticated DNS."""

    def ask(self, owner: str, rdtype: int) -> PendingAnswer:
        """Starts the question for ``owner`` (absolute, with final dot, in A-labels) and returns at once."""


@value
class SourceQuestion:
    """A source that has been asked; ``answer(deadline)`` waits until then at most and raises nothing for what a
    network, a name server or a file can do."""

    source: str
    answer: Callable[[float], SourceAnswer]


@value
class PendingLookup:
    """The search for one address's key, under way since ``asked_at`` (monotonic seconds).  ``prefer`` is that of
    [keys]."""

    address: EmailAddress
    questions: tuple[SourceQuestion, ...]
    asked_at: float
    prefer: str = "compatible"


class Judgements(Protocol):
    """What was found out lately from answers of DNS; bounded, and for any number of threads."""

    def recall(self, question: Hashable, /) -> Judgement | None:
        """What is remembered of this question."""

    def remember(self, question: Hashable, judgement: Judgement, weight: int, /) -> None:
        """Keeps what was found out, which takes ``weight`` octets together with the question."""


class KeyFolder(Protocol):
    """The administrator's folder of keys."""

    def names(self, folded: str) -> Sequence[str]:
        """The names of the files of an address, given and compared with its local part in lower case and its domain in
        A-labels.  Raises SmillaError where the folder cannot be read."""

    def all_names(self) -> Sequence[str]:
        """The names of all files.  Raises SmillaError where the folder cannot be read."""

    def read(self, name: str) -> bytes | None:
        """The octets of the file of that name, None where there is none.  Raises SmillaError where it is there
        and cannot be read."""


class OpenPGPEngine(Protocol):
    """A program or library that writes OpenPGP messages."""

    name: str

    def fault(self, key: PGPKey) -> Reason | None:
        """Why this engine cannot encrypt to a key that passed the gate; None where it can, or where a trial cannot
        tell: then the encryption itself fails, and the mail is deferred.  Remembered; raises nothing."""

    def only_by(self, key: PGPKey) -> str:
        """Where there are several engines, the name of the one that alone can encrypt to this key; "" where any can."""

    def encrypt(self, content: Iterable[bytes], size: int, keys: Sequence[PGPKey], style: Style) -> Iterator[bytes]:
        """One OpenPGP message for all ``keys``, as binary packets, in blocks, none before the engine has ended well:
        binary literal data, uncompressed, in SEIPDv1, or in SEIPDv2 where the engine can and ``style.seipd2`` and every
        key allow it.  ``content`` has ``size`` octets.  Raises EncryptionError, also where the engine cannot do what
        the style asks for."""


@value
class Fingerprint:
    """By what a message is known again when its client tries once more (see handover/reinject.py).

    ``quick`` is cheap to make and may match by chance, ``content`` takes in the body; ``identified`` says that nothing
    else can have this name (a sealed message), so that it stays known once it is finished.
    """

    quick: bytes
    content: Callable[[], bytes]
    identified: bool


@dataclass(frozen=True, slots=True)
class StageNote:
    """What the stage notes of a sealed message of which somebody is owed a copy: the queue ID, the message ID in its
    mark, when it was sealed (seconds since 1970), and code and reason of the last answer.  No address."""

    queue_id: str
    message_id: str
    sealed_at: float
    answer: str


class JournalEntry(Protocol):
    """What the journal knows of one message; nobody else has it open.  A recipient is named by their mailbox, the
    notification about one who is bounced by copies.sharing.notice.

    ``accepted``: their copy was accepted by the MTA, by ``is_accepted``.  Every method that changes something returns
    only once that is on the disk, and raises JournalError where it cannot.
    """

    def is_accepted(self, mailbox: str) -> bool:
        """Was a copy for them accepted?"""

    def is_unknown(self, mailbox: str) -> bool:
        """Was a copy for them on its way when all ended: after the final dot, before the reply was recorded?"""

    def owe(self, mailboxes: Iterable[str], token: str, queue_id: str) -> None:
        """Before anything leaves: copies are owed to these.  ``token`` marks our own copies (see ``is_own``)."""

    def committing(self, mailboxes: Iterable[str]) -> None:
        """The final dot of a copy for these is sent next."""

    def settle(self, accepted: Iterable[str], owed: Iterable[str]) -> None:
        """The reply to the final dot: accepted for some, not for others."""

    def answered(self, owed: Collection[str], gone: Collection[str], note: StageNote) -> None:
        """The MTA was told 4yz for those who are ``owed`` a copy, and 5yz for those who are ``gone``."""

    @property
    def has_owed(self) -> bool:
        """Is a copy owed to anybody, by this attempt or another?"""

    def finish(self, names: Iterable[str] | None = None) -> None:
        """No copy is owed any more, to these or, where it is None, to anybody."""


class Journal(Protocol):
    """The memory of copies owed and accepted, shared by the workers, which outlives them."""

    def prepare(self, user: str) -> None:
        """Makes the folder for ``user``, as far as the rights go.  Raises JournalError."""

    def is_there(self) -> bool:
        """Has anything been written into it yet?  Asked for every message, before it has a fingerprint.  Raises
        JournalError."""

    def known(self, fingerprint: Fingerprint) -> bool:
        """May this message have an entry?  Cheap; asked for every message.  Raises JournalError."""

    def open(self, fingerprint: Fingerprint) -> AbstractContextManager[JournalEntry]:
        """The entry, made where there is none, for this process alone until closed.  An entry in which nothing is owed
        or accepted leaves nothing behind.  Raises JournalBusy where somebody else has it open, JournalError."""

    def is_own(self, token: str, mailboxes: Collection[str]) -> bool:
        """Is this the token of a copy that is on its way now, and are these all among those to whom copies of that
        message are owed?"""


@dataclass(frozen=True, slots=True)
class SealKey:
    """A key of smilla's own, for messages that wait in the MTA's queue: its random ID, which is no secret, and 32
    octets that are."""

    raw_id: bytes
    raw: bytes = field(repr=False)


class SealKeyStore(Protocol):
    """The keys under which messages are sealed for the MTA's queue.  Every method raises SealKeyMissing."""

    def prepare(self, user: str, rotate_days: int) -> SealKey | None:
        """Makes the folder for ``user``, and a key where there is none or the newest is older than that; returns the
        key that was made."""

    def current(self) -> SealKey:
        """The key that seals."""

    def find(self, raw_id: bytes) -> SealKey:
        """The key of that ID."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One message for the MTA's listener: the envelope, with the ESMTP parameters as the client gave them, and the
    octets of header and body, in blocks with CRLF line ends, not dot-stuffed."""

    sender: str
    parameters: tuple[str, ...]
    recipients: tuple[Recipient, ...]
    octets: Callable[[], Iterator[bytes]]
    client: Client
    queue_id: str


@dataclass(frozen=True, slots=True)
class Handover:
    """What became of a submission: ``accepted`` by the final ``reply``, ``refused`` with the reply to RCPT or to the
    final dot.  ``unknown``: the connection ended after the final dot and before the reply."""

    accepted: tuple[Recipient, ...] = ()
    refused: tuple[tuple[Recipient, str], ...] = ()
    unknown: bool = False
    reply: str = ""


class MailerConnection(Protocol):
    """A connection to the listener."""

    def send(
        self,
        submission: Submission,
        before_dot: Callable[[Sequence[Recipient]], None],
        waiting: Callable[[], object] = lambda: None,
    ) -> Handover:
        """Hands one message over; calls ``before_dot`` with the recipients that RCPT accepted when all but the final
        dot is sent, and ``waiting``, which must not raise, now and then until that is answered.  Where ``octets`` or
        ``before_dot`` raise, the connection is cut, so that nothing is accepted, and the exception goes on.  Raises
        ReinjectError where it fails before the final dot."""


class Mailer(Protocol):
    """The MTA's own listener, without this filter."""

    def connect(self) -> AbstractContextManager[MailerConnection]:
        """Raises ReinjectError."""

    def size_limit(self) -> int:
        """Octets of the largest message that it takes, 0 where that is not known.  Remembered for a while; raises
        nothing."""


class MTA(Protocol):
    """What a filter may ask of the MTA at the end of a message.  Every change raises MTALost where it is not taken."""

    def replace_body(self, block: bytes) -> None:
        """The new body, block by block."""

    def change_header(self, name: str, number: int, value: str) -> None:
        """The field of that number among those of its name, from 1, gets this value, "" takes it away; number 0 adds
        one at the end."""

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
    every nameserver for something known to be signed: pairs of its name and what is wrong, "" where it validates.
    ``seal_keys`` are there where [policy] mixed may be stage, and later as long as there is a key: what was sealed is
    still served then.  ``journal`` and ``mailer`` are there with them, and where mixed may be reinject.
    ``judgements`` lives as long as the ports; None remembers nothing.
    ``stage_problem()`` is why nothing may be sealed now, and what to do, "" where it may.
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
