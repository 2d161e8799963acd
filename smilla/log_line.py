"""Formats a log line: ``queue-id event key=value …``, or one JSON object with the same names.

In text, a warning or an error ends with its severity.  A line about a recipient does not, since programs read it and
its event says how bad it is.  Text from outside is quoted, so no sender can forge a line.  A line is never longer than
one atomic write to a pipe.
"""

from __future__ import annotations

import json
import re
import select
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

_BARE = re.compile(r"""[!#-&(-<>-\[\]-~]+""")  # no white space, quote, backslash or equals sign
_ACTIONS = frozenset(("encrypted", "unchanged", "plain", "deferred", "refused", "held", "already-sent"))
_OF_RECIPIENTS = _ACTIONS | {"sealed", "observed"}
_TOLD = ("warning", "error")
_SHORTER = (500, 100, 16)  # values are cut to so many characters if a line is too long


class Line(NamedTuple):
    """One event: its level (a number of Python's logging), its line with the line end, and what the line says."""

    level: int
    raw: bytes
    event: str
    queue_id: str
    fields: Mapping[str, Any]

    @property
    def says_action(self) -> bool:
        """Is the event what has happened for a recipient?"""
        return self.event in _ACTIONS


def made(level: str, event: str, queue_id: str, fields: dict[str, Any], *, as_json: bool) -> bytes:
    """The line with its line end; at most PIPE_BUF octets, since a pipe takes no more at once.  ``level`` is debug,
    info, warning or error."""
    if not as_json and level in _TOLD and event not in _OF_RECIPIENTS:
        fields = fields | {"severity": level}
    name = level if as_json else ""
    raw = _line(name, event, queue_id, fields)
    limits = iter(_SHORTER)
    while len(raw) > select.PIPE_BUF:
        limit = next(limits)
        cut = {key: _cut(value, limit) for key, value in fields.items()}
        raw = _line(name, event, str(_cut(queue_id, limit)), cut)
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
