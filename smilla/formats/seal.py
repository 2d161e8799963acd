"""A message encrypted under smilla's own key while it waits in the MTA's queue: AEAD in numbered blocks.

The construction is STREAM (Hoang, Reyhanitabar, Rogaway and Vizar, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", 2015): each block's nonce holds its number and whether it is the last one, so no block can be left
out, swapped or cut off.  The key of a message is derived by HKDF-SHA-256 (RFC 5869) from the seal key and the message's
random ID.  It is used for one message only, so the numbers may begin at zero.  Others (age, Tink) do the same.

Octets: head | blocks.  The head is the magic number, the ID of the seal key (8 octets), the ID of the message (16) and
the binding (32): HMAC-SHA-256, under the message's key, over what the seal is bound to (see ``Bound``).  The head is
the associated data of every block.  A block has 65536 octets of plaintext, the last one 0 to 65536, each followed by
its 16-octet tag.

Pure: no file, no clock.  Memory is that of one block, whatever the size.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from smilla.errors import SealBroken
from smilla.ports import SealKey

MAGIC = b"smilla-seal\x01"
KEY_OCTETS, KEY_ID_OCTETS, MESSAGE_ID_OCTETS, BINDING_OCTETS = 32, 8, 16, 32
HEAD_OCTETS = len(MAGIC) + KEY_ID_OCTETS + MESSAGE_ID_OCTETS + BINDING_OCTETS
BLOCK = 65536
_TAG = 16


@dataclass(frozen=True, slots=True)
class Bound:
    """What a seal is bound to: the envelope sender, the recipients as named at RCPT, in their order, and the queue ID
    of the hop that sealed it.  A seal resent for another sender, or from another hop, does not open."""

    sender: str
    recipients: tuple[str, ...]
    queue_id: str

    @property
    def raw(self) -> bytes:
        """Each part with its length, so that no two of these values give the same octets."""
        parts = [self.sender, self.queue_id, *self.recipients]
        octets = [part.encode("utf-8", "surrogateescape") for part in parts]
        return b"".join(len(part).to_bytes(4, "big") + part for part in octets)


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a sealed message."""

    raw_key_id: bytes
    raw_message_id: bytes
    raw_binding: bytes

    @property
    def raw(self) -> bytes:
        """Its octets."""
        return MAGIC + self.raw_key_id + self.raw_message_id + self.raw_binding


def sealed(content: Iterable[bytes], key: SealKey, raw_message_id: bytes, bound: Bound) -> Iterator[bytes]:
    """The head and the blocks; ``content`` is octets in pieces of any size.  ``raw_message_id`` must never have been
    used with this key."""
    message_key = _message_key(key, raw_message_id)
    head = Head(key.raw_id, raw_message_id, _binding(message_key, bound)).raw
    yield head
    cipher = AESGCM(message_key)
    for number, (block, last) in enumerate(_with_last(_blocks(content, BLOCK))):
        yield cipher.encrypt(_nonce(number, last=last), block, head)


def head_of(raw: bytes) -> Head:
    """Reads a head from the first octets.  Raises SealBroken if there is none."""
    if len(raw) < HEAD_OCTETS or not raw.startswith(MAGIC):
        raise SealBroken("these octets do not begin like a sealed message")
    at = len(MAGIC)
    parts = []
    for length in (KEY_ID_OCTETS, MESSAGE_ID_OCTETS, BINDING_OCTETS):
        parts.append(raw[at : at + length])
        at += length
    return Head(*parts)


def opened(blocks: Iterable[bytes], key: SealKey) -> Iterator[bytes]:
    """The plaintext of a sealed message, block by block, each only after its tag was verified.  The caller must read to
    the end before trusting any of it: only then is it certain that nothing is missing.

    ``is_bound_to`` checks what the seal is bound to.  Raises SealBroken.
    """
    pieces = iter(blocks)
    raw = b""
    for piece in pieces:
        raw += piece
        if len(raw) >= HEAD_OCTETS:
            break
    head = head_of(raw)
    message_key = _message_key(key, head.raw_message_id)
    cipher = AESGCM(message_key)
    rest = _blocks(chain([raw[HEAD_OCTETS:]], pieces), BLOCK + _TAG)
    for number, (block, last) in enumerate(_with_last(rest)):
        try:
            yield cipher.decrypt(_nonce(number, last=last), block, head.raw)
        except InvalidTag as error:
            raise SealBroken(f"block {number} of the sealed message is not what was sealed") from error


def is_bound_to(head: Head, key: SealKey, bound: Bound) -> bool:
    """Was the message sealed for this?"""
    return hmac.compare_digest(_binding(_message_key(key, head.raw_message_id), bound), head.raw_binding)


def _message_key(key: SealKey, raw_message_id: bytes) -> bytes:
    return HKDF(SHA256(), KEY_OCTETS, salt=raw_message_id, info=b"smilla seal 1").derive(key.raw)


def _binding(message_key: bytes, bound: Bound) -> bytes:
    return hmac.digest(message_key, b"binding" + bound.raw, "sha256")


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\1" if last else b"\0")


def _blocks(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same octets in blocks of one size, except the last."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


def _with_last(blocks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each block, and whether it is the last; one empty block if there is none."""
    before = next(blocks, b"")
    for block in blocks:
        yield before, False
        before = block
    yield before, True
