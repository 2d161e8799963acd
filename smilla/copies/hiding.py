"""Which header fields show the Subject, and so must not stay outside when it is hidden (RFC 9788 section 3.4.1).

Three kinds, in this order:

- Fields that mail needs stay, whatever they hold: addresses, dates, thread identifiers, Received, Return-Path.  The RFC
  leaves them outside too.  A sender who writes the Subject into a display name shows it.
- Fields made for the Subject go, whatever they hold: any with "subject" in its name, Thread-Topic, X-Amavis-Alert,
  Comments, Keywords, and a signature with copies of fields (``z=``, RFC 6376 section 3.5).
- Any other field goes if its text contains the Subject's words in a row, or is itself a piece of the Subject, of at
  least two words and eight characters.  We compare what a person reads: with every encoding that a program may have
  used undone (``shown``), and without case, punctuation and prefixes.  We also drop what a filter or a program adds at
  either end: ``***SPAM***``, ``[external]``, ``Accepted:``.  A Subject of less than four characters (two if they are
  not ASCII) must be the whole field, since "Hi" stands in many.  We don't look for single words of a Subject: that
  would remove X-Mailer and the like.

Time is bounded: after 256 KiB of fields, or if a Subject can be read in too many ways, the remaining fields are not
read, and go.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from smilla.formats import shown
from smilla.model import Header

_NEEDED = re.compile(
    "(?:resent-)?(?:from|sender|reply-to|to|cc|bcc|date|message-id)|in-reply-to|references|mime-version|content-.*"
    "|received|return-path|delivered-to"
)
_MADE_FOR_IT = re.compile("comments|keywords|thread-topic|x-amavis-alert|.*subject.*")
_SIGNATURES = re.compile("(?:x-(?:google-)?)?dkim-signature|arc-message-signature")
_COPIES = re.compile(rb"(?:^|;)\s*z\s*=", re.IGNORECASE)
_PREFIXES = re.compile(r"(?:\s*(?:\w{1,5}(?:\[\d+\])?\s*[:\uff1a]|\[[^\]]*\]))+\s*")
# Programs and filters add a tag in brackets or stars, or a few words and a colon (Fw(1):, Re^2:).
_TAG = r"\*{1,5}[^*]{1,40}\*{1,5}|\[[^\]]{0,60}\]|\{[^}]{0,60}\}|\([^)]{0,60}\)|<[^>]{0,60}>"
_BEFORE = re.compile(rf"\s*(?:[^\W\d_][\w .-]{{0,30}}?(?:[\[(^]\d{{1,3}}[\])]?)?\s*[:\uff1a]|{_TAG})\s*(?=\S)")
_AFTER = re.compile(rf"(?<=\S)\s*(?:{_TAG})\s*\Z")
_WAS = re.compile(r"[\[(]\s*\w{1,10}\s*:\s*([^\])]{1,900})[\])]\s*\Z")
_MOST_ADDED, _LONGEST_TAG = 6, 80
_MOST_READ, _A_FIELD = 1 << 18, 200  # octets read of all fields together, and the cost of decoding one
_LONG = 8  # characters; shorter text must be whole words
_MOST_SOUGHT, _LONGEST_SUBJECT = 200, 4000  # ways of showing a Subject; octets of it that we look for
_MOST_COMPARED = 100_000  # readings of fields times ways of showing the Subject
_ENCODED = re.compile(rb"[=&%+\\\x80-\xff]")


def hidden(headers: Sequence[Header]) -> frozenset[int]:
    """The places of the fields that must not stay outside; ``headers`` include the Subject, or several."""
    raw_subjects = [header.raw_value for header in headers if header.name == "subject"]
    left, found = _MOST_READ - sum(_A_FIELD + len(raw) for raw in raw_subjects), set()
    subjects = _sought(raw_subjects if left > 0 else raw_subjects[:0])
    if len(subjects) > _MOST_SOUGHT:
        left = 0
    words, compared = frozenset(subject.words for subject in subjects), _MOST_COMPARED
    for index, header in enumerate(headers):
        if not _NEEDED.fullmatch(header.name):
            if subjects:
                left -= (_A_FIELD if _ENCODED.search(header.raw_value) else 16) + len(header.raw_value)
            texts = shown.readings(header.raw_value) if subjects and left > 0 and compared > 0 else ()
            compared -= len(texts) * len(subjects)
            if left <= 0 or compared <= 0 or _shows(header, texts, subjects, words):
                found.add(index)
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Subject:
    """One way in which the Subject may be shown: its ``words`` with one space between them, and joined without spaces.

    ``bare``: without what may be an addition or a part of it; text that short may stand in many fields.
    """

    words: str
    joined: str
    bare: bool = False


def _shows(header: Header, texts: Iterable[str], subjects: Collection[_Subject], sought: Collection[str]) -> bool:
    if _MADE_FOR_IT.fullmatch(header.name):
        return True
    if _SIGNATURES.fullmatch(header.name) and _COPIES.search(header.raw_value):
        return True
    for text in texts:
        words = _folded(text)
        joined, raw = words.replace(" ", ""), "".join(text.split())
        if any(_has(words, joined, subject) or _has_symbols(raw, subject) for subject in subjects):
            return True
        if any(_folded(bare) in sought for bare in _without_added(text[:_LONGEST_TAG])):
            return True
    return False


def _has(words: str, joined: str, subject: _Subject) -> bool:
    if words in (subject.words, f"re {subject.words}"):
        return True
    if _is_long(words, joined) and f" {words}" in f" {subject.words}":
        return True
    if subject.bare:
        return _is_long(subject.words, subject.joined) and subject.joined in joined
    if subject.joined.isascii() and len(subject.joined) < _LONG:
        return len(subject.joined) >= 4 and f" {subject.words} " in f" {words} "
    return len(subject.joined) >= 2 and subject.joined in joined


def _is_long(words: str, joined: str) -> bool:
    """Too long to stand in a field by chance."""
    if not joined.isascii() and len(joined) >= 4:
        return True
    return len(joined) >= (_LONG if " " in words else 2 * _LONG)


def _has_symbols(raw: str, subject: _Subject) -> bool:
    """A Subject without any word, inside a field that has some."""
    if any(c.isalnum() for c in subject.joined):
        return False
    return subject.joined in raw and (len(subject.joined) >= 4 or not subject.joined.isascii())


def _sought(raw_values: Iterable[bytes]) -> tuple[_Subject, ...]:
    """The texts to look for; never an empty one."""
    plain: dict[str, None] = {}
    bare: dict[str, None] = {}
    for raw in raw_values:
        for text in shown.readings(raw[:_LONGEST_SUBJECT]):
            plain[text] = plain[_PREFIXES.sub("", text, count=1) if _PREFIXES.match(text) else text] = None
            bare.update(dict.fromkeys(_without_added(text)))
    known: dict[str, _Subject] = {}
    for texts, is_bare in ((plain, False), (bare, True)):
        for words in (_folded(spelled) for text in texts for spelled in shown.spellings(text)):
            if words:
                known.setdefault(words, _Subject(words, words.replace(" ", ""), is_bare))
            if len(known) > _MOST_SOUGHT:
                return tuple(known.values())
    return tuple(known.values())


def _without_added(text: str) -> Iterator[str]:
    """The text without what may have been added at either end, step by step."""
    if was := _WAS.search(text[-1000:]):
        yield was[1]
    for _ in range(_MOST_ADDED):
        found = _BEFORE.match(text)
        rest = text[found.end() :] if found else text
        tail = _AFTER.search(rest[-_LONGEST_TAG:])
        rest = rest[: len(rest) - len(tail[0])] if tail else rest
        if rest == text:
            return
        text = rest
        yield text


def _folded(text: str) -> str:
    """The words of a text, one space between them; a text without words stays as it is, except for white space."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words = "".join(c if c.isalnum() else " " for c in text).split()
    return " ".join(words) if words else "".join(text.split())
