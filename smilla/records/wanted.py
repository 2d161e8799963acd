"""What a new key is to be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from smilla.address import EmailAddress


@dataclass(frozen=True, slots=True)
class Wanted:
    """A key for ``address``, valid from ``now`` (aware, UTC) for ``days``; ``name`` is the person's, and may be
    empty."""

    address: EmailAddress
    name: str
    now: datetime
    days: int
