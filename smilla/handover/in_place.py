"""How the MTA's own message is changed: one copy takes its place, or the original is sealed into it."""

from __future__ import annotations

from smilla.answer import reply
from smilla.copies import rewrap
from smilla.errors import SealKeyMissing
from smilla.handover import seal
from smilla.model import Message, Outcome, Rewrite
from smilla.ports import MTA, SealKeyStore
from smilla.session import Session


def edit(mta: MTA, answer: reply.Reply, message: Message) -> None:
    """The copy that stays, the recipients who get another one, and the quarantine.  Raises MTALost."""
    if answer.copy is not None:
        apply(mta, answer.copy.rewrite, message)
    for recipient in answer.removed:
        mta.delete_recipient(recipient.raw)
    if answer.verb is reply.Verb.QUARANTINE:
        mta.quarantine(answer.text)


def seal_message(mta: MTA, session: Session, outcome: Outcome, keys: SealKeyStore | None) -> None:
    """The MTA's message becomes a sealed one.  A bounce of it brings back its header fields alone, not the body.
    Raises SealKeyMissing, MTALost."""
    if keys is None:
        raise SealKeyMissing("there are no seal keys: [policy] mixed is not stage")
    facts = seal.facts(session.envelope, outcome.decisions, session.queue_id, session.client, outcome.direction)
    rewrite = seal.rewrite(session.message, facts, keys.current(), outcome.arrival.edits)
    apply(mta, rewrite, session.message)
    mta.change_sender(session.sender, _headers_only(session.envelope.parameters))


def _headers_only(parameters: tuple[str, ...]) -> str:
    """The sender's ESMTP parameters of the DSN extension (RFC 3461), with RET=HDRS."""
    kept = [parameter for parameter in parameters if parameter.partition("=")[0].upper() == "ENVID"]
    return " ".join(["RET=HDRS", *kept])


def apply(mta: MTA, rewrite: Rewrite, message: Message) -> None:
    """The edits, the new body first: where making it fails, nothing of the message has been touched.

    Raises MTALost."""
    if rewrite.body is not None:
        for block in rewrite.body():
            mta.replace_body(block)
    for name, number, value in rewrap.edits(message, rewrite):
        mta.change_header(name, number, value)
