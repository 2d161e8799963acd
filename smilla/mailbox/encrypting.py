"""Encrypts a message that lies in a mailbox as the filter would have when it came in.

The envelope is the owner's address, and as sender the Return-Path that the MTA wrote at delivery (RFC 5321 section
4.4): rules may ask for it.  What is encrypted already, by whomever, stays as it is.
"""

from __future__ import annotations

from dataclasses import replace

from smilla import address, classify, decide, pipeline
from smilla.config import Config
from smilla.config.options import TransportOptions
from smilla.copies import rewrap
from smilla.decrypt import entity
from smilla.errors import AddressError, EncryptionError, ParseError
from smilla.mailbox import places
from smilla.mailbox.change import Change, Fate, with_line_ends_of
from smilla.message import ParsedMessage, parse, without_beginning
from smilla.model import Action, Client, CopyForm, Decision, Disposition, Message, MessageKind, Outcome, Rewrite
from smilla.ports import Ports
from smilla.session import Session

_FATES = {Disposition.DEFER: Fate.LATER, Disposition.REFUSE: Fate.LEFT, Disposition.HOLD: Fate.LATER}
_FORMS = (CopyForm.SMIME, CopyForm.OPENPGP)
_NOT_BACK = Change(Fate.LEFT, "not_exact", "it is malformed, and decrypting it would not give it back")


def settings_for(config: Config) -> Config:
    """The configuration without what only concerns mail that is on its way: how it came, aliases, observing."""
    return replace(config, observe=False, transport=TransportOptions(), keys=replace(config.keys, aliases=""))


class Encryptor:
    """Changer.  ``owner`` is the address whose keys are used; ``config`` comes from ``settings_for``."""

    def __init__(self, owner: str, ports: Ports, config: Config) -> None:
        self._owner, self._ports, self._config = owner, ports, config

    def foresee(self) -> Decision | None:
        """What happens to mail for this owner, whatever the message; None if that depends on the sender."""
        if any(rule.sender or "sender" in rule.also_to for rule in self._config.rule):
            return None
        session = self._session("")
        (recipient,) = session.envelope.recipients
        requirement = decide.begin_lookup(session, recipient, self._ports, self._config)
        return decide.at_rcpt(session, recipient, requirement, self._ports, self._config)

    def __call__(self, raw: bytes, *, dry: bool) -> Change:
        """See Changer."""
        parsed = parse(raw)
        if not parsed.raw_fields or without_beginning(raw)[1]:
            return Change(Fate.LEFT, "no_header", "it does not begin with a header field, so nobody knows what it is")
        found = classify.classify(parsed.message)
        if found.kind is MessageKind.ENCRYPTED:
            return Change(Fate.NOTHING_TO_DO, found.reason.code, found.reason.text, is_lasting=True)
        message = places.with_secret(parsed.message)
        outcome = self._outcome(message)
        if not _moves_alone(outcome.decisions[0]):
            message = parsed.message
            outcome = self._outcome(message)
        return self._changed(outcome, parsed, raw, message, dry=dry)

    def _outcome(self, message: Message) -> Outcome:
        session = self._session(_sender(message))
        session.take(message)
        return pipeline.process(session, self._ports, self._config)

    def _session(self, sender: str) -> Session:
        session = Session(Client(), sender, (), self._config.completion)
        session.recipient(f"<{self._owner}>")
        return session

    def _changed(self, outcome: Outcome, parsed: ParsedMessage, raw: bytes, message: Message, *, dry: bool) -> Change:
        (decision,) = outcome.decisions
        reason = decision.reason
        if outcome.disposition in _FATES:
            return Change(_FATES[outcome.disposition], reason.code, reason.text)
        if decision.action is Action.UNCHANGED or reason.code == "never":  # a rule has considered this
            return Change(Fate.NOTHING_TO_DO, reason.code, reason.text)
        if decision.action is not Action.ENCRYPT:
            return Change(Fate.LEFT, reason.code, reason.text)
        (copy,) = outcome.copies
        if copy.form not in _FORMS:
            raise EncryptionError("a message that was to be encrypted is not")
        rewrite: Rewrite | None = copy.rewrite
        if _moves_alone(decision):
            rewrite = places.noted(parsed, raw, message, copy.rewrite)
        elif not _is_entity(message, copy.form is CopyForm.OPENPGP or decision.style.is_authenticated):
            rewrite = None
        if rewrite is None:
            return _NOT_BACK
        if dry:
            return Change(Fate.CHANGED, "encrypted", reason.text)
        return Change(Fate.CHANGED, "encrypted", reason.text, _octets(parsed, message, rewrite))


def _moves_alone(decision: Decision) -> bool:
    """Are only those fields inside that are no longer outside?"""
    return decision.style.protect_headers == "off"


def _is_entity(message: Message, is_authenticated: bool) -> bool:
    """With all fields of the header inside, can it be decrypted?"""
    others = (header for header in message.headers if not header.name.startswith("content-"))
    head = rewrap.inner_head((*others, *rewrap.content_fields(message)))
    try:
        inner = entity.read(head + b"".join(message.body.blocks()))
        if not is_authenticated:
            entity.check(inner)
    except ParseError:
        return False
    return True


def _octets(parsed: ParsedMessage, message: Message, change: Rewrite) -> bytes:
    """The new message, with the line ends of the old one.  Raises EncryptionError."""
    raw = b"".join(rewrap.applied(message, change))
    if classify.classify(parse(raw).message).kind is not MessageKind.ENCRYPTED:
        raise EncryptionError("a message that was encrypted does not look so")
    return with_line_ends_of(parsed, raw)


def _sender(message: Message) -> str:
    """The envelope sender, "" if nobody wrote it down."""
    fields = message.named("return-path")
    if len(fields) != 1:
        return ""
    text = fields[0].raw_value.decode("utf-8", "surrogateescape").strip()
    try:
        return address.parse(text).raw
    except AddressError:
        return ""
