"""What happens to a message, from the MTA to the MTA.

    session     collects what the MTA tells: envelope, header, body          server/milter, filter, session
    look-up     each recipient's begins at RCPT                              decide
                the end of the message: ``handle``
    retry       has an earlier attempt handed copies over?                   handover/reinject, the journal
    classify    what is the message already?                                 classify
    arrival     how did it come, and what does each copy say of that?        copies/arrival
    policy      for whom is encryption wanted?                               policy/requirement, policy/rules
    keys        which keys do they publish, and may these be used?           keys/lookup, discovery, validity
    policy      so what happens for each recipient?                          decide, policy/decision
    copies      who shares a copy with whom?                                 copies/sharing
    protect     which header fields go inside a copy, what stays outside?    copies/protect
    encrypt     each copy, to its recipients' keys, and rewrap it as MIME    copies/make, encrypt, copies/rewrap
    answer      what the MTA is told                                         answer/reply
    hand-over   one copy takes the place of the MTA's message; or the
                original is sealed into it, and the stage makes the copies   handover/in_place, handover/seal,
                after the queue; or further ones go to the MTA's listener    server/stage, handover/reinject
    report      the lines of the log                                         filter, answer/report

``process`` decides and has no I/O of its own: what it needs comes through the ports.  ``smilla encrypt``, ``explain``
and the stage use it, or its parts, alike.  Whatever fails raises, and whoever called must then keep the mail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from smilla import classify, decide, log, policy
from smilla.answer import dsn, reply
from smilla.config import Config
from smilla.config.options import SPLITS
from smilla.copies import arrival, growth, make, rewrap, sharing
from smilla.errors import EncryptionError
from smilla.handover import binding, in_place, reinject, seal
from smilla.model import (
    Action,
    Arrival,
    Classification,
    Copy,
    CopyForm,
    Decision,
    Direction,
    Disposition,
    HeaderEdits,
    MessageKind,
    Outcome,
    Reason,
    Recipient,
    Refusal,
)
from smilla.policy import request, rules
from smilla.ports import MTA, JournalEntry, Ports
from smilla.session import Session
from smilla.value import value

_DISPOSITIONS = (
    (Action.DEFER, Disposition.DEFER),
    (Action.REFUSE, Disposition.REFUSE),
    (Action.HOLD, Disposition.HOLD),
)
_OWN = Classification(MessageKind.PLAIN, Reason("own_copy", "a copy of ours, which came back to the filter"))
_OK = Reason("ok", "")
_DONE = Reason("already_sent", "a copy, or the notification, was accepted at an earlier attempt of the client")
_ODD_SPELLING = Reason("odd_spelling", "the MTA could not tell this recipient apart, so the others cannot be split off")


@value
class Handled:
    """How a message ended: ``decided_reply`` is the reply, ``given_reply`` the one that the MTA gets (to accept, while
    observing).  ``finish`` is to be called once the MTA has got it."""

    outcome: Outcome
    decided_reply: reply.Reply
    given_reply: reply.Reply
    refusals: tuple[Refusal, ...]
    finish: Callable[[], None] | None


def handle(session: Session, mta: MTA, ports: Ports, config: Config) -> Handled:
    """Decides, changes the MTA's message and hands further copies over.  Raises whatever goes wrong."""
    if config.observe:
        ports = ports.without_handover()
    # An earlier attempt may have sent copies; also before mixed was changed from reinject to stage.
    reinject_ports = ports if config.policy.mixed in SPLITS else ports.without_handover()
    refusals: tuple[Refusal, ...] = ()
    with reinject.Attempt(session, reinject_ports, mta.alive) as attempt:
        outcome = process(session, ports, config, attempt.entry)
        if attempt.has_sent and config.policy.mixed == "stage" and not outcome.awaits_expansion:
            # Re-injection began this message, before mixed was changed: so it ends it.  Where somebody waits for the
            # expansion of an alias, the stage ends it: the seal says who has a copy.
            config = replace(config, policy=replace(config.policy, mixed="reinject"))
            outcome = process(session, ports, config, attempt.entry)
        decided_reply, why_not_sealed = answer_to(session, outcome, ports, config)
        if why_not_sealed:
            log.stage_not_ready(session.queue_id, why_not_sealed)
        given_reply = reply.Reply(reply.Verb.ACCEPT) if config.observe else decided_reply
        if given_reply.is_sealed:
            in_place.seal_message(mta, session, outcome, ports.seal_keys)
            attempt.tell_unknown()
        in_place.edit(mta, given_reply, session.message)
        if given_reply.further or given_reply.bounced:
            hide = any(decision.style.protect_headers == "hide" for decision in outcome.decisions)
            refusals = attempt.deliver(given_reply.further, given_reply.bounced, reply.why, hide=hide)
    if refusals:
        served_before = sum(decision.action is Action.DONE for decision in outcome.decisions)
        recipient_count = served_before + sum(len(copy.recipients) for copy in given_reply.further)
        decided_reply = given_reply = reply.for_refusals([refusal.detail for refusal in refusals], recipient_count)
    finish = attempt.finishing() if given_reply.verb is not reply.Verb.TEMPFAIL else None
    return Handled(outcome, decided_reply, given_reply, refusals, finish)


