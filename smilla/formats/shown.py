"""Every text that a header field's value may show, whatever encodings programs have used.

We try everything, since nothing says which encoding it is: encoded words, RFC 2231, percent, quoted-printable, Base64
and its URL form, hexadecimal, JSON and JavaScript escapes, HTML entities, UTF-7, and UTF-8 mistaken for Latin-1.  The
number of readings is bounded.
"""

from __future__ import annotations

import html
import quopri
import re
import unicodedata
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from smilla.formats.header_text import base64_of, decoded_anywhere, text_of

_CONTINUED = re.compile(rb"(?:\"|(?<!\s))\s*;\s*[\w-]+\*\d+\*?\s*=\s*\"?")
_TAG = re.compile(rb"(?:^|;)\s*[\w-]+\s*=(?!\r)")
_SOFT_BREAK = re.compile(rb"=\s+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{5,}={0,2}")
_BASE64_TOKEN = re.compile(rb"[A-Za-z0-9+/_-]{8,}={0,2}")
_HEX_TOKEN = re.compile(rb"(?<![0-9A-Za-z])(?:[0-9A-Fa-f]{2}){2,}(?![0-9A-Za-z])")
_ESCAPES = re.compile(rb"(?:[\\%]u[0-9A-Fa-f]{4})+|\\u\{[0-9A-Fa-f]{1,6}\}|(?:\\x[0-9A-Fa-f]{2})+|\\[nrt/\"'\\]")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z0-9]{2,31});?")
_UTF_7 = re.compile(rb"\+([A-Za-z0-9+/]{2,})-?|&([A-Za-z0-9+,]{2,})-")  # and as IMAP has it (RFC 3501 section 5.1.3)
_UTF_7_SIGN = re.compile(rb"([+&])-")
_C1 = {ord(bytes([octet]).decode("cp1252", "ignore") or chr(octet)): octet for octet in range(0x80, 0xA0)}
_TAKEN_FOR_LATIN = re.compile("[\x80-\xff]{2,}")
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})
_ROUNDS = 3  # nested encodings: quoted-printable of an encoded word
_MOST_READINGS = 24
_LEAST_SPELLED = 4  # characters; shorter text would be found anywhere


def readings(raw: bytes) -> tuple[str, ...]:
    """Everything that a person may see of a value, including the value itself; bounded."""
    known = dict.fromkeys([b" ".join(raw.split())])
    latest = list(known)
    for _ in range(_ROUNDS):
        before, latest = latest, []
        for value in before:
            for decode in _DECODERS:
                if (found := decode(value)) not in known:
                    known[found] = None
                    latest.append(found)
            if len(known) > _MOST_READINGS:
                break
    return tuple(dict.fromkeys(text_of(value) for value in known))


def spellings(text: str) -> tuple[str, ...]:
    """A text, and its ASCII-only forms: without accents, umlauts as two letters, gaps."""
    if text.isascii() or len(text) < _LEAST_SPELLED:
        return (text,)
    apart = unicodedata.normalize("NFD", text)
    bare = "".join(c for c in apart if not unicodedata.combining(c))
    found = (text, bare, unicodedata.normalize("NFC", text).translate(_UMLAUTS))
    gaps = text.encode("ascii", "replace").decode("ascii")
    letters = sum(c.isalnum() for c in gaps)
    return (*found, gaps) if 2 * letters > len(gaps) else found


def _of_percent(raw: bytes) -> bytes:
    """RFC 3986, and RFC 2231 with its parts joined and its charset left at the front."""
    if b"%" not in raw and b"*" not in raw:
        return raw
    return unquote_to_bytes(_CONTINUED.sub(b"", raw))


def _of_quoted_printable(raw: bytes) -> bytes:
    """RFC 6376 section 2.11: white space inside means nothing.  A tag name and its = are not part of it."""
    if b"=" not in raw:
        return raw
    return quopri.decodestring(b"".join(_SOFT_BREAK.sub(b"", _TAG.sub(b";", raw)).split()))


def _of_whole(raw: bytes) -> bytes:
    """A value that is Base64 throughout."""
    squeezed = b"".join(raw.split())
    return base64_of(squeezed) if _BASE64.fullmatch(squeezed) else raw


def _of_tokens(raw: bytes) -> bytes:
    """Base64 inside a value, if it is text."""
    return _BASE64_TOKEN.sub(lambda token: _if_text(base64_of(token[0]), token[0]), raw)


def _of_hex(raw: bytes) -> bytes:
    return _HEX_TOKEN.sub(lambda token: _if_text(bytes.fromhex(token[0].decode("ascii")), token[0]), raw)


def _if_text(octets: bytes, otherwise: bytes) -> bytes:
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        return otherwise
    return octets if text.isprintable() else otherwise


def _of_escapes(raw: bytes) -> bytes:
    """RFC 8259 section 7, ECMAScript, and the output of its escape()."""
    return _ESCAPES.sub(_escaped, raw) if b"\\" in raw or b"%u" in raw else raw


def _escaped(match: re.Match[bytes]) -> bytes:
    found = match[0]
    if found[1:3] == b"u{":
        number = int(found[3:-1], 16)
        return chr(number).encode("utf-8", "replace") if number < 0x110000 else found
    if found[1:2] == b"u":
        units = bytes.fromhex(found.replace(found[:2], b"").decode("ascii"))
        return units.decode("utf-16-be", "replace").encode("utf-8")
    if found[1:2] == b"x":
        return bytes.fromhex(found.replace(b"\\x", b"").decode("ascii"))
    return b" " if found[1:2] in b"nrt" else found[1:2]


def _of_entities(raw: bytes) -> bytes:
    if b"&" not in raw:
        return raw
    text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text_of(raw))
    return text.encode("utf-8", "replace")


def _of_utf_7(raw: bytes) -> bytes:
    """RFC 2152."""
    if b"+" not in raw and b"&" not in raw:
        return raw
    return _UTF_7_SIGN.sub(rb"\1", _UTF_7.sub(_shifted, raw))


def _shifted(match: re.Match[bytes]) -> bytes:
    octets = base64_of(match[1] or match[2].replace(b",", b"/"))
    text = octets[: len(octets) & ~1].decode("utf-16-be", "replace")
    return text.encode("utf-8") if text.isprintable() else match[0]


def _of_latin(raw: bytes) -> bytes:
    """UTF-8 that somebody took for Latin-1 or Windows-1252 and wrote as UTF-8."""
    if raw.isascii():
        return raw
    text = text_of(raw).translate(_C1)
    return _TAKEN_FOR_LATIN.sub(lambda run: text_of(run[0].encode("latin-1")), text).encode("utf-8", "replace")


_DECODERS: tuple[Callable[[bytes], bytes], ...] = (
    *(decoded_anywhere, _of_percent, _of_quoted_printable, _of_whole, _of_escapes, _of_entities, _of_latin),
    *(_of_utf_7, _of_hex, _of_tokens),
)
