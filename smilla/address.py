"""Mailbox addresses: from the envelope and from header fields to something that can be compared.

Promises: parsing never maps a local part (no lower-casing, no stripping of ``+tags`` or dots), it only
undoes quoting and normalises to NFC, as RFC 7929 section 3 and RFC 8162 section 3 ask; domains become
lower-case A-labels (RFC 5891).  Text that is no address raises AddressError, nothing else.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import idna

from smilla.errors import AddressError

_ATOM_OCTETS = re.compile(r"[^\x00-\x20\x7f()<>\[\]:;@\\,\"]+\Z")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")
_MAX_LOCAL_OCTETS = 255  # RFC 5321 has 64; what MTAs let through in practice is longer


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """One mailbox.

    ``local_part`` is unquoted and in NFC; ``domain`` is in lower-case A-labels without a final dot, or an
    address literal in brackets; ``raw`` is the text as it was given, without angle brackets.
    """

    local_part: str
    domain: str
    raw: str

    @property
    def folded(self) -> str:
        """The form in which two addresses are compared without regard to case (RFC 8550 section 3)."""
        return f"{self.local_part.casefold()}@{self.domain}"

    @property
    def is_literal(self) -> bool:
        """True for ``user@[192.0.2.1]``, which no DNS name stands for."""
        return self.domain.startswith("[")

    def __str__(self) -> str:
        return self.raw


@lru_cache(maxsize=4096)
def parse(text: str) -> EmailAddress:
    """``local@domain``, with or without angle brackets, as in an envelope (RFC 5321 section 4.1.2).

    A source route (``<@a,@b:user@c>``) is dropped, as RFC 5321 appendix C says.  Raises AddressError.
    """
    raw = text.strip()
    if raw.startswith("<") and raw.endswith(">"):
        raw = raw[1:-1]
    if raw.startswith("@") and ":" in raw:
        raw = raw.split(":", 1)[1]
    local, at, domain = raw.rpartition("@")
    if not at or not local or not domain:
        raise AddressError(f"{text!r} is not an address of the form local@domain")
    if any(0xD800 <= ord(c) <= 0xDFFF for c in raw):
        raise AddressError(f"{text!r} is not UTF-8")
    local_part = unicodedata.normalize("NFC", _unquote(local, text))
    if len(local_part.encode()) > _MAX_LOCAL_OCTETS:
        raise AddressError(f"the local part of {text[:80]!r}… is longer than {_MAX_LOCAL_OCTETS} octets")
    return EmailAddress(local_part, _domain(domain, text), raw)


def _unquote(local: str, whole: str) -> str:
    if local.startswith('"') and local.endswith('"') and len(local) >= 2:
        inner = re.sub(r"\\(.)", r"\1", local[1:-1], flags=re.DOTALL)
        if "\r" in inner or "\n" in inner or "\0" in inner:
            raise AddressError(f"{whole!r} has a control character in its local part")
        return inner
    if not _ATOM_OCTETS.match(local):
        raise AddressError(f"{whole!r} has a character in its local part that must be quoted")
    return local


def _domain(domain: str, whole: str) -> str:
    if domain.startswith("[") and domain.endswith("]"):
        return domain.lower()
    labels = []
    for label in domain.rstrip(".").split("."):
        labels.append(_a_label(label, whole))
    name = ".".join(labels)
    if len(name) > 253:
        raise AddressError(f"the domain of {whole[:80]!r}… is longer than 253 octets")
    return name


def _a_label(label: str, whole: str) -> str:
    if label.isascii():
        folded = label.lower()
    else:
        try:
            folded = idna.encode(label, uts46=True).decode("ascii")
        except (UnicodeError, ValueError) as error:
            raise AddressError(f"{whole!r}: {label!r} is no internationalized domain label ({error})") from error
    if not _LABEL.match(folded):
        raise AddressError(f"{whole!r}: {label!r} is no domain label")
    return folded


_SPECIALS = re.compile(
    r'\s+|\((?:[^()\\]|\\.)*\)|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<special>[<>,:;@])|(?P<text>[^\s()<>,:;@"]+)|.',
    re.DOTALL,
)


def in_header(raw_value: bytes) -> frozenset[str]:
    """The mailboxes of an address list (RFC 5322 section 3.4, groups included), folded for comparison.

    What is in a comment or a display name is no mailbox, and what is malformed names nobody: a recipient that is
    not found here gets a copy of their own, which tells nobody of them.
    """
    found = set()
    for mailbox in _mailboxes(_without_nested_comments(raw_value.decode("utf-8", "replace"))):
        try:
            found.add(parse(mailbox).folded)
        except AddressError:
            continue
    return frozenset(found)


def _without_nested_comments(text: str) -> str:
    for _ in range(8):
        shorter = re.sub(r'("(?:[^"\\]|\\.)*")|\((?:[^()\\]|\\.)*\)', r"\1", text, flags=re.DOTALL)
        if shorter == text:
            break
        text = shorter
    return text


def _mailboxes(text: str) -> list[str]:
    """The addr-spec of each element of the list: what is in angle brackets, or else all of the element."""
    found, words, angle = [], [""], False
    for token in _SPECIALS.finditer(text):
        if token["special"] == "<":
            words, angle = [""], True
        elif token["special"] == ">":
            found.append("".join(words))
            words, angle = [""], False
        elif token["special"] in (",", ";") or (token["special"] == ":" and not angle):
            # A colon ends a group's name, a semicolon the group: neither belongs to a mailbox.
            found.append("".join(words) if token["special"] != ":" else "")
            words = [""]
        elif token["quoted"] or token["text"] or token["special"]:
            words.append(token[0])
        elif token[0].isspace() and not angle and "@" not in "".join(words):
            words.append("\0")  # two words beside each other are a display name, no addr-spec
    found.append("".join(words))
    return [mailbox.strip("\0") for mailbox in found if "@" in mailbox]
