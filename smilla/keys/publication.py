"""What is published of an address's keys, against what is held in the key folder.

Both sides pass the gate as for any sender, each source alone, so that "same" means: a sender who looks today finds, by
a proven answer, the key that is held, and it holds for the days asked for.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from smilla.keys import lookup
from smilla.keys.ending import Ending, Standing, Successor, examine
from smilla.model import DNSSECStatus, Format, KeyVerdict, PGPKey, X509Key
from smilla.value import value

if TYPE_CHECKING:
    from smilla.address import EmailAddress
    from smilla.config import Config
    from smilla.model import KeyLookup
    from smilla.ports import PendingLookup, Ports

_SOURCES = {Format.SMIME: "smimea", Format.OPENPGP: "openpgpkey"}
_STATUSES = {
    DNSSECStatus.BOGUS: "bogus",
    DNSSECStatus.INDETERMINATE: "bogus",
    DNSSECStatus.UNREACHABLE: "unreachable",
}


class State(StrEnum):
    """How what is published stands to what is held.  MISSING is proven absence, or that of an unsigned zone; UNCLEAR is
    what nobody could ask or read."""

    SAME = "same"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    MISSING = "missing"
    OLDER = "older"
    NEWER = "newer"
    OTHER = "other"
    UNUSABLE = "unusable"
    INSECURE = "insecure"
    BOGUS = "bogus"
    UNREACHABLE = "unreachable"
    UNCLEAR = "unclear"
    NOT_HELD = "not_held"


UNTOLD = frozenset({State.UNREACHABLE, State.UNCLEAR})


@value
class Publication:
    """One format of one address.  ``held`` is the fingerprint of the key in the folder, ``published`` that of the key
    that senders find, each "" if there is none; ``ends_at`` is the end of the latter if it ends within the days."""

    address: str
    format: str
    state: State
    text: str
    held: str = ""
    published: str = ""
    ends_at: datetime | None = None


def begin(address: EmailAddress, source: str, ports: Ports, config: Config) -> PendingLookup:
    """A look-up in this source alone."""
    return lookup.begin(address, ports, replace(config, keys=replace(config.keys, sources=(source,), trust=())))


def compare(
    address: EmailAddress, ports: Ports, config: Config, now: datetime, until: datetime
) -> tuple[Publication, ...]:
    """One result for each format that the folder holds for the address, one without a key if it holds none that is
    usable."""
    asked = {form: begin(address, source, ports, config) for form, source in _SOURCES.items()}
    pending = begin(address, "directory", ports, config)
    held = {form: lookup.finish(pending, pending.asked_at, now, ports, (form,)) for form in Format}
    found = []
    for form, own in held.items():
        if own.key is not None:
            deadline = asked[form].asked_at + config.dns.timeout_s
            found.append(judge(own.key, examine(asked[form], deadline, now, until, ports)))
    if found:
        return tuple(found)
    own = lookup.finish(pending, pending.asked_at, now, ports)
    state = State.UNCLEAR if own.verdict in (KeyVerdict.UNREACHABLE, KeyVerdict.UNCLEAR) else State.NOT_HELD
    return (Publication(str(address), "", state, f"the folder has no usable key: {own.reason.text}"),)


def judge(held: X509Key | PGPKey, ending: Ending) -> Publication:
    """The key of the folder against what its source in DNS has."""
    found = ending.found
    state, text = _judged(held, ending)
    published = found.key.fingerprint if found.key else ""
    return Publication(str(found.address), held.format.value, state, text, held.fingerprint, published, ending.ends_at)


def _judged(held: X509Key | PGPKey, ending: Ending) -> tuple[State, str]:
    found, text = ending.found, ending.found.reason.text
    if found.key is None:
        return _without_key(ending, found), text
    if found.key.fingerprint != held.fingerprint:
        return _age(held, found.key), f"another key is published: {text}"
    if ending.standing is Standing.ENDS and ending.successor is not Successor.YES:
        return State.EXPIRING, f"what is published ends on {ending.ends_at:%Y-%m-%d}: {text}"
    if _is_updated(held, found.key):
        return State.OLDER, f"an older copy of the key is published: {text}"
    return State.SAME, text


def _without_key(ending: Ending, found: KeyLookup) -> State:
    if found.verdict is KeyVerdict.NO_KEY and not any(finding.assessments for finding in found.findings):
        return State.MISSING
    if found.status in _STATUSES:
        return State(_STATUSES[found.status])
    if ending.standing is Standing.ENDED:
        return State.EXPIRED
    names = {
        KeyVerdict.INSECURE: State.INSECURE,
        KeyVerdict.UNREACHABLE: State.UNREACHABLE,
        KeyVerdict.UNCLEAR: State.UNCLEAR,
        KeyVerdict.BOGUS: State.BOGUS,
    }
    return names.get(found.verdict, State.UNUSABLE)


def _age(held: X509Key | PGPKey, published: X509Key | PGPKey) -> State:
    """Whether the other key was issued before or after the one that is held, if both say when."""
    if held.issued_at is None or published.issued_at is None or held.issued_at == published.issued_at:
        return State.OTHER
    return State.OLDER if published.issued_at < held.issued_at else State.NEWER


def _is_updated(held: X509Key | PGPKey, published: X509Key | PGPKey) -> bool:
    """Does the held copy of the same OpenPGP key last longer, or have another encryption subkey?  A published copy that
    lasts longer than the one that is held does no harm to senders."""
    if not isinstance(held, PGPKey) or not isinstance(published, PGPKey):
        return False
    if held.encrypts_to != published.encrypts_to:
        return True
    return published.expires_at is not None and (held.expires_at is None or held.expires_at > published.expires_at)
