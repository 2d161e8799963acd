"""ASCII armour (RFC 9580 section 6), read strictly and in pieces of any size.

Promises: memory is bounded by the piece fed in, time is linear, and anything but one well-formed armour with nothing
around it raises ParseError.  RFC 9580 section 6.1 lets a reader ignore a wrong CRC24; this one does not: it reads
either a key, which must be whole, or a message whose claim to be encrypted is in doubt.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smilla.errors import ParseError
from smilla.formats.crc24 import CRC24_INIT, crc24

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MESSAGE = "PGP MESSAGE"
PUBLIC_KEY = "PGP PUBLIC KEY BLOCK"

_WHITE = b" \t\r\n"
_BEGIN = re.compile(rb"-----BEGIN (PGP [A-Z ]{3,30})-----[ \t]*\r?\n\Z")
_HEADER = re.compile(rb"([A-Za-z][A-Za-z0-9-]{0,40}): ?([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*\r?\n\Z")
_TAIL = re.compile(
    rb"(={0,2})[ \t\r\n]*(?:=([A-Za-z0-9+/]{4})[ \t\r\n]+)?-----END (PGP [A-Z ]{3,30})-----[ \t]*(\r?\n|\r?\Z)"
)
_MAX_LINE = 1000  # for the lines around the data; a user ID in a Comment may be long
_MAX_HEADERS = 100
_MAX_TAIL = 200
_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Armoured:
    """The content of an armour: its label ("PGP MESSAGE"), its header lines in order, and the octets."""

    label: str
    headers: tuple[tuple[str, str], ...]
    data: bytes


def is_armoured(raw: bytes) -> bool:
    """True if the octets may be armour; every binary packet has bit 7 set in its first octet, so it is never taken for
    armour."""
    return raw.lstrip(_WHITE).startswith(b"-----BEGIN PGP ")


def dearmour(raw: bytes) -> Armoured:
    """The only content of ``raw``, one armour.  Raises ParseError for anything else (RFC 9580 section 6.2)."""
    reader = ArmourReader()
    data = b"".join(reader.feed(raw)) + reader.finish()
    return Armoured(reader.label, tuple(reader.headers), data)


class ArmourReader:
    """Takes the text in pieces, gives the octets in pieces.

    ``label`` and ``headers`` are known once the first octets have come out; ``check_headers`` may reject header lines
    by raising ParseError.
    """

    def __init__(self, check_headers: Callable[[list[tuple[str, str]]], None] | None = None) -> None:
        self.label = ""
        self.headers: list[tuple[str, str]] = []
        self._check_headers = check_headers
        self._crc = CRC24_INIT
        self._quantum = b""
        self._pending = b""
        self._final = False
        self._step: Callable[[bytes], tuple[bytes, bytes, bool]] = self._before

    def feed(self, text: bytes) -> Iterator[bytes]:
        """The octets that ``text`` completes.  Raises ParseError."""
        for start in range(0, len(text), _PIECE):
            yield from self._run(text[start : start + _PIECE])

    def finish(self) -> bytes:
        """Says that no text follows.  Returns the last octets, if the end line had no line end.  Raises ParseError if
        the armour is not complete."""
        self._final = True
        octets = b"".join(self._run(b""))
        if self._step != self._after:
            raise ParseError("armour is not complete")
        return octets

    def _run(self, text: bytes) -> Iterator[bytes]:
        self._pending += text
        going_on = True
        while going_on:
            octets, self._pending, going_on = self._step(self._pending)
            if octets:
                self._crc = crc24(octets, self._crc)
                yield octets

    # Each step takes the pending text and returns the decoded octets, the text still pending, and whether to go on.

    def _before(self, text: bytes) -> tuple[bytes, bytes, bool]:
        line, rest = self._line(text.lstrip(_WHITE))
        if not line:
            return b"", rest, False
        begin = _BEGIN.match(line)
        if not begin:
            raise ParseError("text where armour should begin")
        self.label = begin[1].decode()
        self._step = self._header
        return b"", rest, True

    def _header(self, text: bytes) -> tuple[bytes, bytes, bool]:
        line, rest = self._line(text)
        if not line:
            return b"", rest, False
        if not line.strip(_WHITE):
            if self._check_headers:
                self._check_headers(self.headers)
            self._step = self._data
            return b"", rest, True
        header = _HEADER.match(line)
        if not header or len(self.headers) == _MAX_HEADERS:
            raise ParseError("a malformed line in the armour headers")
        self.headers.append((header[1].decode(), header[2].decode("utf-8", "replace")))
        return b"", rest, True

    def _data(self, text: bytes) -> tuple[bytes, bytes, bool]:
        ends = [at for at in (text.find(b"="), text.find(b"-")) if at >= 0]
        end = min(ends, default=len(text))
        letters = self._quantum + text[:end].translate(None, _WHITE)
        whole = len(letters) - len(letters) % 4
        self._quantum = letters[whole:]
        if ends:
            self._step = self._tail
        return _base64(letters[:whole]), text[end:], bool(ends)

    def _tail(self, text: bytes) -> tuple[bytes, bytes, bool]:
        tail = _TAIL.match(text)
        if not tail or (not tail[4] and not self._final):
            if len(text) > _MAX_TAIL or self._final:
                raise ParseError("armour without its end line")
            return b"", text, False
        if tail[3].decode() != self.label:
            raise ParseError("armour begins and ends with different labels")
        last = _base64(self._quantum + tail[1])
        if tail[2] and crc24(last, self._crc) != int.from_bytes(_base64(tail[2]), "big"):
            raise ParseError("the CRC24 of the armour is wrong")
        self._step = self._after
        return last, text[tail.end() :], True

    def _after(self, text: bytes) -> tuple[bytes, bytes, bool]:
        if text.strip(_WHITE):
            raise ParseError("text after the armour")
        return b"", b"", False

    def _line(self, text: bytes) -> tuple[bytes, bytes]:
        """One line with its end, or nothing if it is not complete."""
        at = text.find(b"\n", 0, _MAX_LINE)
        if at < 0 and len(text) >= _MAX_LINE:
            raise ParseError("an armour line that is too long")
        return text[: at + 1], text[at + 1 :]


def _base64(letters: bytes) -> bytes:
    try:
        return binascii.a2b_base64(letters, strict_mode=True) if letters else b""
    except binascii.Error as error:
        raise ParseError(f"armour is not base64 ({error})") from error
