"""Just enough MIME to see the structure of a message: Content-Type, transfer encodings, multipart boundaries.

It writes nothing: it tells the classifier what octets are.  Malformed input gives None or ParseError, and the caller
treats the message as plain, so that it is encrypted.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from smilla.errors import ParseError
from smilla.formats.header_text import unquoted, without_comments
from smilla.remembered import when_short

_TOKEN = rb"[^\x00-\x20\x7f-\xff()<>@,;:\\\"/\[\]?=]+"
_QUOTED = rb'"(?:[^"\\]|\\.)*"'
_USUAL = 79  # octets; nearly all messages use the same few short values
_TYPE = re.compile(rb"\s*(" + _TOKEN + rb")\s*/\s*(" + _TOKEN + rb")\s*", re.DOTALL)
_DISPOSITION = re.compile(rb"\s*" + _TOKEN + rb"\s*", re.DOTALL)
_PARAMETER = re.compile(rb"\s*;\s*(" + _TOKEN + rb")\s*=\s*(" + _QUOTED + rb"|[^\s;\"]+)\s*", re.DOTALL)
_NO_MORE = re.compile(rb"[;\s]*\Z")
_PIECE = 64 * 1024
_HOLD_BACK = 2048
_MAX_BOUNDARY = 200  # RFC 2046 section 5.1.1 allows 70
_QP_FAULT = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n)|\r(?!\n)")


@dataclass(frozen=True, slots=True)
class ContentType:
    """A media type in lower case (``type/subtype``) and its parameters, names in lower case (RFC 2045 section 5.1)."""

    media_type: str
    parameters: Mapping[str, str]


@when_short(_USUAL, entries=256)
def content_type(raw_value: bytes) -> ContentType | None:
    """A Content-Type field's value, comments removed, RFC 2231 parameters joined; None if it is malformed."""
    value = without_comments(raw_value, quoted=True)
    head = _TYPE.match(value)
    parameters = _parameters(value, head.end()) if head else None
    if head is None or parameters is None:
        return None
    media_type = f"{head[1].decode('ascii')}/{head[2].decode('ascii')}".lower()
    return ContentType(media_type, parameters)


def disposition(raw_value: bytes) -> Mapping[str, str] | None:
    """The parameters of a Content-Disposition field's value (RFC 2183 section 2); None if it is malformed."""
    value = without_comments(raw_value, quoted=True)
    head = _DISPOSITION.match(value)
    return _parameters(value, head.end()) if head else None


def _parameters(value: bytes, position: int) -> Mapping[str, str] | None:
    parameters: dict[str, str] = {}
    while not _NO_MORE.match(value, position):
        item = _PARAMETER.match(value, position)
        if not item:
            return None
        name = item[1].decode("ascii").lower()
        text = unquoted(item[2]).decode("utf-8", "replace")
        if parameters.setdefault(name, text) != text:
            return None  # two different values: neither can be trusted
        position = item.end()
    return _continuations_joined(parameters)


def _continuations_joined(parameters: dict[str, str]) -> dict[str, str]:
    """``name*0``, ``name*1*`` … as one ``name`` (RFC 2231 sections 3 and 4)."""
    joined = {name: value for name, value in parameters.items() if "*" not in name}
    pieces: dict[str, dict[int, str]] = {}
    for name, value in parameters.items():
        if match := re.fullmatch(r"([^*]+)\*(?:(\d{1,2})(\*)?)?", name):
            number = int(match[2] or 0)
            extended = match[3] is not None or match[2] is None
            text = value.split("'", 2)[-1] if extended and number == 0 else value
            plain = unquote_to_bytes(text).decode("utf-8", "replace") if extended else text
            pieces.setdefault(match[1], {})[number] = plain
    for name, parts in pieces.items():
        joined.setdefault(name, "".join(parts[number] for number in sorted(parts)))
    return joined


def transfer_encoding(raw_value: bytes) -> str:
    """A Content-Transfer-Encoding field's value in lower case (RFC 2045 section 6.1)."""
    return without_comments(raw_value, quoted=True).strip().decode("ascii", "replace").lower()


