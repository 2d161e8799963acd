"""Asks the sources for an address: all questions leave at once, the answers are read in the order of preference.

Promises: ``begin`` returns without waiting; ``SourceQuestion.answer`` waits until the deadline at most and raises
nothing for what a network, a name server or a file can do.
"""

from __future__ import annotations

from collections.abc import Callable

from smilla.address import EmailAddress
from smilla.discovery import directory, openpgpkey, owner, smimea
from smilla.errors import SmillaError
from smilla.model import Candidate, DNSAnswer, DNSSECStatus, Reason, SourceAnswer
from smilla.options import FORMATS_OF
from smilla.ports import KeyFolder, PendingAnswer, Resolver, SourceQuestion

_RECORDS: dict[str, tuple[int, Callable[[DNSAnswer], tuple[Candidate, ...]]]] = {
    "smimea": (owner.SMIMEA, smimea.candidates),
    "openpgpkey": (owner.OPENPGPKEY, openpgpkey.candidates),
}


_KNOWN = (DNSSECStatus.SECURE, DNSSECStatus.INSECURE)


def can_yield(source: str, formats: tuple[str, ...]) -> bool:
    """May this source have a key of one of these formats?  () is any."""
    return not formats or any(form in formats for form in FORMATS_OF[source])


def begin(  # noqa: PLR0913  # whom to ask, and two choices
    address: EmailAddress,
    sources: tuple[str, ...],
    resolver: Resolver,
    folder: KeyFolder,
    *,
    try_lowercase: bool,
    local: bool = False,
) -> tuple[SourceQuestion, ...]:
    """Sends every question about the address, in the order of ``sources``.  ``local``: the domain is ours."""
    questions = []
    for source in sources:
        if source == "directory":
            questions.append(SourceQuestion(source, lambda _: _from_directory(address, folder, local)))
        else:
            questions.append(_ask_dns(source, address, resolver, try_lowercase, local))
    return tuple(questions)


def _from_directory(address: EmailAddress, folder: KeyFolder, local: bool) -> SourceAnswer:
    try:
        found = directory.candidates(address, folder)
    except SmillaError as error:
        return SourceAnswer("directory", str(address), DNSSECStatus.UNREACHABLE, detail=str(error))
    may_differ = not found and (address.is_literal or address.is_single_label)
    if may_differ and (why := owner.not_asked(address.domain, local=local)) is not None:
        # The MTA may deliver it to a mailbox that has another name, and a file under that.
        return SourceAnswer("directory", str(address), None, unclear=why)
    detail = "" if found else f"no file for {address}"
    return SourceAnswer("directory", found[0].where if found else str(address), None, found, detail=detail)


def _ask_dns(
    source: str, address: EmailAddress, resolver: Resolver, try_lowercase: bool, local: bool
) -> SourceQuestion:
    if (why := owner.not_asked(address.domain, local=local)) is not None:
        nothing = SourceAnswer(source, address.domain, None, unclear=why)
        return SourceQuestion(source, lambda _: nothing)
    rdtype, reader = _RECORDS[source]
    local_parts = [address.local_part]
    if try_lowercase and address.local_part.lower() != address.local_part:
        local_parts.append(address.local_part.lower())
    pending = [resolver.ask(owner.owner_name(local, address.domain, rdtype), rdtype) for local in local_parts]
    silence = owner.unproven_silence(address.domain)
    return SourceQuestion(source, lambda deadline: _first_with_records(source, pending, reader, silence, deadline))


def _first_with_records(
    source: str,
    pending: list[PendingAnswer],
    reader: Callable[[DNSAnswer], tuple[Candidate, ...]],
    silence: Reason | None,
    deadline: float,
) -> SourceAnswer:
    """The exact local part's answer, or the lower-case one's where the exact one is proven to have no record.
    ``silence`` is why an empty answer that is not signed proves nothing, None where it does."""
    for number, question in enumerate(pending, 1):
        answer = question.result(deadline)
        empty = answer.status in _KNOWN and not answer.raw_rdata and not answer.malformed
        if not empty or number == len(pending):
            break
    read: SourceAnswer | None = answer.memory.get(source)
    if read is None:
        found = reader(answer) if answer.status in _KNOWN else ()
        facts = (answer.malformed, answer.ttl_s, answer.detail, answer.proven_by)
        unclear = silence if empty and answer.status is DNSSECStatus.INSECURE else None
        read = SourceAnswer(source, answer.owner, answer.status, found, *facts, told_by=answer, unclear=unclear)
        answer.memory[source] = read
    return read
