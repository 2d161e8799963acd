"""Formats a log line: ``queue-id event key=value …``, or one JSON object with the same names.

Text from outside is quoted, so no sender can forge a line.  A line is never longer than one atomic write to a pipe.
"""

from __future__ import annotations

import json
import re
import select
import time
from typing import Any

_BARE = re.compile(r"""[!#-&(-<>-\[\]-~]+""")  # no white space, quote, backslash or equals sign
_SHORTER = (500, 100, 16)  # values are cut to so many characters if a line is too long


def made(level: str, event: str, queue_id: str, fields: dict[str, Any]) -> bytes:
    """The line with its line end; at most PIPE_BUF octets, since a pipe takes no more at once.  ``level`` is for JSON;
    "" asks for text."""
    raw = _line(level, event, queue_id, fields)
    limits = iter(_SHORTER)
    while len(raw) > select.PIPE_BUF:
        limit = next(limits)
        cut = {key: _cut(value, limit) for key, value in fields.items()}
        raw = _line(level, event, str(_cut(queue_id, limit)), cut)
    return raw


def _line(level: str, event: str, queue_id: str, fields: dict[str, Any]) -> bytes:
    line = _json(level, event, queue_id, fields) if level else _text(event, queue_id, fields)
    return line.encode("ascii", "backslashreplace") + b"\n"


def _cut(value: object, limit: int) -> object:
    return value[:limit] + "..." if isinstance(value, str) and len(value) > limit else value


def _text(event: str, queue_id: str, fields: dict[str, Any]) -> str:
    words = [f"{key}={_quoted(str(value))}" for key, value in fields.items() if value != ""]
    return " ".join([queue_id or "-", event, *words])


def _json(level: str, event: str, queue_id: str, fields: dict[str, Any]) -> str:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return json.dumps({"time": now, "level": level, "queue_id": queue_id, "event": event, **fields})


def _quoted(value: str) -> str:
    """Bare if that is unambiguous, otherwise quoted with escapes."""
    if _BARE.fullmatch(value):
        return value
    return json.dumps(value)
