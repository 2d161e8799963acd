"""The OpenPGP key that an Autocrypt field brings (Autocrypt Level 1), where the sender's own domain has signed it.

What others do: they take the field of any message, and the newest wins; whoever can send in somebody's name can so give
them a key.  What we do: DMARC must have passed, by the word of our own verifiers, and a valid DKIM signature of the
sender's domain must cover From, Date and Autocrypt.  The key must name the address, and be usable today.  Only a sender
who asks for encryption (prefer-encrypt=mutual) is taken at their word: others have a key, and do not ask for it to be
used by default.
"""

from __future__ import annotations

from datetime import datetime

from smilla.address import parse
from smilla.errors import AddressError, ParseError
from smilla.formats import autocrypt, key_file
from smilla.keys.discovery import learned
from smilla.keys.validity import pgp
from smilla.learning.authenticated import Sender, UnprovenError, covered_by_sender
from smilla.model import Candidate, Format, LearnedKey, Message
from smilla.ports import Ports

WAY = "autocrypt"
_COVERED = ("from", "date", "autocrypt")


def may_offer(message: Message) -> bool:
    """A cheap look: is there such a field?"""
    return bool(message.places.get(autocrypt.NAME.lower()))


def key_of(message: Message, sender: Sender, ports: Ports) -> LearnedKey | None:
    """None if the message has no Autocrypt field.  Raises UnprovenError."""
    fields = message.named(autocrypt.NAME.lower())
    if not fields:
        return None
    if len(fields) > 1:
        raise UnprovenError("there is more than one Autocrypt field")
    try:
        offer = autocrypt.read(fields[0].raw_value)
        is_theirs = parse(offer.addr).folded == sender.address.folded
    except (ParseError, AddressError) as error:
        raise UnprovenError(str(error)) from error
    if not is_theirs:
        raise UnprovenError("the Autocrypt field is for another address than From")
    if not offer.is_mutual:
        raise UnprovenError("the sender does not ask for encryption (prefer-encrypt)")
    if not covered_by_sender(message, sender, *_COVERED):
        raise UnprovenError("no valid DKIM signature of the sender's domain covers From, Date and Autocrypt")
    return _judged(offer, sender, ports.clock.now())


def _judged(offer: autocrypt.Offer, sender: Sender, now: datetime) -> LearnedKey:
    """One key and no secret one, which the gate takes for this address today."""
    contents = key_file.contents(offer.raw_key, Format.OPENPGP)
    if contents.has_private or [form for form, _ in contents.keys] != [Format.OPENPGP]:
        raise UnprovenError("the Autocrypt field does not hold exactly one OpenPGP key")
    raw = contents.keys[0][1]
    candidate = Candidate(learned.SOURCE, str(sender.address), Format.OPENPGP, raw)
    assessment = pgp.assess(candidate, sender.address, now)
    if assessment.key is None:
        raise UnprovenError("; ".join(reason.text for reason in assessment.reasons))
    fingerprint, sent_at = assessment.key.fingerprint, sender.sent_at.timestamp()
    return LearnedKey(sender.address, Format.OPENPGP, raw, fingerprint, WAY, sent_at)
