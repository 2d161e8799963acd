"""Which [[rule]] applies to a recipient: the first one whose conditions all hold, and why the others do not.  Pure.

Quoting an address, routing it or ending it with a dot does not get around a rule.  If an MTA may read the sender as
another one, no rule matches it, and ``hinges_on_sender`` says whether that matters.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

from smilla import address
from smilla.address import NO_COMPLETION, Completion, EmailAddress
from smilla.config import Rule
from smilla.config.options import CONDITIONS
from smilla.config.patterns import domain_pattern, forms
from smilla.errors import AddressError
from smilla.model import Client, Direction, Recipient
from smilla.value import value

_COMMENT = re.compile(r"\([^()]*\)")
_QUOTES = re.compile(r'^"(.*)"@')  # quotes around a local part do not change it (RFC 5321 section 4.1.2)
_ESCAPE = re.compile(r"\\(.)")
_ROUTE = re.compile(r"@[\w.-]+(?:,@[\w.-]+)*:")  # RFC 5321 section 4.1.2
_OTHERS: dict[str, Any] = {"sender": "", "client": (), "user": "", "direction": ""}  # no conditions of the recipient
_NOISE = re.compile(r'[\s\\"<>,;]')


@value
class Case:
    """What a rule is checked against: a recipient, who sends to them from where, and the direction for them.
    ``mailbox`` is the address that theirs stands for, if different; either may match.  ``completion`` is what the MTA
    adds to an address."""

    recipient: Recipient
    sender: str
    client: Client
    direction: Direction
    mailbox: EmailAddress | None = None
    completion: Completion = NO_COMPLETION


class Checked(NamedTuple):
    """One rule (numbered from 1) checked against one case; ``failed`` is the first condition that does not hold."""

    number: int
    matched: bool
    failed: str = ""


def first(rules: Iterable[Rule], case: Case) -> tuple[int, Rule | None]:
    """The first rule that matches and its number, or (0, None)."""
    for number, rule in enumerate(rules, 1):
        if not _failed(rule, case):
            return number, rule
    return 0, None


def hinges_on_sender(rules: Iterable[Rule], case: Case) -> bool:
    """Does any rule depend on how the MTA reads the sender, which nobody here can tell?"""
    for rule in rules:
        if rule.sender and _is_doubtful(rule.sender, case) and not _failed(replace(rule, sender=""), case):
            return True
        if not _failed(rule, case):
            return False
    return False


def table(rules: Iterable[Rule], case: Case) -> tuple[Checked, ...]:
    """Every rule, including those after the first match."""
    checked = ((number, _failed(rule, case)) for number, rule in enumerate(rules, 1))
    return tuple(Checked(number, not failed, failed) for number, failed in checked)


def for_address(rules: Iterable[Rule], asked: EmailAddress) -> tuple[tuple[int, Rule], ...]:
    """The rules that may apply to mail for this address, with their numbers: each that its recipient and domain match,
    up to the first that has no other condition.  Whether another condition holds, the mail itself would say."""
    case = Case(Recipient(f"<{asked}>", asked), "", Client(""), Direction.OUTBOUND)
    found = []
    for number, rule in enumerate(rules, 1):
        if _failed(replace(rule, **_OTHERS), case):
            continue
        found.append((number, rule))
        if is_unconditional(rule):
            break
    return tuple(found)


def is_unconditional(rule: Rule) -> bool:
    """Does it hold for its recipients whoever sends, and from where?"""
    return not any(getattr(rule, name) for name in _OTHERS)


def in_words(rule: Rule) -> str:
    """The conditions that a rule names."""
    return ", ".join(_condition(rule, name) for name in CONDITIONS if getattr(rule, name))


def _condition(rule: Rule, name: str) -> str:
    value = getattr(rule, name)
    return f"{name} = {value if isinstance(value, str) else ' or '.join(value)}"


def _failed(rule: Rule, case: Case) -> str:
    """The first condition that does not hold, "" if all do."""
    named = ((name, getattr(rule, name)) for name in CONDITIONS)
    return next((_condition(rule, name) for name, value in named if value and not _HOLDS[name](value, case)), "")


def domain_of(recipient: Recipient) -> str:
    """The recipient's domain as ``is_in`` compares it, "" for none.  Even text that is no address may have one."""
    if recipient.address is not None:
        return recipient.address.domain
    _, at, domain = recipient.raw.strip("<>").rpartition("@")
    return domain_pattern(domain) if at else ""


@lru_cache(maxsize=4096)
def is_in(domain: str, patterns: tuple[str, ...]) -> bool:
    """Does the domain (lower-case A-labels) match one of these names and shell patterns?"""
    known = [form for pattern in patterns for form in forms(domain_pattern(pattern))]
    return any(fnmatchcase(seen, pattern) for seen in forms(domain) for pattern in known)


