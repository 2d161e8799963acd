"""The only table from an outcome to the answer for the MTA: SMTP code, enhanced code (RFC 3463), text and edits.

A text names the recipient and the reason, never a detail of the configuration.
"""

from __future__ import annotations

import re
from enum import Enum

from smilla.errors import JournalBusy, JournalError, SealBroken, SealKeyMissing, SmillaError
from smilla.model import Action, Copy, CopyForm, Decision, Disposition, Outcome, Recipient
from smilla.value import value


class Verb(Enum):
    """What the milter answers at the end of the message."""

    ACCEPT = "accept"
    TEMPFAIL = "tempfail"
    REJECT = "reject"
    QUARANTINE = "quarantine"
    DISCARD = "discard"


@value
class Reply:
    """The answer; ``copy`` is what the MTA's message becomes, None if it stays as it is.

    ``further`` are the copies to re-inject before the answer is given.  ``bounced`` are the recipients about whom the
    sender is notified, ``removed`` those taken out of the MTA's message.  If no recipient is left, the message is
    discarded (the client gets 250).  ``is_sealed``: the MTA's message becomes a sealed one, which the stage splits.
    """

    verb: Verb
    code: str = ""
    enhanced: str = ""
    text: str = ""
    copy: Copy | None = None
    further: tuple[Copy, ...] = ()
    removed: tuple[Recipient, ...] = ()
    bounced: tuple[Decision, ...] = ()
    is_sealed: bool = False

    @property
    def line(self) -> str:
        """As written in an SMTP dialogue."""
        return f"{self.code} {self.enhanced} {self.text}" if self.code else self.verb.value


INTERNAL = Reply(Verb.TEMPFAIL, "451", "4.3.0", "Internal error in the encryption filter; try again later")
TOO_MANY = Reply(Verb.TEMPFAIL, "452", "4.5.3", "Too many recipients need copies of their own; send it in parts")
HANDOVER = Reply(Verb.TEMPFAIL, "451", "4.3.0", "Not all copies of this message could be handed on; try again later")
JOURNAL = Reply(Verb.TEMPFAIL, "451", "4.3.0", "The encryption filter cannot keep its journal; try again later")
BUSY = Reply(Verb.TEMPFAIL, "451", "4.3.0", "The same message is being handled at this moment; try again later")
TOO_LARGE = Reply(Verb.REJECT, "552", "5.3.4", "The message is too large once it is encrypted")
COPY_TAKEN = Reply(Verb.ACCEPT, "250", "2.0.0", "The copy was accepted")
NOT_READY = Reply(
    Verb.TEMPFAIL,
    "451",
    "4.3.5",
    "The recipients need different forms of this message, and the filter cannot split it now; try again later",
)
ALL_TAKEN = Reply(Verb.ACCEPT, "250", "2.0.0", "Ok: the next hop has taken every copy")
NO_QUARANTINE = Reply(Verb.TEMPFAIL, "451", "4.7.5", "This message would have to be held, and nothing here can hold it")
LOOP = Reply(Verb.REJECT, "554", "5.4.6", "The message has come by too many servers; it goes round in a loop")
SEAL_KEY = Reply(Verb.TEMPFAIL, "451", "4.3.0", "The key that seals this message is missing; see smilla's log")
SEAL_BROKEN = Reply(Verb.TEMPFAIL, "451", "4.7.1", "This is not what was sealed, or not for this use; see smilla's log")
SEAL_REFUSED = Reply(Verb.REJECT, "550", "5.7.1", "This is not what was sealed, or not for this use")
STOPPING = Reply(Verb.TEMPFAIL, "451", "4.3.2", "The encryption filter is restarting; try again later")

_OF_ERRORS = {
    SmillaError: INTERNAL,
    JournalError: JOURNAL,
    JournalBusy: BUSY,
    SealKeyMissing: SEAL_KEY,
    SealBroken: SEAL_BROKEN,
}

