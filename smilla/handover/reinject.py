"""Further copies of a message: how each recipient gets exactly one.

One copy stays in the message that the MTA holds.  Before the MTA is answered, the others go to one of its listeners
that does not use this filter; the reply to the final dot says whether a copy was accepted.  The journal records who is
owed a copy before anything leaves, and then whose copy was accepted.  If anything fails, the client gets 451 and tries
again; then recipients who already have a copy get no second one.

**How a retry is recognised.**  Only if the attempt before it was answered 4yz, or its answer was lost: an attempt
answered 250 is forgotten at once, so the next such message is delivered in full.  And only if client, envelope sender,
all header fields and the body are the same.  This excludes what our hop adds anew at each attempt: authentication
results, a field with the attempt's queue ID, and the Date that Postfix adds at the end if there is a Message-ID.  A
message that differs in anything else (a retry from another IP address, a changed spam score of this hop) is another
message.  All its copies are sent, so some may come twice, but none is lost.

**What nobody can know.**  If smilla or the connection dies between the final dot and the recorded reply, the MTA may or
may not have the copy.  It is sent again, logged (copy-unknown) and counted.  Every SMTP hop has the same window (RFC
5321 section 4.1.1.4).

**Loops.**  A Received field counts the hop.  It holds a random token that the journal knows while the copy is on its
way.  Only while the journal knows the token does a copy that comes back count as ours, so nobody can forge one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from functools import cache, cached_property, partial
from typing import Self

from smilla import log, log_recovery
from smilla.answer import dsn
from smilla.copies import protect, rewrap
from smilla.copies.sharing import mailbox, notice
from smilla.errors import JournalBusy, JournalError, ReinjectError, SealKeyMissing
from smilla.handover import binding
from smilla.model import Action, Copy, CopyForm, Decision, Header, Message, Recipient, Refusal, Submission
from smilla.ports import Fingerprint, Journal, JournalEntry, Mailer, MailerConnection, Ports, StageNote
from smilla.session import Session

_OF_THIS_HOP = re.compile("received-spf|authentication-results|arc-.*")
_MADE_LAST = ("from", "to", "resent-from")  # what Postfix may add after a Date
_LEAST_QUEUE_ID = 5  # octets; a shorter ID may occur in a field by chance
_Served = Mapping[Recipient, tuple[Recipient, ...]]  # a recipient of a copy, and all whom that copy serves
_TOKEN = re.compile(rb"\(smilla\) with E?SMTP id ([0-9a-f]{32});")
_BUSY_S = 30.0  # how long another worker may take for the same message, sent to other recipients for instance
_ASK_EVERY_S = 0.1
REFUSED = "reinject"  # the reason of one whom the listener did not take, with its reply as the text
_UNSAFE = re.compile(r"[^A-Za-z0-9.:_\[\]-]")


def fingerprint(session: Session) -> Fingerprint:
    """Identifies the message when it is tried again."""
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
    """The fields that stay the same at each attempt."""
    raw_id = queue_id.encode("ascii", "replace") if len(queue_id) >= _LEAST_QUEUE_ID else b""
    added = _date_of_mta(headers)
    for index, header in enumerate(headers):
        has_id = raw_id and raw_id in header.raw_value
        if index != added and not has_id and not _OF_THIS_HOP.fullmatch(header.name):
            yield header


def _date_of_mta(headers: Sequence[Header]) -> int:
    """The index of a Date that the MTA may have added, -1 if it added none: a Date with nothing after it but what
    Postfix adds.  Without a Message-ID, two messages that differ only in their dates are two messages."""
    if any(header.name == "message-id" for header in headers):
        for index in range(len(headers) - 1, -1, -1):
            if headers[index].name == "date":
                return index
            if headers[index].name not in _MADE_LAST:
                break
    return -1


def finish(unfinished: Callable[[], None], queue_id: str) -> None:
    """The MTA has its answer: calls ``unfinished``, which lets the journal forget the message.  Raises nothing."""
    try:
        unfinished()
    except JournalError as error:
        log.journal_failed(str(error), queue_id)


def own_token(message: Message) -> str:
    """The token of one of our own copies, from its first Received fields; "" if there is none."""
    found = (
        _TOKEN.search(message.headers[index].raw_value) for index in message.places.get("received", ()) if index < 40
    )
    return next((match[1].decode("ascii") for match in found if match), "")


@dataclass(frozen=True, slots=True)
class _Parcel:
    """One message for the listener.  ``served`` says, for each of its recipients, who has what they are owed once that
    recipient is accepted; ``name`` gives the journal's name for what they are owed.  With ``is_bound`` it may leave
    over a verified hop only, and goes to the listener for that."""

    submission: Submission
    served: _Served
    name: Callable[[Recipient], str]
    is_bound: bool = False

    def served_by(self, recipients: Iterable[Recipient]) -> list[Recipient]:
        """Everybody served if these recipients of the submission are accepted."""
        return [served for recipient in recipients for served in self.served[recipient]]

    def names(self, recipients: Iterable[Recipient]) -> set[str]:
        """The journal's names for what those are owed."""
        return {self.name(recipient) for recipient in self.served_by(recipients)}


