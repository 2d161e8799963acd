"""Where the TLSA records of an MX host are, if the host is an alias: the TLSA base domain (RFC 7672 section 2.2.2 and
2.2.3, RFC 7671 section 7).  Pure: whoever calls asks the questions.

Each step of the aliases is asked for alone, since only so it shows where a chain leaves the signed zones:

* every step and the addresses are secure: the name at the end comes first, then the host;
* the first step is secure, and something after it is not: the host alone;
* the host itself is in an unsigned zone: no TLSA question at all.  Some servers of such zones fail at
  it (section 2.1.1).

The first name with secure TLSA records counts, whether or not a client can use them.  Where a question is not answered,
the next name is not tried: somebody may have withheld the records.

Where the RFCs leave a choice: an MX host should be no alias (RFC 5321 section 5.1), and a client may refuse it; Postfix
follows the alias, and so do we.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from smilla.errors import ParseError
from smilla.formats import domain_name
from smilla.hops import rdata
from smilla.model import DNSAnswer, DNSSECStatus
from smilla.value import value

_MOST_STEPS = 8
_PROVEN = (DNSSECStatus.SECURE, DNSSECStatus.INSECURE)

Ask = Callable[[str, int], DNSAnswer]


@value
class Located:
    """``base`` is the TLSA base domain, in lower case and without a final dot: the name for SNI (RFC 7672 section 8.1)
    and, beside the recipient's domain, for the certificate of DANE-TA(2) (section 3.2.2).  It is the host if there are
    no TLSA records.  ``answer`` has the TLSA records, or the status that forbids to look for them; ``was_asked`` is
    false if it is no answer to a TLSA question.  ``aliases`` are the names after the host, as far as the chain is
    secure."""

    base: str
    answer: DNSAnswer
    aliases: tuple[str, ...] = ()
    was_asked: bool = True


def locate(host: str, port: int, addresses: Sequence[DNSAnswer], ask: Ask) -> Located:
    """Finds the TLSA records for a host.  ``addresses`` are the answers about its A and AAAA records; ``ask`` takes an
    owner name with its final dot and the number of a type."""
    host = host.lower().removesuffix(".")
    owner = _owner(host, port)
    if problem := _problem(addresses):
        return Located(host, replace(problem, owner=owner, rdtype="TLSA", raw_rdata=()), was_asked=False)
    aliases, end = _expanded(host, ask)
    if end.malformed or end.status not in _PROVEN:
        return Located(host, replace(end, owner=owner, rdtype="TLSA", raw_rdata=()), aliases, was_asked=False)
    is_secure = end.status is DNSSECStatus.SECURE and all(one.status is not DNSSECStatus.INSECURE for one in addresses)
    if not is_secure and not aliases:
        text = "the host's zone is not signed, so no sender asks for TLSA records"
        answer = DNSAnswer(owner, "TLSA", DNSSECStatus.INSECURE, detail=text)
        return Located(host, answer, was_asked=False)
    return _first((aliases[-1], host) if aliases and is_secure else (host,), port, aliases, ask)


def _first(names: Sequence[str], port: int, aliases: tuple[str, ...], ask: Ask) -> Located:
    """The first name with secure records, or with an answer that proves nothing; otherwise the last one, the host."""
    for name in names:
        answer = ask(_owner(name, port), rdata.TLSA)
        is_found = answer.status is DNSSECStatus.SECURE and bool(answer.raw_rdata)
        if is_found or answer.malformed or answer.status not in _PROVEN:
            return Located(name, answer, aliases)
    return Located(name, answer, aliases)


def _owner(name: str, port: int) -> str:
    return f"_{port}._tcp.{name}."


def _problem(addresses: Sequence[DNSAnswer]) -> DNSAnswer | None:
    """An answer that proves nothing, unless another one has addresses: a sender then goes there."""
    unproven = [one for one in addresses if one.malformed or one.status not in _PROVEN]
    has_addresses = any(one.raw_rdata for one in addresses if one not in unproven)
    return unproven[0] if unproven and not has_addresses else None


def _expanded(host: str, ask: Ask) -> tuple[tuple[str, ...], DNSAnswer]:
    """The names after the host up to the first step that is not secure, and the last answer about a CNAME record: its
    status is that of the whole chain."""
    aliases: list[str] = []
    name = host
    for _ in range(_MOST_STEPS):
        answer = ask(f"{name}.", rdata.CNAME)
        if answer.malformed or answer.status is not DNSSECStatus.SECURE or not answer.raw_rdata:
            return tuple(aliases), answer
        try:
            (name,) = (domain_name.from_wire(raw).removesuffix(".").lower() for raw in answer.raw_rdata)
        except (ParseError, ValueError) as error:
            detail = f"the CNAME record of {name} cannot be read: {error}"
            return tuple(aliases), replace(answer, malformed=1, detail=detail)
        aliases.append(name)
    detail = f"{host} has more than {_MOST_STEPS - 1} aliases"
    return tuple(aliases), replace(answer, status=DNSSECStatus.INDETERMINATE, detail=detail)


def published(host: str, port: int, located: Located, ask: Ask) -> DNSAnswer:
    """The TLSA records, for whoever tells what they are worth.  In an unsigned zone no sender asks for them; here they
    are asked for, to say that they are of no use."""
    if located.was_asked or located.answer.status is not DNSSECStatus.INSECURE:
        return located.answer
    answer = ask(_owner(host, port), rdata.TLSA)
    return replace(answer, status=DNSSECStatus.INSECURE) if answer.raw_rdata else located.answer
