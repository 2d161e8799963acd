"""Delivers a sealed message that the MTA hands over after its queue: the second caller of the pipeline.

By then the MTA has decided: moderated, redirected and refused recipients are gone, aliases are expanded, and the MTA's
queue tracks who is still owed a copy.  Each recipient gets their own answer: 250 once the listener of [reinject] has
taken their copy, 4yz while it is owed, 5yz if it is refused.

Promises: a message goes on only if its seal is intact and was made at this hop.  The MTA may have rewritten the
envelope sender (canonical maps, SRS), but a null sender stays null, and no other sender becomes null.  Only recipients
named in the seal, by address or as the original address of an alias (ORCPT), may get plaintext.  Nobody gets weaker
protection than was sealed.  No copy comes twice, except in the window between the final dot and the recorded reply
(``copy-unknown``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

from smilla import address, decide, log, pipeline
from smilla.answer import reply, report
from smilla.config import Config
from smilla.copies import sharing
from smilla.errors import AddressError, JournalError, SealBroken, SealKeyMissing
from smilla.handover import binding, reinject, seal
from smilla.handover.seal import Opened, SealedRecipient
from smilla.model import Action, Decision, Header, Message, Reason, Recipient, Refusal
from smilla.ports import Fingerprint, JournalEntry, Ports
from smilla.server import requeued
from smilla.server.handed import Handed, age, hop, note
from smilla.session import Session, parsed_recipient

_GIVEN_UP_AFTER = timedelta(days=1)
_TRACE = re.compile("received|x-received|received-spf|return-path|delivered-to|x-original-to|authentication-results")
_NOT_KEPT = re.compile("dkim-signature|x-google-dkim-signature|domainkey-signature|arc-.*|content-.*|mime-version|bcc")
_XTEXT = re.compile(r"\+([0-9A-Fa-f]{2})")
_VIA = report.How(via="stage")
_ENCRYPTED, _FAILING = (Action.ENCRYPT, Action.UNCHANGED), (Action.DEFER, Action.REFUSE)
_KEY_GONE = Reason("key_gone", "there was a key when the message was sealed, and there is none now")
_HOP_GONE = Reason("hop_gone", "it was sealed for a verified hop only, which the policy does not ask for now")
_WEAKNESS = {Action.SECURE_HOP: 1, Action.PLAIN: 2, Action.HOLD: 2, Action.DONE: 2}  # 0 for all others
_PROTECTED, _WEAKER = (*_ENCRYPTED, Action.SECURE_HOP), (Action.SECURE_HOP, Action.PLAIN, Action.HOLD)


def deliver(handed: Handed, ports: Ports, config: Config) -> tuple[reply.Reply, ...]:
    """One answer per recipient, in their order.  If smilla fails, it raises, and all are owed their copies."""
    if binding.is_bound(handed.message.headers):
        return requeued.deliver(handed, ports)
    queue_id = handed.ident or hop(handed.message)
    try:
        opened = _opened(handed, ports)
    except SealKeyMissing as error:
        log.seal_key_missing(queue_id, str(error))
        _keep_locked(handed, queue_id, ports)
        return (reply.for_error(error),) * len(handed.recipients)
    except SealBroken as error:
        gives_up = age(handed.message, ports.clock.now()) > _GIVEN_UP_AFTER
        log.seal_broken(queue_id, str(error), gives_up=gives_up)
        return (reply.SEAL_REFUSED if gives_up else reply.for_error(error),) * len(handed.recipients)
    try:
        return _Stage(handed, opened, ports, config).answers()
    except JournalError as error:
        log.journal_failed(str(error), queue_id)
        return (reply.for_error(error),) * len(handed.recipients)


def _opened(handed: Handed, ports: Ports) -> Opened:
    """The message inside, if it may go on from here.  Raises SealBroken, SealKeyMissing.

    XFORWARD IDENT identifies the hop that sealed: a requeue (postsuper -r) gives a new queue ID but keeps IDENT.  If a
    client of the MTA has set IDENT itself, the topmost Received field identifies the hop.  The MTA may name another
    sender than was sealed, because cleanup(8) rewrites it after the filter, with maps that we cannot read.
    """
    mark = seal.mark(handed.message.headers)
    if mark is None:
        raise SealBroken("the message has no mark: it was never sealed")
    if ports.seal_keys is None:
        raise SealKeyMissing("there are no seal keys here")
    opened = seal.opened(handed.message, ports.seal_keys.find(mark.raw_key_id))
    if opened.raw_message_id != mark.raw_message_id:
        raise SealBroken("the mark belongs to another message")
    if bool(opened.facts.envelope.sender) != bool(handed.sender):
        raise SealBroken("it was sealed for another envelope sender")
    hops = {handed.ident, hop(handed.message)} - {""}
    if opened.facts.queue_id not in hops:
        named = " and ".join(sorted(hops)) or "a hop that is not named"
        raise SealBroken(f"it was sealed as {opened.facts.queue_id or 'nothing'}, and comes as {named}")
    return opened


class _Stage:
    """One opened message with the recipients of one transaction."""

    def __init__(self, handed: Handed, opened: Opened, ports: Ports, config: Config) -> None:
        self._handed, self._opened, self._ports, self._config = handed, opened, ports, config
        facts = opened.facts
        self._session = Session(facts.client, facts.envelope.sender, facts.envelope.parameters, config.completion)
        self._session.sent_as(handed.sender)
        self._session.queue_id = facts.queue_id
        self._session.take(
            Message((*_added(handed.message, opened.message), *opened.message.headers), opened.message.body)
        )
        self._originals = [(parsed_recipient(s.raw, s.parameters, config.completion), s) for s in facts.recipients]

    def answers(self) -> tuple[reply.Reply, ...]:
        """Hands over the copies that are owed; one answer per recipient."""
        known = _fingerprint(self._opened.raw_message_id)
        with reinject.Attempt(self._session, self._ports, lambda: None, known=known, after_queue=True) as attempt:
            decisions = self._decisions()
            entry = attempt.entry
            decisions = self._bound_or_owed(decisions)
            served = [d for d in decisions if d.action not in _FAILING]
            owed = [d for d in served if d.action is not Action.DONE and not _has_copy(entry, d.recipient)]
            made = pipeline.make_copies(self._session, tuple(owed), self._ports, self._config)
            refusals = attempt.deliver(made, (), reply.why) if made else ()
            answers = self._answers(decisions, {refusal.recipient: refusal for refusal in refusals})
            # The journal remembers who has a copy, in case the MTA does not get our answer.
            self._remember(attempt, decisions, answers)
        return tuple(answer for answer, _ in answers)

    def _bound_or_owed(self, decisions: tuple[Decision, ...]) -> tuple[Decision, ...]:
        """Copies that may leave over a verified hop only wait while Postfix is not known to have the lines for it."""
        if not any(d.action is Action.SECURE_HOP for d in decisions) or not (problem := self._ports.stage_problem()):
            return decisions
        log.stage_not_ready(self._session.queue_id, problem)
        why = Reason("hop_not_ready", problem)
        return tuple(
            replace(d, action=Action.DEFER, reason=why) if d.action is Action.SECURE_HOP else d for d in decisions
        )

    def _remember(
        self, attempt: reinject.Attempt, decisions: Sequence[Decision], answers: Sequence[tuple[reply.Reply, Reason]]
    ) -> None:
        by_verb: dict[reply.Verb, dict[str, str]] = {verb: {} for verb in reply.Verb}
        for decision, (answer, reason) in zip(decisions, answers, strict=True):
            shown = f"{answer.code} {answer.enhanced} {reason.code}"
            by_verb[answer.verb][sharing.mailbox(decision.recipient)] = shown
        accepted, owed = by_verb[reply.Verb.ACCEPT], by_verb[reply.Verb.TEMPFAIL]
        owed = {name: shown for name, shown in owed.items() if name not in accepted}
        gone = by_verb[reply.Verb.REJECT].keys() - accepted - owed.keys()
        last = next(iter([*owed.values(), *by_verb[reply.Verb.REJECT].values()]), "")
        noted = note(self._handed, self._session.queue_id, self._opened.raw_message_id, last, self._ports)
        attempt.answered(owed.keys(), gone, noted)

    def _decisions(self) -> tuple[Decision, ...]:
        matched = [(recipient, self._named(recipient)) for recipient in self._handed.recipients]
        for recipient, named in matched:
            self._session.add(named[0] if named else recipient)
        _, judged = pipeline.judge(self._session, self._ports, self._config)
        by_recipient = {decision.recipient: decision for decision in judged}
        decided = [by_recipient[named[0] if named else recipient] for recipient, named in matched]
        expanded = [i for i, (r, named) in enumerate(matched) if named and _is_expansion(r, decided[i])]
        expansions = [(decided[i], matched[i][0]) for i in expanded]
        requested = pipeline.is_requested(self._session, self._config)
        anew = decide.expanded(self._session, expansions, self._ports, self._config, requested=requested)
        for i, decision in zip(expanded, anew, strict=True):
            decided[i] = decision
        checked = [self._checked(r, decided[i], named[1] if named else None) for i, (r, named) in enumerate(matched)]
        return _one_per_mailbox(checked, set(expanded))

    def _checked(self, recipient: Recipient, decision: Decision, sealed: SealedRecipient | None) -> Decision:
        """The decision for the recipient the MTA names now; never weaker than what was sealed."""
        if sealed is None:
            if decision.action in (*_PROTECTED, Action.DEFER):
                return decision
            why = Reason("not_sealed", "the message was not sealed for this recipient, and they have no key")
            return replace(decision, action=Action.REFUSE, reason=why)
        found = replace(decision, recipient=recipient)
        if sealed.action is Action.DONE:
            why = Reason("already_sent", "a copy was accepted before the message was sealed")
            return replace(found, action=Action.DONE, reason=why)
        if sealed.action in _FAILING and not sealed.waits and found.action is Action.DEFER:
            return replace(found, action=Action.REFUSE)  # one_fails = "bounce": the sender is told now
        return _as_strong_as(sealed, found)

    def _named(self, recipient: Recipient) -> tuple[Recipient, SealedRecipient] | None:
        """The sealed recipient that this one is, or was expanded from.  If several match, prefers one for whom the
        message must be encrypted; one who has a copy already comes last, since a double is better than a loss."""
        mailbox = sharing.mailbox(recipient)
        matching = [pair for pair in self._originals if sharing.mailbox(pair[0]) == mailbox]
        if not matching and (origin := _original(recipient.parameters)):
            matching = [p for p in self._originals if origin == (_original(p[0].parameters) or _bare(p[0].raw))]
        return min(
            matching,
            key=lambda pair: (pair[1].action is Action.DONE, _WEAKNESS.get(pair[1].action, 0)),
            default=None,
        )

    def _answers(
        self, decisions: Sequence[Decision], refused: dict[Recipient, Refusal]
    ) -> list[tuple[reply.Reply, Reason]]:
        answers = []
        with log.together():
            for decision in decisions:
                answer = reply.for_recipient(decision) or reply.COPY_TAKEN
                action, reason = decision.action, decision.reason
                if answer is reply.COPY_TAKEN and (refusal := refused.get(decision.recipient)) is not None:
                    answer = reply.for_refusal(refusal.detail) if refusal.is_of_copy else reply.HANDOVER
                    action = Action.REFUSE if answer.verb is reply.Verb.REJECT else Action.DEFER
                    reason = Reason("reinject", refusal.detail)
                answers.append((answer, reason))
                report.decided(self._session.queue_id, decision, (action, reason), self._ports.metrics, _VIA)
        return answers


def _keep_locked(handed: Handed, queue_id: str, ports: Ports) -> None:
    """Records that copies of a message are owed though its key is missing, if its mark can be read."""
    mark = seal.mark(handed.message.headers)
    if mark is None or ports.journal is None:
        return
    owed = {sharing.mailbox(recipient) for recipient in handed.recipients}
    noted = note(handed, queue_id, mark.raw_message_id, f"{reply.SEAL_KEY.code} seal-key-missing", ports)
    try:
        with ports.journal.open(_fingerprint(mark.raw_message_id)) as entry:
            entry.answered(owed, (), noted)
    except JournalError as error:
        log.journal_failed(str(error), queue_id)


def _has_copy(entry: JournalEntry | None, recipient: Recipient) -> bool:
    return entry is not None and entry.is_accepted(sharing.mailbox(recipient))


def _is_expansion(recipient: Recipient, decision: Decision) -> bool:
    """Was this recipient expanded from an alias?  ``decision`` is the alias's."""
    return sharing.mailbox(recipient) != sharing.mailbox(decision.recipient)


