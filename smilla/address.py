"""Mailbox addresses from the envelope and from header fields, in a form that can be compared.

Promises: parsing never maps a local part (no lower-casing, no stripping of ``+tags`` or dots).  It only undoes quoting
and normalises to NFC, as RFC 7929 section 3 and RFC 8162 section 3 ask.  Domains become lower-case A-labels.  Text that
is no address raises AddressError, nothing else.

Which A-label a label gets is a choice: IDNA 2008 (RFC 5891) refuses many labels that MTAs accept, such as those with an
emoji.  What others do: Postfix maps by UTS 46 (ICU); Sendmail passes the label on unchanged.  What we do: UTS 46 as
well.  Its transitional form (IDNA 2003) gives other labels for ß, ẞ, ς and the two zero-width joiners, so an address
with one of these is ``ambiguous``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import field, replace
from typing import NamedTuple

import idna

from smilla.errors import AddressError
from smilla.remembered import when_short
from smilla.value import value

_ATOM_OCTETS = re.compile(r"[^\x00-\x20\x7f()<>\[\]:;@\\,\"]+\Z")
# Without a tab: Postfix turns it into a blank.
_QUOTED = re.compile(r'"((?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*)"\Z')
_LITERAL = re.compile(r"\[[!-.0-Z^-~]{1,255}\]\Z")  # RFC 5321 section 4.1.3, less the slash
_ROUTE = re.compile(r'@(?:\[[^\]]*\]|[^\[\]:"])*:')
_HOST_LITERAL = re.compile(r"\[(?!\d+(?:\.\d+){3}\]|[a-z0-9-]+:)")
_OTHER_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")  # UTS 46 section 2.3 treats these as full stops
_DEVIATIONS = re.compile("[\u00df\u1e9e\u03c2\u200c\u200d]")  # UTS 46 section 5; U+1E9E by revision 33 of its table
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")
_MAX_LOCAL_OCTETS = 255  # RFC 5321 allows 64; MTAs let longer ones through
_MAX_CHARACTERS = 2048
_USUAL_CHARACTERS = 320  # RFC 3696 section 3, as corrected: 64, an at sign, 255; longer ones are not remembered


@value
class Completion:
    """What the MTA adds to a recipient: ``origin`` if it has no domain, ``domain`` after a single label; "" if the MTA
    adds nothing, or we don't know."""

    origin: str = ""
    domain: str = ""


NO_COMPLETION = Completion()


@value
class EmailAddress:
    """One mailbox.

    ``local_part`` is unquoted and in NFC.  ``domain`` is in lower-case A-labels without a final dot, or an address
    literal in brackets.  ``raw`` is the text as given, without angle brackets.  ``ambiguous``: another program may read
    the domain as a different one; ``domain`` is then the IDNA 2008 reading.
    """

    local_part: str = field(hash=False)  # ``raw`` tells nearly all addresses apart, and is quick to hash
    domain: str = field(hash=False)
    raw: str
    ambiguous: bool = field(default=False, hash=False)

    @property
    def folded(self) -> str:
        """The form for comparing two addresses without regard to case (RFC 8550 section 3).

        It is only lower-cased: full case folding would merge "straße" and "strasse", which are two mailboxes.
        """
        return f"{self.local_part.lower()}@{self.domain}"

    @property
    def is_literal(self) -> bool:
        """True for ``user@[192.0.2.1]``, which has no DNS name."""
        return self.domain.startswith("[")

    @property
    def is_odd_host(self) -> bool:
        """A name in brackets, or a bare IP address, which Postfix with resolve_numeric_domain reads as
        ``user@[127.0.0.1]``."""
        return _HOST_LITERAL.match(self.domain) is not None or self.domain.rpartition(".")[2].isdigit()

    @property
    def is_single_label(self) -> bool:
        """True for ``user@host``, to which an MTA may add a domain."""
        return not self.is_literal and "." not in self.domain

    def completed(self, domain: str) -> EmailAddress:
        """Appends this domain where an MTA would: to a single label without a final dot.  Raises AddressError."""
        if not domain or not self.is_single_label or self.raw.endswith("."):
            return self
        full = _domain(f"{self.domain}.{domain}", self.raw)
        return replace(self, domain=full, raw=f"{self.raw}.{domain}")

    def at(self, domain: str) -> EmailAddress:
        """The same local part in another domain.  Raises AddressError."""
        return parse(f"{self.raw.rpartition('@')[0]}@{domain}")

    def __str__(self) -> str:
        return self.raw


