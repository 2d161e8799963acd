"""How many of a person's words could a short text hold, of the kind that programs usually write?

Words are counted, not understood.  What programs write does not count: their names, the vocabulary of labels, version
numbers, dates, character sets, one key ID or hash.  Everything else counts, however it is joined or spelled: in
CamelCase, between digits, with digits for letters, as parts of an address, as a long number.  HTML entities and scripts
without blanks between words cannot be counted, and are treated as a letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

_MOST_SINGLE_LETTERS = 3  # more could spell a word
_MOST_SMALL_NUMBERS = 3  # of two digits; more could spell a number
_MOST_VERSIONS = 2
_MOST_VERSION_DIGITS = 13  # a card has 16
_MOST_ODD_TOKENS = 2  # in an identifier
_PIECE = 5  # characters for each piece of a random token, on average and at most
_MOST_RANDOM = 40  # characters of a random token
_VOWEL = re.compile("[aeiouy\u00c0-\u024f]", re.IGNORECASE)
_BETWEEN = re.compile(r"[\W_]+")
_RUN = re.compile(r"[^\W\d_]+")
_NOT_LATIN = re.compile("[^\0-\u024f]")
_ENTITY = re.compile(r"&#?\w{1,32};")
_HEX = re.compile(r"(?:0x)?(?=[0-9a-f]*[a-f])([0-9a-f]{8,64})", re.IGNORECASE)
_HEX_PIECE = re.compile(r"(?=[a-f]*[0-9])[0-9a-f]{4,64}", re.IGNORECASE)
_NUMBERED = re.compile(r"([^\W\d_]+)\d{1,3}")
_LINK = re.compile(r"(?:\b[a-z]{2,6}://|\bwww\.)(?:www\.)?([^\s/?#\"<>]*)", re.IGNORECASE)
_LAST_LABEL = re.compile(r"\.(?:[a-z]{2,3}|info|local|test|example|invalid)(?=$|[:>])", re.IGNORECASE)
_VERSION = re.compile(r"(?<![\w.])v?\d{1,5}(?:\.\d{1,5}){1,3}(?![\w.]*\w)|(?<![\w.])v\d{1,3}(?!\w)", re.IGNORECASE)
# Numbers that programs write: a build, a size, a mode, an old Mac's file type, a character set, a date.
_WRITTEN = re.compile(
    r"\bbuild \d{1,6}\b|\bsize=\d{1,10}\b|\bmode[=:] ?\"?0?\d{3}\b|\bx-mac-(?:type|creator)=\"?[0-9a-f]{8}\b"
    r"|\b(?:iso-8859-\d{1,2}|windows-125\d|iso-2022-[a-z]{2}|utf-8|us-ascii)\b"
    r"|\b(?:mon|tue|wed|thu|fri|sat|sun), \d{1,2} (?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec) \d{4} "
    r"\d\d:\d\d(?::\d\d)? (?:gmt|utc|[+-]\d{4})\b",
    re.IGNORECASE,
)
_TECHNICAL = """
    pgp mime openpgp gpg gnupg smime pgpmime version versions identification information encrypted encryption signed
    message messages mail email data part content body attachment inline file text html plain mixed control
    application octet stream name filename charset us ascii iso utf windows format flowed delsp size handling
    creation modification read date protocol boundary type mac mode unix asc dat bin txt eml msg enveloped armor
    armored armoured bit quoted printable mon tue wed thu fri sat sun jan feb mar apr may jun jul aug sep oct nov dec
    gmt utc en de fr es gb with using by for java library desktop build sha md net js os
    linux gnu darwin android ios mingw cygwin msys freebsd openbsd netbsd
    cryptography gateway microsoft outlook express exchange apple mozilla thunderbird enigmail mozdev mailvelope
    evolution kmail claws horde roundcube proton protonmail keybase flowcrypt cryptup gpgmail gpgtools macgpg bcpg
    bouncycastle openpgpjs openkeychain pgpfreeware didisoft gopenpgp pgpainless ipgmail firegpg sequoia netpgp rnp
    multipart alternative
