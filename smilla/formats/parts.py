"""One part of a multipart: its header, judged by what a person could read in it, and its content.

A part's header is not encrypted, and readers show some of it (file names, descriptions).  Programs write labels there,
a letter is a sentence.  So what is harmless does not hang on the field's name, of which there is no end, but on what
it holds: ASCII, of bounded length, with two words at most that are not the technical vocabulary of such labels, and six
such words in the whole header.  One word of a secret could still stand there, as it could in the Subject; a letter
could not.
RFC 3156 section 4 names no other fields than Content-Type, and forbids none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, starmap
from urllib.parse import unquote

from smilla.errors import ParseError
from smilla.formats import mime, notices

MOST_HEADER_OCTETS = 4096
MOST_FIELD_OCTETS = 255
MOST_FIELDS_OCTETS = 1536
MOST_WORDS = 2
MOST_WORDS_TOGETHER = 6  # different ones: a file's name stands in two fields
MOST_SINGLE_LETTERS = 3  # more of them spell a word
MOST_SMALL_OCTETS = 4096

_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
_NAME = re.compile(r"content-[a-z0-9-]{1,60}|mime-version|x-[a-z0-9_-]{1,60}")
# One word without white space, which no reader shows as text (RFC 2045 section 7, RFC 1864, RFC 2557 section 4.2).
_IDENTIFIERS = ("content-id", "content-md5", "content-location", "content-base")
_IDENTIFIER = re.compile(rb"[!-~]*")
_WORD = re.compile(r"[^\W\d_]{2,}")
_BETWEEN = re.compile(r"[\W_]+")
_NOT_LATIN = re.compile("[^\0-\u024f]")  # scripts without blanks between words could not be counted
# The technical words of such labels, names of programs, and the words of dates: with these alone nothing can be told.
_TECHNICAL = """
    pgp mime openpgp gpg gnupg smime pgpmime version versions identification information encrypted encryption signed
    message messages mail email data part content body attachment inline file text html plain mixed control
    application octet stream name filename charset us ascii iso utf windows format flowed delsp size handling
    creation modification read date protocol boundary type mac mode unix asc dat bin txt eml msg enveloped armor
    armored armoured bit quoted printable mon tue wed thu fri sat sun jan feb mar apr may jun jul aug sep oct nov dec
    gmt utc en de fr es gb with using by for gpgmail enigmail mailvelope thunderbird microsoft outlook express exchange
    apple evolution kmail claws horde roundcube proton protonmail gateway keybase flowcrypt
    linux darwin android ios build desktop library java cryptography
