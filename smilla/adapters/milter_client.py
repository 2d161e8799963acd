"""Asks what listens at a milter's socket, in the milter protocol: negotiates options as an MTA does, then quits.

Nothing but the negotiation is sent, so no filter sees a client or a message.
"""

from __future__ import annotations

import errno
import re
import socket
import struct
import time
from dataclasses import dataclass, field, replace
from enum import Enum

_VERSION, _ACTIONS, _STEPS = 6, 0x1FF, 0x1FFFFF  # what Postfix offers
_OURS = 0x02 | 0x20 | 0x40  # SMFIF_CHGBODY, _QUARANTINE and _CHGFROM: smilla asks for all of these
_LONGEST = 4096  # octets of an answer to the negotiation, which is short


SILENT = "it takes connections, but does not answer"


class Who(Enum):
    """What listens at a socket."""

    SMILLA = "a filter that may replace a body, as smilla does"
    FILTER = "a filter that may not do what smilla does"
    OTHER = "something that is no filter"
    NOBODY = "nobody"
    DENIED = "nobody knows: this user may not connect"


@dataclass(frozen=True, slots=True)
class Answer:
    """Who listens, and what was said or went wrong.  ``process_id``: who began to listen, 0 if unknown."""

    who: Who
    text: str = ""
    process_id: int = field(default=0, compare=False)


def ask(specification: str, timeout_s: float) -> Answer:
    """What listens at a socket in libmilter's notation.  Waits at most ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    try:
        with _connected(specification, timeout_s) as connection:
            return replace(_negotiated(connection, deadline), process_id=_listening(connection))
    except PermissionError as error:
        return Answer(Who.DENIED, error.strerror or "permission denied")
    except (FileNotFoundError, ConnectionRefusedError) as error:
        return Answer(Who.NOBODY, error.strerror or "")
    except OSError as error:
        who = Who.OTHER if error.errno == errno.ENOTSOCK else Who.NOBODY
        return Answer(who, error.strerror or str(error) or type(error).__name__)
    except ValueError as error:
        return Answer(Who.NOBODY, str(error))


def _connected(specification: str, timeout_s: float) -> socket.socket:
    kind, _, place = specification.partition(":")
    if kind in ("unix", "local"):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            connection.connect(place)
        except BaseException:
            connection.close()
            raise
        return connection
    port, _, host = place.partition("@")
    return socket.create_connection((host.strip("[]"), int(port)), timeout_s)


def _listening(connection: socket.socket) -> int:
    """The process that called listen(2), as unix(7) has it under SO_PEERCRED; 0 if it is in another namespace."""
    if connection.family != socket.AF_UNIX:
        return 0
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[0])


def _negotiated(connection: socket.socket, deadline: float) -> Answer:
    try:
        connection.sendall(_packet(b"O", struct.pack("!III", _VERSION, _ACTIONS, _STEPS)))
        raw = _read(connection, 4, deadline)
        (length,) = struct.unpack("!I", raw) if len(raw) == 4 else (0,)
        if not 13 <= length <= _LONGEST:
            return Answer(Who.OTHER, _said(raw + _more(connection)))
        packet = _read(connection, length, deadline)
        if len(packet) < length or packet[:1] != b"O":
            return Answer(Who.OTHER, _said(raw + packet))
        connection.sendall(_packet(b"Q"))
    except TimeoutError:
        return Answer(Who.OTHER, SILENT)
    except OSError as error:
        return Answer(Who.OTHER, f"it takes connections, but ends them ({error.strerror})")
    _, actions = struct.unpack("!II", packet[1:9])
    return Answer(Who.SMILLA if actions & _OURS == _OURS else Who.FILTER)


def _packet(command: bytes, data: bytes = b"") -> bytes:
    return struct.pack("!I", len(data) + 1) + command + data


def _read(connection: socket.socket, size: int, deadline: float) -> bytes:
    """That many octets, fewer if the connection ends.  Raises TimeoutError."""
    raw = b""
    while len(raw) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        block = connection.recv(size - len(raw))
        if not block:
            break
        raw += block
    return raw


def _more(connection: socket.socket) -> bytes:
    """What else has come of a greeting."""
    try:
        connection.settimeout(0.2)
        return connection.recv(200)
    except OSError:
        return b""


def _said(raw: bytes) -> str:
    """The first line, if it is one."""
    line = raw.splitlines()[0] if raw else b""
    if not line:
        return "it takes connections, but ends them without a word"
    text = line.decode("ascii", "replace")
    return f"it says {text!r}" if re.fullmatch(r"[ -~]+", text) else f"it answers {len(raw)} octets of something else"
