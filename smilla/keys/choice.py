"""Which of several usable keys of one source is taken, and why this one."""

from __future__ import annotations

from collections.abc import Iterable

from smilla.address import EmailAddress
from smilla.config.options import OUTSIDE_DNS, RULE
from smilla.keys.discovery import directory
from smilla.keys.validity import whose
from smilla.model import Assessment, Format, SourceAnswer


def taken(
    assessments: Iterable[Assessment], answer: SourceAnswer, prefer: str, recipient: EmailAddress | None = None
) -> Assessment | None:
    """The usable key that we take.  (RFC 7929 section 5 leaves the choice open; others take the first in the resolver's
    order.)

    The strongest key that common programs open, or the strongest of all if ``prefer`` says so; among equals the newest,
    then the one that lasts longest.  Where a source has both, a certificate comes before an OpenPGP key.

    In the administrator's folder the order of the files counts too.  Of each kind, a key that names the address comes
    before one that names nobody, and that before another person's, since the file's name is the administrator's word;
    then the order of the files; and only then the preference above.
    """
    usable = [a for a in assessments if a.key is not None]
    if answer.source not in OUTSIDE_DNS:
        return _preferred(usable, prefer)
    order = {name: -number for number, name in enumerate(dict.fromkeys(c.where for c in answer.candidates))}

    def rank(found: Assessment) -> tuple[bool, int, int, tuple[bool, int, float, float, str]]:
        candidate = found.candidate
        is_smime = candidate.format is Format.SMIME
        return is_smime, _fits(found, recipient), order.get(candidate.where, 0), _preference(prefer, found)

    return max(usable, key=rank, default=None)


def _preferred(assessments: Iterable[Assessment], prefer: str) -> Assessment | None:
    """The same, by the format and the preference alone."""
    usable = (a for a in assessments if a.key is not None)
    return max(usable, key=lambda a: (a.candidate.format is Format.SMIME, _preference(prefer, a)), default=None)


def _fits(assessment: Assessment, recipient: EmailAddress | None) -> int:
    """Whether the key names the address that its file is named after, or the recipient if a rule names the file."""
    candidate = assessment.candidate
    address = recipient if candidate.source == RULE else directory.address_of(candidate.where)
    return whose.named(candidate, address) if address else whose.NOBODYS


def _preference(prefer: str, assessment: Assessment) -> tuple[bool, int, float, float, str]:
    key = assessment.key
    if key is None:
        return (False, 0, 0.0, 0.0, "")
    issued_at = key.issued_at.timestamp() if key.issued_at else 0.0
    lasts_until = key.expires_at.timestamp() if key.expires_at else float("inf")
    return (key.is_common or prefer == "strongest", key.strength, issued_at, lasts_until, key.fingerprint)


def in_words(best: Assessment, assessments: Iterable[Assessment], answer: SourceAnswer, prefer: str) -> str:
    """The key, and why this one; a key that several records name counts once."""
    key = best.key
    is_ordered = answer.source in OUTSIDE_DNS
    kin = (a.key for a in assessments if is_ordered or a.candidate.format is best.candidate.format)
    usable = {one.fingerprint: one for one in kin if one is not None}
    text = f"{key.algorithm} key {key.fingerprint}" if key else ""
    if key is None or len(usable) == 1:
        return text
    if is_ordered:
        return f"{text}, which comes first of the {len(usable)} usable ones for this address"
    rivals = [other for other in usable.values() if other.is_common or not key.is_common or prefer == "strongest"]
    among = f"{len(usable)} usable ones"
    if len(rivals) == 1:
        return f"{text}, the only one of {among} that common programs open"
    if len(rivals) < len(usable):
        among = f"the {len(rivals)} that common programs open, of {among}"
    strongest = [other for other in rivals if other.strength == key.strength]
    if len(strongest) == 1:
        return f"{text}, the strongest of {among}"
    latest = "newest" if key.issued_at else "longest-lived"
    return f"{text}, the {latest} of the {len(strongest)} strongest among {among}"
