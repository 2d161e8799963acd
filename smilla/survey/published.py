"""What a domain says in TXT records about mail from it and reports to it, and whether it has zones of keys.

Where the RFCs leave a choice:

* Several SPF, DMARC or TLSRPT records are none that anybody uses (RFC 7208 section 4.5, RFC 7489 section 6.6.3, RFC
  8460 section 3): the state is UNUSABLE, not ABSENT.
* SPF is read, not evaluated: only the qualifier of ``all`` and ``redirect`` are told.
* DMARC: the nearest record from the domain upwards counts, of at most five names and never of a top-level domain, as
  the tree walk that replaces the list of public suffixes does it; below the name of the record its ``sp`` counts.
* A zone of keys: an answer about ``_smimecert.DOMAIN`` or ``_openpgpkey.DOMAIN`` that does not deny the name means that
  there are names below it (RFC 8020, RFC 2308).  Some servers deny no name at all (a wildcard, or RFC 9824), so a name
  that nobody has is asked as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from smilla.errors import ParseError
from smilla.hops import mx, rdata
from smilla.hops.mx import State
from smilla.model import DNSAnswer, DNSSECStatus
from smilla.survey.found import Names, Result

NOBODY = "_smilla-survey-nobody"  # the label that no domain has
_MOST_SHOWN = 300  # characters of a record
_ALL = re.compile(r"([-~?+]?)all", re.IGNORECASE)
_POLICIES = ("none", "quarantine", "reject")
_TAG = re.compile(r"\s*([A-Za-z]+)\s*=\s*(.*?)\s*")


def spf(answer: DNSAnswer) -> tuple[Result, str]:
    """The SPF record (RFC 7208), and what it says of all others: ``-all``, ``~all``, ``?all``, ``+all``, ``redirect``,
    or "" where it says nothing."""
    result, text = _the_one(answer, "v=spf1", r"v=spf1( .*)?")
    return result, _rest(text.split(" ")[1:]) if text else ""


def _rest(terms: Sequence[str]) -> str:
    for term in terms:
        if found := _ALL.fullmatch(term):
            return f"{found[1] or '+'}all"
    return "redirect" if any(term.lower().startswith("redirect=") for term in terms) else "?all"


def tlsrpt(answer: DNSAnswer) -> Result:
    """The record that asks for reports about TLS (RFC 8460 section 3)."""
    result, text = _the_one(answer, "v=TLSRPTv1", r"v=TLSRPTv1[ \t]*;.*")
    if text and not tags(text).get("rua"):
        return Result(State.UNUSABLE, f"names nobody who takes reports: {text}")
    return result


def dmarc_names(domain: str) -> tuple[str, ...]:
    """The names to ask, the nearest first."""
    labels = domain.split(".")
    return tuple(f"_dmarc.{'.'.join(labels[at:])}." for at in range(max(1, min(5, len(labels) - 1))))


def dmarc(domain: str, answers: Sequence[DNSAnswer]) -> tuple[Result, str]:
    """The DMARC record that counts, from the answers about ``dmarc_names``, and its policy for the domain: none,
    quarantine, reject, or "" where there is none."""
    found = Result(State.ABSENT)
    for answer in answers:
        found, text = _the_one(answer, "v=DMARC1", r"v=DMARC1[ \t]*(;.*)?")
        if found.state in (State.ABSENT, State.UNSIGNED):
            continue
        return found, _dmarc_policy(text, is_own=answer is answers[0]) if text else ""
    return found, ""


def _dmarc_policy(text: str, *, is_own: bool) -> str:
    said = tags(text)
    policy = said.get("p", "").lower()
    if not is_own:
        policy = said.get("sp", policy).lower()
    return policy if policy in _POLICIES else "none"


def tags(text: str) -> dict[str, str]:
    """``name=value`` between semicolons, names in lower case; of one that is repeated the first counts."""
    found: dict[str, str] = {}
    for part in text.split(";"):
        if match := _TAG.fullmatch(part):
            found.setdefault(match[1].lower(), match[2])
    return found


def _the_one(answer: DNSAnswer, what: str, form: str) -> tuple[Result, str]:
    """The record of this form, and its text; "" where there is none, or several."""
    if state := mx.unproven(answer):
        return Result(state, answer.detail or answer.status.value), ""
    try:
        texts = [rdata.text(raw) for raw in answer.raw_rdata]
    except ParseError as error:
        return Result(State.UNCLEAR, str(error)), ""
    found = [text for text in texts if re.fullmatch(form, text, re.IGNORECASE | re.DOTALL)]
    if not found:
        state = State.ABSENT if answer.status is DNSSECStatus.SECURE else State.UNSIGNED
        return Result(state, f"no {what} record"), ""
    if len(found) > 1:
        return Result(State.UNUSABLE, f"{len(found)} {what} records, so nobody uses any"), ""
    return Result(State.OK, found[0][:_MOST_SHOWN]), found[0]


def key_zone(answer: DNSAnswer, nobody: DNSAnswer) -> Names:
    """Are there names below the one that ``answer`` is about?  ``nobody`` is the answer about a name that nobody
    has."""
    if mx.unproven(answer) or mx.unproven(nobody):
        return Names.UNKNOWN
    if answer.is_denied:
        return Names.NONE
    return Names.HAS_NAMES if nobody.is_denied else Names.ANY_NAME
