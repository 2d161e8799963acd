"""Further copies of a message: how each recipient gets exactly one.

One copy stays in the message that the MTA holds.  The others go, before the MTA is answered, to a listener of the MTA
without this filter; each is accepted or not when its final dot is answered.  The journal remembers, before anything
leaves, to whom copies are owed, and then who was accepted.  Where anything fails the client is told 451 and tries
again, and whoever has a copy already gets none.

**How a retry is recognised.**  Only while the attempt before it was answered 4yz, or its answer was lost: an attempt
that was answered 250 is forgotten at once, and swallows nothing.  And only from the same client, by the envelope
sender, all header fields and the body.  Left out is what this hop adds anew at each attempt: authentication results, a
field with the attempt's queue ID, the Date that Postfix adds at the end where there is a Message-ID.  A message that is
not quite the same is another message (a client that tries again from another address, a spam score of this hop that has
changed): every copy is sent, so that some may come twice and none is lost.

**What nobody can know.**  Where all ends between the final dot and the recorded reply, the MTA may have the copy or
not.  It is sent again, logged (copy-unknown) and counted.  RFC 5321 section 4.1.1.4 has the same window in every hop.

**Loops.**  A Received field counts the hop.  It has a random token that the journal knows while the copy is on its way:
a copy that comes back to this filter is ours only then, so that nobody else can make one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from functools import cache, cached_property, partial
from typing import Self

from smilla import log
from smilla.answer import dsn
from smilla.copies import protect, rewrap
from smilla.copies.sharing import mailbox, notice
from smilla.errors import JournalBusy, JournalError, ReinjectError
from smilla.model import Action, Copy, CopyForm, Decision, Header, Message, Recipient, Refusal
from smilla.ports import Fingerprint, Journal, JournalEntry, MailerConnection, Ports, StageNote, Submission
from smilla.session import Session

_OF_THIS_HOP = re.compile("received-spf|authentication-results|arc-.*")
_MADE_LAST = ("from", "to", "resent-from")  # what Postfix may add after a Date, none of which is any good as a date
_LEAST_QUEUE_ID = 5  # octets; what is shorter may stand in a field by chance
_Dues = Mapping[Recipient, tuple[Recipient, ...]]
_TOKEN = re.compile(rb"\(smilla\) with E?SMTP id ([0-9a-f]{32});")
_BUSY_S = 30.0  # how long another worker may take over the same message, to others of its recipients say
_ASK_EVERY_S = 0.1
_UNSAFE = re.compile(r"[^A-Za-z0-9.:_\[\]-]")


def fingerprint(session: Session) -> Fingerprint:
    """By what the message is known again."""
    message, client = session.message, session.client
    parts = [text.encode("utf-8", "surrogateescape") for text in (session.sender, client.ip, client.authenticated_as)]
    for header in _lasting(message.headers, session.queue_id):
        parts += [header.name.encode("ascii", "replace"), header.raw_value.strip()]
    head = hashlib.sha256(b"".join([octets for part in parts for octets in (len(part).to_bytes(4, "big"), part)]))

    @cache
    def content() -> bytes:
        whole = head.copy()
        for block in message.body.blocks():
            whole.update(block)
        return whole.digest()

    return Fingerprint(head.digest(), content, identified=False)


def _lasting(headers: Sequence[Header], queue_id: str) -> Iterator[Header]:
    """The fields that are the same at each attempt."""
    raw_id = queue_id.encode("ascii", "replace") if len(queue_id) >= _LEAST_QUEUE_ID else b""
    added = _date_of_mta(headers)
    for index, header in enumerate(headers):
        has_id = raw_id and raw_id in header.raw_value
        if index != added and not has_id and not _OF_THIS_HOP.fullmatch(header.name):
            yield header


def _date_of_mta(headers: Sequence[Header]) -> int:
    """The place of a Date that the MTA may have added, -1 where it has not: the last field of all that an author could
    have written.  Without a Message-ID, two messages that differ by their dates alone are two."""
    if any(header.name == "message-id" for header in headers):
        for index in range(len(headers) - 1, -1, -1):
            if headers[index].name == "date":
                return index
            if headers[index].name not in _MADE_LAST:
                break
    return -1


def finish(unfinished: Callable[[], None], queue_id: str) -> None:
    """The answer is out: by ``unfinished`` the journal may forget what it need not remember.  Raises nothing."""
    try:
        unfinished()
    except JournalError as error:
        log.journal_failed(str(error), queue_id)


def own_token(message: Message) -> str:
    """The token of a copy of ours, "" where there is none: it stands in the first Received fields."""
    found = (
        _TOKEN.search(message.headers[index].raw_value) for index in message.places.get("received", ()) if index < 40
    )
    return next((match[1].decode("ascii") for match in found if match), "")


@dataclass(frozen=True, slots=True)
class _Parcel:
    """One message for the listener; ``dues`` names, for each of its recipients, who have got what is owed once it is
    accepted, and ``name`` is what the journal calls that."""

    submission: Submission
    dues: _Dues
    name: Callable[[Recipient], str]

    def due(self, recipients: Iterable[Recipient]) -> list[Recipient]:
        """Whom these recipients of the submission stand for."""
        return [served for recipient in recipients for served in self.dues[recipient]]

    def names(self, recipients: Iterable[Recipient]) -> set[str]:
        """The same, as the journal names what they are owed."""
        return {self.name(recipient) for recipient in self.due(recipients)}


class Attempt:
    """One attempt at a message, as a context: while it is open nobody else handles the same message.

    ``entry`` is what the journal knows of earlier attempts, None where there was none.  Entering waits where another
    worker has the same message, since an MTA may send one to many recipients in several transactions at once, and
    raises JournalBusy where that takes long, and JournalError.
    """

    def __init__(
        self,
        session: Session,
        ports: Ports,
        alive: Callable[[], object],
        known: Fingerprint | None = None,
        *,
        after_queue: bool = False,
    ) -> None:
        """``alive`` is called between copies and while waiting, to tell the MTA that the filter is at work.  ``known``
        is by what the message is known again, where that is not what it looks like.  ``after_queue``: a plaintext copy
        that bounces brings its header fields back alone, since the sender may be far."""
        self._known, self._after_queue = known, after_queue
        self.entry: JournalEntry | None = None
        self._session, self._ports, self._alive = session, ports, alive
        self._stack = ExitStack()
        self._refusals: list[Refusal] = []

    def __enter__(self) -> Self:
        journal = self._ports.journal
        if journal is not None and journal.is_there() and journal.known(self._fingerprint()):
            self.entry = self._opened(journal)
        return self

    @property
    def has_sent(self) -> bool:
        """Was a copy for one of these recipients, or a notification about them, accepted before, or on its way when all
        ended?"""
        entry = self.entry
        return entry is not None and any(entry.is_accepted(name) or entry.is_unknown(name) for name in self._names())

    def finishing(self) -> Callable[[], None] | None:
        """What has the journal forget these recipients, for when the MTA has got its answer: others may have been owed
        copies by another attempt at the same message."""
        return partial(self.entry.finish, self._names()) if self.entry is not None else None

    @cached_property
    def _token(self) -> str:
        """By which our own copies of this attempt are known."""
        return secrets.token_hex(16)

    def _names(self) -> list[str]:
        """What the journal calls what these recipients may be owed."""
        return [name(recipient) for recipient in self._session.envelope.recipients for name in (mailbox, notice)]

    def _fingerprint(self) -> Fingerprint:
        if self._known is None:
            self._known = fingerprint(self._session)
        return self._known

    def _opened(self, journal: Journal) -> JournalEntry:
        until = time.monotonic() + _BUSY_S
        while True:
            try:
                return self._stack.enter_context(journal.open(self._fingerprint()))
            except JournalBusy:
                if time.monotonic() >= until:
                    raise
            self._alive()
            time.sleep(_ASK_EVERY_S)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def deliver(
        self,
        further: Sequence[Copy],
        bounced: Sequence[Decision],
        why: Callable[[Decision], str],
        *,
        hide: bool = False,
    ) -> tuple[Refusal, ...]:
        """Hands the further copies over, and the notification about who is bounced, ``why`` in public words; it hides
        header fields where any copy does (``hide``).  After the listener is lost, the rest is owed.  Returns who is
        still owed a copy.  Raises JournalError before anything leaves, and where it cannot be written what has left.
        """
        if self._ports.journal is None or self._ports.mailer is None:
            raise JournalError("there is no journal: [policy] mixed is not reinject")
        if self.entry is None:
            self.entry = self._opened(self._ports.journal)
            if self.has_sent:
                raise JournalBusy("another worker has just handled the same message")
        waiting = [_Parcel(self._submission(copy), _dues(copy.recipients), mailbox) for copy in further]
        if bounced:
            note = self._notification(bounced, why, hide=hide)
            about = {note.recipients[0]: tuple(decision.recipient for decision in bounced)}
            waiting.append(_Parcel(note, about, notice))
        try:
            with self._ports.mailer.connect() as connection:
                self._owe(self.entry, waiting)
                while waiting:
                    self._send(self.entry, connection, waiting[0])
                    del waiting[0]
                    self._alive()
        except ReinjectError as error:
            left = (recipient for parcel in waiting for recipient in parcel.due(parcel.dues))
            self._refusals += [Refusal(recipient, str(error)) for recipient in left]
        for refusal in self._refusals:
            log.copy_failed(self._session.queue_id, refusal.recipient.shown, refusal.detail)
        return tuple(self._refusals)

    def answered(self, owed: Collection[str], gone: Collection[str], note: StageNote) -> None:
        """The stage has answered: who is owed a copy stands in the journal, and what nobody is owed is finished.  An
        entry is made only where somebody is owed.  Raises nothing: the answers stand."""
        try:
            if self.entry is None and owed and self._ports.journal is not None:
                self.entry = self._opened(self._ports.journal)
            if self.entry is None:
                return
            if owed or (gone and self.entry.has_owed):
                self.entry.answered(owed, gone, note)
            if not self.entry.has_owed:
                self.entry.finish()
        except JournalError as error:
            log.journal_failed(str(error), self._session.queue_id)

    def tell_unknown(self) -> None:
        """The log's lines about those whose copy goes another way now, though an earlier one may have been accepted."""
        entry = self.entry
        for recipient in self._session.envelope.recipients if entry is not None else ():
            if entry is not None and entry.is_unknown(mailbox(recipient)):
                log.copy_unknown(self._session.queue_id, recipient.shown)

    def _owe(self, entry: JournalEntry, parcels: Sequence[_Parcel]) -> None:
        for parcel in parcels:
            for recipient in parcel.due(parcel.dues):
                if entry.is_unknown(parcel.name(recipient)):
                    log.copy_unknown(self._session.queue_id, recipient.shown)
        owed = {name for parcel in parcels for name in parcel.names(parcel.dues)}
        entry.owe(owed, self._token, self._session.queue_id)

    def _send(self, entry: JournalEntry, connection: MailerConnection, parcel: _Parcel) -> None:
        handover = connection.send(
            parcel.submission, lambda accepted: entry.committing(parcel.names(accepted)), self._alive
        )
        refused = dict(handover.refused)
        if handover.unknown:
            lost = parcel.due(recipient for recipient in parcel.dues if recipient not in refused)
            self._refusals += [Refusal(r, "the connection ended before the final reply") for r in lost]
        else:
            entry.settle(parcel.names(handover.accepted), parcel.names(refused))
        self._refusals += [
            Refusal(r, detail, is_of_copy=True) for recipient, detail in refused.items() for r in parcel.dues[recipient]
        ]
        if handover.accepted:
            log.copy_accepted(self._session.queue_id, len(parcel.due(handover.accepted)), handover.reply)

    def _submission(self, copy: Copy) -> Submission:
        envelope = self._session.envelope
        return Submission(
            sender=envelope.sender,
            parameters=self._parameters(copy.form),
            recipients=tuple(_dues(copy.recipients)),
            octets=lambda: self._octets(copy),
            client=self._session.client,
            queue_id=self._session.queue_id,
        )

    def _parameters(self, form: CopyForm) -> tuple[str, ...]:
        parameters = self._session.envelope.parameters
        if not self._after_queue or form is not CopyForm.PLAIN:
            return parameters
        return (*(p for p in parameters if p.partition("=")[0].upper() != "RET"), "RET=HDRS")

    def _octets(self, copy: Copy) -> Iterator[bytes]:
        """The copy as it goes over the wire: a Received field, the header, the body."""
        blocks = rewrap.applied(self._session.message, copy.rewrite)
        yield received(self._session, self._token, self._ports.clock.now()) + next(blocks)
        yield from blocks

    def _notification(
        self, bounced: Sequence[Decision], why: Callable[[Decision], str], *, hide: bool = False
    ) -> Submission:
        """A notification to the sender about who is bounced; accepted, it is what these recipients were owed."""
        envelope, client = self._session.envelope, self._session.client
        failures = [dsn.Failure(d.recipient, "4.7.5" if d.action is Action.DEFER else "5.7.5", why(d)) for d in bounced]
        message = self._session.message
        if hide or any(decision.style.protect_headers == "hide" for decision in bounced):
            message = Message(protect.shown(message.headers), message.body)
        raw = dsn.build(envelope, message, failures, client.mta or "localhost", self._ports.clock.now())
        sender = Recipient(f"<{envelope.sender}>", None)
        parameters = ("SMTPUTF8",) if not envelope.sender.isascii() else ()
        return Submission("", parameters, (sender,), lambda: iter([raw]), client, self._session.queue_id)


def _dues(recipients: Iterable[Recipient]) -> _Dues:
    """One recipient for each mailbox, the first spelling of it, and all whom it stands for."""
    found: dict[str, list[Recipient]] = {}
    for recipient in recipients:
        found.setdefault(mailbox(recipient), []).append(recipient)
    return {spellings[0]: tuple(spellings) for spellings in found.values()}


def received(session: Session, token: str, now: datetime) -> bytes:
    """Our Received field (RFC 5321 section 4.4): from the client, as the MTA tells of it, by the MTA."""
    client = session.client
    helo, host, mta = (_UNSAFE.sub("?", name)[:255] for name in (client.helo, client.host_name, client.mta))
    ip = f" [{_UNSAFE.sub('?', client.ip)}]" if client.ip else ""
    line = (
        f"Received: from {helo or host or 'localhost'} ({host or 'unknown'}{ip})\r\n"
        f"\tby {mta or 'localhost'} (smilla) with ESMTP id {token};\r\n\t{format_datetime(now)}\r\n"
    )
    return line.encode("ascii")
