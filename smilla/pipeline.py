"""What happens to a message.

    classify     what is it already?
    policy       for whom is encryption wanted?
    lookup       which keys do they publish, and may these be used?  (begun at RCPT, finished here)
    policy       so what happens for each recipient?
    copies       who shares a copy with whom?
    protect      which header fields go inside it, and what stays of them outside?
    encrypt      each copy, to its recipients' keys
    rewrap       as a MIME message

``process`` has no I/O of its own: what it needs from outside comes through the ports.  It serves ``smilla milter``
and ``smilla encrypt`` alike.  It returns an Outcome or raises; whoever called it must then keep the mail.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from smilla import classify, policy
from smilla.address import EmailAddress, parse
from smilla.answer import dsn
from smilla.config import Config
from smilla.config.options import SPLITS
from smilla.copies import make, rewrap, sharing
from smilla.errors import AddressError, EncryptionError
from smilla.handover import reinject, seal
from smilla.keys import lookup
from smilla.keys.questions import BoundedResolver
from smilla.model import (
    Action,
    Classification,
    Copy,
    Decision,
    Disposition,
    HeaderEdits,
    KeyLookup,
    KeyVerdict,
    MessageKind,
    Outcome,
    Reason,
    Recipient,
)
from smilla.policy import Requirement, request, rules
from smilla.ports import JournalEntry, Ports
from smilla.session import Session

_DISPOSITIONS = (
    (Action.DEFER, Disposition.DEFER),
    (Action.REFUSE, Disposition.REFUSE),
    (Action.HOLD, Disposition.HOLD),
)
_OWN = Classification(MessageKind.PLAIN, Reason("own_copy", "a copy of ours, which came back to the filter"))
_OK = Reason("ok", "")
_DONE = Reason("already_sent", "a copy, or the notification, was accepted at an earlier attempt of the client")
_CONFUSABLE = Reason(
    "confusable_keys", "this recipient's key and that of a further reader go by one name, or by no one engine"
)
_ODD_SPELLING = Reason("odd_spelling", "the MTA could not tell this recipient apart, so the others cannot be split off")


def begin_lookup(
    session: Session, recipient: Recipient, ports: Ports, config: Config, *, requested: bool = False
) -> Requirement:
    """Starts the search for a recipient's key as soon as the recipient is known, while the body still arrives; that the
    sender asks for encryption is known at the end only."""
    requirement = requirement_for(session, recipient, config, requested=requested)
    if requirement.wanted and requirement.address:
        _begin(session, requirement, requirement.address, ports, config)
    return requirement


def requirement_for(session: Session, recipient: Recipient, config: Config, *, requested: bool = False) -> Requirement:
    """What is wanted for a recipient, and in which direction; worked out once, at RCPT."""
    requirement = session.requirements.get(recipient)
    if requirement is None:
        circumstances = policy.Circumstances(session.sender, session.client)
        requirement = session.requirements[recipient] = policy.wanted(recipient, circumstances, config)
    return policy.on_request(requirement) if requested else requirement


def _begin(session: Session, requirement: Requirement, address: EmailAddress, ports: Ports, config: Config) -> None:
    _ask(session, address, requirement.formats, ports, config)
    for reader in _readers(requirement, session, config):
        _ask(session, reader, (), ports, config)


def decide_at_rcpt(
    session: Session, recipient: Recipient, requirement: Requirement, ports: Ports, config: Config
) -> Decision:
    """The decision about one recipient before the content is known, where a rule asks for it (at_rcpt)."""
    return _Deciding(session, ports, config).decision(recipient, requirement)


def _ask(session: Session, address: EmailAddress, formats: tuple[str, ...], ports: Ports, config: Config) -> None:
    if (address, formats) not in session.lookups:
        bounded = replace(ports, resolver=BoundedResolver(ports.resolver, session.questions))
        session.lookups[address, formats] = lookup.begin(address, bounded, config)


def _readers(requirement: Requirement, session: Session, config: Config) -> list[EmailAddress]:
    """The addresses of further readers; a null sender is none."""
    *_, sender = ("", *rules.sender_readings(session.sender, config.completion))
    named = [sender if entry == "sender" else entry for entry in requirement.also_to]
    found = []
    for text in named:
        with suppress(AddressError):
            found.append(parse(text))
    return found


def process(session: Session, ports: Ports, config: Config, entry: JournalEntry | None = None) -> Outcome:
    """Decides about the whole message, and prepares its copies; a copy is encrypted when its body is asked for.

    ``entry`` is what the journal knows of an earlier attempt: whose copy was accepted then gets none now.
    """
    classification, decisions = judge(session, ports, config)
    if entry is not None:
        decisions = _done_before(decisions, entry)
    return _outcome(session, decisions, classification, ports, config)


def judge(session: Session, ports: Ports, config: Config) -> tuple[Classification, tuple[Decision, ...]]:
    """What the message is, and what is to happen for each recipient."""
    envelope, message = session.envelope, session.message
    if not envelope.recipients:
        raise EncryptionError("a message without a recipient: nobody knows for whom it would have to be encrypted")
    classification = classify.classify(message)
    requested = is_requested(session, config)
    if (problem := rewrap.problem(message) or seal.forged(message)) is not None:
        decisions = tuple(policy.refused(recipient, problem) for recipient in envelope.recipients)
    elif _is_own(session, ports, config):
        classification = _OWN
        decisions = tuple(policy.already_encrypted(recipient, _OWN) for recipient in envelope.recipients)
    elif classification.kind is MessageKind.ENCRYPTED:
        decisions = tuple(policy.already_encrypted(recipient, classification) for recipient in envelope.recipients)
    else:
        decisions = _decided(session, ports, config, requested=requested)
    return classification, decisions


def _requirement_of_expanded(
    session: Session, decision: Decision, recipient: Recipient, config: Config, *, requested: bool
) -> Requirement | None:
    """What is wanted for ``recipient``, to whom an alias led whose decision is ``decision``: under the rules and the
    direction of the alias; where nothing is wanted for that by mode, under their own ([keys] aliases).  None where the
    alias's decision stands, as it does where it has a usable key."""
    if decision.key is not None or recipient.address is None:
        return None
    requirement = requirement_for(session, decision.recipient, config, requested=requested)
    if requirement.wanted and decision.lookup is not None:
        return replace(requirement, address=recipient.address)
    if config.keys.aliases != "expanded" or requirement.encrypt == "never" or decision.action is not Action.PLAIN:
        return None
    own = requirement_for(session, recipient, config, requested=requested)
    return own if own.wanted else None