def _as_strong_as(sealed: SealedRecipient, found: Decision) -> Decision:
    """Owes a copy that would be weaker than what was sealed."""
    if sealed.action in _ENCRYPTED and found.action in _WEAKER:
        return replace(found, action=Action.DEFER, reason=_KEY_GONE)
    if sealed.action is Action.SECURE_HOP and found.action in (Action.PLAIN, Action.HOLD):
        return replace(found, action=Action.DEFER, reason=_HOP_GONE)
    return found


def _one_per_mailbox(decisions: Sequence[Decision], expanded: Collection[int]) -> tuple[Decision, ...]:
    """A mailbox reached in several ways gets one copy: that for its own address, otherwise an encrypted one.
    ``expanded`` has the indexes of the recipients that were expanded from an alias."""
    best: dict[str, Decision] = {}
    for number in sorted(range(len(decisions)), key=lambda n: (n in expanded, _WEAKNESS.get(decisions[n].action, 0))):
        if decisions[number].action not in _FAILING:
            best.setdefault(sharing.mailbox(decisions[number].recipient), decisions[number])
    return tuple(
        d if d.action in _FAILING else replace(best[sharing.mailbox(d.recipient)], recipient=d.recipient)
        for d in decisions
    )


def _fingerprint(raw_message_id: bytes) -> Fingerprint:
    """Identifies a sealed message in the journal: by its random ID only, not by its content."""
    name = sha256(b"sealed" + raw_message_id).digest()
    return Fingerprint(name, lambda: name, identified=True)