_NO_HOP = "it may leave over a verified connection only, and the domain offers none (DANE, MTA-STS)"
_OTHER_HOSTS = "it may leave over a verified connection only, and the domain's MTA-STS names other hosts"
_HOP_BOGUS = "what DNS says about the domain's mail servers fails DNSSEC validation, so none can be verified"
_HOP_UNKNOWN = "nobody can tell now whether the domain's mail servers can be verified; try again later"
_OF_HOPS = (
    (_NO_HOP, "no_secure_hop unusable_tlsa mta_sts_none mta_sts_testing"),
    (_OTHER_HOSTS, "mta_sts_mismatch"),
    (_HOP_BOGUS, "mx_bogus tlsa_bogus mta_sts_bogus"),
    (_HOP_UNKNOWN, "mx_unreachable tlsa_unreachable mta_sts_unreachable hop_busy hop_deadline"),
    (_HOP_UNKNOWN, "mx_unclear tlsa_unclear mta_sts_unclear"),
    ("the domain says that it takes no mail (null MX)", "null_mx"),
)
TEXTS = {
    "bogus": "the answer about a published key fails DNSSEC validation",
    "indeterminate": "no resolver could prove whether a key is published",
    "unreachable": "the name servers that would know of a published key do not answer",
    "web_unreachable": "the web server that would know of a published key gives no answer; try again later",
    "web_unclear": "the domain's web server gives neither a key nor word that there is none",
    "ldap_unreachable": "this system cannot look up keys at the moment; try again later",
    "ldap_unclear": "nobody can tell which of the keys that are on record is the right one",
    "resolver_down": "this system cannot look up keys at the moment; try again later",
    "learned_keys": "this system cannot look up keys at the moment; try again later",
    "key_folder": "this system cannot look up keys at the moment; try again later",
    "no_key": "encryption is required, but no key is published",
    "not_an_address": "this is not an address of the form local@domain, so nobody can tell whose key to use",
    "address_literal": "nobody can publish a key for an address literal; write the recipient's domain name",
    "name_too_long": "the domain is too long for a key to be looked up; nobody can tell whether one is published",
    "single_label": "the domain is a single word, which the mail server may complete; write it in full",
    "special_use": "no key can be looked up for this domain, so nobody can tell whether there is one",
    "too_many_candidates": "more keys are published than can be looked at, and none of those seen can be used",
    "no_source": "no allowed kind of key can be looked up",
    "not_for_encryption": "encryption is required, but what is published is not an encryption key",
    "insecure": "a key is published, but its zone is not signed with DNSSEC",
    "expired": "the published key has expired",
    "revoked": "the published key is revoked",
    "not_yet_valid": "the published key is not valid yet",
    "other_address": "the published key is for another address",
    "routed_address": "the address routes mail on, so nobody can tell whose key to use; write the final address",
    "unclear_address": "the address is not written as RFC 5321 says, and the mail server may read it as another one",
    "unclear_sender": "the sender's address is not written as RFC 5321 says, and may be read as another one",
    "ambiguous_domain": "programs read this domain in two ways; write it as an A-label (xn--...)",
    "forged_mark": "the message has a field that only this filter may add",
    "no_stage": "this system cannot send it over a verified hop",
    "no_hop_finder": "this system cannot send it over a verified hop",
    "hop_not_ready": "this system cannot send it over a verified hop at the moment; it is tried again",
    "hop_gone": "it was to leave over a verified hop only, and may not now; it is tried again",
    "key_gone": "the key that was there when the message came is gone; it is tried again",
    "not_sealed": "this recipient was not named when the message came in, and has no usable key",
    "too_many_fields": "the message has too many fields that would have to be replaced",
    "header_too_large": "the header of the message is too large",
    "field_too_long": "the message has a Content field that is too long",
    "bare_cr": "the header has a bare CR, so programs differ about where the body begins; end lines with CRLF",
    "wished": "the sender asked for encryption, which is not possible",
    "reader": "nobody can tell now whether a further reader has a key",
    "confusable_keys": "the recipient's key cannot share a message with that of a further reader",
    "odd_spelling": "this spelling of the address cannot be told apart from another one; write it plainly",
    **{code: text for text, codes in _OF_HOPS for code in codes.split()},
}
# A full mailbox and too many recipients are 552, too (RFC 5321 sections 4.2.3 and 4.5.3.1.10).
_TOO_LARGE = re.compile(r"552 (?:5\.3\.4\b|5\.2\.3\b|(?!\d\.))")
UNUSABLE = "the published key cannot be used"


def for_outcome(outcome: Outcome, mixed: str, *, observe: bool) -> Reply:
    """The reply to a whole message.  ``mixed`` is [policy] mixed; observing changes nothing."""
    if observe:
        return Reply(Verb.ACCEPT)
    if outcome.disposition is Disposition.DEFER:
        return Reply(Verb.TEMPFAIL, "451", "4.7.5", _about(outcome))
    if outcome.disposition is Disposition.REFUSE:
        enhanced = "5.7.1" if outcome.reason.code == "forged_mark" else "5.7.5"
        return Reply(Verb.REJECT, "550", enhanced, _about(outcome))
    # A bound copy never stays in the MTA's message, not for one recipient either: nothing would bind that.
    is_bound = any(copy.form is CopyForm.SECURE_HOP for copy in outcome.copies)
    if mixed == "stage" and (len(outcome.copies) > 1 or outcome.bounced or outcome.awaits_expansion or is_bound):
        return _staged(outcome)
    if len(outcome.copies) > 1 and mixed != "reinject":
        return _several_copies(mixed, len(outcome.copies))
    return _bound_alone() if is_bound else _handed_over(outcome)


def for_error(error: BaseException | None) -> Reply:
    """The reply to a message that an error ended: the table entry of the nearest class, never a refusal.  An error that
    is none of ours, or no longer known, gets INTERNAL."""
    return next((_OF_ERRORS[kind] for kind in type(error).__mro__ if kind in _OF_ERRORS), INTERNAL)


def _staged(outcome: Outcome) -> Reply:
    if outcome.disposition is Disposition.HOLD:
        return Reply(Verb.QUARANTINE, text=_about(outcome), is_sealed=True)
    return Reply(Verb.ACCEPT, is_sealed=True)


