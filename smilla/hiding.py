"""Which header fields show the Subject, and so must not stand outside where it is hidden (RFC 9788 section 3.4.1).

Three kinds, in this order:

- What mail needs stays, whatever it holds: addresses, dates, identifiers of threads, Received, Return-Path.  The RFC
  leaves them outside too.  Who writes the Subject into a display name shows it.
- Some names are made for it: any with "subject" in it, Thread-Topic, X-Amavis-Alert, Comments, Keywords, and a
  signature with copies of fields (``z=``, RFC 6376 section 3.5).  They go, whatever they hold.
- Any other field goes where its text has the Subject's words in a row.  Compared is what a person reads: encoded words,
  percent and quoted-printable decoded, case, punctuation and reply prefixes left out.  A Subject of less than four
  characters (two where they are not ASCII) is looked for as the whole of a field only, since "Hi" stands in many.
  Single words of a Subject are not looked for: they would take X-Mailer and the like with them.

Time is bounded: after 256 KiB of fields the others are not read any more, and go.
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import unquote_to_bytes

from smilla.model import Header

_NEEDED = re.compile(
    "(?:resent-)?(?:from|sender|reply-to|to|cc|bcc|date|message-id)|in-reply-to|references|mime-version|content-.*"
    "|received|return-path|delivered-to"
)
_MADE_FOR_IT = re.compile("comments|keywords|thread-topic|x-amavis-alert|.*subject.*")
_SIGNATURES = re.compile("(?:x-(?:google-)?)?dkim-signature|arc-message-signature")
_COPIES = re.compile(rb"(?:^|;)\s*z\s*=", re.IGNORECASE)
_PREFIXES = re.compile(r"(?:\s*(?:\w{1,5}(?:\[\d+\])?\s*[:\uff1a]|\[[^\]]*\]))+\s*")
_WORD = re.compile(rb"=\?([^?*\s]+)(?:\*[^?\s]*)?\?([bq])\?([^?]*)\?=(?:\s+(?==\?))?", re.IGNORECASE)
_CONTINUED = re.compile(rb"\"?\s*;\s*[\w-]+\*\d+\*?\s*=\s*\"?")
_TAG = re.compile(rb"(?:^|;)\s*[\w-]+\s*=(?!\r)")
_SOFT_BREAK = re.compile(rb"=\s+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{5,}={0,2}")
_ROUNDS = 3  # encodings in each other: quoted-printable of an encoded word
_MOST_READINGS = 24
_MOST_READ, _A_FIELD = 1 << 18, 200  # octets of all fields that are read, and what decoding one costs
_LONG = 8  # characters; what is shorter must be words of its own


def hidden(headers: Sequence[Header]) -> frozenset[int]:
    """The places of the fields that must not stand outside; ``headers`` hold the Subject too, or several of it."""
    subjects = {text for header in headers if header.name == "subject" for text in _subject(header)}
    left, found = _MOST_READ, set()
    for index, header in enumerate(headers):
        if not _NEEDED.fullmatch(header.name):
            left -= (_A_FIELD if b"=" in header.raw_value else 16) + len(header.raw_value) if subjects else 0
            if left < 0 or _shows(header, subjects):
                found.add(index)
    return frozenset(found)


def _shows(header: Header, subjects: Iterable[str]) -> bool:
    if _MADE_FOR_IT.fullmatch(header.name):
        return True
    if _SIGNATURES.fullmatch(header.name) and _COPIES.search(header.raw_value):
        return True
    texts = [_folded(text) for text in _readings(header.raw_value)] if subjects else []
    return any(_has(text, subject) for subject in subjects for text in texts)


def _has(text: str, subject: str) -> bool:
    if text in (subject, f"re {subject}"):
        return True
    joined = subject.replace(" ", "")
    if joined.isascii() and len(joined) < _LONG:
        return len(joined) >= 4 and f" {subject} " in f" {text} "
    return len(joined) >= 2 and joined in text.replace(" ", "")


def _subject(header: Header) -> set[str]:
    """The Subject with its prefixes and without; never empty texts."""
    whole = _readings(header.raw_value)
    bare = [_PREFIXES.sub("", text, count=1) if _PREFIXES.match(text) else text for text in whole]
    return {_folded(text) for text in (*whole, *bare)} - {""}


def _folded(text: str) -> str:
    """The words of a text, one space between them; a text without any word as it is, but for white space."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words = "".join(c if c.isalnum() else " " for c in text).split()
    return " ".join(words) if words else "".join(text.split())


# --- what a value may be read as --------------------------------------------------------------------------


def _readings(raw: bytes) -> tuple[str, ...]:
    """Everything that a person may be shown of a value, and the value itself; bounded."""
    known = dict.fromkeys([b" ".join(raw.split())])
    latest = list(known)
    for _ in range(_ROUNDS):
        latest = [found for value in latest for decode in _DECODERS if (found := decode(value)) not in known]
        known.update(dict.fromkeys(latest))
        if len(known) > _MOST_READINGS:
            break
    return tuple(dict.fromkeys(_text(value) for value in known))


def _text(raw: bytes, charset: str = "utf-8") -> str:
    try:
        return raw.decode(charset)
    except (UnicodeDecodeError, LookupError, ValueError):
        return raw.decode("latin-1")


def _of_words(raw: bytes) -> bytes:
    """RFC 2047, also where a word stands within another text.  What one character is may be split between words."""
    if b"=?" not in raw:
        return raw
    pieces: list[tuple[str, bytes]] = []
    position = 0
    for word in _WORD.finditer(raw):
        if word.start() > position:
            pieces.append(("utf-8", raw[position : word.start()]))
        charset, octets = word[1].decode("latin-1").lower(), _octets(word[2].lower(), word[3])
        if pieces and pieces[-1][0] == charset:
            pieces[-1] = (charset, pieces[-1][1] + octets)
        else:
            pieces.append((charset, octets))
        position = word.end()
    pieces.append(("utf-8", raw[position:]))
    return "".join(_text(octets, charset) for charset, octets in pieces).encode("utf-8", "replace")


def _octets(encoding: bytes, raw: bytes) -> bytes:
    if encoding == b"q":
        return quopri.decodestring(raw.replace(b"_", b" "))
    return _of_base64(raw)


def _of_base64(raw: bytes) -> bytes:
    squeezed = bytes(raw.translate(None, b" \t\r\n="))
    try:
        return base64.b64decode(squeezed + b"=" * (-len(squeezed) % 4))
    except (binascii.Error, ValueError):
        return raw


def _of_percent(raw: bytes) -> bytes:
    """RFC 3986, and RFC 2231 with its parts put together and its charset left in front."""
    if b"%" not in raw and b"*" not in raw:
        return raw
    return unquote_to_bytes(_CONTINUED.sub(b"", raw))


def _of_quoted_printable(raw: bytes) -> bytes:
    """RFC 6376 section 2.11: white space within it means nothing.  A tag name and its = are none of it."""
    if b"=" not in raw:
        return raw
    return quopri.decodestring(b"".join(_SOFT_BREAK.sub(b"", _TAG.sub(b";", raw)).split()))


def _of_tokens(raw: bytes) -> bytes:
    """A value that is Base64 as a whole."""
    squeezed = b"".join(raw.split())
    return _of_base64(squeezed) if _BASE64.fullmatch(squeezed) else raw


_DECODERS: tuple[Callable[[bytes], bytes], ...] = (_of_words, _of_percent, _of_quoted_printable, _of_tokens)
