"""One part of a multipart: its header, judged by what a person could read in it, and its content.

A part's header is not encrypted, and readers show some of it (file names, descriptions).  Programs write labels there;
a letter is made of sentences.  Field names are endless, so whether a field is harmless depends on its content instead:
ASCII, of bounded length, with at most two words outside the technical vocabulary of such labels, and at most four such
words in the whole header.  The words of an unknown field name count too.  One word of a secret could still be there, as
in the Subject; a letter could not.  RFC 3156 section 4 mentions no field but Content-Type, and forbids none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, starmap

from smilla.errors import ParseError
from smilla.formats import mime, notices, words

MOST_HEADER_OCTETS = 4096
MOST_FIELD_OCTETS = 255
MOST_FIELDS_OCTETS = 1536
MOST_WORDS = 2
MOST_WORDS_TOGETHER = 4  # distinct words: a file's name is in two fields
_MOST_IN_IDENTIFIER = 3  # a domain has some
MOST_SMALL_OCTETS = 4096

_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
_NAME = re.compile(r"content-[a-z0-9-]{1,60}|mime-version|x-[a-z0-9_-]{1,60}")
_NAMES = re.compile(rb"^([!-9;-~]+)[ \t]*:", re.MULTILINE)
_USUAL = """
    mime-version content-type content-transfer-encoding content-disposition content-description content-id
    content-language content-location content-md5 content-base content-duration content-features content-length
    content-alternative content-class content-identifier content-return content-translation-type
    x-attachment-id x-mailer x-mimeole x-unix-mode x-content-pgp-universal-saved-content-type
    x-content-pgp-universal-saved-content-transfer-encoding x-content-pgp-universal-saved-content-disposition
"""
_KNOWN_NAMES = frozenset(_USUAL.split())
# One word without white space, made by a program (RFC 2045 section 7, RFC 1864).
_IDENTIFIERS = ("content-id", "content-md5", "x-attachment-id")
_IDENTIFIER = re.compile(rb"[!-~]*")
# An identifier, too; before it stands nothing that is quoted or a comment, so that no file's name looks like it.
_BOUNDARY = re.compile(
    r"(\s*multipart/[a-z]+(?:\s*;\s*[a-z-]+=[^\s;\"()]+)*)\s*;\s*boundary=(\"[!#-~]{1,70}\"|[^\s;\"()]{1,70})(?=\s*(?:;|\Z))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Part:
    """A part with a proper header; ``blocks`` are the octets of its content, still transfer-encoded."""

    kind: mime.ContentType
    encoding: str
    blocks: Iterator[bytes]

    def small(self) -> bytes | None:
        """The decoded content, None if it is longer than a control part or an empty text.  Raises ParseError."""
        raw = b""
        for block in self.blocks:
            raw += block
            if len(raw) > MOST_SMALL_OCTETS:
                return None
        return b"".join(mime.decoded([raw], self.encoding))


def read_part(octets: Iterator[bytes]) -> Part:
    """The part that begins with the line end of its delimiter.  Raises ParseError, with the reason, if its header is
    missing or malformed, could hold a letter, or may be read differently by two readers."""
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
    for raw_name in _NAMES.findall(raw):
        if len(name_words(raw_name.decode("ascii"))) > MOST_WORDS:
            raise ParseError("has a header field whose name could hold words of a person")
    for name, value in fields.items():
        if problem := _problem(name, value):
            raise ParseError(problem)
    names = (name_words(name.decode("ascii")) for name in _NAMES.findall(raw))
    if len(set().union(*starmap(_words, fields.items()), *names)) > MOST_WORDS_TOGETHER:
        raise ParseError("has header fields that could hold words of a person, taken together")
    return fields


def _problem(name: str, value: bytes) -> str:
    """Why a field is not harmless; never its content."""
    if not _NAME.fullmatch(name):
        return "has a header field that belongs to no part"
    if len(value) > MOST_FIELD_OCTETS:
        return f"has a header field of more than {MOST_FIELD_OCTETS} octets"
    return "" if _is_harmless(name, value) else "has a header field that could hold words of a person"


def _is_harmless(name: str, value: bytes) -> bool:
    if notices.are_notices(value):
        return True
    if not value.isascii() or b"=?" in value:
        return False
    if _is_identifier(name, value):
        return len(_words(name, value)) <= _MOST_IN_IDENTIFIER
    text = value.decode("ascii")
    return len(_boundary_words(name, text)) <= _MOST_IN_IDENTIFIER and is_label(_without_boundary(name, text))


def _is_identifier(name: str, value: bytes) -> bool:
    return name in _IDENTIFIERS and _IDENTIFIER.fullmatch(value.strip()) is not None


def _words(name: str, value: bytes) -> list[str]:
    """The words that a harmless field's value adds to the header's count."""
    if notices.are_notices(value):
        return []
    text = value.decode("ascii")
    if _is_identifier(name, value):
        return words.identifier_words(text)
    return (words.unusual_words(_without_boundary(name, text)) or []) + _boundary_words(name, text)


def _without_boundary(name: str, text: str) -> str:
    found = _BOUNDARY.match(text) if name == "content-type" else None
    return f"{found[1]}{text[found.end() :]}" if found else text


def _boundary_words(name: str, text: str) -> list[str]:
    found = _BOUNDARY.match(text) if name == "content-type" else None
    return words.identifier_words(found[2]) if found else []


def name_words(name: str) -> list[str]:
    """The words of a field's name as written, unless the name is a known one."""
    return [] if name.lower() in _KNOWN_NAMES else words.unusual_words(name.replace("_", "-")) or []


def is_label(text: str) -> bool:
    """Whether ``text`` (a header field's value) is a label: at most two words outside the technical vocabulary."""
    unusual = words.unusual_words(text)
    return unusual is not None and len(unusual) <= MOST_WORDS


_TAG = re.compile(
    r"<!doctype html>|</?(?:html|head|body|div|span|p|br|title)(?:\s{1,9}dir=\"?(?:ltr|rtl)\"?)?\s{0,9}/?>|&nbsp;|"
    # Outlook on the web: a paragraph has no margins
    r"<style(?:\s{1,9}type=\"text/css\")?(?:\s{1,9}style=\"display: ?none;?\")?>\s{0,9}(?:<!--)?\s{0,9}p\s{0,9}"
    r"\{\s{0,9}margin-top: ?0;\s{0,9}margin-bottom: ?0;?\s{0,9}\}\s{0,9}(?:-->)?\s{0,9}</style>|"
    r"<meta http-equiv=\"?content-type\"? content=\"text/html; charset=[a-z0-9-]{1,20}\"\s{0,9}/?>"
)


def is_empty_text(content: bytes) -> bool:
    """Whether a text shows nothing: only white space, and HTML tags without visible attributes.  Proton's Bridge says
    in words that it is empty."""
    text = content.decode("ascii", "replace").lower()
    return _TAG.sub("", text).strip(" \t\r\n") in ("", "empty message")


def is_control(content: bytes) -> bool:
    """Whether a part says "Version: 1" and nothing else (RFC 3156 section 4)."""
    return bool(re.fullmatch(rb"\s*version\s*:\s*1\s*", content, re.IGNORECASE))
