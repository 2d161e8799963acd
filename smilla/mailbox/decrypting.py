"""Decrypts a message that lies in a mailbox, for good: the entity that was inside takes the place of the ciphertext.

What is not encrypted as a whole, or not to the owner's keys, stays as it is; so does what was changed on the way, as
far as that shows (decrypt.entity).  What ``smilla mailbox encrypt`` made comes back octet for octet, malformed or not,
since a proof says that nobody changed it (places).  A signature inside stays where it is, octet for octet.
"""

from __future__ import annotations

from collections.abc import Sequence

from smilla import classify
from smilla.copies import rewrap
from smilla.decrypt.held_key import HeldKey
from smilla.decrypt.message import as_entity, opened, rejoined
from smilla.errors import NotDecrypted
from smilla.mailbox import places
from smilla.mailbox.change import Change, Fate, with_line_ends_of
from smilla.message import parse, without_beginning
from smilla.model import MessageKind
from smilla.ports import OpenPGPOpener

_OTHERS = ("not_for_this_key", "no_key")


class Decryptor:
    """Changer.  ``held`` are keys for S/MIME, ``openers`` have those for OpenPGP and are asked in turn."""

    def __init__(self, held: Sequence[HeldKey], openers: Sequence[OpenPGPOpener]) -> None:
        self._held = tuple(held)
        self._opener = _Each(openers) if openers else None

    def __call__(self, raw: bytes, *, dry: bool) -> Change:
        """See Changer."""
        parsed = parse(raw)
        if not parsed.raw_fields or without_beginning(raw)[1]:
            return Change(Fate.LEFT, "no_header", "it does not begin with a header field, so nobody knows what it is")
        found = classify.classify(parsed.message)
        if found.kind is not MessageKind.ENCRYPTED:
            return Change(Fate.NOTHING_TO_DO, "not_encrypted", found.reason.text, is_lasting=True)
        try:
            inside = opened(parsed.message, self._held, self._opener)
            back = places.put_back(parsed.message, inside.raw)
            if back is None:
                rewrite = rejoined(parsed.message, as_entity(inside).entity, inside.form)
                back = b"".join(rewrap.applied(parsed.message, rewrite))
        except NotDecrypted as error:
            return Change(Fate.LATER if error.temporary else Fate.LEFT, error.code, str(error))
        new = with_line_ends_of(parsed, back)
        return Change(Fate.CHANGED, "decrypted", "it is encrypted to this key", b"" if dry else new)


class _Each:
    """OpenPGPOpener: the first that has a key for the message."""

    def __init__(self, openers: Sequence[OpenPGPOpener]) -> None:
        self._openers = openers

    def opened(self, raw: bytes) -> bytes:
        """Raises NotDecrypted: what the first one says that has a key; what cannot be asked now comes before no key."""
        problem: NotDecrypted | None = None
        for opener in self._openers:
            try:
                return opener.opened(raw)
            except NotDecrypted as error:
                if error.code not in _OTHERS and not error.temporary:
                    raise
                if problem is None or error.temporary:
                    problem = error
        raise problem or NotDecrypted("no_key", "there is no private key for OpenPGP")