@lru_cache(maxsize=4096)
def is_within(ip: str, networks: tuple[str, ...]) -> bool:
    """Is the client's IP address, as the MTA gives it, in one of these networks?"""
    try:
        client = ipaddress.ip_address(ip.removeprefix("IPv6:"))
    except ValueError:
        return False
    mapped = getattr(client, "ipv4_mapped", None) or client
    return any(mapped in _network(network) for network in networks)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network of IPv4-mapped addresses becomes one of IPv4, since that is how we compare the client."""
    network = ipaddress.ip_network(text, strict=False)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    return ipaddress.ip_network((mapped, network.prefixlen - 96)) if mapped and network.prefixlen >= 96 else network


def is_for(pattern: str, recipient: Recipient) -> bool:
    """Does the recipient match the pattern?  The parsed address counts, since the MTA appends its domain to a recipient
    without one."""
    return _matches(pattern, recipient.address.raw if recipient.address else recipient.raw.strip("<>"))


def _recipient_holds(pattern: str, case: Case) -> bool:
    return is_for(pattern, case.recipient) or (case.mailbox is not None and _matches(pattern, case.mailbox.raw))


def _domain_holds(patterns: tuple[str, ...], case: Case) -> bool:
    if is_in(domain_of(case.recipient), patterns):
        return True
    return case.mailbox is not None and is_in(case.mailbox.domain, patterns)


def _sender_holds(pattern: str, case: Case) -> bool:
    return pattern == "*" or any(
        _matches(pattern, reading) for reading in sender_readings(case.sender, case.completion)
    )


def _is_doubtful(pattern: str, case: Case) -> bool:
    """Might this pattern match the MTA's reading of the sender, without anybody here being able to tell?"""
    if pattern == "*":
        return False
    if not is_clear(case.sender):
        return True
    if pattern == "<>" or not case.sender or _sender_holds(pattern, case):
        return False
    parsed = address.parse(case.sender if "@" in case.sender else f"{case.sender}@{case.completion.origin or 'x'}")
    is_bare = "@" not in case.sender and not case.completion.origin
    completed = parsed.domain == "localhost" or not parsed.is_single_label or parsed.raw.endswith(".")
    local, _, domain = pattern.rpartition("@")
    if (completed or case.completion.domain) and not is_bare:
        return False
    if not _matches(f"{local}@x", f"{parsed.raw.rpartition('@')[0]}@x"):
        return False
    return is_bare or not set("*?[").isdisjoint(domain) or domain_pattern(domain).startswith(f"{parsed.domain}.")


@lru_cache(maxsize=4096)
def is_clear(sender: str) -> bool:
    """Does it follow RFC 5321: the null sender, or an address, perhaps without a domain?  Liberal MTAs
    turn anything else into the null sender or another address: ``< >``, ``Boss<boss@a.test>``, ``a.test!boss``."""
    if not sender:
        return True
    text = _ROUTE.sub("", sender.strip(" "), count=1) if sender.startswith("@") else sender.strip(" ")
    if "@" not in text:
        text = f"{text}@x" if set("%!").isdisjoint(text) else ""
    try:
        parsed = address.parse(text)
    except AddressError:
        return False
    return parsed.raw == text and bool(parsed.local_part) and not parsed.is_odd_host


def sender_readings(sender: str, completion: Completion) -> Iterator[str]:
    """The envelope sender as given, and as the MTA sends it on, with the domain that it lacked (append_origin,
    append_domain).  Nothing if it is not clear."""
    if not is_clear(sender):
        return
    yield sender
    try:
        parsed = address.parse(sender if "@" in sender else f"{sender}@{completion.origin}")
        yield parsed.raw if parsed.domain == "localhost" else parsed.completed(completion.domain).raw
    except AddressError:
        return


def _user_holds(pattern: str, case: Case) -> bool:
    user = unicodedata.normalize("NFC", case.client.authenticated_as)
    return bool(user) and fnmatchcase(user, unicodedata.normalize("NFC", pattern))


_HOLDS: dict[str, Callable[[Any, Case], bool]] = {
    "recipient": _recipient_holds,
    "sender": _sender_holds,
    "domain": _domain_holds,
    "client": lambda networks, case: is_within(case.client.ip, networks),
    "user": _user_holds,
    "direction": lambda direction, case: direction == case.direction,
}


def _matches(pattern: str, text: str) -> bool:
    if pattern == "*":
        return True
    if pattern == "<>" or not text:
        return pattern == "<>" and not text
    known = {*_folded(pattern), *_folded(_QUOTES.sub(lambda found: _ESCAPE.sub(r"\1", found[1]) + "@", pattern))}
    return any(fnmatchcase(form, folded) for form in _forms(text) for folded in known)


def _forms(text: str) -> Iterator[str]:
    """An address as given, and without any quoting, source route or final dot.  For text that is no address: what a
    liberal MTA may make of it."""
    yield from _folded(text)
    try:
        parsed = address.parse(text)
    except AddressError:
        yield from _folded(_NOISE.sub("", _without_comments(text)))
        return
    yield from (f"{parsed.local_part}@{domain}" for domain in forms(parsed.domain))


def _without_comments(text: str) -> str:
    """Innermost comments go first (RFC 5322 section 3.2.2); the MTA limits the length."""
    removed = 1
    while removed:
        text, removed = _COMMENT.subn("", text)
    return text


def _folded(text: str) -> Iterator[str]:
    local, at, domain = text.rpartition("@")
    yield from (unicodedata.normalize("NFC", local) + at + form for form in forms(domain_pattern(domain)))
