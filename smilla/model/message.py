"""A message, its envelope and the client that submitted it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Protocol

from smilla.address import EmailAddress
from smilla.remembered import when_short
from smilla.value import value

_USUAL_NAME = 80  # octets; a stranger may send a thousand names of 60 KB: not worth remembering
_NOT_SHOWN = re.compile(r"[^!#-\[\]-~]")


@when_short(_USUAL_NAME, entries=1024)
def _folded_name(raw_name: bytes) -> str:
    return raw_name.decode("ascii", "replace").rstrip(" \t").lower()


@value
class Header:
    """One header field, octet for octet: ``raw_value`` is everything after the colon, folding included (CRLF), without
    the final line end.  ``name`` is the field name in lower case, for comparison."""

    raw_name: bytes
    raw_value: bytes
    name: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", _folded_name(self.raw_name))

    @property
    def raw(self) -> bytes:
        """The field as in a message, with its final CRLF."""
        return self.raw_name + b":" + self.raw_value + b"\r\n"


class Body(Protocol):
    """The octets after the header, wherever they are kept.  They can be read more than once, in blocks."""

    @property
    def size(self) -> int:
        """Length in octets."""

    def blocks(self) -> Iterator[bytes]:
        """The octets from the beginning, in pieces of any length."""


class GrowingBody(Body, Protocol):
    """A body that is still arriving."""

    def append(self, block: bytes) -> None:
        """Adds octets at the end."""


@value
class Message:
    """Header fields in order, and the body; lines end in CRLF.  ``places`` maps each field name, in lower case, to the
    indexes of its fields, in order."""

    headers: tuple[Header, ...]
    body: Body
    places: Mapping[str, Sequence[int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places: dict[str, list[int]] = {}
        for index, header in enumerate(self.headers):
            places.setdefault(header.name, []).append(index)
        object.__setattr__(self, "places", places)

    def named(self, name: str) -> list[Header]:
        """The fields of that name, in order."""
        return [self.headers[index] for index in self.places.get(name, ())]


@value
class Recipient:
    """An envelope recipient as the MTA named it, its ESMTP parameters, and the parsed address, None if it is no
    address."""

    raw: str
    address: EmailAddress | None = field(hash=False)  # ``raw`` tells nearly all recipients apart, and is quick to hash
    parameters: tuple[str, ...] = field(default=(), hash=False)

    @property
    def shown(self) -> str:
        """The address for logs and replies: no angle brackets, no control or non-ASCII characters."""
        return _NOT_SHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", self.raw.strip("<>"))


@value
class Envelope:
    """MAIL FROM and RCPT TO as given; ``sender`` is "" for the null sender."""

    sender: str
    recipients: tuple[Recipient, ...]
    parameters: tuple[str, ...] = ()


@value
class Transport:
    """How a client brought its messages, as the MTA's macros tell: TLS version, cipher and its bits, all "" without
    TLS.  Postfix gives the subject and issuer of a client certificate as common names, and only of one that it trusts;
    Sendmail gives whole names of any certificate, and in ``verify`` whether it trusts it ("OK")."""

    tls_version: str = ""
    cipher: str = ""
    bits: str = ""
    cert_subject: str = ""
    cert_issuer: str = ""
    verify: str = ""

    @property
    def is_encrypted(self) -> bool:
        """Was it TLS?"""
        return bool(self.tls_version or self.cipher)


@value
class Authorities:
    """The authorities of a circle, as an MTA may name them: by their common names, or by whole names in OpenSSL's
    one-line form."""

    circle: str
    common_names: frozenset[str]
    whole_names: frozenset[str]


@value
class Client:
    """The client that submitted the message, as far as the MTA tells us (``mta`` is the MTA's own name).  It decides
    the direction in ``mode = "auto"``."""

    ip: str = ""
    daemon_name: str = ""
    authenticated_as: str = ""
    host_name: str = ""
    helo: str = ""
    port: int = 0
    mta: str = ""
