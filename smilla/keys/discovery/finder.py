"""Asks the sources for an address: all questions leave at once; the answers are read in the order of preference.

Promises: ``begin`` returns without waiting.  ``SourceQuestion.answer`` waits no longer than the deadline and raises
nothing, whatever a network, a name server or a file does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from smilla.address import EmailAddress
from smilla.config.options import FORMATS_OF
from smilla.errors import SmillaError
from smilla.keys.discovery import directory, openpgpkey, owner, smimea
from smilla.model import Candidate, DNSAnswer, DNSSECStatus, Reason, SourceAnswer
from smilla.ports import KeyFolder, PendingAnswer, Ports, Resolver, SourceQuestion
from smilla.value import value

_RECORDS: dict[str, tuple[int, Callable[[DNSAnswer], tuple[Candidate, ...]]]] = {
    "smimea": (owner.SMIMEA, smimea.candidates),
    "openpgpkey": (owner.OPENPGPKEY, openpgpkey.candidates),
}


_KNOWN = (DNSSECStatus.SECURE, DNSSECStatus.INSECURE)


def can_yield(source: str, formats: tuple[str, ...]) -> bool:
    """Can this source have a key of one of these formats?  () means any."""
    return not formats or any(form in formats for form in FORMATS_OF[source])


@value
class Spelling:
    """Under which other names an address may have its key: in lower case, and without its tag.  DNS is asked for the
    latter only if the address ``is_local``, since the RFCs forbid mapping other addresses that way (RFC 7929 section
    3)."""

    try_lowercase: bool = False
    subaddress: str = ""
    is_local: bool = False


def begin(
    address: EmailAddress, sources: tuple[str, ...], resolver: Resolver, ports: Ports, spelling: Spelling
) -> tuple[SourceQuestion, ...]:
    """Sends every question about the address, in the order of ``sources``."""
    questions = []
    for source in sources:
        if source == "directory":
            questions.append(SourceQuestion(source, lambda _: _from_directory(address, ports.folder, spelling)))
        else:
            questions.append(_ask_dns(source, address, resolver, spelling))
    return tuple(questions)


def _from_directory(address: EmailAddress, folder: KeyFolder, spelling: Spelling) -> SourceAnswer:
    try:
        candidates = directory.candidates(
            address, folder, try_lowercase=spelling.try_lowercase, subaddress=spelling.subaddress
        )
    except directory.CaseDiffersError:
        text = f"the folder has a file for {address}, apart from upper and lower case; see keys.try_lowercase"
        return SourceAnswer("directory", str(address), unclear=Reason("case_differs", text))
    except directory.TooManyKeysError as error:
        return SourceAnswer("directory", str(address), unclear=Reason("too_many_candidates", str(error)))
    except SmillaError as error:
        return SourceAnswer("directory", str(address), detail=str(error), is_unreachable=True)
    may_differ = not candidates and (address.is_literal or address.is_single_label)
    if may_differ and (why := owner.not_asked(address.domain, local=spelling.is_local)) is not None:
        # The MTA may deliver to a mailbox with another name, which has a file.
        return SourceAnswer("directory", str(address), unclear=why)
    detail = "" if candidates else f"no file for {address}"
    return SourceAnswer("directory", candidates[0].where if candidates else str(address), candidates, detail)


def _ask_dns(source: str, address: EmailAddress, resolver: Resolver, spelling: Spelling) -> SourceQuestion:
    if (why := owner.not_asked(address.domain, local=spelling.is_local)) is not None:
        nothing = SourceAnswer(source, address.domain, unclear=why)
        return SourceQuestion(source, lambda _: nothing)
    rdtype, reader = _RECORDS[source]
    tag = spelling.subaddress if spelling.is_local else ""
    forms = _forms(address.local_part, tag, try_lowercase=spelling.try_lowercase)
    pending = {form: resolver.ask(owner.owner_name(form, address.domain, rdtype), rdtype) for form in forms}
    silence = owner.unproven_silence(address.domain)
    return SourceQuestion(source, lambda deadline: _first_with_records(source, pending, reader, silence, deadline))


@lru_cache(maxsize=4096)
def _forms(local_part: str, subaddress: str, *, try_lowercase: bool) -> tuple[str, ...]:
    """The local parts under which a key may be published, each once, in the order in which we take one."""
    local_parts = directory.local_parts(local_part, subaddress)
    forms = [form for local in local_parts for form in ((local, local.lower()) if try_lowercase else (local,))]
    return tuple(dict.fromkeys(forms))


def _first_with_records(
    source: str,
    pending: dict[str, PendingAnswer],
    reader: Callable[[DNSAnswer], tuple[Candidate, ...]],
    silence: Reason | None,
    deadline: float,
) -> SourceAnswer:
    """The answer for the exact local part, or for the next form if the previous one provably has no record.
    ``silence`` is why an empty unsigned answer proves nothing, None if it does."""
    *earlier, (local_part, last) = pending.items()
    for form, question in earlier:
        answer = question.result(deadline)
        if answer.status not in _KNOWN or answer.raw_rdata or answer.malformed:
            local_part = form
            break
    else:
        answer = last.result(deadline)
    candidates = reader(answer) if answer.status in _KNOWN else ()
    empty = not answer.raw_rdata and not answer.malformed
    unclear = silence if empty and answer.status is DNSSECStatus.INSECURE else None
    return SourceAnswer(source, answer.owner, candidates, answer.detail, answer, unclear=unclear, local_part=local_part)
