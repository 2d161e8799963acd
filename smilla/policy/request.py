"""The sender's request: a word in the Subject, or a header field, by which a message asks to be encrypted or not sent.

Promises: nothing is raised, whatever octets the fields hold.  What ``without`` adds is ASCII, in lines that no relay
has to fold.  We look for the word in what a reader would see, that is after decoding RFC 2047: part of a word in Base64
is no request.  The word may be full-width or in another style (NFKC), with blanks inside its brackets.

Programs read malformed fields in different ways.  If any of them may show the word, it is a request: we never guess
towards plaintext (``header_text.readings``).
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from functools import lru_cache

from smilla.config.options import PolicyOptions
from smilla.formats import header_text
from smilla.model import Header, HeaderEdits, Message

_BLANK_LINES = re.compile(r"(?:\r\n[ \t]+)+(?=\r\n|\Z)")
_PLAIN = re.compile(r"(?:[ -~\t]|\r\n[ \t])*\Z")
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# With compatibility characters, up to Unicode 16.
_BLOCKS = (
    (0xA0, 0x3400),
    (0xA640, 0xAC00),
    (0xF900, 0x10000),
    (0x10780, 0x107C0),
    (0x1CC00, 0x1FC00),
    (0x2F800, 0x2FA20),
)
_OPENING, _CLOSING = "[{(<", "]})>"
_MOST_CUTS = 4
_NO = ("no", "false", "0")


def is_configured(options: PolicyOptions) -> bool:
    """Can a sender ask at all?"""
    return bool(options.wish_header or options.wish_subject.strip())


def found(message: Message, options: PolicyOptions) -> bool:
    """Does the sender ask for encryption?"""
    return is_configured(options) and any(
        _is_said_in_subject(h, options) or _is_said_in_field(h, options) for h in message.headers
    )


def without(message: Message, options: PolicyOptions) -> HeaderEdits:
    """The header edits that remove the request from the message."""
    removed, added = [], []
    for index, header in enumerate(message.headers):
        if _is_wish_field(header, options):
            removed.append(index)
        elif _is_said_in_subject(header, options):
            removed.append(index)
            name = header.raw_name.decode("ascii", "replace").rstrip(" \t")
            added.append((name, _cut_out(header.raw_value, options.wish_subject)))
    return HeaderEdits(tuple(removed), tuple(added))


# --- the header field --------------------------------------------------------------------------------------


def _is_wish_field(header: Header, options: PolicyOptions) -> bool:
    return bool(options.wish_header) and header.name == options.wish_header.lower()


def _is_said_in_field(header: Header, options: PolicyOptions) -> bool:
    if not _is_wish_field(header, options):
        return False
    text = header_text.without_comments(header.raw_value, quoted=False).decode("latin-1")
    return text.strip().lower() not in _NO


# --- the Subject -------------------------------------------------------------------------------------------


def _is_said_in_subject(header: Header, options: PolicyOptions) -> bool:
    if not options.wish_subject.strip() or header.name != "subject":
        return False
    return _reading_that_says(header.raw_value, _pattern(options.wish_subject)) is not None


def _reading_that_says(raw_value: bytes, pattern: str) -> str | None:
    """The first reading that contains the word."""
    said = re.compile(pattern, re.IGNORECASE)
    return next((text for text in header_text.readings(raw_value) if said.search(text)), None)


@lru_cache(maxsize=64)
def _pattern(word: str) -> str:
    """The word as a regular expression, for characters of any width and style.  A space in it matches any number of
    spaces, or a fold; inside brackets spaces are optional."""
    return r"\s+".join(map(_part, unicodedata.normalize("NFC", word).split()))


def _part(part: str) -> str:
    pieces = []
    for character in part:
        one = _like(character)
        pieces.append(rf"\s*{one}" if character in _CLOSING else rf"{one}\s*" if character in _OPENING else one)
    return "".join(pieces)


def _like(character: str) -> str:
    """The character, and all characters that NFKC maps to it."""
    same = _compatible().get(unicodedata.normalize("NFKC", character).lower(), "")
    return f"[{re.escape(character + same)}]" if same else re.escape(character)


@lru_cache(maxsize=1)
def _compatible() -> dict[str, str]:
    """Unicode's compatibility characters (other widths and styles), by the character that they stand for."""
    found: dict[str, str] = {}
    for number in itertools.chain.from_iterable(itertools.starmap(range, _BLOCKS)):
        plain = unicodedata.normalize("NFKC", chr(number)).lower()
        if len(plain) == 1 and plain != chr(number).lower():
            found[plain] = found.get(plain, "") + chr(number)
    return found


def _cut_out(raw_value: bytes, word: str) -> str:
    """The value without the word: the octets as they came if possible, else encoded again.  To another reader the rest
    may still show the word."""
    value = ""
    for _ in range(_MOST_CUTS):
        said = _reading_that_says(raw_value, _pattern(word))
        if said is None:
            break
        value = _cut_once(raw_value, word, said)
        raw_value = value.encode("ascii")
    return value


def _cut_once(raw_value: bytes, word: str, said: str) -> str:
    text = _cut(_pattern(word), said).strip()
    rest = raw_value.decode("latin-1")
    if word.isascii():
        rest = _BLANK_LINES.sub("", _cut(r"\s+".join(map(re.escape, word.split())), rest)).strip()
        if _PLAIN.match(rest) and _is_the_same(header_text.decoded(header_text.unfolded(rest)), text):
            return rest
    return header_text.encoded(_UNSEEN.sub(" ", text).encode("utf-8", "replace")).decode("ascii")


def _cut(pattern: str, text: str) -> str:
    """The text without the word and with one space less, but the leading space of a folded line stays."""
    return re.sub(rf"(?<!\n)[ \t](?:{pattern})(?=\s|\Z)|(?:{pattern})[ \t]?", "", text, flags=re.IGNORECASE)


def _is_the_same(rest: str, text: str) -> bool:
    """Would a reader see the same, apart from the number of spaces?"""
    return not rest[:1].isspace() and rest.split() == text.split()
