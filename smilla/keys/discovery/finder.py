"""Asks the sources for an address: all questions leave at once; the answers are read in the order of preference.

Promises: ``begin`` returns without waiting.  ``SourceQuestion.answer`` waits no longer than the deadline and raises
nothing, whatever a network, a name server or a file does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from smilla.address import EmailAddress
from smilla.config.options import FORMATS_OF, RULE
from smilla.errors import SmillaError
from smilla.keys.discovery import directory, learned, openpgpkey, owner, rule, smimea
from smilla.model import Candidate, DNSAnswer, DNSSECStatus, Reason, SourceAnswer
from smilla.ports import KeyFolder, NetworkSource, PendingAnswer, PendingSource, Ports, Resolver, SourceQuestion
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
        elif source == learned.SOURCE:
            questions.append(_ask_learned(address, ports, spelling))
        elif source in _RECORDS:
            questions.append(_ask_dns(source, address, resolver, spelling))
        else:
            questions.append(_ask_network(source, address, ports.network[source], spelling))
    return tuple(questions)


def of_rule(path: str, ports: Ports) -> SourceQuestion:
    """The question to the key file that a rule names, in place of all sources."""
    return SourceQuestion(RULE, lambda _: _from_rule(path, ports))


def _from_rule(path: str, ports: Ports) -> SourceAnswer:
    try:
        return SourceAnswer(RULE, path, rule.candidates(path, ports.read_key_file))
    except directory.TooManyKeysError as error:
        return SourceAnswer(RULE, path, unclear=Reason("too_many_candidates", str(error)))
    except SmillaError as error:
        return SourceAnswer(RULE, path, detail=str(error), is_unreachable=True)


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


def _ask_learned(address: EmailAddress, ports: Ports, spelling: Spelling) -> SourceQuestion:
    """Under the same names as in DNS for a stranger.  What mail says of our own users' keys never counts."""
    if spelling.is_local:
        nothing = SourceAnswer(learned.SOURCE, str(address), detail="no key of a local address is ever learned")
        return SourceQuestion(learned.SOURCE, lambda _: nothing)
    forms = _forms(address.local_part, "", try_lowercase=spelling.try_lowercase)
    return SourceQuestion(learned.SOURCE, lambda _: learned.answer(address, ports, forms))


def _ask_network(source: str, address: EmailAddress, network: NetworkSource, spelling: Spelling) -> SourceQuestion:
    """Under the same names as in DNS; the source itself says what it makes of upper and lower case."""
    if (why := owner.not_asked(address.domain, local=spelling.is_local)) is not None:
        nothing = SourceAnswer(source, address.domain, unclear=why)
        return SourceQuestion(source, lambda _: nothing)
    forms = _forms(address.local_part, spelling.subaddress if spelling.is_local else "", try_lowercase=False)
    pending = {form: network.begin(replace(address, local_part=form)) for form in forms}
    return SourceQuestion(source, lambda deadline: _first_known(pending, deadline))


def _first_known(pending: dict[str, PendingSource], deadline: float) -> SourceAnswer:
    """The answer for the exact local part, or for the next form if there is provably nothing under the previous one."""
    *earlier, (local_part, last) = pending.items()
    for form, question in earlier:
        answer = question.result(deadline)
        if answer.candidates or answer.unclear is not None or answer.status is not None:
            return replace(answer, local_part=form)
    return replace(last.result(deadline), local_part=local_part)


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
