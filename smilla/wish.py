"""The sender's wish: a word in the Subject, or a header field, by which a message asks to go encrypted or not at all.

Promises: whatever octets the fields have, nothing is raised; what ``without`` adds is ASCII, in lines that no relay has
to fold.  The word is looked for in what a reader would see, that is after RFC 2047 is undone: part of a word in Base64
is no wish.  An encoded word that cannot be decoded is text as it stands (RFC 2047 section 6.3).
"""

from __future__ import annotations

import binascii
import codecs
import re
import unicodedata
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.header import decode_header

from smilla.model import Header, Message
from smilla.options import PolicyOptions

_WORD = r"=\?[!->@-~]+\?[bBqQ]\?[ !->@-~]*\?="
_ENCODED_WORD = re.compile(_WORD)
_ENCODED_WORDS = re.compile(rf"({_WORD}(?:\s*{_WORD})*)")
_NO_CHARSETS = ("idna", "punycode", "unicode_escape", "raw_unicode_escape")  # slow or noisy codecs of Python's
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_BLANK_LINES = re.compile(r"(?:\r\n[ \t]+)+(?=\r\n|\Z)")
_PLAIN = re.compile(r"(?:[ -~\t]|\r\n[ \t])*\Z")
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_OCTETS_A_WORD = 39  # 52 characters of Base64 and 12 around them, after "Subject: "
_NO = ("no", "false", "0")


def is_configured(options: PolicyOptions) -> bool:
    """Is there any way of asking?"""
    return bool(options.wish_header or options.wish_subject.strip())


def found(message: Message, options: PolicyOptions) -> bool:
    """Does the sender ask for encryption?"""
    return is_configured(options) and any(
        _is_said_in_subject(h, options) or _is_said_in_field(h, options) for h in message.headers
    )


def without(message: Message, options: PolicyOptions) -> tuple[tuple[int, ...], tuple[tuple[str, str], ...]]:
    """What takes the wish out of the message: the indexes of header fields that go, the fields (name and value, without
    leading space) that come."""
    removed, added = [], []
    for index, header in enumerate(message.headers):
        if _is_wish_field(header, options):
            removed.append(index)
        elif _is_said_in_subject(header, options):
            removed.append(index)
            name = header.raw_name.decode("ascii", "replace").rstrip(" \t")
            added.append((name, _cut_out(header.raw_value, _pattern(options.wish_subject))))
    return tuple(removed), tuple(added)


# --- the header field --------------------------------------------------------------------------------------


def _is_wish_field(header: Header, options: PolicyOptions) -> bool:
    return bool(options.wish_header) and header.name == options.wish_header.lower()


def _is_said_in_field(header: Header, options: PolicyOptions) -> bool:
    if not _is_wish_field(header, options):
        return False
    text = header.raw_value.decode("latin-1")
    return _without_comments(text).strip().lower() not in _NO


def _without_comments(text: str) -> str:
    """The text outside comments, which nest (RFC 5322 section 3.2.2)."""
    outside, depth = [], 0
    for piece in re.findall(r"\\.|[()]|[^\\()]+|\\", text, re.DOTALL):
        depth += {"(": 1, ")": -1 if depth else 0}.get(piece, 0)
        if not depth and piece != ")":
            outside.append(piece)
    return "".join(outside)


# --- the Subject -------------------------------------------------------------------------------------------


def _is_said_in_subject(header: Header, options: PolicyOptions) -> bool:
    if not options.wish_subject.strip() or header.name != "subject":
        return False
    return re.search(_pattern(options.wish_subject), _decoded(_unfolded(header.raw_value)), re.IGNORECASE) is not None


def _pattern(word: str) -> str:
    """The word as a regular expression; a space in it may be any number of them, or a fold."""
    return r"\s+".join(map(re.escape, unicodedata.normalize("NFC", word).split()))


def _cut_out(raw_value: bytes, pattern: str) -> str:
    """The value without the word: the octets as they came where that is possible, else encoded anew."""
    text = _cut(pattern, _decoded(_unfolded(raw_value))).strip()
    rest = raw_value.decode("latin-1")
    if pattern.isascii():
        rest = _BLANK_LINES.sub("", _cut(pattern, rest)).strip()
        if _PLAIN.match(rest) and _is_the_same(_decoded(_FOLD.sub("", rest)), text):
            return rest
    return _encoded(text)


def _cut(pattern: str, text: str) -> str:
    """The text without the word and with one space less, but never that at the beginning of a folded line."""
    return re.sub(rf"(?<!\n)[ \t](?:{pattern})(?=\s|\Z)|(?:{pattern})[ \t]?", "", text, flags=re.IGNORECASE)


def _is_the_same(rest: str, text: str) -> bool:
    """Would a reader see the same, but for the number of spaces?"""
    return not rest[:1].isspace() and rest.split() == text.split()


def _unfolded(raw_value: bytes) -> str:
    return _FOLD.sub("", raw_value.decode("utf-8", "replace"))


def _decoded(text: str) -> str:
    """What a reader would see."""
    parts = _ENCODED_WORDS.split(text)
    return unicodedata.normalize("NFC", "".join(_decoded_run(p) if i % 2 else p for i, p in enumerate(parts)))


def _decoded_run(run: str) -> str:
    """Encoded words side by side: the space between them is none (RFC 2047 section 6.2), and a character may be split
    over two of them."""
    words = _ENCODED_WORD.findall(run)
    try:
        return "".join(_texts(words))
    except (HeaderParseError, binascii.Error, LookupError, ValueError):
        return " ".join(map(_decoded_run, words)) if len(words) > 1 else run


def _texts(words: list[str]) -> Iterator[str]:
    for raw, charset in decode_header(" ".join(words)):
        if not isinstance(raw, bytes):
            yield raw
            continue
        codec = codecs.lookup((charset or "us-ascii").partition("*")[0])
        if codec.name in _NO_CHARSETS:
            raise LookupError(codec.name)
        yield raw.decode(codec.name, "replace")


def _encoded(text: str) -> str:
    """Encoded words of UTF-8 in Base64, one a line, each a whole number of characters."""
    lines, octets = [], b""
    for character in _UNSEEN.sub(" ", text):
        raw = character.encode("utf-8", "replace")
        if len(octets) + len(raw) > _OCTETS_A_WORD:
            lines.append(octets)
            octets = b""
        octets += raw
    lines += [octets] if octets else []
    return "\r\n ".join(f"=?utf-8?b?{binascii.b2a_base64(line, newline=False).decode('ascii')}?=" for line in lines)
