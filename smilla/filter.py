"""What a filter decides at RCPT and at the end of a message, whoever asks: the milter, the stage, ``smilla explain``.

Promises: knows no libmilter type; a message is judged by one configuration from its beginning to its end; while
observing nothing is changed and nobody is turned away.  What fails goes on as an exception: whoever called must
then keep the mail (451).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from smilla import decide, log, pipeline
from smilla.answer import reply, report
from smilla.config import Config
from smilla.errors import JournalBusy, JournalError
from smilla.learning import offered
from smilla.model import Action, Decision, Reason, Recipient
from smilla.pipeline import Handled
from smilla.policy import Requirement
from smilla.ports import MTA, Ports
from smilla.session import Session


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

    @property
    def may_pass(self) -> bool:
        """After an error, may the MTA go on with the message as it came?  Only if smilla has no say in the mail."""
        return self._config.observe

    # --- RCPT

    def recipient(self, raw: str, parameters: tuple[str, ...] = (), *, alone: bool) -> TurnedAway | None:
        """The search for this recipient's key begins.  ``alone``: one who is past the bound, or who fails where a rule
        asks for it, may be answered here; the caller then has ``withdraw`` to say that they are gone."""
        given = self.session.recipient(raw, parameters)
        requirement = decide.begin_lookup(self.session, given, self._ports, self._config)
        away = self._turned_away(given, requirement) if alone else None
        self._wanted += requirement.wanted and away is None
        return away

    def _turned_away(self, recipient: Recipient, requirement: Requirement) -> TurnedAway | None:
        limit = self._config.reinject.max_copies
        if self._config.policy.mixed == "reinject" and self._wanted + requirement.wanted > limit:
            why = Reason("too_many", f"past [reinject] max_copies = {limit}")
            decision = Decision(recipient, Action.DEFER, why, "max_copies")
            report.too_many(self.session.queue_id, decision, self._ports.metrics)
            return TurnedAway(decision, reply.TOO_MANY)
        if not requirement.at_rcpt:
            return None
        with self._busy:
            decision = decide.at_rcpt(self.session, recipient, requirement, self._ports, self._config)
        answer = reply.for_recipient(decision)
        if answer is None or decision.awaits_expansion:
            return None
        report.refused_at_rcpt(self.session.queue_id, decision, self._ports.metrics)
        return TurnedAway(decision, answer)

    # --- the end of the message

    def end(self, mta: MTA) -> reply.Reply:
        """Decides, changes the MTA's message, hands further copies over, tells the log, and returns what the MTA is to
        be told.  Raises whatever goes wrong; the caller tells the log so (``failed``) and answers 451."""
        # Before anything leaves: whatever is wrong with such a message, it must not be answered twice.
        keys = offered.keys_in(self.session, self._ports, self._config)
        answer = self.end_by(lambda: pipeline.handle(self.session, mta, self._ports, self._config))
        if answer.verb in (reply.Verb.ACCEPT, reply.Verb.DISCARD):
            offered.keep(keys, self.session, self._ports)
        return answer

    def end_by(self, handle: Callable[[], Handled]) -> reply.Reply:
        """The same, where ``handle`` decides and sees to it that the copies leave."""
        ended_at = time.monotonic()
        with self._busy:
            try:
                handled = handle()
            except JournalError as error:
                return self._without_journal(error)
        self.unfinished = handled.finish
        now, observed = time.monotonic(), self._config.observe
        times = round((now - self._began_at) * 1000), now - ended_at
        result = report.Result(handled.outcome, handled.decided_reply, handled.refusals, observed, *times)
        with log.together():
            report.message(self.session, result, self._ports.metrics)
        return handled.given_reply

    def failed(self, error: BaseException | None = None) -> None:
        """The log's lines about a message that this error ended, or an earlier one."""
        report.undecided(self.session, error, self._ports.metrics, observed=self._config.observe)

    def _without_journal(self, error: JournalError) -> reply.Reply:
        """451: nobody can tell who is owed a copy of this message, or another worker is at it."""
        if not isinstance(error, JournalBusy):
            log.journal_failed(str(error), self.session.queue_id)
        self.failed(error)
        return reply.for_error(error)
