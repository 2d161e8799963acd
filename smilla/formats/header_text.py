"""The text of header fields: comments, quoted strings (RFC 5322 section 3.2) and encoded words (RFC 2047).

Promises: nothing is raised, whatever octets a field has; every reading is bounded by the length of its field.

We read encoded words in three ways, since programs differ in how they read malformed ones:

- ``decoded`` follows the RFC: a word that cannot be decoded is plain text (section 6.3).
- ``readings`` is everything that some program may show.  What others do: they accept spaces and question marks in a
  word, a missing end or padding, an unknown character set.  What we do: all of these, one reading after the other.
- ``decoded_anywhere`` decodes a word inside other text too, whatever its octets: it looks for hidden text.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import itertools
import quopri
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from smilla.address import end_of_comment

_WORD = r"=\?[!->@-~]+\?[bBqQ]\?[ !->@-~]*\?="
_ENCODED_WORD = re.compile(_WORD)
_ENCODED_WORDS = re.compile(rf"({_WORD}(?:\s*{_WORD})*)")
_NO_CHARSETS = ("idna", "punycode", "unicode_escape", "raw_unicode_escape")  # Python codecs that are slow or noisy
_LOOSE_WORD = r"=\?([^?]{0,60})\?([bBqQ])\?(.*?)(?:%s|(?==\?[^?\s]{1,60}\?[bBqQ]\?)|\Z)"
_BETWEEN = re.compile(r"(?<=\?=)\s+(?==\?[^?]{0,60}\?[bBqQ]\?)")
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")
_ASCII = bytes(range(0x20, 0x7F))
_LOOSE_WORDS = (
    re.compile(_LOOSE_WORD % r"\?=", re.DOTALL),
    re.compile(_LOOSE_WORD % r"\?=(?![0-9A-Fa-f]{2})", re.DOTALL),  # a question mark before =XX is text
)
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u180e"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_OTHER_NAMES = (
    (r"(?:x-)?(?:windows|cp|ibm|dos)[-_]?(?=\d)", "cp"),
    (r"cp31j", "cp932"),
    (r"(iso-8859-\d+)-[ie]", r"\1"),
    (r"x-", ""),
)
# An unknown character set may be one of these, besides those that include ASCII.
_NOT_LIKE_ASCII = ("utf_16_be", "utf_16_le", "utf_32_be", "utf_32_le", "utf_7", "cp037", "cp500")
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_OCTETS_A_WORD = 39  # 52 characters of Base64 and 12 around them, after "Subject: "
_WORD_ANYWHERE = re.compile(rb"=\?([^?*\s]+)(?:\*[^?\s]*)?\?([bq])\?([^?]*)\?=(?:\s+(?==\?))?", re.IGNORECASE)
_CHARACTERS = re.compile(rb"[\0-\x7f\xc0-\xff]?[\x80-\xbf]*", re.DOTALL)
_PIECE = re.compile(r'(?:\\.|[^\\()"])+|.', re.DOTALL)


# --- comments and quoted strings ---------------------------------------------------------------------------


def without_comments(raw_value: bytes, *, quoted: bool) -> bytes:
    """The value without its comments, which nest (RFC 5322 section 3.2.2); an unclosed one takes the rest.

    ``quoted``: the field may have quoted strings, in which a parenthesis is text; a stray closing parenthesis is left
    for the field's grammar to reject.  Otherwise a quotation mark is text, and a stray closing parenthesis is dropped.
    """
    if quoted and b"(" not in raw_value:
        return raw_value
    text, outside, position, in_quotes = raw_value.decode("latin-1"), [], 0, False
    while piece := _PIECE.match(text, position):
        position = piece.end()
        if piece[0] == "(" and not in_quotes:
            position = end_of_comment(text, piece.start())
            continue
        in_quotes ^= quoted and piece[0] == '"'
        if quoted or piece[0] != ")":
            outside.append(piece[0])
    return "".join(outside).encode("latin-1")


def unquoted(raw: bytes) -> bytes:
    """The content of a quoted string (RFC 5322 section 3.2.4); anything else unchanged."""
    if not raw.startswith(b'"'):
        return raw
    return re.sub(rb"\\(.)", rb"\1", raw[1:-1], flags=re.DOTALL)


# --- encoded words -----------------------------------------------------------------------------------------


def unfolded(text: str) -> str:
    """The text on one line."""
    return _FOLD.sub("", text)


def encoded(raw: bytes) -> bytes:
    """Encoded words in Base64, one on each line, each with whole characters; octets that are not UTF-8 become
    unknown-8bit (RFC 1428)."""
    try:
        raw.decode("utf-8")
        charset = b"utf-8"
    except UnicodeDecodeError:
        charset = b"unknown-8bit"
    words: list[bytes] = []
    for character in _CHARACTERS.findall(raw):
        for start in range(0, len(character), _OCTETS_A_WORD):
            piece = character[start : start + _OCTETS_A_WORD]
            if not words or len(words[-1]) + len(piece) > _OCTETS_A_WORD:
                words.append(b"")
            words[-1] += piece
    texts = (binascii.b2a_base64(word, newline=False) for word in words)
    return b"\r\n ".join(b"=?" + charset + b"?b?" + text + b"?=" for text in texts)


def readings(raw_value: bytes) -> Iterator[str]:
    """Everything that a reader may show, the RFC's reading first."""
    text = unfolded(raw_value.decode("utf-8", "replace"))
    yield (strict := decoded(text))
    if _INVISIBLE.search(strict):
        yield _INVISIBLE.sub("", strict)
    texts = [text]
    if b"\n" in raw_value:
        texts.append(re.sub(r"\r?\n[ \t]+", "", raw_value.decode("utf-8", "replace")))
    if not raw_value.isascii():
        texts.append(unfolded(raw_value.decode("latin-1")))
    if "=?" not in texts[0]:
        yield from (unicodedata.normalize("NFC", _INVISIBLE.sub("", other)) for other in texts[1:])
        return
    for other, grammar in itertools.product(texts, _LOOSE_WORDS):
        yield from _loose_readings(_BETWEEN.sub("", other), grammar)


