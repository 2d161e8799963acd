"""What is handed to a server over SMTP, what becomes of it, and what the server offers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from smilla.model.message import Client, Recipient


@dataclass(frozen=True, slots=True)
class Submission:
    """One message for the MTA's listener: the envelope, with the ESMTP parameters as the client gave them, and the
    octets of header and body in blocks, with CRLF line ends and not dot-stuffed.  ``needs_dsn``: a listener without RET
    (RFC 3461) may not have it, since a bounce would have the whole text."""

    sender: str
    parameters: tuple[str, ...]
    recipients: tuple[Recipient, ...]
    octets: Callable[[], Iterator[bytes]]
    client: Client
    queue_id: str
    needs_dsn: bool = False


@dataclass(frozen=True, slots=True)
class Handover:
    """The result of a submission: recipients ``accepted`` by the final ``reply``, and those ``refused`` with the reply
    to RCPT or to the final dot.  ``unknown``: the connection ended after the final dot and before the reply."""

    accepted: tuple[Recipient, ...] = ()
    refused: tuple[tuple[Recipient, str], ...] = ()
    unknown: bool = False
    reply: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server offers in its answer to EHLO: the keywords, the SIZE (RFC 1870), 0 without one, and the mechanisms
    of AUTH (RFC 4954).  All are in capitals."""

    keywords: frozenset[str] = frozenset()
    size_limit: int = 0
    mechanisms: frozenset[str] = frozenset()
