"""What a message is, what happens for each recipient, and the copies that result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field
from enum import Enum, StrEnum

from smilla.model.hops import Hop
from smilla.model.keys import KeyLookup, PGPKey, Reason, X509Key
from smilla.model.message import Recipient
from smilla.value import value


class Direction(StrEnum):
    """Which way a message goes, as a whole or for one recipient, seen from this MTA."""

    OUTBOUND = "outbound"
    INBOUND = "inbound"


class MessageKind(StrEnum):
    """What a message is by its structure, never by what it claims."""

    ENCRYPTED = "encrypted"
    SIGNED = "signed"
    PLAIN = "plain"


@value
class Classification:
    """The message's kind, and why."""

    kind: MessageKind
    reason: Reason


class Action(StrEnum):
    """What happens for one recipient; the log event is its past tense."""

    ENCRYPT = "encrypt"
    UNCHANGED = "unchanged"
    PLAIN = "plain"
    SECURE_HOP = "secure-hop"  # as it came, over a verified hop only
    DEFER = "defer"
    REFUSE = "refuse"
    HOLD = "hold"
    DONE = "done"  # a copy was accepted at an earlier attempt


@value
class Style:
    """How a ciphertext is written, according to the configuration, the recipient's rule and the recipient's
    certificate.

    Recipients with different styles share no ciphertext.  Each field has the name and meaning of its option
    (protect_headers that of [headers] protect).
    """

    cipher: str = "aes256-cbc"
    rsa_padding: str = "pkcs1"
    ecdh_kdf: str = "sha1"
    protect_headers: str = "off"
    seipd2: str = "v6"
    hidden_recipients: bool = False

    @property
    def is_authenticated(self) -> bool:
        """Whether it makes AuthEnvelopedData (RFC 5083), which older clients cannot read."""
        return self.cipher.endswith("-gcm")


@value
class Decision:
    """What happens for one recipient and why; ``rule`` names the part of the configuration that decided.  ``readers``
    are the look-ups of further readers (also_to); ``style`` is how their copy is written.  ``hop`` is how it may leave,
    or why not, where the policy asks for a verified hop.  ``awaits_expansion``: this may be an alias, so the stage
    decides, which sees where the alias led."""

    recipient: Recipient
    action: Action
    reason: Reason
    rule: str = ""
    lookup: KeyLookup | None = None
    readers: tuple[KeyLookup, ...] = ()
    style: Style = field(default_factory=Style)
    awaits_expansion: bool = False
    hop: Hop | None = None

    @property
    def key(self) -> X509Key | PGPKey | None:
        """The key to encrypt to, if the action is ENCRYPT."""
        return self.lookup.key if self.lookup and self.action is Action.ENCRYPT else None


class CopyForm(StrEnum):
    """The form of a copy, as ``envelopes.json`` names it.  (``Format`` is the format of a key.)"""

    SMIME = "smime"
    OPENPGP = "openpgp"
    PLAIN = "plain"
    SECURE_HOP = "secure-hop"
    UNCHANGED = "unchanged"


@value
class HeaderEdits:
    """Changes in the header of a message: the indexes of removed fields, and the fields added at the end, in order
    (name, and value without its leading space)."""

    removed: tuple[int, ...] = ()
    added: tuple[tuple[str, str], ...] = ()


@value
class Rewrite(HeaderEdits):
    """How a copy differs from the message that came in: its header, and the new body, None if the body stays.

    Each call of ``body`` makes the new body from the start, in blocks; it may raise before or between them.
    """

    body: Callable[[], Iterator[bytes]] | None = None


@value
class HeaderProtection:
    """What was requested for a copy's header fields (off, copy or hide), the names of the fields inside it and of those
    hidden outside, and why nothing was protected, if so requested."""

    asked: str = "off"
    inside: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    problem: Reason | None = None


@value
class Copy:
    """A message to be delivered: to whom, in which form, how it differs from what came in, and how its header fields
    are protected."""

    form: CopyForm
    recipients: tuple[Recipient, ...]
    rewrite: Rewrite
    protection: HeaderProtection = HeaderProtection()


@value
class Refusal:
    """A copy that the MTA's listener refused: for whom, and its words.  ``is_of_copy``: it refused RCPT or the final
    dot, not something that concerns all copies."""

    recipient: Recipient
    detail: str
    is_of_copy: bool = False


_OK = Reason("ok", "")


class Disposition(Enum):
    """What we tell the MTA about the message as a whole."""

    DELIVER = "deliver"
    DEFER = "defer"
    REFUSE = "refuse"
    HOLD = "hold"


@value
class Outcome:
    """The result of ``pipeline.process``: one decision for each recipient, and the copies owed if all is delivered.

    ``copies`` is empty unless the disposition is DELIVER or HOLD; all but number ``kept_index`` (None for none) are
    re-injected.  The sender is told of ``bounced``; for ``relayed`` see policy.is_relayed.  ``reason`` says why
    something is not delivered, and ``blocked_by`` names the recipients who keep it from being delivered.
    """

    disposition: Disposition
    decisions: tuple[Decision, ...]
    classification: Classification
    direction: Direction
    copies: tuple[Copy, ...] = ()
    reason: Reason = _OK
    blocked_by: tuple[Recipient, ...] = ()
    kept_index: int | None = 0
    bounced: tuple[Decision, ...] = ()
    relayed: tuple[Recipient, ...] = ()

    @property
    def awaits_expansion(self) -> bool:
        """May some recipient without a copy still be an alias?"""
        return any(decision.awaits_expansion and decision.action is not Action.DONE for decision in self.decisions)