@when_short(_USUAL_CHARACTERS, entries=4096)
def parse(text: str) -> EmailAddress:
    """``local@domain``, with or without angle brackets, as in an envelope (RFC 5321 section 4.1.2).

    A source route (``<@a,@b:user@c>``) is dropped, as RFC 5321 appendix C says.  Raises AddressError.
    """
    if len(text) > _MAX_CHARACTERS:
        raise AddressError(f"{text[:80]!r}… is too long for an address")
    raw = text.strip()
    if raw.startswith("<") and raw.endswith(">"):
        raw = raw[1:-1].strip()
    if route := _ROUTE.match(raw):
        raw = raw[route.end() :]
    local, at, domain = raw.rpartition("@")
    if not at or not local or not domain:
        raise AddressError(f"{text[:80]!r} is not an address of the form local@domain")
    if any(0xD800 <= ord(c) <= 0xDFFF for c in raw):
        raise AddressError(f"{text!r} is not UTF-8")
    local_part = unicodedata.normalize("NFC", _unquote(local, text))
    if len(local_part.encode()) > _MAX_LOCAL_OCTETS:
        raise AddressError(f"the local part of {text[:80]!r}… is longer than {_MAX_LOCAL_OCTETS} octets")
    return EmailAddress(local_part, _domain(domain, text), raw, _DEVIATIONS.search(domain) is not None)


def _unquote(local: str, whole: str) -> str:
    if local.startswith('"'):
        quoted = _QUOTED.match(local)
        if not quoted:
            raise AddressError(f"{whole!r} has a malformed quoted string, or a control character, in its local part")
        return re.sub(r"\\(.)", r"\1", quoted[1])
    if not _ATOM_OCTETS.match(local):
        raise AddressError(f"{whole!r} has a character in its local part that must be quoted")
    return local


def _domain(domain: str, whole: str) -> str:
    if domain.startswith("["):
        if not _LITERAL.match(domain):
            raise AddressError(f"{whole!r} has a malformed address literal")
        return domain.lower()
    labels = domain.translate(_OTHER_DOTS).removesuffix(".").split(".")
    name = ".".join(_a_label(label, whole) for label in labels)
    if len(name) > 253:
        raise AddressError(f"the domain of {whole[:80]!r}… is longer than 253 octets")
    return name


def _a_label(label: str, whole: str) -> str:
    try:
        folded = label.lower() if label.isascii() else _to_ascii(label)
    except ValueError as error:
        raise AddressError(f"{whole!r}: {label!r} is not an internationalized domain label ({error})") from error
    if not _LABEL.match(folded):
        raise AddressError(f"{whole!r}: {label!r} is not a domain label")
    return folded


def _to_ascii(label: str) -> str:
    """ToASCII of UTS 46 section 4.2, non-transitional and without the rules of STD3, as in ICU.  Raises ValueError."""
    mapped = idna.uts46_remap(label, std3_rules=False)
    unicode_label = mapped[4:].encode("ascii").decode("punycode") if mapped.startswith("xn--") else mapped
    if unicode_label is not mapped and not _is_mapped(unicode_label):
        raise ValueError("its Punycode is not that of a valid label")
    if "-" in (unicode_label[:1], unicode_label[-1:]) or unicode_label[2:4] == "--":
        raise ValueError("it has a hyphen where none is allowed")
    if unicodedata.category(unicode_label[:1] or "-").startswith("M"):
        raise ValueError("it begins with a mark")
    return mapped if mapped.isascii() else "xn--" + mapped.encode("punycode").decode("ascii")


def _is_mapped(label: str) -> bool:
    return not label.isascii() and idna.uts46_remap(label, std3_rules=False) == label


_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)"
    r'|(?P<quoted>"(?:[^"\\]|\\.)*")'
    r"|(?P<literal>\[[^\[\]\\]*\])"
    r"|(?P<special>[<>,:;@.])"
    r'|(?P<atom>[^ \t\r\n()<>,:;@.\[\]\\"]+)',
    re.DOTALL,
)
_INTRICATE = re.compile(rb"[^ -~\t\r\n]|[\"()\\\[\]:;]")
_SIMPLE_MAILBOX = re.compile(r"[^<>@]*<([^<>@\s]+@[^<>@\s]+)>\s*|\s*([^<>@\s]+@[^<>@\s]+)\s*")
_COMMENT_PART = re.compile(r"\\.|[()]", re.DOTALL)