class Attempt:
    """One attempt at a message, as a context: while it is open nobody else handles the same message.

    ``entry`` is what the journal knows of earlier attempts, None if there was none.  An MTA may send a message to many
    recipients in several transactions at once.  So entering waits while another worker has the same message, and raises
    JournalBusy if that takes too long.  It may also raise JournalError.
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
        identifies the message, if its content does not.  ``after_queue``: if a plaintext copy bounces, only its header
        fields go back, since the sender may be far away."""
        self._known, self._after_queue = known, after_queue
        self.entry: JournalEntry | None = None
        self._session, self._ports, self._alive = session, ports, alive
        self._stack = ExitStack()
        self._refusals: list[Refusal] = []

    def __enter__(self) -> Self:
        journal = self._ports.journal
        if journal is not None and journal.is_there() and journal.known(self._fingerprint()):
            self.entry = self._opened(journal)
        if journal is not None and log_recovery.journal_is_in_doubt():
            self._try_out(journal)
        return self

    def _try_out(self, journal: Journal) -> None:
        """Can the journal, which failed before, be written again?  An entry without anything owed leaves no trace."""
        raw = secrets.token_bytes(32)
        with suppress(JournalError):
            if journal.is_there():
                with journal.open(Fingerprint(raw, lambda: raw, identified=True)):
                    pass
                log_recovery.journal_works(self._session.queue_id)

    @property
    def has_sent(self) -> bool:
        """Did an earlier attempt send, or perhaps send, a copy for one of these recipients, or a notification about
        one?"""
        entry = self.entry
        return entry is not None and any(entry.is_accepted(name) or entry.is_unknown(name) for name in self._names())

    def finishing(self) -> Callable[[], None] | None:
        """A call that makes the journal forget these recipients once the MTA has its answer; None without an entry.
        Only these, since another attempt at the same message may owe copies to others."""
        return partial(self.entry.finish, self._names()) if self.entry is not None else None

    @cached_property
    def _token(self) -> str:
        """Marks the copies of this attempt as ours."""
        return secrets.token_hex(16)

    def _names(self) -> list[str]:
        """The journal's names for everything that these recipients may be owed."""
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
        """Hands over the further copies, and the notification about the bounced recipients.

        ``why`` says in public words why one is bounced; with ``hide`` the notification hides header fields as the
        copies do.  If the listener is lost, the rest stays owed.  Returns who of these is still owed a copy.  Raises
        JournalError before anything leaves, or if it cannot record what has left.
        """
        if self._ports.journal is None or self._ports.mailer is None:
            raise JournalError("there is no journal: [policy] mixed is not reinject")
        if self.entry is None:
            self.entry = self._opened(self._ports.journal)
            if self.has_sent:
                raise JournalBusy("another worker has just handled the same message")
        waiting = [self._parcel(copy) for copy in further]
        if bounced:
            note = self._notification(bounced, why, hide=hide)
            about = {note.recipients[0]: tuple(decision.recipient for decision in bounced)}
            waiting.append(_Parcel(note, about, notice))
        before = len(self._refusals)
        self._hand_over(self.entry, self._ports.mailer, [parcel for parcel in waiting if not parcel.is_bound])
        self._hand_over(self.entry, self._ports.secure_mailer, [parcel for parcel in waiting if parcel.is_bound])
        refusals = tuple(self._refusals[before:])
        for refusal in refusals:
            log.copy_failed(self._session.queue_id, refusal.recipient.shown, refusal.detail)
        return refusals

    def _hand_over(self, entry: JournalEntry, mailer: Mailer | None, waiting: list[_Parcel]) -> None:
        """All that goes to one listener."""
        if not waiting:
            return
        try:
            if mailer is None:
                raise ReinjectError("there is no listener for copies that may leave over a verified hop only")
            with mailer.connect() as connection:
                self._owe(entry, waiting)
                while waiting:
                    self._send(entry, connection, waiting[0])
                    del waiting[0]
                    self._alive()
        except ReinjectError as error:
            log_recovery.listener_fails()
            left = (recipient for parcel in waiting for recipient in parcel.served_by(parcel.served))
            self._refusals += [Refusal(recipient, str(error)) for recipient in left]

    def answered(self, owed: Collection[str], gone: Collection[str], note: StageNote) -> None:
        """Records the stage's answers: who is still owed a copy, or that the message is finished.  Makes an entry only
        if somebody is owed a copy.  Raises nothing, since the answers are settled."""
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
        """Logs recipients whose copy now goes another way, though an earlier copy may have been accepted."""
        entry = self.entry
        for recipient in self._session.envelope.recipients if entry is not None else ():
            if entry is not None and entry.is_unknown(mailbox(recipient)):
                log.copy_unknown(self._session.queue_id, recipient.shown)

    def _owe(self, entry: JournalEntry, parcels: Sequence[_Parcel]) -> None:
        for parcel in parcels:
            for recipient in parcel.served_by(parcel.served):
                if entry.is_unknown(parcel.name(recipient)):
                    log.copy_unknown(self._session.queue_id, recipient.shown)
        owed = {name for parcel in parcels for name in parcel.names(parcel.served)}
        entry.owe(owed, self._token, self._session.queue_id)
        log_recovery.journal_works(self._session.queue_id)

    def _send(self, entry: JournalEntry, connection: MailerConnection, parcel: _Parcel) -> None:
        handover = connection.send(
            parcel.submission, lambda accepted: entry.committing(parcel.names(accepted)), self._alive
        )
        refused = dict(handover.refused)
        if not handover.unknown:
            log_recovery.listener_works(self._session.queue_id)
        if handover.unknown:
            lost = parcel.served_by(recipient for recipient in parcel.served if recipient not in refused)
            self._refusals += [Refusal(r, "the connection ended before the final reply") for r in lost]
        else:
            entry.settle(parcel.names(handover.accepted), parcel.names(refused))
        self._refusals += [
            Refusal(r, detail, is_of_copy=True) for key, detail in refused.items() for r in parcel.served[key]
        ]
        if handover.accepted:
            log.copy_accepted(self._session.queue_id, len(parcel.served_by(handover.accepted)), handover.reply)

    def _parcel(self, copy: Copy) -> _Parcel:
        is_bound = copy.form is CopyForm.SECURE_HOP
        return _Parcel(self._submission(copy), _by_mailbox(copy.recipients), mailbox, is_bound)

    def _submission(self, copy: Copy) -> Submission:
        envelope = self._session.envelope
        return Submission(
            sender=envelope.sender,
            parameters=self._parameters(copy.form),
            recipients=tuple(_by_mailbox(copy.recipients)),
            octets=lambda: self._octets(copy),
            client=self._session.client,
            queue_id=self._session.queue_id,
            needs_dsn=copy.form is CopyForm.SECURE_HOP,
        )

    def _parameters(self, form: CopyForm) -> tuple[str, ...]:
        parameters = self._session.envelope.parameters
        if not self._after_queue or form not in (CopyForm.PLAIN, CopyForm.SECURE_HOP):
            return parameters
        return (*(p for p in parameters if p.partition("=")[0].upper() != "RET"), "RET=HDRS")

    def _octets(self, copy: Copy) -> Iterator[bytes]:
        """The copy as sent: a Received field, the field that binds it to a verified hop where it may leave over no
        other, the header, the body."""
        blocks = rewrap.applied(self._session.message, copy.rewrite)
        bound = self._binding() if copy.form is CopyForm.SECURE_HOP else b""
        yield received(self._session, self._token, self._ports.clock.now()) + bound + next(blocks)
        yield from blocks

    def _binding(self) -> bytes:
        if self._ports.seal_keys is None:
            raise SealKeyMissing("there are no seal keys here, so no copy can be bound to a verified hop")
        return binding.field(self._session.envelope.sender, self._ports.seal_keys.current())

    def _notification(
        self, bounced: Sequence[Decision], why: Callable[[Decision], str], *, hide: bool = False
    ) -> Submission:
        """The notification to the sender about the bounced recipients; once accepted, they are owed no more."""
        envelope, client = self._session.envelope, self._session.client
        failures = [_failure(decision, why(decision)) for decision in bounced]
        message = self._session.message
        if hide or any(decision.style.protect_headers == "hide" for decision in bounced):
            message = Message(protect.shown(message.headers), message.body)
        raw = dsn.build(envelope, message, failures, client.mta or "localhost", self._ports.clock.now())
        sender = Recipient(f"<{envelope.sender}>", None)
        parameters = ("SMTPUTF8",) if not envelope.sender.isascii() else ()
        return Submission("", parameters, (sender,), lambda: iter([raw]), client, self._session.queue_id)


