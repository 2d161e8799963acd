"""What becomes of a message that came to the relay: the third caller of the pipeline.

No MTA holds the message meanwhile, so every copy is handed to the next hop, by the rules of ``mixed = "reinject"``: the
journal has who is owed a copy before anything leaves, and who has one.

Promises: a client is told 250 only after the next hop has taken every copy that is owed.  If anything fails before, the
client keeps the message, and a retry gives nobody a second copy.

Over SMTP one answer is for all.  Where the next hop has refused a recipient for good, [policy] one_fails says who hears
of it: the client (5yz), or the sender (a notification, which the next hop takes; then the client gets 250).  Over LMTP
each recipient has an answer of their own, and whoever fails holds up nobody else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from smilla import pipeline
from smilla.answer import reply, report
from smilla.config import Config
from smilla.copies import sharing
from smilla.handover import reinject
from smilla.model import Action, Copy, CopyForm, Decision, Disposition, Outcome, Reason, Recipient, Refusal, Rewrite
from smilla.pipeline import Handled
from smilla.ports import JournalEntry, Ports
from smilla.session import Session

_FINAL = re.compile(r"5\d\d\b")
_ACCEPTING = (reply.Verb.ACCEPT, reply.Verb.DISCARD)
_ENDS = Callable[[], None] | None  # to be called once the client has its answer


def handle(session: Session, ports: Ports, config: Config) -> Handled:
    """Decides and hands all copies over; one answer for all recipients.  Raises whatever goes wrong.  ``config`` is
    the one that ``Config.relaying`` gives."""
    with reinject.Attempt(session, ports, _go_on) as attempt:
        # No copy stays, since no MTA has the message.
        outcome = replace(pipeline.process(session, ports, config, attempt.entry), kept_index=None)
        decided, _ = pipeline.answer_to(session, outcome, ports, config)
        if outcome.disposition is Disposition.HOLD:
            decided = reply.NO_QUARANTINE
        refusals: tuple[Refusal, ...] = ()
        if config.observe:
            given = _told(_as_it_came(session, attempt), len(outcome.decisions))
        elif decided.verb in _ACCEPTING:
            decided, refusals = _handed_on(session, outcome, attempt, config)
            given = decided
        else:
            given = decided
        finish = attempt.finishing() if given.verb is not reply.Verb.TEMPFAIL else None
    return Handled(outcome, decided, given, refusals, finish)


def handle_each(
    session: Session, ports: Ports, config: Config, began_at: float
) -> tuple[tuple[reply.Reply, ...], _ENDS]:
    """The same with one answer for each recipient, in their order, and the lines of the log.  ``began_at`` (monotonic
    seconds) is the time of MAIL.  If it raises, all are owed their copies."""
    ended_at = time.monotonic()
    with reinject.Attempt(session, ports, _go_on) as attempt:
        outcome = _without_held(replace(pipeline.process(session, ports, config, attempt.entry), kept_index=None))
        if config.observe:
            refusals = _as_it_came(session, attempt)
        else:
            refusals = attempt.deliver(outcome.copies, (), reply.why) if outcome.copies else ()
        answers = _answers(outcome, {} if config.observe else _by_recipient(refusals))
        given = tuple(answer for answer, _ in answers)
        if config.observe:
            given = tuple(_of_refusal(_by_recipient(refusals).get(d.recipient)) for d in outcome.decisions)
        finish = _finishing(attempt.entry, outcome, given)
    now = time.monotonic()
    times = round((now - began_at) * 1000), now - ended_at
    report.each(session, report.Each(outcome, tuple(answers), config.observe, *times), ports.metrics)
    return given, finish


def unjudged(session: Session, ports: Ports) -> reply.Reply:
    """Hands a message over as it came: while smilla only observes, its own failure is no reason to keep the mail."""
    with reinject.Attempt(session, ports, _go_on) as attempt:
        return _told(_as_it_came(session, attempt), len(session.envelope.recipients))


def _go_on() -> None:
    """Nothing tells an SMTP client that it is to wait."""


def _as_it_came(session: Session, attempt: reinject.Attempt) -> tuple[Refusal, ...]:
    recipients = tuple(r for r in session.envelope.recipients if not _has_copy(attempt.entry, r))
    copies = (Copy(CopyForm.UNCHANGED, recipients, Rewrite()),) if recipients else ()
    return attempt.deliver(copies, (), reply.why) if copies else ()


def _has_copy(entry: JournalEntry | None, recipient: Recipient) -> bool:
    return entry is not None and entry.is_accepted(sharing.mailbox(recipient))


# --- one answer for all


def _handed_on(
    session: Session, outcome: Outcome, attempt: reinject.Attempt, config: Config
) -> tuple[reply.Reply, tuple[Refusal, ...]]:
    copies, bounced = outcome.copies, outcome.bounced
    if not copies and not bounced:
        return reply.ALL_TAKEN, ()
    hide = any(decision.style.protect_headers == "hide" for decision in outcome.decisions)
    refusals = attempt.deliver(copies, bounced, reply.why, hide=hide)
    told = _told(refusals, len(session.envelope.recipients))
    if told.verb is reply.Verb.REJECT and len(refusals) < len(session.envelope.recipients):
        lost = _decisions_of(refusals, outcome)
        is_of_bounced = any(decision in bounced for decision in lost)
        if not is_of_bounced and pipeline.may_bounce(session, lost, outcome.decisions, config):
            return _notified(attempt, lost, refusals, hide=hide)
    return told, refusals


def _decisions_of(refusals: Sequence[Refusal], outcome: Outcome) -> tuple[Decision, ...]:
    lost = _by_recipient(refusals)
    return tuple(decision for decision in outcome.decisions if decision.recipient in lost)


def _notified(
    attempt: reinject.Attempt, lost: tuple[Decision, ...], refusals: tuple[Refusal, ...], *, hide: bool
) -> tuple[reply.Reply, tuple[Refusal, ...]]:
    """The sender is told of those whom the next hop refused for good; until that is taken, the client is not."""
    refused = _by_recipient(refusals)
    told = [
        replace(d, action=Action.REFUSE, reason=Reason(reinject.REFUSED, refused[d.recipient].detail)) for d in lost
    ]
    owed = attempt.deliver((), told, lambda decision: decision.reason.text, hide=hide)
    return (reply.HANDOVER if owed else reply.ALL_TAKEN), refusals


def _told(refusals: Sequence[Refusal], recipient_count: int) -> reply.Reply:
    """One answer for all: 4yz as long as anybody may still get a copy."""
    if not refusals:
        return reply.ALL_TAKEN
    if not all(refusal.is_of_copy and _FINAL.match(refusal.detail) for refusal in refusals):
        return reply.HANDOVER
    first = refusals[0]
    return reply.refused_by_next_hop(first.recipient, first.detail, len(refusals), recipient_count)


# --- an answer for each


def _without_held(outcome: Outcome) -> Outcome:
    """Nothing here can hold a copy, so it must not leave."""
    held = {decision.recipient for decision in outcome.decisions if decision.action is Action.HOLD}
    return replace(outcome, copies=tuple(copy for copy in outcome.copies if not held & {*copy.recipients}))


def _answers(outcome: Outcome, refused: Mapping[Recipient, Refusal]) -> list[report.Alone]:
    served = {recipient for copy in outcome.copies for recipient in copy.recipients}
    return [_answer(decision, refused.get(decision.recipient), served) for decision in outcome.decisions]


def _answer(decision: Decision, refusal: Refusal | None, served: set[Recipient]) -> report.Alone:
    """The answer to one recipient, and what has happened for them."""
    if (failed := reply.for_recipient(decision)) is not None:
        return failed, (decision.action, decision.reason)
    if decision.action is Action.HOLD:
        return reply.NO_QUARANTINE, (Action.DEFER, decision.reason)
    if refusal is not None:
        answer = _of_refusal(refusal)
        action = Action.REFUSE if answer.verb is reply.Verb.REJECT else Action.DEFER
        return answer, (action, Reason(reinject.REFUSED, refusal.detail))
    if decision.action is not Action.DONE and decision.recipient not in served:
        return reply.INTERNAL, (Action.DEFER, decision.reason)  # nothing says in which form it may go
    return reply.COPY_TAKEN, (decision.action, decision.reason)


def _of_refusal(refusal: Refusal | None) -> reply.Reply:
    if refusal is None:
        return reply.COPY_TAKEN
    return reply.for_refusal(refusal.detail) if refusal.is_of_copy else reply.HANDOVER


def _by_recipient(refusals: Sequence[Refusal]) -> dict[Recipient, Refusal]:
    return {refusal.recipient: refusal for refusal in refusals}


def _finishing(entry: JournalEntry | None, outcome: Outcome, given: Sequence[reply.Reply]) -> _ENDS:
    """Who was told 4yz is still owed a copy.  A mailbox that was given twice is, if either answer says so."""
    owed, ended = set[str](), set[str]()
    for decision, answer in zip(outcome.decisions, given, strict=True):
        (owed if answer.verb is reply.Verb.TEMPFAIL else ended).add(sharing.mailbox(decision.recipient))
    return partial(entry.finish, ended - owed) if entry is not None else None