def decoded(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The octets behind a transfer encoding, only for inspection.  Raises ParseError if they are malformed."""
    if encoding == "base64":
        return _from_base64(blocks)
    if encoding == "quoted-printable":
        return _from_quoted_printable(blocks)
    if encoding in ("", "7bit", "8bit", "binary"):
        return iter(blocks)
    raise ParseError(f"unknown transfer encoding {encoding!r}")


def _from_base64(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Strict: the alphabet, white space and one padding at the end.  RFC 2045 section 6.8 lets a reader skip other
    octets, but text hidden there would not be encrypted, so here it makes the whole malformed."""
    held, ended = b"", False
    for block in blocks:
        compact = held + block.translate(None, b"\r\n\t ")
        if ended and compact:
            raise ParseError("octets after the end of the base64 data")
        cut = len(compact) - len(compact) % 4
        held = compact[cut:]
        if cut:
            try:
                yield binascii.a2b_base64(compact[:cut], strict_mode=True)
            except binascii.Error as error:
                raise ParseError(f"not base64: {error}") from error
            ended = compact[cut - 1 : cut] == b"="
    if held:
        raise ParseError("the base64 data is cut off")


def _from_quoted_printable(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Strict: octets that a lenient decoder would drop (those after a soft line break) could be readable text."""
    held = b""
    for block, _ in _with_last(blocks):
        text = held + block
        cut = text.rfind(b"=", max(0, len(text) - 2))  # the next octets decide what this one means
        if cut < 0:
            cut = len(text) - text.endswith(b"\r")
        held = text[cut:]
        yield _without_faults(text[:cut])
    yield _without_faults(held)


def _without_faults(text: bytes) -> bytes:
    if _QP_FAULT.search(text):
        raise ParseError("not quoted-printable")
    return binascii.a2b_qp(text)


def delimiter(boundary: bytes) -> re.Pattern[bytes]:
    """A delimiter line with the line end before it (RFC 2046 section 5.1.1); its group is set in the closing one.
    Raises ParseError if the boundary is longer than any real one."""
    if len(boundary) > _MAX_BOUNDARY:
        raise ParseError("the boundary of the multipart is too long")
    return re.compile(rb"\r?\n--" + re.escape(boundary) + rb"(--)?[ \t]{0,1000}(?=\r?\n|\Z)")


def multipart_sections(blocks: Iterable[bytes], boundary: bytes) -> Iterator[tuple[int, bytes]]:
    """The body of a multipart (RFC 2046 section 5.1.1) as pairs of section and octets.

    Section 0 is the preamble; 1, 2 … are the parts (including their headers); -1 is the epilogue.  Every section except
    an empty epilogue yields at least once, and begins with the line end of the delimiter before it (which may also
    begin the next delimiter, if a part is empty).  Raises ParseError if the closing delimiter is missing, or the
    boundary is longer than any real one.
    """
    at_line = delimiter(boundary)
    section, buffer = 0, b"\r\n"
    for block, last in _with_last(blocks):
        buffer += block
        while section >= 0 and (found := at_line.search(buffer)) and (last or found.end() + 2 <= len(buffer)):
            yield section, buffer[: found.start()]
            section = -1 if found[1] else section + 1
            buffer = buffer[found.end() :]
        cut = len(buffer) if last or section < 0 else len(buffer) - _HOLD_BACK
        if cut > 0:
            yield section, buffer[:cut]
            buffer = buffer[cut:]
    if section >= 0:
        raise ParseError("the multipart has no closing delimiter")


def _with_last(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    for block in blocks:
        for start in range(0, len(block), _PIECE):
            yield block[start : start + _PIECE], False
    yield b"", True


def part_headers(raw: bytes) -> dict[str, bytes] | None:
    """The header fields of a body part, given the octets before its first empty line; names in lower case.  None if a
    line is malformed or a field occurs twice."""
    fields: dict[str, bytes] = {}
    for line in re.split(rb"\r?\n(?![ \t])", raw):
        name, colon, value = line.partition(b":")
        key = name.rstrip(b" \t").decode("ascii", "replace").lower()
        if not colon or key in fields:
            return None
        fields[key] = value
    return fields
