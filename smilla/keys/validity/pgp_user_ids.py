"""The user IDs of an OpenPGP certificate, and whom they name (RFC 9580 section 5.11, RFC 7929 section 5)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from smilla.address import EmailAddress, parse
from smilla.errors import AddressError, ParseError
from smilla.formats import openpgp
from smilla.keys.validity.pgp_certificate import Component, Standing
from smilla.model import Reason

MAX_USER_ID = 2048  # octets; gpg refuses longer ones


@dataclass(slots=True)
class UserID:
    """A user ID: its text for people, the mailbox in it, its standing."""

    component: Component
    text: str
    mailbox: EmailAddress | None
    standing: Standing

    @property
    def holds(self) -> bool:
        """Whether it is signed and not revoked."""
        return self.standing.binding is not None and self.standing.revoked is None

    @property
    def against(self) -> list[Reason]:
        """Why it does not hold."""
        return [self.standing.revoked] if self.standing.revoked else self.standing.faults


_ANGLED = re.compile(r"[^<>]*<([^<>]+)>\s*\Z")


def mailbox_in(user_id: bytes) -> EmailAddress | None:
    """The address in a user ID: the text in its only angle brackets, at its end, or all of it."""
    text = user_id[:MAX_USER_ID].decode("utf-8", "surrogateescape")
    angled = _ANGLED.match(text)
    try:
        return parse(angled[1] if angled else text)
    except AddressError:
        return None


def mailboxes_in(raw: bytes) -> tuple[EmailAddress, ...]:
    """Those in the user IDs of a key that cannot be read, such as one of an unknown version, but whose packets can."""
    try:
        found = [mailbox_in(packet.body) for packet in openpgp.packets(raw) if packet.tag == openpgp.USER_ID]
    except ParseError:
        return ()
    return tuple(mailbox for mailbox in found if mailbox is not None)


def names(mailbox: EmailAddress, address: EmailAddress) -> bool:
    """Without regard to case.  ``*@domain`` covers a whole domain (RFC 7929 section 5); other wildcards do not
    count."""
    if mailbox.local_part == "*":
        return mailbox.domain == address.domain
    return mailbox.folded == address.folded


def shown(raw: bytes) -> str:
    """Text from a key or an envelope, for logs and people: no control characters, not too long."""
    text = raw[:200].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
