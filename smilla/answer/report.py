"""Logs and counts the outcome of a message: one line per recipient, one for the whole message.

While smilla only observes, the lines are the same and say what would be done.
"""

from __future__ import annotations

from smilla import log
from smilla.answer import reply
from smilla.errors import code_of
from smilla.model import Action, Decision, Disposition, KeyVerdict, Outcome, Reason, Refusal
from smilla.ports import Metrics
from smilla.session import Session
from smilla.value import value

_UNCOUNTED = Metrics()
_TROUBLE = (KeyVerdict.BOGUS, KeyVerdict.UNREACHABLE, KeyVerdict.UNCLEAR, KeyVerdict.UNUSABLE_KEY)


@value
class Result:
    """How a message ended: ``answer`` is the reply (while observing, the one held back), ``refusals`` are the copies
    that the listener did not take, ``elapsed_ms`` counts from MAIL FROM, ``answering_s`` from the end
    of the message."""

    outcome: Outcome
    answer: reply.Reply
    refusals: tuple[Refusal, ...]
    observed: bool
    elapsed_ms: int
    answering_s: float = 0.0


Alone = tuple[reply.Reply, tuple[Action, Reason]]


@value
class Each:
    """How a message ended whose recipients were answered one by one, in the order of the outcome's decisions: each
    answer, and what happened for the recipient (while observing, what would have).  The times are those of Result."""

    outcome: Outcome
    answers: tuple[Alone, ...]
    observed: bool
    elapsed_ms: int
    answering_s: float


@value
class How:
    """Whether smilla only observes, and by which way a recipient is served (see log.recipient_decided)."""

    observed: bool = False
    via: str = ""


_USUAL = How()


def message(session: Session, result: Result, metrics: Metrics = _UNCOUNTED) -> None:
    """Logs a message that was decided."""
    outcome, answer = result.outcome, result.answer
    metrics.message("" if result.observed else answer.code, result.answering_s)
    override = _override(answer, outcome, handed=bool(result.refusals))
    still_owed = {refusal.recipient for refusal in result.refusals}
    ways = _ways(outcome, answer, result.refusals)
    _unusual(session, outcome)
    if answer.is_sealed and not result.observed:
        _sealed(session.queue_id, outcome, metrics)
        facts = log.Facts(session.sender, answer.line, "", "sealed", session.message.body.size, result.elapsed_ms)
        log.message_done(session.queue_id, outcome, facts)
        return
    for decision in outcome.decisions:
        _trouble(session.queue_id, decision)
        via = ways.get(decision.recipient.raw, "")
        # Nobody tries again for a bounced recipient: whatever the policy said, the log calls it a refusal.
        applied = (Action.REFUSE if via == "bounce" else decision.action), decision.reason
        is_sent = result.refusals and via and decision.recipient not in still_owed
        if override and decision.action not in (override[0], Action.DONE) and not is_sent:
            applied = override
        decided(session.queue_id, decision, applied, metrics, How(result.observed, via))
    code = override[1].code if override and not outcome.blocked_by else outcome.reason.code
    if not override:
        _unprotected(session.queue_id, outcome, observed=result.observed)
    replies = ("accept", answer.line) if result.observed else (answer.line, "")
    facts = log.Facts(session.sender, *replies, code, session.message.body.size, result.elapsed_ms)
    log.message_done(session.queue_id, outcome, facts)


def each(session: Session, result: Each, metrics: Metrics = _UNCOUNTED) -> None:
    """Logs a message whose recipients were answered one by one."""
    outcome, observed = result.outcome, result.observed
    replies = [answer for answer, _ in result.answers]
    worst = next((answer for answer in replies if answer.verb is not reply.Verb.ACCEPT), reply.COPY_TAKEN)
    metrics.message("" if observed else worst.code, result.answering_s)
    with log.together():
        _unusual(session, outcome)
        for decision, (_, applied) in zip(outcome.decisions, result.answers, strict=True):
            _trouble(session.queue_id, decision)
            decided(session.queue_id, decision, applied, metrics, How(observed))
        _unprotected(session.queue_id, outcome, observed=observed)
        lines = "; ".join(dict.fromkeys(answer.line for answer in replies))
        facts = ("accept", lines) if observed else (lines, "")
        size = session.message.body.size
        log.message_done(
            session.queue_id, outcome, log.Facts(session.sender, *facts, outcome.reason.code, size, result.elapsed_ms)
        )