class _Token(NamedTuple):
    kind: str
    text: str


def in_header(raw_value: bytes) -> frozenset[str]:
    """The mailboxes of an address list (RFC 5322 section 3.4, groups included), folded for comparison.

    Text in a comment or a display name is no mailbox, and malformed text names nobody.  A recipient who is not found
    here gets a copy of their own, so nobody else learns about them.  Time is linear.
    """
    simple = _simple_list(raw_value)
    if simple is not None:
        return simple
    mailboxes = set()
    for element in _elements(_tokens(raw_value.decode("utf-8", "surrogateescape"))):
        mailbox = _addr_spec(element)
        if mailbox is not None:
            mailboxes.add(mailbox.folded)
    return frozenset(mailboxes)


def sole_mailbox(raw_value: bytes) -> EmailAddress | None:
    """The one mailbox of a field such as From; None if it has none, several or a group, text that is no mailbox, or a
    display name that some programs take for the address since another one stands in it without quotes."""
    tokens = list(_tokens(raw_value.decode("utf-8", "surrogateescape")))
    specials = [token.text if token.kind == "special" else "" for token in tokens]
    if any(text and text in ",:;" for text in specials):
        return None
    found = _addr_spec(tokens)
    if "@" in (before := specials[: specials.index("<")] if "<" in specials else []):
        named = _addr_spec(tokens[: len(before)])
        return found if found is not None and named is not None and named.folded == found.folded else None
    return found


def _simple_list(raw_value: bytes) -> frozenset[str] | None:
    """The same for a list without comments, quoted strings, groups or routes, as nearly all are; None for other
    lists."""
    if _INTRICATE.search(raw_value):
        return None
    mailboxes = set()
    for item in raw_value.decode("ascii").split(","):
        match = _SIMPLE_MAILBOX.fullmatch(item)
        if match is None:
            return None
        try:
            mailboxes.add(parse(match[1] or match[2]).folded)
        except AddressError:
            return None
    return frozenset(mailboxes)


def _tokens(text: str) -> Iterator[_Token]:
    """Stops early at text that cannot be a token: an unclosed quoted string or comment, a bare bracket."""
    position = 0
    while position < len(text):
        if text[position] == "(":
            position = end_of_comment(text, position)
            yield _Token("space", "")
            continue
        match = _TOKEN.match(text, position)
        if match is None:
            yield _Token("malformed", text[position:])
            return
        position = match.end()
        yield _Token(match.lastgroup or "", match[0])


def end_of_comment(text: str, start: int) -> int:
    """Where the comment that begins at ``start`` ends.  Comments nest (RFC 5322 section 3.2.2); an unclosed one takes
    the rest."""
    depth = 0
    for part in _COMMENT_PART.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(part[0], 0)
        if not depth:
            return part.end()
    return len(text)


def _elements(tokens: Iterable[_Token]) -> Iterator[list[_Token]]:
    """The tokens of each mailbox.  Commas and semicolons end a mailbox and a colon ends a group's name, except in angle
    brackets (an obsolete route)."""
    element: list[_Token] = []
    angle = False
    for token in tokens:
        if token.text in (",", ";", ":") and token.kind == "special" and not angle:
            if token.text != ":":
                yield element
            element = []
            continue
        angle = token.text == "<" or (angle and token.text != ">") if token.kind == "special" else angle
        element.append(token)
    yield element


def _addr_spec(element: list[_Token]) -> EmailAddress | None:
    """The address of a mailbox: the text in its angle brackets, which must come last, or else all of it."""
    specials = [token.text if token.kind == "special" else "" for token in element]
    if "<" in specials:
        start = specials.index("<")
        end = specials.index(">", start) if ">" in specials[start:] else len(element)
        if any(token.kind != "space" for token in element[end + 1 :]) or end == len(element):
            return None
        element = element[start + 1 : end]
    try:
        return parse(_joined(element))
    except AddressError:
        return None


def _joined(element: list[_Token]) -> str:
    """The text without its white space, which is allowed only beside a dot or an at sign (RFC 5322 section 4.4)."""
    text, gap = "", False
    parts: list[str] = []
    for token in element:
        if token.kind == "space":
            gap = True
            continue
        if gap and text and text not in ".@:," and token.text not in ".@:,":
            raise AddressError("two words in a row are a display name, not an address")
        text, gap = token.text, False
        parts.append(text)
    return "".join(parts)
