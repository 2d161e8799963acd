"""Which recipients share a copy of the message.

Recipients who see each other in To or Cc and have keys of one format share one ciphertext.  A recipient in the
envelope and not in To or Cc (a blind copy, a list, an alias) shares a ciphertext with nobody, so that no recipient
info and no key ID tells of them.  What is not encrypted tells nothing, and is shared by all who get it.
"""

from __future__ import annotations

from collections.abc import Iterable

from smilla.address import in_header
from smilla.errors import EncryptionError
from smilla.model import Action, Decision, Form, Message, Recipient

_VISIBLE_FIELDS = ("to", "cc", "resent-to", "resent-cc")
_MOST_OCTETS = 256 * 1024
_ENCRYPTED = (Form.SMIME, Form.OPENPGP)


def visible_recipients(message: Message) -> frozenset[str]:
    """The mailboxes in To, Cc, Resent-To and Resent-Cc, folded for comparison.  Past 256 KiB of such fields nobody is
    looked for any more: who is not found gets a copy of their own, which is the safe side."""
    found: set[str] = set()
    octets = 0
    for header in message.headers:
        octets += len(header.raw_value) if header.name in _VISIBLE_FIELDS else 0
        if header.name in _VISIBLE_FIELDS and octets <= _MOST_OCTETS:
            found |= in_header(header.raw_value)
    return frozenset(found)


def group(decisions: Iterable[Decision], message: Message) -> list[tuple[Form, tuple[Decision, ...]]]:
    """The copies owed, in the order of their first recipients: the form of each and the decisions it serves."""
    decided = [(_form(decision), decision) for decision in decisions]
    readers = {_mailbox(decision.recipient) for form, decision in decided if form in _ENCRYPTED}
    # Where only one recipient gets ciphertext there is nobody to hide them from.
    visible = visible_recipients(message) if len(readers) > 1 else None
    groups: dict[tuple[Form, str], list[Decision]] = {}
    for form, decision in decided:
        private = form in _ENCRYPTED and visible is not None and not _is_visible(decision.recipient, visible)
        groups.setdefault((form, _mailbox(decision.recipient) if private else ""), []).append(decision)
    return [(form, tuple(members)) for (form, _), members in groups.items()]


def _form(decision: Decision) -> Form:
    """The form that a decision asks for.  Raises EncryptionError where there is none, so that no decision that
    somebody adds, and no key that got lost, can ever fall through to plaintext."""
    if decision.action is Action.ENCRYPT and decision.key is not None:
        return Form(decision.key.format.value)
    if decision.action is Action.UNCHANGED:
        return Form.UNCHANGED
    if decision.action in (Action.PLAIN, Action.HOLD):
        return Form.PLAIN
    raise EncryptionError(f"{decision.action.value} for {decision.recipient.shown} has no form to be delivered in")


def _mailbox(recipient: Recipient) -> str:
    """Two spellings of a domain are one mailbox, two spellings of a local part may be two (RFC 5321 section 2.4)."""
    address = recipient.address
    return f"{address.local_part}@{address.domain}" if address else recipient.raw


def _is_visible(recipient: Recipient, visible: frozenset[str]) -> bool:
    return recipient.address is not None and recipient.address.folded in visible