def expanded(
    session: Session, expansions: Sequence[tuple[Decision, Recipient]], ports: Ports, config: Config, *, requested: bool
) -> list[Decision]:
    """What happens for each recipient to whom an alias led: their own key, where that of the alias does not stand, and
    in no case less than the alias's decision asks for.  Their look-ups are under way together."""
    requirements = [
        _requirement_of_expanded(session, decision, r, config, requested=requested) for decision, r in expansions
    ]
    for requirement in requirements:
        if requirement is not None and requirement.address is not None:
            _begin(session, requirement, requirement.address, ports, config)
    deciding, found = _Deciding(session, ports, config), []
    for (decision, recipient), requirement in zip(expansions, requirements, strict=True):
        own = deciding.decision(recipient, requirement, requested=requested) if requirement is not None else decision
        if own.action is Action.HOLD:
            own = replace(own, action=Action.DEFER)  # it is too late for the MTA's quarantine
        outweighs = own.action in (Action.ENCRYPT, Action.DEFER) or decision.action not in (Action.DEFER, own.action)
        chosen = own if requirement is not None and own.action is not Action.PLAIN and outweighs else decision
        found.append(replace(chosen, recipient=recipient, waits=False))
    return found


def make_copies(session: Session, decisions: tuple[Decision, ...], ports: Ports, config: Config) -> tuple[Copy, ...]:
    """The copies that these recipients are to get."""
    return _made(session, sharing.group(decisions, session.message, separate=config.smime.separate), ports, config)


