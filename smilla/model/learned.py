"""A key that authenticated mail brought."""

from __future__ import annotations

from smilla.address import EmailAddress
from smilla.model.keys import Format
from smilla.value import value


@value
class LearnedKey:
    """A key as it was learned for an address: ``raw`` holds the packets of an OpenPGP key, or a certificate in DER and
    after it the authorities that lead to its anchor.  ``way`` is how it came: autocrypt or smime.  ``sent_at`` is when
    the message that brought it last was sent, in seconds since 1970."""

    address: EmailAddress
    format: Format
    raw: bytes
    fingerprint: str
    way: str
    sent_at: float
