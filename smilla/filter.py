"""What a filter decides at RCPT and at the end of a message, whoever asks: the milter, the stage, ``smilla explain``.

Promises: knows no libmilter type; a message is judged by one configuration from its beginning to its end; while
observing nothing is changed and nobody is turned away.  What fails goes on as an exception: whoever called must
then keep the mail (451).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

from smilla import log, pipeline
from smilla.answer import reply, report
from smilla.config import Config
from smilla.config.options import SPLITS
from smilla.copies import growth, rewrap
from smilla.errors import JournalBusy, JournalError, SealKeyMissing
from smilla.handover import reinject, seal
from smilla.model import Action, Decision, Header, Outcome, Reason, Recipient, Refusal, Rewrite
from smilla.policy import Wish
from smilla.ports import Ports
from smilla.session import Session


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


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """A recipient who is answered alone, at RCPT."""

    decision: Decision
    reply: reply.Reply


class Filter:
    """One message from RCPT to its end.  ``busy`` is entered while an answer may take long."""

    def __init__(
        self,
        session: Session,
        ports: Ports,
        config: Config,
        busy: AbstractContextManager[object] | None = None,
    ) -> None:
        self.session = session
        self._ports, self._config, self._busy = ports, config, busy or nullcontext()
        self._began_at = time.monotonic()
        self._wanted = 0
        self.unfinished: Callable[[], None] | None = None  # to be called once the MTA has got the answer

    # --- RCPT

    def recipient(self, raw: str, parameters: tuple[str, ...] = (), *, alone: bool) -> TurnedAway | None:
        """The search for this recipient's key begins.  ``alone``: one who is past the bound, or who fails where a rule
        asks for it, may be answered here; the caller then has ``withdraw`` to say that they are gone."""
        given = self.session.recipient(raw, parameters)
        wish = pipeline.begin_lookup(self.session, given, self._ports, self._config)
        away = self._turned_away(given, wish) if alone else None
        self._wanted += wish.wanted and away is None
        return away

    def _turned_away(self, recipient: Recipient, wish: Wish) -> TurnedAway | None:
        limit = self._config.reinject.max_copies
        if self._config.policy.mixed == "reinject" and self._wanted + wish.wanted > limit:
            log.too_many(self.session.queue_id, recipient.shown)
            why = Reason("too_many", f"past [reinject] max_copies = {limit}")
            return TurnedAway(Decision(recipient, Action.DEFER, why, "max_copies"), reply.TOO_MANY)
        if not wish.at_rcpt:
            return None
        with self._busy:
            decision = pipeline.decide_at_rcpt(self.session, recipient, wish, self._ports, self._config)
        answer = reply.for_recipient(decision)
        if answer is None or decision.waits:
            return None
        report.refused_at_rcpt(self.session.queue_id, decision)
        return TurnedAway(decision, answer)

    # --- the end of the message

    def end(self, mta: MTA) -> reply.Reply:
        """Decides, changes the MTA's message, hands further copies over, tells the log, and returns what the MTA is to
        be told.  Raises whatever goes wrong; the caller tells the log so (``failed``) and answers 451."""
        with self._busy:
            try:
                return self._ended(mta)
            except JournalError as error:
                return self._without_journal(error)

    def failed(self, reason: str = "internal") -> None:
        """The log's lines about a message that could not be decided."""
        report.undecided(self.session, observed=self._config.observe, reason=reason)

    def _ended(self, mta: MTA) -> reply.Reply:
        session, config = self.session, self._config
        ports = replace(self._ports, journal=None, mailer=None) if config.observe else self._ports
        refusals: tuple[Refusal, ...] = ()
        # Where copies leave before the MTA has decided, an earlier attempt is to be known again.
        known_again = ports if config.policy.mixed in SPLITS else replace(ports, journal=None, mailer=None)
        with reinject.Attempt(session, known_again, mta.alive) as attempt:
            if attempt.has_sent and config.policy.mixed == "stage":
                # mixed was reinject when its copies were sent in part: so it ends.
                config = replace(config, policy=replace(config.policy, mixed="reinject"))
            outcome = pipeline.process(session, ports, config, attempt.entry)
            live = reply.for_outcome(outcome, config.policy.mixed, observe=False)
            if live.is_sealed and (lack := ports.stage_problem()):
                log.stage_not_ready(session.queue_id, lack)
                live = reply.not_ready(lack)
            if live.is_sealed and _is_too_large(session, outcome, ports, config):
                live = reply.TOO_LARGE
            answer = reply.Reply(reply.Verb.ACCEPT) if config.observe else live
            if answer.is_sealed:
                self._seal(mta, outcome)
            _edit(mta, answer, session.message.headers)
            if answer.further or answer.bounced:
                hide = any(decision.style.protect_headers == "hide" for decision in outcome.decisions)
                refusals = attempt.deliver(answer.further, answer.bounced, reply.why, hide=hide)
        if refusals:
            served = sum(decision.action is Action.DONE for decision in outcome.decisions)
            owed = served + sum(len(copy.recipients) for copy in answer.further)
            live = answer = reply.for_refusals([refusal.detail for refusal in refusals], owed)
        if answer.verb is not reply.Verb.TEMPFAIL:
            self.unfinished = attempt.finishing()
        elapsed_ms = round((time.monotonic() - self._began_at) * 1000)
        with log.together():
            report.message(session, report.Result(outcome, live, refusals, config.observe, elapsed_ms))
        return answer

    def _seal(self, mta: MTA, outcome: Outcome) -> None:
        """The MTA's message becomes a sealed one; who bounces brings its header fields back alone, not the body.
        Raises SealKeyMissing."""
        session, keys = self.session, self._ports.seal_keys
        if keys is None:
            raise SealKeyMissing("there are no seal keys: [policy] mixed is not stage")
        facts = seal.facts(session.envelope, outcome.decisions, session.queue_id, session.client, outcome.direction)
        _apply(mta, seal.rewrite(session.message, facts, keys.current()), session.message.headers)
        mta.change_sender(session.sender, _headers_only(session.envelope.parameters))

    def _without_journal(self, error: JournalError) -> reply.Reply:
        """451: nobody can tell who is owed a copy of this message, or another worker is at it."""
        is_busy = isinstance(error, JournalBusy)
        if not is_busy:
            log.journal_failed(str(error), self.session.queue_id)
        self.failed("busy" if is_busy else "journal")
        return reply.BUSY if is_busy else reply.JOURNAL