def _made(session: Session, groups: Sequence[sharing.Group], ports: Ports, config: Config) -> tuple[Copy, ...]:
    return make.copies_of(session.message, groups, ports.openpgp, _without_request(session, config))


def is_requested(session: Session, config: Config) -> bool:
    """Does the sender ask for encryption, and is that to be heeded?"""
    return _may_ask(session, config) and request.found(session.message, config.policy)


def _may_ask(session: Session, config: Config) -> bool:
    if not request.is_configured(config.policy):
        return False
    requirements = (requirement_for(session, recipient, config) for recipient in session.envelope.recipients)
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
    served = {d.recipient for d in decisions if entry.is_accepted(sharing.mailbox(d.recipient))}
    told = {d.recipient for d in decisions if _fails(d) and entry.is_accepted(sharing.notice(d.recipient))}
    done = served | told if any(d.recipient not in told for d in decisions) else served
    return tuple(replace(d, action=Action.DONE, reason=_DONE) if d.recipient in done else d for d in decisions)


def _fails(decision: Decision) -> bool:
    return decision.action in (Action.DEFER, Action.REFUSE)


def _outcome(
    session: Session, decisions: tuple[Decision, ...], classification: Classification, ports: Ports, config: Config
) -> Outcome:
    direction = policy.direction(session.client, config)
    bounced = _bounced(session, decisions, config)
    left = tuple(d for d in decisions if d not in bounced and not (d.waits and _fails(d)))
    disposition, culprits = _disposition(left)
    reason = culprits[0].reason if culprits else _OK
    held_up = tuple(decision.recipient for decision in culprits)
    relayed = _relayed(session, config)
    told = partial(Outcome, classification=classification, direction=direction, bounced=bounced, relayed=relayed)
    if disposition in (Disposition.DEFER, Disposition.REFUSE):
        return told(disposition, decisions, reason=reason, culprits=held_up)
    served = tuple(decision for decision in left if decision.action is not Action.DONE)
    groups = sharing.group(served, session.message, separate=config.smime.separate)
    kept = sharing.stays(groups)
    staying = {decision.recipient.raw for decision in groups[kept][1]} if kept is not None else set()
    removed = [recipient for recipient in session.envelope.recipients if recipient.raw not in staying]
    if config.policy.mixed == "reinject" and not sharing.removable(removed, session.envelope.recipients):
        kept = None
        if disposition is Disposition.HOLD:
            return told(Disposition.DEFER, decisions, reason=_ODD_SPELLING, culprits=held_up)
    splits = len(groups) > 1 or (kept is None and bool(groups)) or any(decision.waits for decision in decisions)
    if splits and config.policy.mixed in SPLITS and not rules.is_clear(session.sender):
        unclear = tuple(policy.unclear_sender(decision.recipient, direction, config) for decision in decisions)
        disposition, culprits = _disposition(unclear)
        return told(disposition, unclear, reason=culprits[0].reason, culprits=session.envelope.recipients)
    made = _made(session, groups, ports, config)
    return told(disposition, decisions, reason=reason, culprits=held_up, copies=made, kept=kept)


def _relayed(session: Session, config: Config) -> tuple[Recipient, ...]:
    """Those to whom the MTA sends a message on though its client is none of ours."""
    if config.mode != "auto" or policy.is_ours(session.client, config):
        return ()
    return tuple(r for r in session.envelope.recipients if policy.is_relayed(requirement_for(session, r, config)))


def _bounced(session: Session, decisions: tuple[Decision, ...], config: Config) -> tuple[Decision, ...]:
    """Those who fail alone and are told to the sender, where policy and protocol allow it: the sender is one of ours,
    so that nobody is bombarded, and wants to be told."""
    failing = tuple(decision for decision in decisions if _fails(decision) and not decision.waits)
    allowed = config.policy.one_fails == "bounce" and config.policy.mixed in SPLITS and session.sender
    if (
        not failing
        or not allowed
        or not rules.is_clear(session.sender)
        or not policy.is_ours(session.client, config)
        or len(failing) == len(decisions)
    ):
        return ()
    return failing if all(dsn.may_notify(decision.recipient) for decision in failing) else ()


