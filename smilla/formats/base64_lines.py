"""Base64 in lines of 76 with CRLF (RFC 2045 section 6.8; RFC 9580 section 6 has the same limit), block by block."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from pybase64 import b64encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LINES = 840
_BLOCK = 57 * _LINES  # 57 octets make a line of 76


def base64_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines for ``blocks`` of any size, each with its CRLF."""
    held = b""
    for block in blocks:
        held = held + block if held else block
        whole = len(held) - len(held) % _BLOCK
        view = memoryview(held)
        for start in range(0, whole, _BLOCK):
            yield _in_lines(b64encode(view[start : start + _BLOCK]))
        held = held[whole:]
    if held:
        yield _in_lines(b64encode(held))


def _in_lines(text: bytes) -> bytes:
    lines = -(-len(text) // 76)
    return b"\r\n".join((*_cut(lines, len(text)).unpack(text), b""))


@lru_cache(maxsize=1024)
def _cut(lines: int, octets: int) -> struct.Struct:
    """Cuts this many octets into this many lines: much faster than slices."""
    return struct.Struct("76s" * (lines - 1) + f"{octets - 76 * (lines - 1)}s")
