"""The sender's wish: a word in the Subject, or a header field, by which a message asks to go encrypted or not at all.

Promises: whatever octets the fields have, nothing is raised; what ``without`` adds is ASCII, in lines that no relay has
to fold.  The word is looked for in what a reader would see, that is after RFC 2047 is undone: part of a word in Base64
is no wish.  It may be written in full width, or in another style (NFKC), and with blanks inside its brackets.

Programs read what is malformed in their own ways, and what one of them may show is a wish: nobody guesses towards
plaintext here.  What the RFC says: an encoded word that cannot be decoded is text as it stands (section 6.3).  What
others do: they take spaces and question marks in it, a missing end or padding, a character set that they do not know.
What we do: all of that, one reading after the other (``_readings``).
"""

from __future__ import annotations

import binascii
import codecs
import itertools
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from smilla.config.options import PolicyOptions
from smilla.model import Header, HeaderEdits, Message

_WORD = r"=\?[!->@-~]+\?[bBqQ]\?[ !->@-~]*\?="
_ENCODED_WORD = re.compile(_WORD)
_ENCODED_WORDS = re.compile(rf"({_WORD}(?:\s*{_WORD})*)")
_NO_CHARSETS = ("idna", "punycode", "unicode_escape", "raw_unicode_escape")  # slow or noisy codecs of Python's
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_BLANK_LINES = re.compile(r"(?:\r\n[ \t]+)+(?=\r\n|\Z)")
_PLAIN = re.compile(r"(?:[ -~\t]|\r\n[ \t])*\Z")
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_OCTETS_A_WORD = 39  # 52 characters of Base64 and 12 around them, after "Subject: "
_LOOSE_WORD = r"=\?([^?]{0,60})\?([bBqQ])\?(.*?)(?:%s|(?==\?[^?\s]{1,60}\?[bBqQ]\?)|\Z)"
_LOOSE_WORDS = (
    re.compile(_LOOSE_WORD % r"\?=", re.DOTALL),
    re.compile(_LOOSE_WORD % r"\?=(?![0-9A-Fa-f]{2})", re.DOTALL),  # a question mark before =XX is text
)
_BETWEEN = re.compile(r"(?<=\?=)\s+(?==\?[^?]{0,60}\?[bBqQ]\?)")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u180e"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")
# What a character set that Python does not know may be, besides one that ASCII is part of.
_NOT_LIKE_ASCII = ("utf_16_be", "utf_16_le", "utf_32_be", "utf_32_le", "utf_7", "cp037", "cp500")
_OTHER_NAMES = (
    (r"(?:x-)?(?:windows|cp|ibm|dos)[-_]?(?=\d)", "cp"),
    (r"cp31j", "cp932"),
    (r"(iso-8859-\d+)-[ie]", r"\1"),
    (r"x-", ""),
)
_BLOCKS = ((0xA0, 0x3400), (0xF900, 0x10000), (0x1D400, 0x1D800), (0x1F100, 0x1F200))  # with compatibility characters
_OPENING, _CLOSING = "[{(<", "]})>"
_MOST_CUTS = 4
_ASCII = bytes(range(0x20, 0x7F))
_NO = ("no", "false", "0")


def is_configured(options: PolicyOptions) -> bool:
    """Is there any way of asking?"""
    return bool(options.wish_header or options.wish_subject.strip())


def found(message: Message, options: PolicyOptions) -> bool:
    """Does the sender ask for encryption?"""
    return is_configured(options) and any(
        _is_said_in_subject(h, options) or _is_said_in_field(h, options) for h in message.headers
    )


def without(message: Message, options: PolicyOptions) -> HeaderEdits:
    """What takes the wish out of the message."""
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
    return _reading_that_says(header.raw_value, _pattern(options.wish_subject)) is not None


def _reading_that_says(raw_value: bytes, pattern: str) -> str | None:
    """The first reading with the word in it."""
    said = re.compile(pattern, re.IGNORECASE)
    return next((text for text in _readings(raw_value) if said.search(text)), None)


@lru_cache(maxsize=64)
def _pattern(word: str) -> str:
    """The word as a regular expression, in whatever width and style its characters are written; a space in it may be
    any number of them, or a fold, and within brackets there may be some."""
    return r"\s+".join(map(_part, unicodedata.normalize("NFC", word).split()))