def process(session: Session, ports: Ports, config: Config, entry: JournalEntry | None = None) -> Outcome:
    """Decides about the whole message, and prepares its copies; a copy is encrypted when its body is asked for.

    ``entry`` is what the journal knows of an earlier attempt: whose copy was accepted then gets none now.
    """
    classification, decisions = judge(session, ports, config)
    if entry is not None:
        decisions = _done_before(decisions, entry)
    return _outcome(session, decisions, classification, ports, config)


def answer_to(session: Session, outcome: Outcome, ports: Ports, config: Config) -> tuple[reply.Reply, str]:
    """What the MTA is to be told of a message that was decided, had nobody said to observe; and why nothing may be
    sealed now, where that is the reason."""
    answer = reply.for_outcome(outcome, config.policy.mixed, observe=False)
    if answer.is_sealed and (why_not_sealed := ports.stage_problem()):
        return reply.NOT_READY, why_not_sealed
    if answer.is_sealed and _is_too_large(session, outcome, ports, config):
        return reply.TOO_LARGE, ""
    if answer.copy is not None and _outgrows(session, answer.copy, outcome, ports, config):
        return reply.TOO_LARGE, ""
    return answer, ""


def _is_too_large(session: Session, outcome: Outcome, ports: Ports, config: Config) -> bool:
    """Would the MTA not take the sealed message, or its listener not take a copy?  Better told now than bounced."""
    limit = config.stage.message_size_limit or (ports.mailer.size_limit() if ports.mailer else 0)
    message = session.message
    octets = [growth.of_seal(message, outcome), *(growth.of_copy(message, copy) for copy in outcome.copies)]
    return 0 < limit < max(octets)


def _outgrows(session: Session, copy: Copy, outcome: Outcome, ports: Ports, config: Config) -> bool:
    """Would the MTA refuse this copy in place of its message, for certain?  Whoever has got a copy before must not hear
    5yz, so then the MTA itself decides."""
    if copy.rewrite.body is None or any(decision.action is Action.DONE for decision in outcome.decisions):
        return False
    # What a Postfix takes whose files are still here says nothing about the Sendmail that asks.
    found = 0 if config.milter.mta == "sendmail" else ports.size_limit()
    limit = config.milter.message_size_limit or found
    return 0 < limit < growth.at_least(session.message, copy)


def judge(session: Session, ports: Ports, config: Config) -> tuple[Classification, tuple[Decision, ...]]:
    """What the message is, and what is to happen for each recipient."""
    envelope, message = session.envelope, session.message
    if not envelope.recipients:
        raise EncryptionError("a message without a recipient: nobody knows for whom it would have to be encrypted")
    classification = classify.classify(message)
    requested = is_requested(session, config)
    problem = rewrap.problem(message) or seal.forged(message) or binding.forged(message)
    problem = problem or _problem_of_arrival(session, config)
    if problem is not None:
        decisions = tuple(policy.refused(recipient, problem) for recipient in envelope.recipients)
    elif _is_own(session, ports, config):
        classification = _OWN
        decisions = tuple(policy.already_encrypted(recipient, _OWN) for recipient in envelope.recipients)
    elif classification.kind is MessageKind.ENCRYPTED:
        decisions = tuple(policy.already_encrypted(recipient, classification) for recipient in envelope.recipients)
    else:
        decisions = decide.for_all(session, ports, config, requested=requested)
    return classification, decisions


