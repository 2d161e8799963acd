"""Takes back a copy that may leave over a verified hop only: postsuper -r forgets what bound it.

The copy goes to the listener of ``secure_smtp`` anew, with a new field.

Promises: only a copy whose field is ours, for this envelope sender, goes on, and to that listener only.  No copy comes
twice, except in the window between the final dot and the recorded reply (``copy-unknown``).
"""

from __future__ import annotations

import re
from datetime import timedelta
from hashlib import sha256

from smilla import log, log_binding
from smilla.answer import reply
from smilla.copies import sharing
from smilla.errors import JournalError, SealBroken, SealKeyMissing
from smilla.handover import binding, reinject
from smilla.model import Client, Copy, CopyForm, Message, Rewrite
from smilla.ports import Fingerprint, Ports
from smilla.server.handed import Handed, age, hop, note
from smilla.session import Session

_GIVEN_UP_AFTER = timedelta(days=1)
_TRACE = re.compile("received|return-path|delivered-to|x-original-to")  # what each way through the queue adds


def deliver(handed: Handed, ports: Ports) -> tuple[reply.Reply, ...]:
    """One answer per recipient, in their order.  If smilla fails, it raises, and all are owed their copies."""
    queue_id = handed.ident or hop(handed.message)
    if problem := ports.stage_problem():
        log.stage_not_ready(queue_id, problem)
        return (reply.HANDOVER,) * len(handed.recipients)
    try:
        raw_id = _verified(handed, ports)
        return _handed_on(handed, queue_id, raw_id, ports)
    except SealKeyMissing as error:
        log.seal_key_missing(queue_id, str(error))
        answer = reply.for_error(error)
    except SealBroken as error:
        gives_up = age(handed.message, ports.clock.now()) > _GIVEN_UP_AFTER
        log.seal_broken(queue_id, str(error), gives_up=gives_up)
        answer = reply.SEAL_REFUSED if gives_up else reply.for_error(error)
    except JournalError as error:
        log.journal_failed(str(error), queue_id)
        answer = reply.for_error(error)
    return (answer,) * len(handed.recipients)


def _verified(handed: Handed, ports: Ports) -> bytes:
    if ports.seal_keys is None:
        raise SealKeyMissing("there are no seal keys here")
    return binding.verified_id(handed.message.headers, handed.sender, ports.seal_keys)


def _handed_on(handed: Handed, queue_id: str, raw_id: bytes, ports: Ports) -> tuple[reply.Reply, ...]:
    session = Session(Client(), handed.sender, handed.parameters)
    session.queue_id = queue_id
    session.take(handed.message)
    for recipient in handed.recipients:
        session.add(recipient)
    fields = handed.message.places[binding.NAME.lower()]
    known = _fingerprint(raw_id, handed.message)
    with reinject.Attempt(session, ports, lambda: None, known=known, after_queue=True) as attempt:
        entry = attempt.entry
        owed = [r for r in handed.recipients if entry is None or not entry.is_accepted(sharing.mailbox(r))]
        copy = Copy(CopyForm.SECURE_HOP, tuple(owed), Rewrite(removed=tuple(fields)))
        refusals = {r.recipient: r for r in (attempt.deliver((copy,), (), reply.why) if owed else ())}
        answers = []
        for recipient in handed.recipients:
            refusal = refusals.get(recipient)
            if refusal is None:
                answers.append(reply.COPY_TAKEN)
            else:
                answers.append(reply.for_refusal(refusal.detail) if refusal.is_of_copy else reply.HANDOVER)
            log_binding.bound_again(queue_id, recipient.shown, answers[-1].line)
        _remember(attempt, handed, answers, raw_id, ports)
    return tuple(answers)


def _remember(
    attempt: reinject.Attempt, handed: Handed, answers: list[reply.Reply], raw_id: bytes, ports: Ports
) -> None:
    """In case the MTA does not get our answer."""
    by_verb: dict[reply.Verb, set[str]] = {verb: set() for verb in reply.Verb}
    for recipient, answer in zip(handed.recipients, answers, strict=True):
        by_verb[answer.verb].add(sharing.mailbox(recipient))
    accepted = by_verb[reply.Verb.ACCEPT]
    owed = by_verb[reply.Verb.TEMPFAIL] - accepted
    gone = by_verb[reply.Verb.REJECT] - accepted - owed
    last = next(
        (f"{answer.code} {answer.enhanced} hop" for answer in answers if answer.verb is not reply.Verb.ACCEPT), ""
    )
    attempt.answered(owed, gone, note(handed, handed.ident or hop(handed.message), raw_id, last, ports))


def _fingerprint(raw_id: bytes, message: Message) -> Fingerprint:
    """Identifies the copy in the journal: by the random ID in its field, and by what it is.  The sender gets the field
    with a bounce or a warning, and whatever they put it into is another message: no copy of that has been accepted."""
    whole = sha256(b"bound" + raw_id)
    for header in message.headers:
        if not _TRACE.fullmatch(header.name):
            whole.update(header.name.encode("ascii", "replace") + b":" + header.raw_value.strip() + b"\0")
    for block in message.body.blocks():
        whole.update(block)
    name = whole.digest()
    return Fingerprint(name, lambda: name, identified=True)
