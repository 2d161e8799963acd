"""The files of a Web Key Directory (draft-koch-openpgp-webkey-service section 3.1), from the keys of one's own users.

Each address of the domains that a key names gets a file with a minimal key, judged as a sender's smilla would judge it.
Of several keys for one address the one that smilla would take is published.  A revoked key is published if there is no
other, so that senders learn of it; any other key that nobody could use is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from smilla.address import EmailAddress
from smilla.errors import ParseError
from smilla.formats import key_file
from smilla.keys import choice
from smilla.keys.discovery import wkd
from smilla.keys.validity import pgp
from smilla.keys.validity import pgp_certificate as cert
from smilla.model import Assessment, Candidate, Format, PGPKey, SourceAnswer, X509Key
from smilla.records.minimal import minimal_key
from smilla.value import value

_SOURCE = "wkd"


class State(StrEnum):
    """What becomes of an address: REVOKED is published as well, UNUSABLE is not."""

    PUBLISHED = "published"
    REVOKED = "revoked"
    UNUSABLE = "unusable"


@value
class Held:
    """A key and the file that it is from."""

    file: str
    raw: bytes


@value
class Entry:
    """One address: ``name`` is that of its file, ``raw`` the key, empty if it is unusable.  ``ends_at`` is None for a
    key that does not expire."""

    address: str
    domain: str
    name: str
    state: State
    text: str
    raw: bytes = b""
    fingerprint: str = ""
    ends_at: datetime | None = None


def held(file: str, raw: bytes) -> list[Held]:
    """The OpenPGP keys of a file, armoured or not.  Raises ParseError."""
    contents = key_file.contents(raw, Format.OPENPGP)
    if contents.has_private:
        raise ParseError("holds a secret key, which must never be published; export a public key: gpg --export")
    if contents.has_more:
        raise ParseError(f"holds more than {key_file.MOST} keys; write several files")
    keys = [Held(file, key) for form, key in contents.keys if form is Format.OPENPGP]
    if not keys or not any(key.raw[:1] >= b"\x80" for key in keys):
        raise ParseError("holds no OpenPGP key")
    return keys


def entries(keys: Sequence[Held], domains: Sequence[str], now: datetime) -> Iterator[Entry]:
    """One entry for each address of the domains (in A-labels), in order.  A user ID for a whole domain is nobody's."""
    distinct = {key.raw: key for key in reversed(keys)}
    primaries = {raw: cert.primary_body(_candidate(key)) for raw, key in distinct.items()}
    found: dict[tuple[str, str], tuple[EmailAddress, set[bytes]]] = {}
    for raw, key in distinct.items():
        for mailbox in addresses(key, domains):
            _, those = found.setdefault((mailbox.domain, wkd.hashed(mailbox.local_part)), (mailbox, set()))
            those.add(primaries[raw])
    for (domain, name), (mailbox, those) in sorted(found.items(), key=lambda one: str(one[1][0])):
        # A copy that names nobody may still revoke something.
        copies = [distinct[raw] for raw in sorted(distinct) if primaries[raw] in those]
        yield _judged(mailbox, copies, now, Entry(str(mailbox), domain, name, State.UNUSABLE, ""))


def addresses(key: Held, domains: Sequence[str]) -> list[EmailAddress]:
    """The addresses of these domains that a key names, valid or not."""
    return [one for one in pgp.addresses(_candidate(key)) if one.domain in domains and one.local_part != "*"]


def _judged(address: EmailAddress, keys: Sequence[Held], now: datetime, blank: Entry) -> Entry:
    """The keys as they were given are judged together, so that no copy hides what another one revokes."""
    assessments = pgp.assess_all([_candidate(key) for key in keys], address, now, pgp.Terms())
    best = choice.taken(assessments, SourceAnswer(_SOURCE, str(address)), "compatible")
    whole = [a for a in assessments if best and best.key and a.key and a.key.fingerprint == best.key.fingerprint]
    small, faults = _made_small([a.candidate for a in whole or assessments], address, now)
    texts = [f"{a.candidate.where}: {reason.text}" for a in assessments if a.key is None for reason in a.reasons]
    text = "; ".join(dict.fromkeys((*texts, *faults)))
    if best is not None and best.key is not None:
        return _published(blank, best.key, small, text)
    revoked = next((a for a in small if any(reason.code == "revoked" for reason in a.reasons)), None)
    return _with(blank, State.REVOKED, revoked, text) if revoked else replace(blank, text=text)


def _published(blank: Entry, key: X509Key | PGPKey, small: Sequence[Assessment], text: str) -> Entry:
    """Of several copies of one key, one that leads senders to the same encryption key as all of them together, which
    another copy may have revoked in this one; of those, that which lasts longest by itself."""
    same = [a for a in small if isinstance(key, PGPKey) and _encrypts_to(a) == key.encrypts_to]
    good = max(same, key=_lasts, default=None)
    if good is None:
        return replace(blank, text=text or "its copies differ; import them all, and give what gpg --export writes")
    if len(good.candidate.raw) > wkd.LARGEST:
        return replace(blank, text=f"the key has {len(good.candidate.raw)} octets, and smilla reads {wkd.LARGEST}")
    return _with(blank, State.PUBLISHED, good, f"from {good.candidate.where}")


def _encrypts_to(assessment: Assessment) -> str:
    return assessment.key.encrypts_to if isinstance(assessment.key, PGPKey) else ""


def _made_small(
    candidates: Sequence[Candidate], address: EmailAddress, now: datetime
) -> tuple[list[Assessment], list[str]]:
    """The minimal keys, each judged alone as a sender would; and why there is none of the others."""
    small, faults = [], []
    for whole in candidates:
        try:
            raw = minimal_key(whole.raw, address, now)
        except ParseError as error:
            faults.append(f"{whole.where}: {error}")
        else:
            small.append(pgp.assess(replace(whole, raw=raw), address, now))
    return small, faults


def _with(blank: Entry, state: State, found: Assessment, text: str) -> Entry:
    ends_at = found.key.expires_at if found.key else None
    fingerprint = found.facts.get("fingerprint", "")
    return replace(blank, state=state, text=text, raw=found.candidate.raw, fingerprint=fingerprint, ends_at=ends_at)


def _lasts(assessment: Assessment) -> float:
    ends_at = assessment.key.expires_at if assessment.key else None
    return ends_at.timestamp() if ends_at else float("inf")


def _candidate(key: Held) -> Candidate:
    return Candidate(_SOURCE, key.file, Format.OPENPGP, key.raw)