def make_copies(session: Session, decisions: tuple[Decision, ...], ports: Ports, config: Config) -> tuple[Copy, ...]:
    """The copies that these recipients are to get."""
    return _made(session, sharing.group(decisions, session.message, separate=config.smime.separate), ports, config)


def _made(
    session: Session, groups: Sequence[sharing.Group], ports: Ports, config: Config, told: HeaderEdits | None = None
) -> tuple[Copy, ...]:
    """``told`` are the edits that say how the message came: even a held one gets them, and neither what they remove nor
    what they add stands inside a ciphertext."""
    asked, told = _without_request(session, config), told or HeaderEdits()
    edits = HeaderEdits(tuple(sorted({*asked.removed, *told.removed})), asked.added)
    copies = make.copies_of(session.message, groups, ports.openpgp, edits, ports.metrics)
    return tuple(replace(copy, rewrite=rewrap.combined(copy.rewrite, told)) for copy in copies)


def is_requested(session: Session, config: Config) -> bool:
    """Does the sender ask for encryption, and is that to be heeded?"""
    return _may_ask(session, config) and request.found(session.message, config.policy)


def _may_ask(session: Session, config: Config) -> bool:
    if not request.is_configured(config.policy):
        return False
    requirements = (decide.requirement_for(session, recipient, config) for recipient in session.envelope.recipients)
    return policy.may_ask(requirements, session.client, config)


def _is_own(session: Session, ports: Ports, config: Config) -> bool:
    """A copy comes back from this machine or a near one, to those whom it is for; who has got a copy knows its token,
    but is not near, and where they are, it serves for nobody else."""
    token = reinject.own_token(session.message) if policy.is_ours(session.client, config) else ""
    if not token or ports.journal is None:
        return False
    return ports.journal.is_own(token, {sharing.mailbox(recipient) for recipient in session.envelope.recipients})


def _done_before(decisions: tuple[Decision, ...], entry: JournalEntry) -> tuple[Decision, ...]:
    """Whoever has a copy gets none; who fails and of whom the sender has been told is not told of again.

    Unless those are all that this message is for: then it is no second attempt but was sent to them once more, and what
    is said of them now is said anew.
    """
    has_copy = {d.recipient for d in decisions if entry.is_accepted(sharing.mailbox(d.recipient))}
    sender_knows = {d.recipient for d in decisions if _fails(d) and entry.is_accepted(sharing.notice(d.recipient))}
    is_retry = any(d.recipient not in sender_knows for d in decisions)
    done = has_copy | sender_knows if is_retry else has_copy
    return tuple(replace(d, action=Action.DONE, reason=_DONE) if d.recipient in done else d for d in decisions)


def _fails(decision: Decision) -> bool:
    return decision.action in (Action.DEFER, Action.REFUSE)


def _outcome(
    session: Session, decisions: tuple[Decision, ...], classification: Classification, ports: Ports, config: Config
) -> Outcome:
    """One answer for all recipients and, if the message is delivered, their copies."""
    bounced = _bounced(session, decisions, config)
    # Who is told of by a notification holds up nobody else, nor does who may be an alias and waits for the stage.
    decisive = tuple(d for d in decisions if d not in bounced and not (d.awaits_expansion and _fails(d)))
    disposition, blocking = _disposition(decisive)
    outcome = Outcome(
        disposition,
        decisions,
        classification,
        policy.direction(session.client, config),
        reason=blocking[0].reason if blocking else _OK,
        blocked_by=tuple(decision.recipient for decision in blocking),
        bounced=bounced,
        relayed=_relayed(session, config),
        arrival=_arrival(session, classification, ports, config),
    )
    if disposition in (Disposition.DEFER, Disposition.REFUSE):
        return outcome
    without_copy = (decision for decision in decisive if decision.action is not Action.DONE)
    groups = sharing.group(without_copy, session.message, separate=config.smime.separate)
    kept_index = _kept_index(session, groups, config)
    if kept_index is None and disposition is Disposition.HOLD:
        return replace(outcome, disposition=Disposition.DEFER, reason=_ODD_SPELLING)
    if config.policy.mixed in SPLITS and _splits(decisions, groups, kept_index) and not rules.is_clear(session.sender):
        return _of_unclear_sender(session, outcome, config)
    copies = _made(session, groups, ports, config, outcome.arrival.edits)
    return replace(outcome, copies=copies, kept_index=kept_index)


