"""The size that a message can reach once it is sealed or encrypted: 78 octets of base64 stand for 57.

``of_copy`` and ``of_seal`` are estimates and never too small: a kilobyte or two above the real size, plus one or two
for each reader of a copy.  An MTA's limit covers more than the octets sent: Postfix's message_size_limit counts the
queue file, with envelope and trace fields.
"""

from __future__ import annotations

from smilla.model import Copy, Message, Outcome

_AROUND = 4096  # boundaries, notices, trace fields, shortened lines (see formats/covering.py)
_READER = 1536  # octets of ciphertext: 8192-bit RSA and an issuer's name, or ML-KEM-1024
_NAMED = 256  # a recipient, in the envelope of a copy or in the facts of a seal
_SHORTENED = 500  # for so many octets of body, shortened lines may add one


def of_copy(message: Message, copy: Copy) -> int:
    """Octets of a copy, with its envelope."""
    readers = len(copy.recipients)
    outside = _header(message) + _AROUND + readers * _NAMED
    if copy.rewrite.body is None:
        return outside + message.body.size
    inside = _header(message) * (2 if copy.protection.inside else 1) + message.body.size
    return outside + _in_base64(inside + (readers + 1) * _READER)


def at_least(message: Message, copy: Copy) -> int:
    """Octets that a copy has at the very least: those of the body alone, since ciphertext is never compressed."""
    return message.body.size if copy.rewrite.body is None else message.body.size // 57 * 78


def of_seal(message: Message, outcome: Outcome) -> int:
    """Octets of the sealed message, with its envelope."""
    named = sum(len(d.recipient.raw) + sum(map(len, d.recipient.parameters)) for d in outcome.decisions)
    facts = named + len(outcome.decisions) * _NAMED
    return _header(message) + _AROUND + facts + _in_base64(_header(message) + message.body.size + facts)


def _header(message: Message) -> int:
    return sum(len(header.raw) for header in message.headers)


def _in_base64(octets: int) -> int:
    return octets // 57 * 78 + octets // _SHORTENED + 78
