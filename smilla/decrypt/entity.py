"""Is a plaintext one well-formed MIME entity (RFC 2045 section 2.4)?

What was authenticated needs only a header that every reader reads alike.  What was not authenticated (EnvelopedData) is
read to its last octet: a change to CBC ciphertext turns a block of 16 octets into random ones, and random octets are
neither text of a known encoding, nor base64, nor quoted-printable, nor a header or a boundary.  That catches nearly all
changes, and proves nothing: whoever is lucky, or changes a binary attachment only, gets through.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from smilla.errors import ParseError
from smilla.formats import header_text, mime, notices
from smilla.message import MemoryBody, parse
from smilla.model import Header, Message
from smilla.value import value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MOST_FIELDS, _LONGEST_FIELD = 500, 60_000  # the milter protocol cuts longer ones
_DEEPEST, _MOST_PARTS = 20, 2000
_NO_TEXT = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")  # form feed and ISO 2022's escape may stand in one
_NOT_SENT = re.compile(rb"\0|\r(?!\n)")  # RFC 5321 section 2.3.8, RFC 5322 section 4
PLAIN = "text/plain"  # RFC 2045 section 5.2
_IDENTITY = ("", "7bit", "8bit", "binary")
_LIKE_UTF8 = ("utf-8", "utf8")
MESSAGES = ("message/rfc822", "message/global", "message/news")  # Thunderbird shows the last one as the first
# Without what readers strip (blanks at the end, angle brackets, quotes), or take for a comment.
_BOUNDARY = re.compile(r"(?:[0-9A-Za-z'()+_,./:=?#$&@!%^~{}|*\[\]-]| (?!\Z)){1,200}")


@value
class Entity:
    """A header and a body, with every line end as CRLF."""

    headers: tuple[Header, ...]
    raw_body: bytes

    @property
    def message(self) -> Message:
        """The same, as a message of its own."""
        return Message(self.headers, MemoryBody([self.raw_body] if self.raw_body else []))

    @property
    def raw(self) -> bytes:
        """The octets."""
        return b"".join([*(header.raw for header in self.headers), b"\r\n", self.raw_body])


def read(raw: bytes) -> Entity:
    """The entity that ``raw`` is, if its header is beyond doubt: proper fields, one Content-Type that can be read, an
    empty line.  Programs that write on Unix end lines with LF; mail has CRLF.  Raises ParseError."""
    if _NOT_SENT.search(raw):
        raise ParseError("it has a NUL or a bare CR, which mail cannot carry")
    entity = split(raw)
    kinds = [header for header in entity.headers if header.name == "content-type"]
    if len(kinds) != 1:
        raise ParseError("it has no Content-Type, or several")
    content(entity.headers)
    return entity


def check(entity: Entity) -> None:
    """Reads everything to its last octet, parts of parts too.  Raises ParseError at the first fault."""
    _Reading().entity(entity, 0)


def split(raw: bytes) -> Entity:
    """A part, or a message in a message, as header and body; its Content-Type need not be there.  Raises ParseError."""
    parsed = parse(raw)
    if not parsed.raw_rest.startswith((b"\r\n", b"\n")):
        raise ParseError("its header is malformed, or has no end")
    headers = parsed.message.headers
    if len(headers) > _MOST_FIELDS or any(len(header.raw) > _LONGEST_FIELD for header in headers):
        raise ParseError("its header is too large")
    for header in headers:
        _check_field(header)
    return Entity(headers, b"".join(parsed.message.body.blocks()))


def _check_field(header: Header) -> None:
    unfolded = header.raw_value.replace(b"\r\n", b"")
    if _NO_TEXT.search(unfolded) or (header.name.startswith("content-") and not unfolded.isascii()):
        raise ParseError("a header field has octets that do not belong there")
    try:
        unfolded.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParseError("a header field is not UTF-8") from error


def default_in(kind: mime.ContentType) -> str:
    """The type of a part without a Content-Type (RFC 2046 section 5.1.5)."""
    return "message/rfc822" if kind.media_type == "multipart/digest" else PLAIN


def content(headers: Sequence[Header], default: str = PLAIN) -> tuple[mime.ContentType, str]:
    """The type and the transfer encoding; ``default`` stands for a Content-Type that is not there."""
    kinds = [header.raw_value for header in headers if header.name == "content-type"]
    encodings = [header.raw_value for header in headers if header.name == "content-transfer-encoding"]
    if len(kinds) > 1 or len(encodings) > 1:
        raise ParseError("a Content-Type or Content-Transfer-Encoding field stands twice")
    kind = mime.content_type(kinds[0]) if kinds else mime.ContentType(default, {})
    encoding = mime.transfer_encoding(encodings[0]) if encodings else ""
    if kind is None or encoding not in (*_IDENTITY, "base64", "quoted-printable"):
        raise ParseError("a Content-Type or Content-Transfer-Encoding field is malformed")
    return kind, encoding


def boundary(headers: Sequence[Header]) -> bytes:
    """The boundary of a multipart, if every reader finds the same one: some keep comments, and prefer ``boundary*`` to
    ``boundary``, or the other way round (RFC 2231).  Raises ParseError."""
    raw_value = next((header.raw_value for header in headers if header.name == "content-type"), b"")
    kind = mime.content_type(raw_value)
    found = kind.parameters.get("boundary", "") if kind else ""
    alike = header_text.without_comments(raw_value, quoted=True) == raw_value and b"boundary*" not in raw_value.lower()
    if not alike or not _BOUNDARY.fullmatch(found):
        raise ParseError("a multipart without a boundary, or with one that readers read differently")
    return found.encode("ascii")


class _Reading:
    """Counts the parts, so that its time is bounded."""

    def __init__(self) -> None:
        self._parts = 0

    def entity(self, entity: Entity, depth: int, default: str = PLAIN) -> None:
        self._parts += 1
        if depth > _DEEPEST or self._parts > _MOST_PARTS:
            raise ParseError("its parts are too many, or nested too deep")
        kind, encoding = content(entity.headers, default)
        if kind.media_type.startswith("multipart/"):
            self._multipart(kind, encoding, entity, depth)
        elif kind.media_type in MESSAGES:
            if encoding not in _IDENTITY:  # RFC 2046 section 5.2.1
                raise ParseError("a message with a transfer encoding")
            self.entity(split(entity.raw_body), depth + 1)
        else:
            _check_leaf(kind, encoding, entity.raw_body)

    def _multipart(self, kind: mime.ContentType, encoding: str, entity: Entity, depth: int) -> None:
        if encoding not in _IDENTITY:
            raise ParseError("a multipart with a transfer encoding")
        count = 0
        for section, octets in pieces(entity.raw_body, boundary(entity.headers)):
            if section in (PREAMBLE, EPILOGUE) and not _is_notice([octets]):
                raise ParseError("a multipart with text before or after its parts")
            if section < 1:
                continue
            count += 1
            self.entity(split(octets.removeprefix(b"\r\n") or b"\r\n"), depth + 1, default_in(kind))
        if not count:
            raise ParseError("a multipart without a part")


PREAMBLE, EPILOGUE, DELIMITER = 0, -1, -2


def pieces(raw_body: bytes, boundary: bytes) -> Iterator[tuple[int, bytes]]:
    """The body of a multipart as sections (see ``mime.multipart_sections``), with its delimiters between them, so that
    all of them joined are the body.  Raises ParseError if the closing delimiter is missing, or if a line only begins
    like a delimiter: RFC 2046 section 5.1.1 has readers take that for one, and not all do."""
    text, at, section, unreal = b"\r\n" + raw_body, 0, PREAMBLE, 2  # a line end stands before the first delimiter
    alike = sum(1 for _ in re.finditer(rb"\n--" + re.escape(boundary), text))
    for found in mime.delimiter(boundary).finditer(text):
        alike -= 1
        for kind, octets in ((section, text[at : found.start()]), (DELIMITER, found[0])):
            yield kind, octets[unreal:]
            unreal -= min(unreal, len(octets))
        section, at = EPILOGUE if found[1] else section + 1, found.end()
        if section == EPILOGUE:
            break
    if section != EPILOGUE:
        raise ParseError("the multipart has no closing delimiter")
    if alike:
        raise ParseError("a line that only some readers take for a delimiter")
    yield EPILOGUE, text[at:]


def _is_notice(blocks: Iterable[bytes]) -> bool:
    reader = notices.NoticeReader()
    for block in blocks:
        reader.feed(block)
    return reader.only_notices()


def _check_leaf(kind: mime.ContentType, encoding: str, raw_body: bytes) -> None:
    if encoding in ("base64", "quoted-printable"):
        if not raw_body.isascii() or _NO_TEXT.search(raw_body):
            raise ParseError("octets that the transfer encoding does not have")
        for _ in mime.decoded([raw_body], encoding):
            pass
        return
    if encoding == "7bit" and not raw_body.isascii():
        raise ParseError("8-bit octets in a part that says 7bit")
    is_text = kind.media_type.startswith(("text/", "message/"))
    if not is_text and encoding in ("8bit", "binary"):
        return
    if _NO_TEXT.search(raw_body):
        raise ParseError("a text with octets that no text has")
    if is_text and kind.parameters.get("charset", "").lower() in _LIKE_UTF8:
        try:
            raw_body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ParseError("a text that is not UTF-8, though it says so") from error