def _unusual(session: Session, outcome: Outcome) -> None:
    if outcome.classification.reason.code == "own_copy":
        log.own_copy(session.queue_id)
    elif outcome.relayed:
        log.relayed(session.queue_id, session.client.ip, outcome.relayed)


def decided(
    queue_id: str, decision: Decision, applied: tuple[Action, Reason], metrics: Metrics, how: How = _USUAL
) -> None:
    """Logs and counts what happened for one recipient; ``applied`` is as in log.recipient_decided."""
    log.recipient_decided(queue_id, decision, applied, observed=how.observed, via=how.via)
    metrics.recipient(decision, log.EVENTS[applied[0]], applied[1].code, observed=how.observed)


def _sealed(queue_id: str, outcome: Outcome, metrics: Metrics) -> None:
    for decision in outcome.decisions:
        _trouble(queue_id, decision)
        if decision.action is Action.DONE:
            decided(queue_id, decision, (decision.action, decision.reason), metrics)
        else:
            log.sealed(queue_id, decision)
            metrics.recipient(decision, "sealed", decision.reason.code)


def refused_at_rcpt(queue_id: str, decision: Decision, metrics: Metrics = _UNCOUNTED) -> None:
    """Logs a recipient who was deferred or refused alone."""
    _trouble(queue_id, decision)
    decided(queue_id, decision, (decision.action, decision.reason), metrics, How(via="rcpt"))


def too_many(queue_id: str, decision: Decision, metrics: Metrics) -> None:
    """Logs a recipient who must come in another transaction."""
    log.too_many(queue_id, decision.recipient.shown)
    metrics.recipient(decision, log.EVENTS[decision.action], decision.reason.code)


def undecided(session: Session, error: BaseException | None, metrics: Metrics = _UNCOUNTED, *, observed: bool) -> None:
    """Logs a message that an error ended; None if the error is no longer known."""
    recipients = [recipient.shown for recipient in session.envelope.recipients]
    reason = code_of(error)
    log.undecided(session.queue_id, recipients, observed=observed, reason=reason)
    for _ in recipients:
        metrics.recipient(None, log.EVENTS[Action.DEFER], reason, observed=observed)


def _trouble(queue_id: str, decision: Decision) -> None:
    """Logs why a source gave no key, for the administrator who asks at three in the morning."""
    for finding in decision.lookup.findings if decision.lookup else ():
        if finding.verdict in _TROUBLE:
            detail = f"{finding.verdict.value}: {finding.reason.text}"
            log.lookup_trouble(queue_id, decision.recipient.shown, finding.where, detail)
    for reader in decision.readers:
        if reader.key is None:
            log.reader_missing(queue_id, str(reader.address), reader.reason.text)


def _unprotected(queue_id: str, outcome: Outcome, *, observed: bool) -> None:
    """Logs the copies whose header fields could not be protected."""
    for copy in outcome.copies:
        for recipient in copy.recipients if copy.protection.problem else ():
            log.headers_bare(queue_id, recipient.shown, copy.protection, observed=observed)


def _ways(outcome: Outcome, answer: reply.Reply, refusals: tuple[Refusal, ...]) -> dict[str, str]:
    """How recipients are served who are not in the MTA's message ("reinject" or "bounce"); empty if there was nothing
    to hand over."""
    if answer.code and not refusals:
        return {}
    further = (copy for index, copy in enumerate(outcome.copies) if index != outcome.kept_index)
    ways = {recipient.raw: "reinject" for copy in further for recipient in copy.recipients}
    return ways | {decision.recipient.raw: "bounce" for decision in outcome.bounced}


def _override(answer: reply.Reply, outcome: Outcome, *, handed: bool) -> tuple[Action, Reason] | None:
    """What happens to recipients who alone would have fared better, because of the message as a whole.  ``handed``: the
    listener was asked."""
    action = {reply.Verb.TEMPFAIL: Action.DEFER, reply.Verb.REJECT: Action.REFUSE}.get(answer.verb)
    if action is None:
        return None
    if outcome.blocked_by and outcome.disposition is not Disposition.HOLD:
        return action, Reason("other_recipient", f"{outcome.blocked_by[0].shown} holds up the message")
    if answer == reply.TOO_LARGE and not handed:
        return action, Reason("too_large", "the sealed message or a copy is larger than the MTA accepts")
    if handed or answer in (reply.HANDOVER, reply.TOO_LARGE):
        return action, Reason("reinject", "a copy of the message could not be handed over")
    return action, Reason("mixed", "the recipients need different forms of the message")