def _part(part: str) -> str:
    found = []
    for character in part:
        one = _like(character)
        found.append(rf"\s*{one}" if character in _CLOSING else rf"{one}\s*" if character in _OPENING else one)
    return "".join(found)


def _like(character: str) -> str:
    """The character, and those of which NFKC makes it."""
    same = _compatible().get(unicodedata.normalize("NFKC", character).lower(), "")
    return f"[{re.escape(character + same)}]" if same else re.escape(character)


@lru_cache(maxsize=1)
def _compatible() -> dict[str, str]:
    """The characters that Unicode has for the sake of other widths and styles, by what they stand for."""
    found: dict[str, str] = {}
    for number in itertools.chain.from_iterable(itertools.starmap(range, _BLOCKS)):
        plain = unicodedata.normalize("NFKC", chr(number)).lower()
        if len(plain) == 1 and plain != chr(number).lower():
            found[plain] = found.get(plain, "") + chr(number)
    return found


def _cut_out(raw_value: bytes, word: str) -> str:
    """The value without the word: the octets as they came where that is possible, else encoded anew.  What is left may
    say the word again, to another reader."""
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


# --- what readers make of it -------------------------------------------------------------------------------


def _readings(raw_value: bytes) -> Iterator[str]:
    """What a reader may show, what the RFC says first."""
    yield (strict := _decoded(_unfolded(raw_value)))
    if _INVISIBLE.search(strict):
        yield _INVISIBLE.sub("", strict)
    texts = [_unfolded(raw_value)]
    if b"\n" in raw_value:
        texts.append(re.sub(r"\r?\n[ \t]+", "", raw_value.decode("utf-8", "replace")))
    if not raw_value.isascii():
        texts.append(_FOLD.sub("", raw_value.decode("latin-1")))
    if "=?" not in texts[0]:
        yield from (unicodedata.normalize("NFC", _INVISIBLE.sub("", text)) for text in texts[1:])
        return
    for text, grammar in itertools.product(texts, _LOOSE_WORDS):
        yield from _loose_readings(_BETWEEN.sub("", text), grammar)


def _loose_readings(text: str, grammar: re.Pattern[str]) -> Iterator[str]:
    """By one grammar of encoded words; those whose characters are not certain by one codec after the other."""
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
    """The characters that all programs see in these octets, "" where that is not certain: the character set is not
    known, is no extension of ASCII, or does not fit."""
    try:
        return raw.decode(codec) if codec and _ASCII.decode(codec) == _ASCII.decode("ascii") else ""
    except (UnicodeError, ValueError):
        return ""


@lru_cache(maxsize=256)
def _codec(charset: str) -> str:
    """Python's name for a character set, "" where it has none."""
    name = charset.strip().partition("*")[0].lower()
    for pattern, known_as in (("", ""), *_OTHER_NAMES):
        try:
            found = codecs.lookup(re.sub(rf"^{pattern}", known_as, name)).name
            b"a".decode(found, "replace")  # LookupError for what is no text, such as rot13
        except (LookupError, ValueError):
            continue
        return "" if found.replace("-", "_") in _NO_CHARSETS else found
    return ""


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
    except (LookupError, ValueError):
        return " ".join(map(_decoded_run, words)) if len(words) > 1 else run


def _texts(words: list[str]) -> Iterator[str]:
    """Words of one character set together.  Raises ValueError or LookupError where one cannot be decoded."""
    parsed = (word[2:-2].split("?", 2) for word in words)
    for charset, group in itertools.groupby(parsed, key=lambda parts: parts[0].lower()):
        raw = b"".join(_strict_octets(encoding, payload) for _, encoding, payload in group)
        if not (codec := _codec(charset)):
            raise LookupError(charset)
        yield raw.decode(codec, "replace")


def _strict_octets(encoding: str, payload: str) -> bytes:
    """As email.header has it: a missing padding is borne, what is no Base64 at all is not.  Raises ValueError."""
    if encoding in "qQ":
        return _octets(encoding, payload)
    return binascii.a2b_base64(payload + "=" * (-len(payload) % 4))


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
