"""Shell patterns for domains and addresses: how they are compared, and which of them can never match.

A pattern that matches nothing is a fault: who wrote it believes that their mail is protected.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from fnmatch import fnmatchcase

from smilla import address
from smilla.errors import AddressError

_SET = r"\[!?+\]?+[^\]]*+\]"  # a bracket at its beginning is one of its characters
# What a label in A-form may have, and *, ? and sets of characters; neither end of it is a hyphen.
_LABEL = re.compile(rf"(?!-)(?:[a-z0-9_*?-]|{_SET})+(?<!-)", re.IGNORECASE)
_LITERAL = re.compile(r"\[(?:\d+(?:\.\d+){3}|IPv6:.*)\]", re.IGNORECASE)
_ESCAPED_LITERAL = "[[]"


def in_a_labels(pattern: str) -> str | None:
    """A domain or pattern in lower-case A-labels, None where a label is no label."""
    if pattern.isascii():
        return pattern.lower().rstrip(".")
    try:
        wild = re.sub(r"^\*\.", "wildcard.", pattern)
        domain = address.parse(f"x@{wild}").domain
    except AddressError:
        return None
    return re.sub(r"^wildcard\.", "*.", domain) if wild != pattern else domain


def domain_pattern(pattern: str) -> str:
    """As ``local_domains`` and rules compare domains: lower-case A-labels, shell wildcards kept."""
    return in_a_labels(pattern) or pattern.lower()


def domain_problem(pattern: str) -> str:
    """Why no domain can ever match this pattern, and what to write, "" where one may."""
    return next(_domain_problems(pattern), "")


def _domain_problems(pattern: str) -> Iterator[str]:
    if not pattern.strip():
        yield "an empty one matches nothing"
    if pattern != pattern.strip():
        yield f"{pattern!r} has blanks around it"
    if re.search(r"[,; ]", pattern):
        yield f"{pattern!r} is several in one string: write each as a string of its own"
    if "/" in pattern:
        yield f"{pattern!r} is no shell pattern: write *.example.org, say"
    if "@" in pattern:
        yield f"{pattern!r} is no domain"
    if pattern.startswith("."):
        yield f"{pattern!r} begins with a dot, and no domain does: write *{pattern}"
    if _LITERAL.fullmatch(pattern):
        yield f"{pattern!r} is a set of characters in a shell pattern: write {_ESCAPED_LITERAL}{pattern[1:]}"
    sets = () if pattern.startswith(_ESCAPED_LITERAL) else re.findall(_SET, pattern)
    if empty := next((characters for characters in sets if not _matches_something(characters)), ""):
        yield f"{empty} in {pattern!r} is a set of characters that no domain has"
    known = in_a_labels(pattern)
    if known is None or not all(
        _LABEL.fullmatch(label) and len(label.replace("*", "")) < 64 for label in _labels(known)
    ):
        yield f"{pattern!r} is none"


def _matches_something(characters: str) -> bool:
    return any(fnmatchcase(one, characters.lower()) for one in string.ascii_lowercase + string.digits + "-_.")


def _labels(pattern: str) -> list[str]:
    """A dot within a set of characters separates none, and an address literal has none."""
    return ["x"] if pattern.startswith(_ESCAPED_LITERAL) else re.sub(_SET, "x", pattern).split(".")


def address_problem(pattern: str) -> str:
    """Why no address can ever match this pattern, and what to write, "" where one may."""
    return "" if pattern in ("*", "<>") else next(_address_problems(pattern), "")


def _address_problems(pattern: str) -> Iterator[str]:
    local, at, domain = pattern.rpartition("@")
    if pattern != pattern.strip():
        yield "the blanks around it are in no address"
    if pattern.startswith("/"):
        yield "this is a shell pattern, and no regular expression"
    if re.search("[<>]", pattern) or pattern.lower().startswith("mailto:"):
        yield "write the address alone, without brackets, name and mailto:"
    if not at:
        yield f"it has no @: write *@{pattern.lstrip('.')}" if "." in pattern else "it has no @, and every address does"
    if at and not local:
        yield f"before the @ stands nothing: write *{pattern}"
    is_quoted = len(local) > 1 and local.startswith('"') and local.endswith('"')
    if not is_quoted and re.search("[@,;]", local):
        yield "it is several in one string: write a rule for each"
    if local != local.strip() or domain != domain.strip():
        yield "the blanks beside the @ are in no address"
    if problem := domain_problem(domain):
        yield problem