"""
VOCABULARY = frozenset(_TECHNICAL.split())


def unusual_words(text: str) -> list[str] | None:
    """The words of ``text`` that no program writes, a long one several times; None if they cannot be counted.

    Percent-encoded words count too (RFC 2231 section 4).
    """
    plain = unquote(text)
    if _NOT_LATIN.search(plain) or _ENTITY.search(plain):
        return None
    plain = _WRITTEN.sub(" ", _LINK.sub(lambda link: f" {_LAST_LABEL.sub('', link[1])} ", plain))
    versions: list[str] = []
    plain = _VERSION.sub(lambda match: _version(match[0], versions), plain)
    words = versions[_MOST_VERSIONS:]
    letters: list[str] = []
    numbers: list[str] = []
    hashes: list[str] = []
    for token in _BETWEEN.split(plain):
        if token.isalpha():
            parts = list(_of_letters(token))
            words += (word for word in parts if len(word) > 1)
            letters += (word for word in parts if len(word) == 1)
        elif (token.isdigit() and len(token) <= 2) or _is_numbered(token):
            numbers.append(token)
        elif _HEX.fullmatch(token) and not hashes and not _is_hex_text(token):
            hashes.append(token)
        elif token:
            words += _of_digits(token)
    words += numbers[_MOST_SMALL_NUMBERS:]
    return words + letters if len(letters) > _MOST_SINGLE_LETTERS else words


def identifier_words(text: str) -> list[str]:
    """The words of a Content-ID or the like, which a program mostly makes up: numbers and hexadecimal do not count."""
    left, at, host = text.rpartition("@")
    words: list[str] = []
    odd: list[str] = []
    for token in _BETWEEN.split(f"{left}{at}{_LAST_LABEL.sub('', host) if at else host}"):
        parts: list[str] = []
        if token.isalpha():
            parts = [word for word in _of_letters(token) if len(word) > 1]
        elif token and not (token.isdigit() or _HEX_PIECE.fullmatch(token) or _is_numbered(token)):
            parts = [word for run in _RUN.findall(token) for word in _of_letters(run) if len(word) > 3]
            odd += [] if parts else [token]
        words += [token] if len(parts) > 1 and _is_random(token) else parts
    return words + odd[_MOST_ODD_TOKENS:]


def _is_random(token: str) -> bool:
    """Capitals in the midst cut it into many pieces that are short, and many of which nobody can speak: base64, or
    letters drawn by lot."""
    pieces = [piece for run in _RUN.findall(token) for piece in _pieces(run) if len(piece) > 1]
    mute = sum(not _VOWEL.search(piece) for piece in pieces)
    is_cut = len(pieces) >= 2 and token.lower() != token
    return is_cut and len(token) <= _MOST_RANDOM and len(pieces) <= 4 * mute and len(token) <= _PIECE * len(pieces)


def _version(text: str, versions: list[str]) -> str:
    if sum(c.isdigit() for c in text) > _MOST_VERSION_DIGITS:
        return text
    versions.append(text)
    return " "


def _of_letters(token: str) -> Iterator[str]:
    """The words in a run of letters, except the vocabulary; a very long one counts as several."""
    if token.lower() in VOCABULARY:
        return
    for word in _pieces(token):
        if word not in VOCABULARY:
            yield word
            yield from (f"{word}#{n}" for n in range(len(word) // 20))


def _pieces(token: str) -> list[str]:
    """The words of CamelCase, in lower case."""
    around = f" {token} "
    starts = [
        c.isupper() and (before.islower() or (before.isupper() and after.islower()))
        for before, c, after in zip(around, token, around[2:], strict=False)
    ]
    return "".join(f" {c}" if start else c for c, start in zip(token, starts, strict=True)).lower().split()


def _of_digits(token: str) -> list[str]:
    """How a number, or letters with digits between them, counts."""
    if token.isdigit():
        return [f"{token}#{n}" for n in range(-(-len(token) // 3))]
    parts = [word for run in _RUN.findall(token) for word in _of_letters(run) if len(word) > 2]
    return parts + [f"{token.lower()}#{n}" for n in range(len(parts), -(-len(token) // 8))]


def _is_numbered(token: str) -> bool:
    """A word of the vocabulary with a number: SHA256, net6."""
    match = _NUMBERED.fullmatch(token)
    return match is not None and match[1].lower() in VOCABULARY


def _is_hex_text(token: str) -> bool:
    digits = token[2:] if token[:2].lower() == "0x" else token
    return len(digits) % 2 == 0 and all(0x20 <= octet < 0x7F for octet in bytes.fromhex(digits))
