"""What happens for each recipient: their look-up begins at RCPT and is finished at the end of the message.

All look-ups of a message share one deadline and one clock.  What is wanted for a recipient is worked out once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from smilla import policy
from smilla.address import EmailAddress, parse
from smilla.config import Config
from smilla.copies import sharing
from smilla.errors import AddressError
from smilla.keys import lookup
from smilla.model import Action, Decision, Hop, KeyLookup, KeyVerdict, Reason, Recipient
from smilla.policy import Requirement, rules
from smilla.ports import PendingLookup, Ports
from smilla.session import Asked, Session

_CONFUSABLE = Reason(
    "confusable_keys", "this recipient's key and that of a further reader go by one name, or by no one engine"
)


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
    asked = Asked(address, requirement.formats, requirement.trust, requirement.key_file)
    for one in (asked, *(Asked(reader, (), requirement.trust) for reader in _readers(requirement, session, config))):
        _ask(session, one, ports, config)
    if ports.hops is not None and policy.may_use_hop(requirement, config) and address.domain not in session.hops:
        session.hops[address.domain] = ports.hops.begin(address.domain)


def at_rcpt(session: Session, recipient: Recipient, requirement: Requirement, ports: Ports, config: Config) -> Decision:
    """The decision about one recipient before the content is known, where a rule asks for it (at_rcpt)."""
    return _Deciding(session, ports, config).decision(recipient, requirement)


def _ask(session: Session, asked: Asked, ports: Ports, config: Config) -> None:
    if asked not in session.lookups:
        session.lookups[asked] = _begun(session, asked, ports, config)


def _begun(session: Session, asked: Asked, ports: Ports, config: Config) -> PendingLookup:
    if asked.key_file:
        return lookup.begin_of_rule(asked.address, asked.key_file, ports, config)
    return lookup.begin(asked.address, ports, config, session.questions, asked.trust)


def _readers(requirement: Requirement, session: Session, config: Config) -> list[EmailAddress]:
    """The addresses of further readers; a null sender is none."""
    if not requirement.also_to:
        return []
    *_, sender = ("", *rules.sender_readings(session.sender, config.completion))
    named = [sender if entry == "sender" else entry for entry in requirement.also_to]
    found = []
    for text in named:
        with suppress(AddressError):
            found.append(parse(text))
    return found


def for_all(session: Session, ports: Ports, config: Config, *, requested: bool) -> tuple[Decision, ...]:
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
        self._found: dict[tuple[Asked, tuple[str, ...]], KeyLookup] = {}

    def decision(self, recipient: Recipient, requirement: Requirement, *, requested: bool = False) -> Decision:
        """What happens for one recipient, further readers included."""
        known = None
        if requirement.wanted:
            known = self._known(requirement) or lookup.no_address(recipient.shown)
        decision = policy.decide(recipient, requirement, known, self._config, requested=requested)
        if decision.action is Action.SECURE_HOP:
            decision = policy.over_hop(decision, self._hop(requirement), self._config)
        if policy.awaits_expansion(decision, requirement, self._session.client, self._config):
            return replace(decision, awaits_expansion=True)
        return self._with_readers(decision, requirement) if requirement.also_to and decision.key else decision

    def _known(self, requirement: Requirement) -> KeyLookup | None:
        """The look-up of a recipient's own key; None if nobody knows their address."""
        if requirement.address is None:
            return None
        asked = Asked(requirement.address, requirement.formats, requirement.trust, requirement.key_file)
        return self._finish(asked, requirement.formats)

    def over_own_hop(self, decision: Decision, requirement: Requirement) -> Decision:
        """A decision for a verified hop, judged by the hop to another domain: that of the requirement."""
        return policy.over_hop(decision, self._hop(requirement), self._config)

    def _finish(self, asked: Asked, formats: tuple[str, ...]) -> KeyLookup:
        found = self._found.get((asked, formats))
        if found is None:
            pending = self._session.lookups[asked]
            found = lookup.finish(pending, self._deadline, self._now, self._ports, formats)
            self._found[asked, formats] = found
        return found

    def _hop(self, requirement: Requirement) -> Hop | None:
        """The hop to the recipient's domain, under the same deadline as the look-ups."""
        pending = self._session.hops.get(requirement.address.domain) if requirement.address else None
        return pending.result(self._deadline) if pending is not None else None

    def _with_readers(self, decision: Decision, requirement: Requirement) -> Decision:
        """The keys of further readers, of the form that this recipient gets."""
        form = (decision.key.format.value,) if decision.key else ()
        asked = (Asked(one, (), requirement.trust) for one in _readers(requirement, self._session, self._config))
        readers = tuple(self._finish(one, form) for one in asked)
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
    if any(pending.asked_at < oldest for pending in session.lookups.values()):
        session.lookups = {key: pending for key, pending in session.lookups.items() if pending.asked_at >= oldest}
        session.hops.clear()


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
    in no case less than the alias's decision asks for; a verified hop is the one to their own domain.  Their look-ups
    are under way together."""
    requirements = [
        _requirement_of_expanded(session, decision, r, config, requested=requested) for decision, r in expansions
    ]
    for requirement in requirements:
        if requirement is not None and requirement.address is not None:
            _begin(session, requirement, requirement.address, ports, config)
    deciding, found = _Deciding(session, ports, config), []
    for (decision, recipient), requirement in zip(expansions, requirements, strict=True):
        own = deciding.decision(recipient, requirement, requested=requested) if requirement is not None else decision
        if requirement is not None and own.action is Action.PLAIN and decision.action is Action.SECURE_HOP:
            own = deciding.over_own_hop(decision, requirement)
        if own.action is Action.HOLD:
            own = replace(own, action=Action.DEFER)  # it is too late for the MTA's quarantine
        outweighs = own.action in (Action.ENCRYPT, Action.DEFER) or decision.action not in (Action.DEFER, own.action)
        outweighs |= own.action is decision.action is Action.SECURE_HOP  # by its own hop
        chosen = own if requirement is not None and own.action is not Action.PLAIN and outweighs else decision
        found.append(replace(chosen, recipient=recipient, awaits_expansion=False))
    return found
