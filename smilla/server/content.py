"""A message as it arrives over SMTP: its header in memory, its body wherever that is kept."""

from __future__ import annotations

import time
from collections.abc import Callable

from smilla import log, message
from smilla.answer import reply
from smilla.errors import HeaderTooLarge, SpoolError
from smilla.formats.smtp_content import ContentReader
from smilla.message import MOST_HEADER_OCTETS
from smilla.model import GrowingBody, Header, Message
from smilla.server.lines import CutOffError, Lines

_CONTENT_S = 7200.0  # a slow upload
_MOST_OCTETS = 1 << 30  # of a message, where the next hop has no limit


class Content:
    """Nothing of the message is lost: as in an MTA, a line that is no header field ends the header and opens the
    body."""

    def __init__(self, body: GrowingBody) -> None:
        self._body = body
        self._raw_head = bytearray(b"\r\n")  # an empty line may be the first one
        self._headers: tuple[Header, ...] | None = None  # None: the header has not ended yet

    def take(self, block: bytes) -> None:
        """The next octets.  Raises HeaderTooLarge, SpoolError."""
        if self._headers is not None:
            self._body.append(block)
            return
        searched = len(self._raw_head)
        self._raw_head += block
        end = self._raw_head.find(b"\r\n\r\n", max(0, searched - 3))
        if (end if end >= 0 else len(self._raw_head)) > MOST_HEADER_OCTETS:
            raise HeaderTooLarge("the header of a message is too large")
        if end >= 0:
            rest = bytes(self._raw_head[end + 4 :])
            self._end_header(bytes(self._raw_head[2 : end + 2]), b"\r\n", rest)

    def message(self) -> Message:
        """The whole message.  Raises SpoolError."""
        if self._headers is None:
            self._end_header(bytes(self._raw_head[2:]), b"", b"")
        return Message(self._headers or (), self._body)

    def _end_header(self, raw_head: bytes, separator: bytes, rest: bytes) -> None:
        parsed = message.parse(raw_head)
        self._headers = parsed.message.headers
        self._raw_head.clear()
        for block in (parsed.raw_rest + separator if parsed.raw_rest else b"", rest):
            if block:
                self._body.append(block)


def received(
    lines: Lines, content: Content, limit: int, meanwhile: Callable[[], object]
) -> tuple[str, str, str] | None:
    """Reads a message to its end; what is wrong with it, as a reply.  ``limit`` is its largest size, 0 if it has none;
    ``meanwhile`` is called before each wait.  Raises CutOffError, and what ``Lines`` raises."""
    reader, limit = ContentReader(), limit or _MOST_OCTETS
    deadline, octets = time.monotonic() + _CONTENT_S, 0
    block, problem = b"", None
    while True:
        found = reader.feed(block)
        octets += len(found)
        if octets > 2 * limit:
            raise CutOffError("The message does not end")
        if problem is None and octets > limit:
            problem = "552", "5.3.4", "The message is larger than the next hop takes"
        if problem is None and reader.fault:
            problem = "550", "5.6.0", f"The message has {reader.fault}, which programs read in different ways"
        try:
            if problem is None:
                content.take(found)
        except HeaderTooLarge:
            problem = "552", "5.3.4", "The header of the message is too large"
        except SpoolError:  # the rest must be read all the same
            log.internal_error("", "spool")
            problem = reply.INTERNAL.code, reply.INTERNAL.enhanced, reply.INTERNAL.text
        if reader.has_ended:
            lines.put_back(reader.rest)
            return problem
        meanwhile()
        block = lines.block(deadline)