def _is_too_large(session: Session, outcome: Outcome, ports: Ports, config: Config) -> bool:
    """Would the MTA not take the sealed message, or its listener not take a copy?  Better told now than bounced."""
    limit = config.stage.message_size_limit or (ports.mailer.size_limit() if ports.mailer else 0)
    message = session.message
    octets = [growth.of_seal(message, outcome), *(growth.of_copy(message, copy) for copy in outcome.copies)]
    return 0 < limit < max(octets)


def _headers_only(parameters: tuple[str, ...]) -> str:
    """The sender's ESMTP parameters of the DSN extension (RFC 3461), with RET=HDRS."""
    kept = [parameter for parameter in parameters if parameter.partition("=")[0].upper() == "ENVID"]
    return " ".join(["RET=HDRS", *kept])


def _edit(mta: MTA, answer: reply.Reply, headers: tuple[Header, ...]) -> None:
    """What becomes of the MTA's message.  Raises MTALost."""
    if answer.copy is not None:
        _apply(mta, answer.copy.rewrite, headers)
    for recipient in answer.removed:
        mta.delete_recipient(recipient.raw)
    if answer.verb is reply.Verb.QUARANTINE:
        mta.quarantine(answer.text)


def _apply(mta: MTA, rewrite: Rewrite, headers: tuple[Header, ...]) -> None:
    """The edits, the new body first: where making it fails, nothing of the message has been touched."""
    if rewrite.body is not None:
        for block in rewrite.body():
            mta.replace_body(block)
    for name, number, value in rewrap.edits(headers, rewrite):
        mta.change_header(name, number, value)
