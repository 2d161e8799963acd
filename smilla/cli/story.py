"""The whole story of one message, in words for a person and as plain values for ``--json``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from smilla import decide, pipeline, policy
from smilla.answer import describe
from smilla.answer.reply import Reply, Verb
from smilla.cli import printable
from smilla.cli.transaction import Transaction
from smilla.model import Copy, Decision, KeyLookup, X509Key
from smilla.policy import Circumstances, Requirement, rules

_WAYS = {
    "kept": "stays in the MTA's message",
    "reinjected": "is handed to the MTA anew",
    "sealed": "leaves by the stage, once the MTA has decided about the sealed message",
    "not_sent": "is not sent, as the reply says",
}
_VERBS = {
    Verb.ACCEPT: "accept",
    Verb.QUARANTINE: "accept, and the MTA keeps its message in quarantine until somebody releases it",
    Verb.DISCARD: "accept, and the MTA drops its own message, because no recipient is left in it",
}


@dataclass(frozen=True, slots=True)
class Story:
    """A message, what became of it, and the filter's reply if it does more than observe; ``why_not_sealed`` says why
    nothing may be sealed now, if that is the reason for the reply."""

    done: Transaction
    reply: Reply
    why_not_sealed: str = ""
    is_stage_known: bool = True

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """One per recipient; first those who are turned away at RCPT."""
        early = tuple(away.decision for away in self.done.turned_away)
        recipients = [decision.recipient for decision in early]
        return early + tuple(d for d in self.done.outcome.decisions if d.recipient not in recipients)

    def at_rcpt(self, decision: Decision) -> str:
        """The reply that turns this recipient away alone, "" if there is none."""
        return next((away.reply.line for away in self.done.turned_away if away.decision is decision), "")

    @property
    def requested(self) -> bool:
        """Does the sender ask for encryption, and may they?"""
        return pipeline.is_requested(self.done.session, self.done.config)

    def requirement_for(self, decision: Decision) -> Requirement:
        """What the rules and the mode want for this recipient."""
        return decide.requirement_for(self.done.session, decision.recipient, self.done.config, requested=self.requested)

    def rule_table(self, decision: Decision) -> tuple[rules.Checked, ...]:
        """Every rule and whether it matches this recipient."""
        session = self.done.session
        circumstances = Circumstances(session.sender, session.client)
        return policy.rule_table(decision.recipient, circumstances, self.done.config)

    def way(self, copy: Copy) -> str:
        """What becomes of a copy: a key of _WAYS."""
        if self.reply.is_sealed:
            return "sealed"
        if copy is self.reply.copy:
            return "kept"
        return "reinjected" if any(copy is other for other in self.reply.further) else "not_sent"


def as_json(story: Story) -> dict[str, Any]:
    """Every step of one message."""
    outcome = story.done.outcome
    classification = outcome.classification
    return {
        "classification": {
            "kind": classification.kind.value,
            "reason": {"code": classification.reason.code, "text": classification.reason.text},
        },
        "direction": outcome.direction,
        "wished": story.requested,
        "transport": {
            "way": outcome.arrival.way or None,
            "removed": len(outcome.arrival.edits.removed),
            "added": [f"{name}: {value}" for name, value in outcome.arrival.edits.inserted],
        },
        "relayed": [recipient.raw.strip("<>") for recipient in outcome.relayed],
        "recipients": [_decision_as_json(story, decision) for decision in story.decisions],
        "copies": [
            {
                "format": copy.form.value,
                "rcpt_to": [recipient.raw.strip("<>") for recipient in copy.recipients],
                "way": story.way(copy),
                "headers": _protection_as_json(copy),
            }
            for copy in outcome.copies
        ],
        "bounced": [decision.recipient.raw.strip("<>") for decision in outcome.bounced],
        "disposition": outcome.disposition.value,
        "stage": _stage_as_json(story),
        "reply": story.reply.line,
    }


def _stage_as_json(story: Story) -> dict[str, Any] | None:
    """Is the stage ready (None: this user may not know)?  None if this message does not need it."""
    if not (story.reply.is_sealed or story.why_not_sealed):
        return None
    return {"ready": not story.why_not_sealed if story.is_stage_known else None, "problem": story.why_not_sealed}


def _protection_as_json(copy: Copy) -> dict[str, Any]:
    found = copy.protection
    problem = {"code": found.problem.code, "text": found.problem.text} if found.problem else None
    return {"protect": found.asked, "inside": found.inside, "hidden": found.hidden, "problem": problem}


def _decision_as_json(story: Story, decision: Decision) -> dict[str, Any]:
    found = story.requirement_for(decision)
    return {
        "recipient": decision.recipient.raw.strip("<>"),
        "direction": found.direction,
        "action": decision.action.value,
        "reason": {"code": decision.reason.code, "text": decision.reason.text},
        "rule": decision.rule,
        "waits": decision.awaits_expansion,
        "at_rcpt": story.at_rcpt(decision) or None,
        "style": _style_as_json(story, decision),
        "matching_rule": found.number or None,
        "rules": [checked._asdict() for checked in story.rule_table(decision)],
        "lookup": describe.lookup_as_json(decision.lookup) if decision.lookup else None,
        "hop": describe.hop_as_json(decision.hop) if decision.hop else None,
        "readers": [describe.lookup_as_json(reader) for reader in decision.readers],
    }


def _style_as_json(story: Story, decision: Decision) -> dict[str, Any] | None:
    """How S/MIME is written for this recipient; None if it is not."""
    if decision.key is None:
        return None
    _, why = policy.styled(decision.key, story.requirement_for(decision), story.done.config)
    return describe.style_as_json(decision.key, decision.style, why)


def in_words(story: Story) -> Iterator[str]:
    """The same for a person, line by line."""
    outcome = story.done.outcome
    classification = outcome.classification
    yield f"message as it came: {classification.kind.value} ({printable(classification.reason.text)})"
    yield f"direction: {outcome.direction}"
    if outcome.arrival.way:
        count = len(outcome.arrival.edits.removed)
        yield (
            f"transport: {outcome.arrival.way}, since only the MTA tells how a message came; header fields from "
            f"outside that claim to know: {count} removed"
        )
    if story.requested:
        yield "the sender asks for encryption"
    if outcome.relayed:
        names = ", ".join(recipient.shown for recipient in outcome.relayed)
        yield (
            f"relayed to {names}, though the client is none of ours: outbound; add the client to internal_networks, or "
            "the domain to local_domains"
        )
    for decision in story.decisions:
        yield ""
        yield from _decision_in_words(story, decision)
    yield ""
    for number, copy in enumerate(outcome.copies, 1):
        to = ", ".join(recipient.shown for recipient in copy.recipients)
        held = " (in quarantine)" if copy is story.reply.copy and story.reply.verb is Verb.QUARANTINE else ""
        yield f"copy {number}: {copy.form.value}, to {to}: {_WAYS[story.way(copy)]}{held}"
        yield from _protection_in_words(copy)
    for decision in outcome.bounced:
        yield f"bounced to the sender: {decision.recipient.shown}"
    observing = " (observe = true: nothing is changed)" if story.done.config.observe else ""
    answer = story.reply.line if story.reply.code else _VERBS[story.reply.verb]
    sealed = ", sealed for the stage" if story.reply.is_sealed else ""
    if story.why_not_sealed:
        yield f"the stage is not ready, so nothing is sealed now (stage-not-ready): {printable(story.why_not_sealed)}"
        yield "smilla config check --postfix tells more, and its result counts at once"
    yield f"reply of the filter: {answer}{sealed}{observing}"


def _protection_in_words(copy: Copy) -> Iterator[str]:
    found = copy.protection
    if found.problem:
        yield f"  header fields are not protected, though {found.asked} asks for it: {found.problem.text}"
    elif found.asked != "off":
        yield f"  header fields inside, too: {printable(', '.join(found.inside))}"
        yield f"  hidden outside: {printable(', '.join(found.hidden)) or 'none'}"


def _decision_in_words(story: Story, decision: Decision) -> Iterator[str]:
    if decision.lookup:
        yield from describe.lookup_in_words(decision.lookup)
    yield f"{decision.recipient.shown}: {decision.action.value}, because: {printable(decision.reason.text)}"
    yield f"  decided by {decision.rule}"
    if decision.hop:
        yield from (f"  hop: {line}" for line in describe.hop_in_words(decision.hop))
    if decision.awaits_expansion:
        yield "  but may be an alias: sealed, and decided by the stage for whomever it leads to"
    if at_rcpt := story.at_rcpt(decision):
        yield f"  turned away alone, at RCPT: {at_rcpt}"
    if isinstance(decision.key, X509Key):
        _, why = policy.styled(decision.key, story.requirement_for(decision), story.done.config)
        yield f"  written with {describe.style_in_words(decision.key, decision.style)}; {why}"
    yield from _rules_in_words(story, decision)
    for reader in decision.readers:
        yield f"  {_reader_in_words(reader)}"


def _rules_in_words(story: Story, decision: Decision) -> Iterator[str]:
    found = story.requirement_for(decision)
    if found.rule is not None:
        yield f"  matched by rule {found.number} ({printable(rules.in_words(found.rule))})"
    elif story.done.config.rule:
        yield "  matched by no rule"
    for number, matched, failed in story.rule_table(decision):
        if not matched:
            yield f"    rule {number}: no, {printable(failed)}"
        else:
            yield f"    rule {number}: yes" + (
                f", but rule {found.number} comes first" if number != found.number else ""
            )


def _reader_in_words(reader: KeyLookup) -> str:
    name, reason = printable(str(reader.address)), printable(reader.reason.text)
    return f"further reader {name}: {describe.VERDICTS[reader.verdict]} ({reason})"