def _decided(session: Session, ports: Ports, config: Config, *, requested: bool) -> tuple[Decision, ...]:
    """One decision a recipient; the look-ups of all of them share one deadline."""
    recipients = session.envelope.recipients
    _forget_stale_lookups(session, ports, config)
    requirements = [begin_lookup(session, recipient, ports, config, requested=requested) for recipient in recipients]
    deciding = _Deciding(session, ports, config)
    return tuple(
        deciding.decision(r, requirement, requested=requested)
        for r, requirement in zip(recipients, requirements, strict=True)
    )


class _Deciding:
    """Decisions about the recipients of one message, by one clock and one deadline."""

    def __init__(self, session: Session, ports: Ports, config: Config) -> None:
        last_asked_at = max((pending.asked_at for pending in session.lookups.values()), default=0.0)
        self._deadline, self._now = last_asked_at + config.dns.timeout_s, ports.clock.now()
        self._session, self._ports, self._config = session, ports, config
        self._found: dict[tuple[EmailAddress, tuple[str, ...], tuple[str, ...]], KeyLookup] = {}

    def decision(self, recipient: Recipient, requirement: Requirement, *, requested: bool = False) -> Decision:
        """What happens for one recipient, further readers included."""
        known = None
        if requirement.wanted:
            asked = requirement.address
            known = self._finish(asked, requirement.formats) if asked else lookup.no_address(recipient.shown)
        decision = policy.decide(recipient, requirement, known, self._config, requested=requested)
        if policy.waits(decision, requirement, self._session.client, self._config):
            return replace(decision, waits=True)
        return self._with_readers(decision, requirement) if requirement.also_to and decision.key else decision

    def _finish(
        self, address: EmailAddress, asked: tuple[str, ...], wanted: tuple[str, ...] | None = None
    ) -> KeyLookup:
        formats = asked if wanted is None else wanted
        found = self._found.get((address, asked, formats))
        if found is None:
            pending = self._session.lookups[address, asked]
            found = lookup.finish(pending, self._deadline, self._now, self._ports, formats)
            self._found[address, asked, formats] = found
        return found

    def _with_readers(self, decision: Decision, requirement: Requirement) -> Decision:
        """The keys of further readers, of the form that this recipient gets."""
        form = (decision.key.format.value,) if decision.key else ()
        readers = tuple(self._finish(reader, (), form) for reader in _readers(requirement, self._session, self._config))
        for reader in readers:
            if reader.verdict in (KeyVerdict.BOGUS, KeyVerdict.UNREACHABLE, KeyVerdict.UNCLEAR):
                why = Reason("reader", f"further reader {reader.address}: {reader.reason.text}")
                return replace(decision, action=Action.DEFER, reason=why, readers=readers)
        decision = replace(decision, readers=readers)
        return (
            replace(decision, action=Action.DEFER, reason=_CONFUSABLE) if sharing.are_confusable(decision) else decision
        )


def _forget_stale_lookups(session: Session, ports: Ports, config: Config) -> None:
    """An answer to a question from the beginning of a long upload may have outlived its TTL: it is asked anew, which
    the cache answers at once where it has not."""
    oldest = ports.clock.monotonic() - config.dns.timeout_s
    session.lookups = {key: pending for key, pending in session.lookups.items() if pending.asked_at >= oldest}


def _disposition(decisions: tuple[Decision, ...]) -> tuple[Disposition, tuple[Decision, ...]]:
    """One reply stands for all: any deferred defers the message, else any refused refuses it, else any held holds."""
    for action, disposition in _DISPOSITIONS:
        if culprits := tuple(decision for decision in decisions if decision.action is action):
            return disposition, culprits
    return Disposition.DELIVER, ()


def _without_request(session: Session, config: Config) -> HeaderEdits:
    """Where the sender may ask, what told of the request is not sent."""
    return request.without(session.message, config.policy) if _may_ask(session, config) else HeaderEdits()