def _failure(decision: Decision, text: str) -> dsn.Failure:
    if decision.reason.code == REFUSED:
        enhanced = re.match(r"5\d\d[ -](5\.\d{1,3}\.\d{1,3})\b", decision.reason.text)
        return dsn.Failure(decision.recipient, enhanced[1] if enhanced else "5.0.0", text, is_remote=True)
    return dsn.Failure(decision.recipient, "4.7.5" if decision.action is Action.DEFER else "5.7.5", text)


def _by_mailbox(recipients: Iterable[Recipient]) -> _Served:
    """The first recipient of each mailbox, with all recipients of that mailbox."""
    mailboxes: dict[str, list[Recipient]] = {}
    for recipient in recipients:
        mailboxes.setdefault(mailbox(recipient), []).append(recipient)
    return {spellings[0]: tuple(spellings) for spellings in mailboxes.values()}


def received(session: Session, token: str, now: datetime) -> bytes:
    """Our Received field (RFC 5321 section 4.4): from the client, as the MTA describes it, by the MTA."""
    client = session.client
    helo, host, mta = (_UNSAFE.sub("?", name)[:255] for name in (client.helo, client.host_name, client.mta))
    ip = f" [{_UNSAFE.sub('?', client.ip)}]" if client.ip else ""
    line = (
        f"Received: from {helo or host or 'localhost'} ({host or 'unknown'}{ip})\r\n"
        f"\tby {mta or 'localhost'} (smilla) with ESMTP id {token};\r\n\t{format_datetime(now)}\r\n"
    )
    return line.encode("ascii")