def _loose_readings(text: str, grammar: re.Pattern[str]) -> Iterator[str]:
    """By one grammar of encoded words; words with uncertain characters are decoded by one codec after the other."""
    pieces: list[str | bytes] = []
    codecs_named, position = [], 0
    for match in grammar.finditer(text):
        name, raw = _codec(match[1]), _octets(match[2], match[3])
        pieces += [text[position : match.start()], _certain(raw, name) or raw]
        codecs_named += [name] if name else []
        position = match.end()
    pieces.append(text[position:])
    unsure = any(isinstance(piece, bytes) for piece in pieces)
    for codec in dict.fromkeys(("latin-1", *codecs_named, *_NOT_LIKE_ASCII)) if unsure else ("latin-1",):
        shown = "".join(p if isinstance(p, str) else p.decode(codec, "replace") for p in pieces)
        yield unicodedata.normalize("NFC", _INVISIBLE.sub("", shown))


def _octets(encoding: str, payload: str) -> bytes:
    """The octets of an encoded word, whatever is wrong with it."""
    if encoding in "qQ":
        raw = payload.replace("_", " ").encode("utf-8", "replace")
        return _HEX.sub(lambda match: bytes.fromhex(match[1].decode("ascii")), raw)
    letters = _NOT_BASE64.sub("", payload)
    letters = letters[: len(letters) - (len(letters) % 4 == 1)]
    return binascii.a2b_base64(letters + "=" * (-len(letters) % 4))


def _certain(raw: bytes, codec: str) -> str:
    """The characters that all programs see in these octets, "" if they may differ: the character set is unknown, does
    not extend ASCII, or does not fit."""
    try:
        return raw.decode(codec) if codec and _ASCII.decode(codec) == _ASCII.decode("ascii") else ""
    except (UnicodeError, ValueError):
        return ""


