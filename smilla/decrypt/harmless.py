"""HTML that nothing authenticates, made harmless: without anything that a program would load or follow, or as text.

This is the one place where smilla changes a body.  Whoever changes EnvelopedData on its way can put HTML around the
text that sends it to her server when it is shown (EFAIL).  Every part but HTML, XML and SVG stays octet for octet.

Links go too: one click would send what the attacker put into the address.  Pictures stay where they are in the message
itself (cid:).  What cannot be read for certain, such as a character set in which ASCII is not ASCII, or takes too long,
is handed on as text.
"""

from __future__ import annotations

import binascii
import codecs
import re
from typing import TYPE_CHECKING

from smilla.decrypt.entity import MESSAGES, PLAIN, Entity, boundary, content, default_in, pieces, split
from smilla.errors import NotDecrypted
from smilla.formats import mime
from smilla.model import Header

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Clean = Callable[[str], str | None]

STRIP, TEXT, KEEP = "strip", "text", "keep"
_HTML = "text/html"
_ACTIVE = frozenset((_HTML, "application/xhtml+xml", "image/svg+xml", "text/xml", "application/xml", "text/x-amp-html"))
_OPAQUE = ("application/pkcs7-mime", "application/x-pkcs7-mime")
_TOKEN = re.compile(r"[A-Za-z0-9._:+-]{1,40}")
# In each of them "<" and its like are themselves, wherever they stand, so that a reader who does not know it sees what
# we see.  In Windows' own there are EBCDIC (cp037) and such as have them as the second octet of a letter (cp1361).
_CHARSETS = re.compile(
    r"(?:us-)?ascii|utf-?8|iso-8859-[0-9]{1,2}|koi8-[a-z]|big5|gbk?|gb2312|gb18030|euc-[a-z]{2}"
    r"|(?:windows|cp)-?(?:125[0-8]|437|85[0258]|866|874|936|949|950)"
)


def harmless(entity: Entity, how: str, clean: Clean | None = None) -> tuple[Entity, bool]:
    """The entity with its HTML as ``how`` says, and whether anything changed.  ``clean`` is for "strip": a text without
    what a program would load or follow; for which it says None, the part is handed on as text.

    Raises NotDecrypted, ``opaque``, if content stands inside a further CMS structure, where no HTML is seen.
    """
    if how == KEEP:
        return entity, False
    changed = _entity(entity, clean if how == STRIP else None)
    return changed, changed != entity


def _entity(entity: Entity, clean: Clean | None, default: str = PLAIN) -> Entity:
    kind, encoding = content(entity.headers, default)
    if kind.media_type in _OPAQUE:
        raise NotDecrypted("opaque", "its content is inside another CMS structure, and nothing authenticates it")
    if kind.media_type.startswith("multipart/"):
        parts = (
            _part(octets, clean, default_in(kind)) if section > 0 else octets
            for section, octets in pieces(entity.raw_body, boundary(entity.headers))
        )
        return Entity(entity.headers, b"".join(parts))
    if kind.media_type in MESSAGES:
        return Entity(entity.headers, _entity(split(entity.raw_body), clean).raw)
    if kind.media_type in _ACTIVE:
        return _quiet(entity, kind, encoding, clean)
    return entity


def _part(octets: bytes, clean: Clean | None, default: str) -> bytes:
    """A part begins with the line end of its delimiter."""
    raw = octets.removeprefix(b"\r\n")
    return octets[: len(octets) - len(raw)] + _entity(split(raw), clean, default).raw if raw else octets


def _quiet(entity: Entity, kind: mime.ContentType, encoding: str, clean: Clean | None) -> Entity:
    text = _text(entity, kind, encoding) if clean is not None and kind.media_type == _HTML else None
    cleaned = clean(text) if text is not None and clean is not None else None
    charset = kind.parameters.get("charset", "us-ascii")
    if cleaned is None:
        return Entity(_as("text/plain", charset, entity.headers), entity.raw_body)
    raw = cleaned.encode(charset, "xmlcharrefreplace")
    lines = binascii.b2a_base64(raw, newline=False)
    body = b"".join(lines[at : at + 76] + b"\r\n" for at in range(0, len(lines), 76))
    return Entity(_in_base64(_as(_HTML, charset, entity.headers)), body)


def _text(entity: Entity, kind: mime.ContentType, encoding: str) -> str | None:
    """The characters, None if there is any doubt about them."""
    charset = kind.parameters.get("charset", "us-ascii").lower()
    try:
        codecs.lookup(charset)
        raw = b"".join(mime.decoded([entity.raw_body], encoding))
        return raw.decode(charset) if _CHARSETS.fullmatch(charset) else None
    except (LookupError, ValueError):
        return None


def _as(media_type: str, charset: str, headers: Sequence[Header]) -> tuple[Header, ...]:
    """The type, and the character set that we read it in, whatever else the field said: programs differ about comments
    in it, and about several character sets."""
    told = f"; charset={charset}" if _TOKEN.fullmatch(charset) else ""
    field = Header(b"Content-Type", f" {media_type}{told}".encode("ascii"))
    return tuple(field if header.name == "content-type" else header for header in headers)


def _in_base64(headers: Sequence[Header]) -> tuple[Header, ...]:
    kept = [header for header in headers if header.name not in ("content-transfer-encoding", "content-md5")]
    return (*kept, Header(b"Content-Transfer-Encoding", b" base64"))
