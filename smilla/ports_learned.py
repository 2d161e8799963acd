"""What the stages need of the store of learned keys, as a protocol; a part of ports.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from smilla.address import EmailAddress
from smilla.model import LearnedKey


class LearnedKeys(Protocol):
    """Remembers keys that authenticated mail brought, one of each format for an address; all processes share it.
    Bounded; what was not seen for long goes."""

    def recall(self, address: EmailAddress) -> Sequence[LearnedKey]:
        """The keys of this address, its local part taken exactly.  Raises SmillaError if nobody can tell."""

    def learn(self, key: LearnedKey) -> bool:
        """Keeps the key, unless a message that was sent later has brought one.  Returns whether it is another key than
        the one known before.  Raises nothing: what cannot be kept is logged, and mail goes on."""