def _original(parameters: Iterable[str]) -> str:
    """The original address in ORCPT (RFC 3461 section 4.2), "" if the MTA gives none."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        kind, _, text = value.partition(";")
        if name.upper() == "ORCPT" and kind.lower() in ("rfc822", "utf-8"):
            return _bare(_XTEXT.sub(lambda match: chr(int(match[1], 16)), text))
    return ""


def _bare(raw: str) -> str:
    """An address for comparison: without brackets, and with its domain in lower case."""
    try:
        found = address.parse(raw)
    except AddressError:
        return raw.strip().strip("<>")
    return f"{found.local_part}@{found.domain}"


def _added(outer: Message, inner: Message) -> tuple[Header, ...]:
    """The fields that were added after the message was sealed and that stay: trace fields, and fields whose name it did
    not have.  Signatures are dropped, since they sign the sealed form and not the copy."""
    before = Counter(map(_essence, inner.headers))
    names = {header.name for header in inner.headers}
    found = []
    for header in outer.headers:
        essence = _essence(header)
        if before[essence] > 0:
            before[essence] -= 1
        elif _TRACE.fullmatch(header.name) or not (header.name in names or _is_ours(header.name)):
            found.append(header)
    return tuple(found)


def _is_ours(name: str) -> bool:
    return _NOT_KEPT.fullmatch(name) is not None or name.startswith("x-smilla")


def _essence(header: Header) -> tuple[str, bytes]:
    """A field without its white space, since a relay may fold it anew."""
    return header.name, b"".join(header.raw_value.split())