def _handed_over(outcome: Outcome) -> Reply:
    bounced = outcome.bounced
    if not outcome.copies:
        settled = all(decision.action is Action.DONE or decision in bounced for decision in outcome.decisions)
        # Otherwise nothing says in which form it may go.
        return Reply(Verb.DISCARD, bounced=bounced) if outcome.decisions and settled else INTERNAL
    if outcome.kept_index is None:
        return Reply(Verb.DISCARD, further=outcome.copies, bounced=bounced)
    copy = outcome.copies[outcome.kept_index]
    verb, text = Verb.ACCEPT, ""
    if outcome.disposition is Disposition.HOLD:
        verb, text = Verb.QUARANTINE, _about(outcome)
    further = tuple(other for other in outcome.copies if other is not copy)
    staying = {recipient.raw for recipient in copy.recipients}
    gone = {d.recipient.raw: d.recipient for d in outcome.decisions if d.recipient.raw not in staying}
    return Reply(verb, text=text, copy=copy, further=further, removed=tuple(gone.values()), bounced=bounced)


def for_recipient(decision: Decision) -> Reply | None:
    """The reply to one RCPT, if a rule asks for it; None if the recipient may stay."""
    text = f"<{decision.recipient.shown[:200]}>: {TEXTS.get(decision.reason.code, UNUSABLE)}"
    if decision.action is Action.DEFER:
        return Reply(Verb.TEMPFAIL, "451", "4.7.5", text)
    if decision.action is Action.REFUSE:
        return Reply(Verb.REJECT, "550", "5.7.5", text)
    return None


def for_refusals(details: list[str], recipient_count: int) -> Reply:
    """The reply if the listener did not take all copies.  ``details`` has its reply for each recipient it failed;
    ``recipient_count`` counts all who were to get a copy, including those who got it at earlier attempts.  If the copy
    was too large for every one of them, that will not change.  If anybody has a copy, the client never gets 5yz."""
    too_large = len(details) >= recipient_count and all(map(_TOO_LARGE.match, details))
    return TOO_LARGE if too_large else HANDOVER


def for_refusal(detail: str) -> Reply:
    """The reply about one recipient whose copy the listener did not take after the queue: a refusal if the listener
    refused it for good, otherwise the copy stays owed."""
    if not re.match(r"5\d\d\b", detail) or detail.startswith("552 5.5.3"):  # too many at once, which may change
        return HANDOVER
    if _TOO_LARGE.match(detail):
        return TOO_LARGE
    enhanced = re.match(r"5\d\d (5\.\d{1,3}\.\d{1,3}) ", detail)
    return Reply(Verb.REJECT, "550", enhanced[1] if enhanced else "5.0.0", f"The copy was refused: {detail}"[:500])


def refused_at_rcpt(detail: str) -> Reply:
    """The reply of the relay to RCPT for whom the next hop refuses there with ``detail`` (4yz or 5yz): its own code and
    words."""
    found = re.match(r"([45])\d\d (?:(\1\.\d{1,3}\.\d{1,3}) )?", detail)
    if found is None:
        return HANDOVER
    verb = Verb.REJECT if found[1] == "5" else Verb.TEMPFAIL
    text = f"The next hop says: {detail[found.end() :]}"[:400]
    return Reply(verb, detail[:3], found[2] or f"{found[1]}.0.0", text)


def refused_by_next_hop(recipient: Recipient, detail: str, refused: int, recipient_count: int) -> Reply:
    """The reply of the relay if the next hop refused recipients for good, the first one with ``detail``, and nobody is
    owed a copy any more.  ``recipient_count`` counts all of the message."""
    answer = for_refusal(detail)
    if answer is TOO_LARGE and refused >= recipient_count:
        return answer
    others = f" (and {refused - 1} more)" if refused > 1 else ""
    served = "; all others have their copy" if refused < recipient_count else ""
    text = f"<{recipient.shown[:200]}>{others}: {answer.text}"
    return Reply(Verb.REJECT, answer.code, answer.enhanced, f"{text[:450]}{served}")


def why(decision: Decision) -> str:
    """Why one recipient is deferred or refused, in words for the sender."""
    return TEXTS.get(decision.reason.code, UNUSABLE)


def _bound_alone() -> Reply:
    text = "A recipient may get this message over a verified hop only, which this system cannot do"
    return Reply(Verb.TEMPFAIL, "451", "4.3.0", text)


def _several_copies(mixed: str, count: int) -> Reply:
    text = f"The recipients need {count} different forms of this message; send it to them one by one"
    if mixed == "refuse":
        return Reply(Verb.REJECT, "550", "5.7.5", text)
    return Reply(Verb.TEMPFAIL, "451", "4.3.0", text)


def _about(outcome: Outcome) -> str:
    """``<recipient>: why``, for the first recipient who keeps the message from being delivered."""
    first, *more = outcome.blocked_by
    others = f" (and {len(more)} more)" if more else ""
    return f"<{first.shown[:200]}>{others}: {TEXTS.get(outcome.reason.code, UNUSABLE)}"
