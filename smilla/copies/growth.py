"""How large a message becomes at the most, once it is sealed or encrypted: 78 octets of base64 stand for 57.

Estimates, and never too small: a kilobyte or two above what comes out, and one or two for each reader of a copy.  What
an MTA limits is more than the octets that are sent: Postfix's message_size_limit is for its queue file, with envelope
and trace fields.
"""

from __future__ import annotations

from smilla.model import Copy, Message, Outcome

_AROUND = 4096  # boundaries, words, trace fields, lines that are made short (see formats/covering.py)
_READER = 1536  # of ciphertext: RSA with 8192 bits and the name of an issuer, or ML-KEM-1024
_NAMED = 256  # a recipient, in the envelope of a copy or in the facts of a seal
_SHORTENED = 500  # octets of body, for each of which one may come by lines that are made short


def of_copy(message: Message, copy: Copy) -> int:
    """Octets of a copy, with its envelope."""
    readers = len(copy.recipients)
    outside = _header(message) + _AROUND + readers * _NAMED
    if copy.rewrite.body is None:
        return outside + message.body.size
    inside = _header(message) * (2 if copy.protection.inside else 1) + message.body.size
    return outside + _in_base64(inside + (readers + 1) * _READER)


def of_seal(message: Message, outcome: Outcome) -> int:
    """Octets of the sealed message, with its envelope."""
    named = sum(len(d.recipient.raw) + sum(map(len, d.recipient.parameters)) for d in outcome.decisions)
    facts = named + len(outcome.decisions) * _NAMED
    return _header(message) + _AROUND + facts + _in_base64(_header(message) + message.body.size + facts)


def _header(message: Message) -> int:
    return sum(len(header.raw) for header in message.headers)


def _in_base64(octets: int) -> int:
    return octets // 57 * 78 + octets // _SHORTENED + 78
