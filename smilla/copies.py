"""Which recipients share a copy of the message.

Recipients who see each other in To or Cc and have keys of one format share one ciphertext.  A recipient in the
envelope and not in To or Cc (a blind copy, a list, an alias) shares a ciphertext with nobody, so that no recipient
info and no key ID tells of them.  What is not encrypted tells nothing, and is shared by all who get it.
"""

from __future__ import annotations

from collections.abc import Iterable

from smilla import address
from smilla.errors import EncryptionError
from smilla.model import Action, Decision, Form, Message, Recipient

_VISIBLE_FIELDS = ("to", "cc", "resent-to", "resent-cc")


def visible_recipients(message: Message) -> frozenset[str]:
    """The mailboxes in To, Cc, Resent-To and Resent-Cc, folded for comparison."""
    found: frozenset[str] = frozenset()
    for header in message.headers:
        if header.name in _VISIBLE_FIELDS:
            found |= address.in_header(header.raw_value)
    return found


def group(decisions: Iterable[Decision], message: Message) -> list[tuple[Form, tuple[Decision, ...]]]:
    """The copies owed, in the order of their first recipients: the form of each and the decisions it serves."""
    visible = visible_recipients(message)
    groups: dict[tuple[Form, Recipient | None], list[Decision]] = {}
    for decision in decisions:
        form = _form(decision)
        private = form in (Form.SMIME, Form.OPENPGP) and not _is_visible(decision.recipient, visible)
        groups.setdefault((form, decision.recipient if private else None), []).append(decision)
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


def _is_visible(recipient: Recipient, visible: frozenset[str]) -> bool:
    return recipient.address is not None and recipient.address.folded in visible
