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
from smilla.keys.questions import BoundedResolver
from smilla.model import Action, Decision, Hop, KeyLookup, KeyVerdict, Reason, Recipient
from smilla.policy import Requirement, rules
from smilla.ports import Ports
from smilla.session import Session

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
    _ask(session, address, requirement.formats, ports, config)
    for reader in _readers(requirement, session, config):
        _ask(session, reader, (), ports, config)
    if ports.hops is not None and policy.may_use_hop(requirement, config) and address.domain not in session.hops:
        session.hops[address.domain] = ports.hops.begin(address.domain)


def at_rcpt(session: Session, recipient: Recipient, requirement: Requirement, ports: Ports, config: Config) -> Decision:
    """The decision about one recipient before the content is known, where a rule asks for it (at_rcpt)."""
    return _Deciding(session, ports, config).decision(recipient, requirement)


def _ask(session: Session, address: EmailAddress, formats: tuple[str, ...], ports: Ports, config: Config) -> None:
    if (address, formats) not in session.lookups:
        bounded = BoundedResolver(ports.resolver, session.questions)
        session.lookups[address, formats] = lookup.begin(address, ports, config, bounded)


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
        self._found: dict[tuple[EmailAddress, tuple[str, ...], tuple[str, ...]], KeyLookup] = {}

    def decision(self, recipient: Recipient, requirement: Requirement, *, requested: bool = False) -> Decision:
        """What happens for one recipient, further readers included."""
        known = None
        if requirement.wanted:
            asked = requirement.address
            known = self._finish(asked, requirement.formats) if asked else lookup.no_address(recipient.shown)
        decision = policy.decide(recipient, requirement, known, self._config, requested=requested)
        if decision.action is Action.SECURE_HOP:
            decision = policy.over_hop(decision, self._hop(requirement), self._config)
        if policy.awaits_expansion(decision, requirement, self._session.client, self._config):
            return replace(decision, awaits_expansion=True)
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

    def _hop(self, requirement: Requirement) -> Hop | None:
        """The hop to the recipient's domain, under the same deadline as the look-ups."""
        pending = self._session.hops.get(requirement.address.domain) if requirement.address else None
        return pending.result(self._deadline) if pending is not None else None

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
        found.append(replace(chosen, recipient=recipient, awaits_expansion=False))
    return found
