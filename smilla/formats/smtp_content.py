"""The content of a message as it stands between DATA and the final dot (RFC 5321 sections 2.3.8 and 4.5.2).  No socket.

Only CRLF ends a line, and only CRLF.CRLF ends the content, so that nobody can smuggle a second message into a first
one.  What programs read in different ways (a bare CR, a bare LF, a NUL) is reported, and never mended.
"""

from __future__ import annotations

_END = b"\r\n.\r\n"


class ContentReader:
    """Takes the octets as they arrive.  ``has_ended`` is true from the final dot on; ``rest`` is what came behind it.
    ``fault`` says in words what must not be in a message, "" if there was nothing such."""

    def __init__(self) -> None:
        self.has_ended = False
        self.rest = b""
        self.fault = ""
        # What may be the beginning of the final dot.  The first line counts as if one stood before it.
        self._held = b"\r\n"
        self._is_first = True

    def feed(self, raw: bytes) -> bytes:
        """The next octets of the content, with doubled dots undone."""
        joined = self._held + raw
        end = joined.find(_END)
        if end >= 0:
            self.has_ended, self.rest = True, joined[end + len(_END) :]
            found = joined[: end + 2]
        else:
            kept = next(size for size in range(len(_END) - 1, -1, -1) if joined.endswith(_END[:size]))
            self._held = joined[len(joined) - kept :]
            found = joined[: len(joined) - kept]
        self.fault = self.fault or _fault(found)
        # A dot at the beginning of a line is not part of it, whether or not another one follows.
        found = found.replace(b"\r\n.", b"\r\n")
        if self._is_first and found:
            self._is_first, found = False, found[2:]
        return found


def _fault(found: bytes) -> str:
    """``found`` never ends between CR and LF."""
    pairs = found.count(b"\r\n")
    if found.count(b"\n") != pairs:
        return "a line feed without a carriage return"
    if found.count(b"\r") != pairs:
        return "a carriage return without a line feed"
    return "a NUL" if b"\0" in found else ""