def _tells_arrival(session: Session, config: Config) -> bool:
    is_inbound = policy.direction(session.client, config) is Direction.INBOUND
    return bool(config.transport.authserv_id) and is_inbound


def _problem_of_arrival(session: Session, config: Config) -> Reason | None:
    if not _tells_arrival(session, config):
        return None
    return arrival.problem(session.message, config.transport.authserv_id)


def _arrival(session: Session, classification: Classification, ports: Ports, config: Config) -> Arrival:
    """What the header is to say of how the message came.  A copy of ours says it already, and the stage gets a header
    that does (handover/seal)."""
    if classification is _OWN or not _tells_arrival(session, config) or _problem_of_arrival(session, config):
        return Arrival()
    return arrival.told(session.message, session.transport, classification, config.transport, ports.circles)


def _kept_index(session: Session, groups: Sequence[sharing.Group], config: Config) -> int | None:
    """Which copy stays in the MTA's message.  None if there is none, or if the MTA may not find a recipient who would
    have to be removed."""
    index = sharing.stays(groups)
    stay = {decision.recipient.raw for decision in groups[index][1]} if index is not None else set()
    removed = [recipient for recipient in session.envelope.recipients if recipient.raw not in stay]
    if config.policy.mixed == "reinject" and not sharing.removable(removed, session.envelope.recipients):
        return None
    return index


def _splits(decisions: tuple[Decision, ...], groups: Sequence[sharing.Group], kept_index: int | None) -> bool:
    """Does anybody get a message other than the MTA's own, now or once an alias is expanded?"""
    is_handed_over = len(groups) > 1 or (kept_index is None and bool(groups))
    is_handed_over |= any(form is CopyForm.SECURE_HOP for form, _ in groups)
    return is_handed_over or any(decision.awaits_expansion for decision in decisions)


def _of_unclear_sender(session: Session, outcome: Outcome, config: Config) -> Outcome:
    """A sender whom the MTA may read as another one: the message is not split, since that names the sender anew."""
    decisions = tuple(policy.unclear_sender(d.recipient, outcome.direction, config) for d in outcome.decisions)
    disposition, blocking = _disposition(decisions)
    recipients = session.envelope.recipients
    reason = blocking[0].reason
    return replace(outcome, disposition=disposition, decisions=decisions, reason=reason, blocked_by=recipients)


def _relayed(session: Session, config: Config) -> tuple[Recipient, ...]:
    """Those to whom the MTA sends a message on though its client is none of ours."""
    if config.mode != "auto" or policy.is_ours(session.client, config):
        return ()
    recipients = session.envelope.recipients
    return tuple(r for r in recipients if policy.is_relayed(decide.requirement_for(session, r, config)))


def _bounced(session: Session, decisions: tuple[Decision, ...], config: Config) -> tuple[Decision, ...]:
    """Those who fail alone: each has an answer of their own, or the sender is told of them, where policy and protocol
    allow it."""
    failing = tuple(decision for decision in decisions if _fails(decision) and not decision.awaits_expansion)
    return failing if session.answers_each or may_bounce(session, failing, decisions, config) else ()


def may_bounce(
    session: Session, failing: tuple[Decision, ...], decisions: tuple[Decision, ...], config: Config
) -> bool:
    """May the sender be told of these, while the others get the message?  The sender is one of ours, so that nobody is
    bombarded, and wants to be told."""
    allowed = config.policy.one_fails == "bounce" and config.policy.mixed in SPLITS and session.sender
    if (
        not failing
        or not allowed
        or not rules.is_clear(session.sender)
        or not policy.is_ours(session.client, config)
        or len(failing) == len(decisions)
    ):
        return False
    return all(dsn.may_notify(decision.recipient) for decision in failing)


def _disposition(decisions: tuple[Decision, ...]) -> tuple[Disposition, tuple[Decision, ...]]:
    """One reply stands for all: any deferred defers the message, else any refused refuses it, else any held holds."""
    for action, disposition in _DISPOSITIONS:
        if blocking := tuple(decision for decision in decisions if decision.action is action):
            return disposition, blocking
    return Disposition.DELIVER, ()


def _without_request(session: Session, config: Config) -> HeaderEdits:
    """Where the sender may ask, what told of the request is not sent."""
    return request.without(session.message, config.policy) if _may_ask(session, config) else HeaderEdits()