"""
_VOCABULARY = frozenset(_TECHNICAL.split())


@dataclass(frozen=True, slots=True)
class Part:
    """A part with a proper header; ``blocks`` are the octets of its content, still in its transfer encoding."""

    kind: mime.ContentType
    encoding: str
    blocks: Iterator[bytes]

    def small(self) -> bytes | None:
        """The content decoded, None where it is longer than a control part or an empty text is.  Raises ParseError."""
        raw = b""
        for block in self.blocks:
            raw += block
            if len(raw) > MOST_SMALL_OCTETS:
                return None
        return b"".join(mime.decoded([raw], self.encoding))


def read_part(octets: Iterator[bytes]) -> Part:
    """The part that begins with the line end of its delimiter.  Raises ParseError, with the reason, where its header
    is missing or malformed, or where two readers may differ about it, or where it could hold a letter."""
    head = b""
    for block in octets:
        head += block
        if len(head) > MOST_HEADER_OCTETS or _END_OF_HEADER.search(head, 2):
            break
    inner = head.removeprefix(b"\r").removeprefix(b"\n")
    end = _END_OF_HEADER.search(inner)
    if end is None or end.end() > MOST_HEADER_OCTETS:
        long = len(head) > MOST_HEADER_OCTETS
        raise ParseError("has a header that is too long" if long else "has no empty line after its header")
    fields = _fields(inner[: end.start()])
    if "content-type" not in fields:
        raise ParseError("has no Content-Type")
    kind = mime.content_type(fields["content-type"])
    if kind is None:
        raise ParseError("has a malformed Content-Type")
    encoding = mime.transfer_encoding(fields.get("content-transfer-encoding", b""))
    return Part(kind, encoding, chain([inner[end.end() :]], octets))


def _fields(raw: bytes) -> dict[str, bytes]:
    if not raw or raw.startswith((b"\r\n", b"\n")):
        raise ParseError("has no header")
    if any(not line.strip() for line in raw.split(b"\n")):
        raise ParseError("has a line of white space in its header, where some readers end it")
    fields = mime.part_headers(raw)
    if fields is None:
        raise ParseError("has a header with a malformed line or a field twice")
    if sum(map(len, fields.values())) > MOST_FIELDS_OCTETS:
        raise ParseError("has header fields that are too long together")
    for name, value in fields.items():
        if problem := _problem(name, value):
            raise ParseError(problem)
    if len(set().union(*starmap(_words, fields.items()))) > MOST_WORDS_TOGETHER:
        raise ParseError("has header fields that could hold words of a person, taken together")
    return fields


def _problem(name: str, value: bytes) -> str:
    """Why a field is not harmless; never what it holds."""
    if not _NAME.fullmatch(name):
        return "has a header field that belongs to no part"
    if len(value) > MOST_FIELD_OCTETS:
        return f"has a header field of more than {MOST_FIELD_OCTETS} octets"
    return "" if _is_harmless(name, value) else "has a header field that could hold words of a person"


def _is_harmless(name: str, value: bytes) -> bool:
    if _says_nothing(name, value):
        return True
    return value.isascii() and b"=?" not in value and is_label(value.decode("ascii"))


def _says_nothing(name: str, value: bytes) -> bool:
    return (name in _IDENTIFIERS and bool(_IDENTIFIER.fullmatch(value.strip()))) or notices.are_notices(value)


def _words(name: str, value: bytes) -> list[str]:
    """What a harmless field adds to the words of the header."""
    return [] if _says_nothing(name, value) else unusual_words(value.decode("ascii")) or []


def is_label(text: str) -> bool:
    """Whether ``text`` (a header field's value) is a label: two words at most that are not technical vocabulary."""
    words = unusual_words(text)
    return words is not None and len(words) <= MOST_WORDS


def unusual_words(text: str) -> list[str] | None:
    """The words that are not technical vocabulary; None where they cannot be counted.

    A word is two letters or more between anything else; one with a digit in it is an identifier, and single letters
    are words where there are many.  Words inside percent encoding count, too (RFC 2231 section 4).
    """
    plain = unquote(text)
    if _NOT_LATIN.search(plain):
        return None
    pieces = _BETWEEN.split(plain.lower())
    letters = [piece for piece in pieces if len(piece) == 1 and piece.isalpha()]
    words = [piece for piece in pieces if _WORD.fullmatch(piece) and piece not in _VOCABULARY]
    return words + letters if len(letters) > MOST_SINGLE_LETTERS else words


_TAG = re.compile(
    r"<!doctype html>|</?(?:html|head|body|div|span|p|br|title)\s{0,9}/?>|&nbsp;|"
    r"<meta http-equiv=\"?content-type\"? content=\"text/html; charset=[a-z0-9-]{1,20}\"\s{0,9}/?>"
)


def is_empty_text(content: bytes) -> bool:
    """Whether a text shows nothing: white space, and tags of HTML without any attribute that a reader shows."""
    text = content.decode("ascii", "replace").lower()
    return not _TAG.sub("", text).strip(" \t\r\n")


def is_control(content: bytes) -> bool:
    """Whether a part says "Version: 1" and nothing else (RFC 3156 section 4)."""
    return bool(re.fullmatch(rb"\s*version\s*:\s*1\s*", content, re.IGNORECASE))
