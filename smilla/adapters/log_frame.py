"""The forms of a log line: plain, with journald's priority, for syslog, and for journald's own socket."""

from __future__ import annotations

import re
from collections.abc import Iterator

from smilla.log_line import Line

_MAIL = 2  # the facility, RFC 5424 section 6.2.1
_SEVERITIES = {10: 7, 20: 6, 30: 4, 40: 3}  # the same section, by Python's levels
_NAMES = {"rcpt": "RECIPIENT"}
_NO_NAME = re.compile(r"[^A-Z0-9_]")
_MOST = 2000  # characters of a field, so that the datagram fits into any socket buffer


def plain(line: Line) -> bytes:
    """The line as it is."""
    return line.raw


def with_priority(line: Line) -> bytes:
    """For a stderr that is journald's: ``<N>`` before the line (sd-daemon(3)), which journald takes off again."""
    return b"<%d>%b" % (_SEVERITIES[line.level], line.raw)


def for_syslog(line: Line) -> bytes:
    """For syslog's socket (RFC 3164 without the time, which the daemon adds)."""
    return b"<%d>smilla: %b\0" % (_MAIL << 3 | _SEVERITIES[line.level], line.raw.rstrip(b"\n"))


def for_journal(line: Line) -> bytes:
    """For journald's own socket: a datagram of fields, as "Native Journal Protocol" of systemd describes it.

    It has MESSAGE (the line), PRIORITY, SYSLOG_IDENTIFIER and SYSLOG_FACILITY; SMILLA_EVENT and SMILLA_QUEUE_ID;
    SMILLA_RECIPIENT and SMILLA_ACTION if the line says what happened for a recipient; and SMILLA_NAME for each other
    field of the line.
    """
    return b"".join(_field(name, raw) for name, raw in _fields(line))


def _fields(line: Line) -> Iterator[tuple[str, bytes]]:
    yield "MESSAGE", line.raw.rstrip(b"\n")
    yield "PRIORITY", b"%d" % _SEVERITIES[line.level]
    yield "SYSLOG_IDENTIFIER", b"smilla"
    yield "SYSLOG_FACILITY", b"%d" % _MAIL
    yield "SMILLA_EVENT", line.event.encode("ascii")
    if line.queue_id:
        yield "SMILLA_QUEUE_ID", _octets(line.queue_id)
    if line.says_action:
        yield "SMILLA_ACTION", line.event.encode("ascii")
    for name, value in line.fields.items():
        if value != "":
            yield f"SMILLA_{_NO_NAME.sub('_', _NAMES.get(name, name.upper()))}", _octets(str(value))


def _octets(text: str) -> bytes:
    return text[:_MOST].encode("utf-8", "backslashreplace")


def _field(name: str, raw: bytes) -> bytes:
    """A value with a line end, or with other control characters, is preceded by its length."""
    if raw.isascii() and raw.decode("ascii").isprintable():
        return b"%b=%b\n" % (name.encode("ascii"), raw)
    return b"%b\n%b%b\n" % (name.encode("ascii"), len(raw).to_bytes(8, "little"), raw)
