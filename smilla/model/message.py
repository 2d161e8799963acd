"""A message, its envelope and who handed it in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from smilla.address import EmailAddress

_USUAL_NAME = 80  # octets; a stranger may send a thousand names of 60 KB, which are not worth remembering
_NOT_SHOWN = re.compile(r"[^!#-\[\]-~]")


def _folded_name(raw_name: bytes) -> str:
    return raw_name.decode("ascii", "replace").rstrip(" \t").lower()


_remembered_name = lru_cache(maxsize=1024)(_folded_name)


@dataclass(frozen=True, slots=True)
class Header:
    """One header field, octet for octet: ``raw_value`` is all after the colon, folding included (CRLF), without the
    final line end.  ``name`` is the field name in lower case, for comparison."""

    raw_name: bytes
    raw_value: bytes
    name: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        folded = _remembered_name if len(self.raw_name) <= _USUAL_NAME else _folded_name
        object.__setattr__(self, "name", folded(self.raw_name))

    @property
    def raw(self) -> bytes:
        """The field as it stands in a message, with its final CRLF."""
        return self.raw_name + b":" + self.raw_value + b"\r\n"


class Body(Protocol):
    """The octets after the header, wherever they are kept; readable more than once, in blocks."""

    @property
    def size(self) -> int:
        """Length in octets."""

    def blocks(self) -> Iterator[bytes]:
        """The octets from the beginning, in pieces of any length."""


class GrowingBody(Body, Protocol):
    """A body that still arrives."""

    def append(self, block: bytes) -> None:
        """Adds octets at the end."""


@dataclass(frozen=True, slots=True)
class Message:
    """Header fields in order, and the body; lines end in CRLF."""

    headers: tuple[Header, ...]
    body: Body


@dataclass(frozen=True, slots=True)
class Recipient:
    """An envelope recipient as the MTA named it, its ESMTP parameters, and the parsed address, None for no address."""

    raw: str
    address: EmailAddress | None
    parameters: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The address for logs and replies: no angle brackets, no control or non-ASCII characters."""
        return _NOT_SHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", self.raw.strip("<>"))


@dataclass(frozen=True, slots=True)
class Envelope:
    """MAIL FROM and RCPT TO as given; ``sender`` is "" for the null sender."""

    sender: str
    recipients: tuple[Recipient, ...]
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Client:
    """Who handed the message in, as far as the MTA tells (``mta`` is its own name); decides the direction in
    ``mode = "auto"``."""

    ip: str = ""
    daemon_name: str = ""
    authenticated_as: str = ""
    host_name: str = ""
    helo: str = ""
    port: int = 0
    mta: str = ""
