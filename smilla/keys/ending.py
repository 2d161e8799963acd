"""When the key of an address ends, and whether another one takes over.

The gate itself says both: the same answers are judged as of the second after the end.  So every rule of the gate counts
then, too, and no second copy of these rules is needed.  A key that goes on by another encryption subkey, or by another
path to a CA, has not ended.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from smilla.keys import lookup
from smilla.model import Assessment, KeyLookup, KeyVerdict
from smilla.value import value

if TYPE_CHECKING:
    from smilla.ports import PendingLookup, Ports

_MOST_STEPS = 16  # subkeys of one key that follow each other
_NEVER = 9999  # the year that stands for "no well-defined end" (RFC 5280 section 4.1.2.5)
_UNTOLD = (KeyVerdict.BOGUS, KeyVerdict.UNREACHABLE, KeyVerdict.UNCLEAR)
_A_SECOND = timedelta(seconds=1)  # notAfter is a second at which a certificate still holds


class Standing(StrEnum):
    """What is to be said of an address today."""

    LASTS = "lasts"
    ENDS = "ends"
    ENDED = "ended"
    NO_USABLE_KEY = "no_usable_key"
    UNTOLD = "untold"


class Successor(StrEnum):
    """Whether there is a usable key the second after the end."""

    YES = "yes"
    NO = "no"
    UNTOLD = "untold"


@value
class Ending:
    """``found`` is the look-up as of today, ``ends_at`` the end of its key, None if it has none or lasts longer than
    was asked for; ``then`` is the look-up as of the second after."""

    found: KeyLookup
    ends_at: datetime | None = None
    then: KeyLookup | None = None

    @property
    def standing(self) -> Standing:
        """ENDED only if a key is there and nothing but its dates speaks against it."""
        if self.found.key is not None:
            return Standing.ENDS if self.then is not None else Standing.LASTS
        if self.found.verdict in _UNTOLD:
            return Standing.UNTOLD
        return Standing.ENDED if expired(self.found) else Standing.NO_USABLE_KEY

    @property
    def successor(self) -> Successor | None:
        """None if the key does not end."""
        if self.then is None:
            return None
        if self.then.key is not None:
            return Successor.YES
        return Successor.UNTOLD if self.then.verdict in _UNTOLD else Successor.NO


def examine(pending: PendingLookup, deadline: float, now: datetime, until: datetime, ports: Ports) -> Ending:
    """Waits for the answers as ``lookup.finish`` does.  Ends after ``until`` are not looked for."""
    found = latest = lookup.finish(pending, deadline, now, ports)
    if found.key is None:
        return Ending(found)
    ending = Ending(found)
    for _ in range(_MOST_STEPS):
        ends_at = latest.key.expires_at if latest.key else None
        if ends_at is None or ends_at.year >= _NEVER or ends_at > until:
            return Ending(found)
        latest = lookup.finish(pending, deadline, ends_at + _A_SECOND, ports)
        ending = Ending(found, ends_at, latest)
        if latest.key is None or latest.key.fingerprint != found.key.fingerprint:
            break
    return ending


def expired(found: KeyLookup) -> Assessment | None:
    """A key against which nothing but its end speaks, if no key is usable and none will be by itself."""
    if found.verdict is not KeyVerdict.UNUSABLE_KEY:
        return None
    judged = (assessment for finding in found.findings for assessment in finding.assessments)
    return next((a for a in judged if a.reasons and {reason.code for reason in a.reasons} == {"expired"}), None)