@lru_cache(maxsize=256)
def _codec(charset: str) -> str:
    """Python's name for a character set, "" if it has none."""
    name = charset.strip().partition("*")[0].lower()
    for pattern, known_as in (("", ""), *_OTHER_NAMES):
        try:
            found = codecs.lookup(re.sub(rf"^{pattern}", known_as, name)).name
            b"a".decode(found, "replace")  # LookupError for non-text codecs, such as rot13
        except (LookupError, ValueError):
            continue
        return "" if found.replace("-", "_") in _NO_CHARSETS else found
    return ""


def decoded(text: str) -> str:
    """What a reader would see."""
    parts = _ENCODED_WORDS.split(text)
    return unicodedata.normalize("NFC", "".join(_decoded_run(p) if i % 2 else p for i, p in enumerate(parts)))


def _decoded_run(run: str) -> str:
    """Adjacent encoded words: we drop the space between them (RFC 2047 section 6.2), and a character may be split
    between two."""
    words = _ENCODED_WORD.findall(run)
    try:
        return "".join(_texts(words))
    except (LookupError, ValueError):
        return " ".join(map(_decoded_run, words)) if len(words) > 1 else run


def _texts(words: list[str]) -> Iterator[str]:
    """Joins words of one character set.  Raises ValueError or LookupError if one cannot be decoded."""
    parsed = (word[2:-2].split("?", 2) for word in words)
    for charset, group in itertools.groupby(parsed, key=lambda parts: parts[0].lower()):
        raw = b"".join(_strict_octets(encoding, payload) for _, encoding, payload in group)
        if not (codec := _codec(charset)):
            raise LookupError(charset)
        yield raw.decode(codec, "replace")


def _strict_octets(encoding: str, payload: str) -> bytes:
    """Like email.header: missing padding is tolerated, text that is not Base64 is not.  Raises ValueError."""
    if encoding in "qQ":
        return _octets(encoding, payload)
    return binascii.a2b_base64(payload + "=" * (-len(payload) % 4))


# --- words anywhere ----------------------------------------------------------------------------------------


def text_of(raw: bytes, charset: str = "utf-8") -> str:
    """The characters of these octets; read as Latin-1 if that fails, or if the character set is unknown."""
    try:
        return raw.decode(charset)
    except (UnicodeDecodeError, LookupError, ValueError):
        return raw.decode("latin-1")


def decoded_anywhere(raw: bytes) -> bytes:
    """RFC 2047, even if a word is inside other text.  A character may be split between words."""
    if b"=?" not in raw:
        return raw
    pieces: list[tuple[str, bytes]] = []
    position = 0
    for word in _WORD_ANYWHERE.finditer(raw):
        if word.start() > position:
            pieces.append(("utf-8", raw[position : word.start()]))
        charset, octets = word[1].decode("latin-1").lower(), _octets_anywhere(word[2].lower(), word[3])
        if pieces and pieces[-1][0] == charset:
            pieces[-1] = (charset, pieces[-1][1] + octets)
        else:
            pieces.append((charset, octets))
        position = word.end()
    pieces.append(("utf-8", raw[position:]))
    return "".join(text_of(octets, charset) for charset, octets in pieces).encode("utf-8", "replace")


def _octets_anywhere(encoding: bytes, raw: bytes) -> bytes:
    if encoding == b"q":
        return quopri.decodestring(raw.replace(b"_", b" "))
    return base64_of(raw)


def base64_of(raw: bytes) -> bytes:
    """The octets of Base64 in either alphabet (RFC 4648), ignoring white space and padding; text that is not Base64 is
    unchanged."""
    squeezed = bytes(raw.translate(None, b" \t\r\n=")).replace(b"-", b"+").replace(b"_", b"/")
    try:
        return base64.b64decode(squeezed + b"=" * (-len(squeezed) % 4))
    except (binascii.Error, ValueError):
        return raw
