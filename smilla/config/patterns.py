"""Shell patterns for domains and addresses: how they are compared, and which of them can never match.

A pattern that matches nothing is a fault: its author believes that their mail is protected.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import lru_cache

from smilla import address
from smilla.errors import AddressError

_SET = r"\[!?+\]?+[^\]]*+\]"  # a leading bracket is one of its characters
# The characters of a label, and *, ? and sets of characters; a label neither begins nor ends with a hyphen.
_LABEL = re.compile(rf"(?!-)(?:[\w*?-]|{_SET})+(?<!-)", re.IGNORECASE)
_LITERAL = re.compile(r"\[(?:\d+(?:\.\d+){3}|IPv6:.*)\]", re.IGNORECASE)
_CLASS = re.compile(r"\[[:.=]\w+[:.=]\]")
_REGULAR = re.compile(r'[\\()|:"\[\]]|^\^|\.\+|^\.\*')
_ESCAPED_LITERAL = "[[]"
_IN_A_DOMAIN = string.ascii_lowercase + string.digits + "-_."


def in_a_labels(pattern: str) -> str | None:
    """A domain or pattern in lower case and A-labels; labels with wildcards are in NFC.  None if a label is not
    valid."""
    if pattern.isascii():
        return pattern.lower().rstrip(".")
    try:
        return ".".join(map(_in_a_form, _labels(pattern.rstrip("."))))
    except AddressError:
        return None


def _in_a_form(label: str) -> str:
    """Raises AddressError."""
    if label.isascii() or _is_wild(label):
        return unicodedata.normalize("NFC", label.lower())
    return address.parse(f"x@{label}").domain


def _is_wild(label: str) -> bool:
    return not set("*?[").isdisjoint(label)


def domain_pattern(pattern: str) -> str:
    """The form in which ``local_domains`` and rules compare domains: lower-case A-labels, with shell wildcards."""
    return in_a_labels(pattern) or pattern.lower()


@lru_cache(maxsize=4096)
def forms(domain: str) -> tuple[str, ...]:
    """A domain or pattern in A-labels, and in U-labels if these differ: a wildcard stands for a character as people see
    it."""
    if "xn--" not in domain:
        return (domain,)
    return (domain, ".".join(map(_in_u_form, _labels(domain))))


def _in_u_form(label: str) -> str:
    try:
        is_encoded = label.startswith("xn--") and not _is_wild(label)
        return label[4:].encode("ascii").decode("punycode") if is_encoded else label
    except ValueError:
        return label


def domain_problem(pattern: str) -> str:
    """Why no domain can ever match this pattern, and what to write instead; "" if one may."""
    return next(_domain_problems(pattern), "")


def _domain_problems(pattern: str) -> Iterator[str]:
    if not pattern.strip():
        yield "an empty one matches nothing"
    if pattern != pattern.strip():
        yield f"{pattern!r} has blanks around it"
    if re.search(r"[,; ]", pattern):
        yield f"{pattern!r} has several in one string: write one string for each"
    if "/" in pattern:
        yield f"{pattern!r} is not a shell pattern: write *.example.org, for example"
    if "@" in pattern:
        yield f"{pattern!r} is no domain"
    if pattern.startswith("."):
        yield f"{pattern!r} begins with a dot, but no domain does: write *{pattern}"
    if _LITERAL.fullmatch(pattern):
        yield f"{pattern!r} is a set of characters in a shell pattern: write {_ESCAPED_LITERAL}{pattern[1:]}"
    if pattern.startswith(_ESCAPED_LITERAL) and pattern.isascii():
        return
    yield from _set_problems(pattern, _IN_A_DOMAIN)
    known = in_a_labels(pattern)
    labels = [] if known is None else [re.sub(_SET, "x", label) for label in _labels(known)]
    if not labels or not all(_LABEL.fullmatch(label) and len(label.replace("*", "")) < 64 for label in labels):
        yield f"{pattern!r} is none"


def set_problem(pattern: str) -> str:
    """What is wrong with the sets of characters in a pattern; "" if nothing is."""
    return next(_set_problems(pattern, string.printable), "")


def _set_problems(pattern: str, alphabet: str) -> Iterator[str]:
    if found := _CLASS.search(pattern):
        yield f"{found[0]} is not a class of characters here: write [a-z], for example"
    for characters in re.findall(_SET, pattern):
        if characters.startswith("[^"):
            yield f"{characters} takes ^ as a character, but ! negates: write [!{characters[2:]}"
        if not _matches_something(characters, alphabet):
            yield f"{characters} in {pattern!r} is a set of characters that nothing has"
    if "[" in re.sub(_SET, "", pattern):
        yield f"{pattern!r} has a [ without its ]: write [[] for the character itself"


def _matches_something(characters: str, alphabet: str) -> bool:
    seen = alphabet + "".join(filter(str.isalnum, characters.lower()))
    return any(fnmatchcase(one, characters.lower()) or fnmatchcase(one, characters) for one in seen)


def _labels(pattern: str) -> list[str]:
    """The labels: a dot within a set of characters separates nothing, and an address literal is one label."""
    if pattern.startswith(_ESCAPED_LITERAL) or _LITERAL.fullmatch(pattern):
        return [pattern]
    kept = re.sub(_SET, lambda found: found[0].replace(".", "\0"), pattern)
    return [label.replace("\0", ".") for label in kept.split(".")]


def address_problem(pattern: str) -> str:
    """Why no address can ever match this pattern, and what to write instead; "" if one may."""
    return "" if pattern in ("*", "<>") else next(_address_problems(pattern), "")


def _address_problems(pattern: str) -> Iterator[str]:
    local, at, domain = pattern.rpartition("@")
    if pattern != pattern.strip():
        yield "no address has blanks around it"
    if pattern.startswith("/"):
        yield "this is a shell pattern, not a regular expression"
    if re.search("[<>]", pattern) or pattern.lower().startswith("mailto:"):
        yield "write the address alone, without brackets, name and mailto:"
    if not at:
        yield (
            f"it has no @: write *@{pattern.lstrip('.')}"
            if "." in pattern
            else "it has no @, but every address has one"
        )
    if at and not local:
        yield f"there is nothing before the @: write *{pattern}"
    yield from _set_problems(local, string.printable)
    is_quoted = len(local) > 1 and local.startswith('"') and local.endswith('"')
    if not is_quoted and re.search("[@,;]", local):
        yield "there are several in one string: write a rule for each"
    if not is_quoted and (found := _REGULAR.search(re.sub(_SET, "x", local))):
        yield f"{found[0]!r} is not for shell patterns: * is any text, ? any character; quote a local part that has it"
    if local != local.strip() or domain != domain.strip():
        yield "no address has blanks beside the @"
    if problem := domain_problem(domain):
        yield problem
