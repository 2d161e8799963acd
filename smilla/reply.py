"""The only table from an outcome to what the MTA is told: SMTP code, enhanced code (RFC 3463), text and edits.

A text names the recipient and the reason, never a detail of the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from smilla.model import Copy, Disposition, Outcome


class Verb(Enum):
    """What the milter answers at the end of the message."""

    ACCEPT = "accept"
    TEMPFAIL = "tempfail"
    REJECT = "reject"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer; ``copy`` is what the MTA's message becomes, None where it stays as it is."""

    verb: Verb
    code: str = ""
    enhanced: str = ""
    text: str = ""
    copy: Copy | None = None

    @property
    def line(self) -> str:
        """As it stands in an SMTP dialogue."""
        return f"{self.code} {self.enhanced} {self.text}" if self.code else self.verb.value


INTERNAL = Reply(Verb.TEMPFAIL, "451", "4.3.0", "Internal error in the encryption filter; try again later")
STOPPING = Reply(Verb.TEMPFAIL, "451", "4.3.2", "The encryption filter is restarting; try again later")

_TEXTS = {
    "bogus": "the answer about a published key fails DNSSEC validation",
    "indeterminate": "no resolver could prove whether a key is published",
    "unreachable": "the name servers that would know of a published key do not answer",
    "no_key": "encryption is required, but no key is published",
    "not_an_address": "encryption is required, but no key is published",
    "not_for_encryption": "encryption is required, but what is published is not an encryption key",
    "insecure": "a key is published, but its zone is not signed with DNSSEC",
    "expired": "the published key has expired",
    "revoked": "the published key is revoked",
    "not_yet_valid": "the published key is not valid yet",
    "other_address": "the published key is for another address",
    "routed_address": "the address routes mail on, so nobody can tell whose key to use; write the recipient's own one",
    "too_many_fields": "the message has too many Content fields",
    "field_too_long": "the message has a Content field that is too long",
}
_UNUSABLE = "the published key cannot be used"


def for_outcome(outcome: Outcome, mixed: str, *, observe: bool) -> Reply:
    """The reply to a whole message.  ``mixed`` is [policy] mixed; observing changes nothing."""
    if observe:
        return Reply(Verb.ACCEPT)
    if outcome.disposition is Disposition.DEFER:
        return Reply(Verb.TEMPFAIL, "451", "4.7.5", _about(outcome))
    if outcome.disposition is Disposition.REFUSE:
        return Reply(Verb.REJECT, "550", "5.7.5", _about(outcome))
    if len(outcome.copies) != 1:
        return _several_copies(mixed, len(outcome.copies))
    copy = outcome.copies[0]
    if outcome.disposition is Disposition.HOLD:
        return Reply(Verb.QUARANTINE, text=_about(outcome), copy=copy)
    return Reply(Verb.ACCEPT, copy=copy)


def _several_copies(mixed: str, count: int) -> Reply:
    if not count:
        return INTERNAL  # nobody said in which form it may go
    text = f"The recipients need {count} different forms of this message; send it to them one by one"
    if mixed == "refuse":
        return Reply(Verb.REJECT, "550", "5.7.5", text)
    return Reply(Verb.TEMPFAIL, "451", "4.3.0", text)


def _about(outcome: Outcome) -> str:
    """``<recipient>: why``, for the first of the recipients on whose account the message is not delivered."""
    first, *more = outcome.culprits
    others = f" (and {len(more)} more)" if more else ""
    return f"<{first.shown[:200]}>{others}: {_TEXTS.get(outcome.reason.code, _UNUSABLE)}"
