"""A company's directory: certificates and OpenPGP keys in LDAP entries (RFC 4511, RFC 4523).

The attributes are userCertificate (RFC 4523 section 4.1), with or without ``;binary``, and pgpKey, which holds an
armoured key.  Every value of every entry is a candidate, and passes the gate like a record in DNS: a key that names
addresses must name this one.

What an answer proves: the server's certificate, verified, is all that a key rests on, and all that an absence rests on.
A search that succeeds without such a value is absence.  A directory that hides entries from who asks looks as if it had
none; an entry that it may not show at all (noSuchObject) is unreachable.  A referral is unclear: we follow none.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from smilla.address import EmailAddress
from smilla.config.options import LDAPOptions
from smilla.config.patterns import forms
from smilla.errors import DirectoryError
from smilla.formats import key_file
from smilla.model import Candidate, Format, Reason, SourceAnswer
from smilla.policy.rules import is_in
from smilla.value import value

ATTRIBUTES = {"usercertificate": Format.SMIME, "pgpkey": Format.OPENPGP}
ASKED = ("userCertificate", "pgpKey")
_SOURCE = "ldap"
_PLACES = re.compile(r"\{(address|local_part|domain)\}")
_PLAIN = re.compile(rb"[A-Za-z0-9@._-]")
_SUCCESS, _REFERRAL, _SIZE_LIMIT = 0, 10, 4  # RFC 4511 section 4.1.9


@value
class Found:
    """What a search gave: the result code, and of each entry its DN and its values by attribute, as they came.
    ``is_referred``: a part of the answer is elsewhere."""

    code: int
    text: str = ""
    entries: tuple[tuple[str, tuple[tuple[str, bytes], ...]], ...] = ()
    is_referred: bool = False


Search = Callable[[str], Found]
"""Searches below the base with this filter.  Raises DirectoryError."""


def escaped(text: str) -> str:
    """A value in a filter (RFC 4515 section 3): every octet that is not plain is written as ``\\XX``."""
    octets = (bytes((octet,)) for octet in text.encode("utf-8"))
    return "".join(o.decode("ascii") if _PLAIN.fullmatch(o) else f"\\{o.hex()}" for o in octets)


def filter_for(address: EmailAddress, template: str) -> str:
    """The filter; for an internationalised domain, in A-labels or as people write it."""
    filters = [_filled(template, address.local_part, domain) for domain in forms(address.domain)]
    distinct = list(dict.fromkeys(filters))
    return distinct[0] if len(distinct) == 1 else f"(|{''.join(distinct)})"


def holders(template: str) -> tuple[str, str]:
    """Two filters: whoever has a key, and those of them whom ``template`` can find."""
    has_key = f"(|{''.join(f'({name}=*)' for name in ASKED)})"
    anybody = {"address": "*", "local_part": "*", "domain": "*"}
    return has_key, f"(&{_PLACES.sub(lambda place: anybody[place[1]], template)}{has_key})"


def _filled(template: str, local_part: str, domain: str) -> str:
    values = {"address": f"{local_part}@{domain}", "local_part": local_part, "domain": domain}
    return _PLACES.sub(lambda place: escaped(values[place[1]]), template)


def unasked(address: EmailAddress, options: LDAPOptions) -> SourceAnswer | None:
    """The answer for an address for which the directory is not asked; None if it is."""
    if options.domains and not is_in(address.domain, options.domains):
        return SourceAnswer(_SOURCE, options.url, detail="the directory is not for this domain ([ldap] domains)")
    return None


def find(address: EmailAddress, options: LDAPOptions, search: Search) -> SourceAnswer:
    """The keys of this address."""
    if (known := unasked(address, options)) is not None:
        return known
    try:
        found = search(filter_for(address, options.filter))
    except DirectoryError as error:
        return SourceAnswer(_SOURCE, options.url, detail=str(error), is_unreachable=True)
    if found.code not in (_SUCCESS, _REFERRAL, _SIZE_LIMIT):
        return SourceAnswer(_SOURCE, options.url, detail=f"{options.url}: {found.text}", is_unreachable=True)
    values = [(dn, name, raw) for dn, attributes in found.entries for name, raw in attributes]
    candidates = tuple(one for dn, name, raw in values for one in _candidates(dn, name, raw))
    unclear = _doubt(found, candidates)
    where = candidates[0].where if candidates else options.url
    detail = "" if candidates else f"no key in {len(found.entries)} entries" if found.entries else "no entry"
    return SourceAnswer(_SOURCE, where, () if unclear else candidates, detail, unclear=unclear)


def _doubt(found: Found, candidates: tuple[Candidate, ...]) -> Reason | None:
    """Why this may not be all; None if it is."""
    if found.code == _SIZE_LIMIT:
        return Reason("ldap_unclear", "the directory has more entries for this address than are read")
    if len(candidates) > key_file.MOST:
        return Reason("ldap_unclear", f"the directory has more than {key_file.MOST} keys for this address")
    if not candidates and (found.is_referred or found.code == _REFERRAL):
        return Reason("ldap_unclear", "the directory refers to another one, which is not asked")
    return None


def _candidates(dn: str, name: str, raw: bytes) -> list[Candidate]:
    """Octets that are no good key go to the gate as they are."""
    form = ATTRIBUTES.get(name.partition(";")[0].lower())
    if form is None:
        return []
    keys = [key for kind, key in key_file.contents(raw, form).keys if kind is form] or [raw]
    return [Candidate(_SOURCE, dn, form, key) for key in keys]
