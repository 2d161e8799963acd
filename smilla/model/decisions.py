"""What a message is, what happens for each recipient, and the copies that come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field
from enum import Enum, StrEnum

from smilla.model.keys import KeyLookup, PGPKey, Reason, X509Key
from smilla.model.message import Recipient
from smilla.value import value


class Direction(StrEnum):
    """The way of a message, as a whole or for one recipient, seen from this MTA."""

    OUTBOUND = "outbound"
    INBOUND = "inbound"


class MessageKind(StrEnum):
    """What a message is by its structure (never by mention)."""

    ENCRYPTED = "encrypted"
    SIGNED = "signed"
    PLAIN = "plain"


@value
class Classification:
    """The kind and why."""

    kind: MessageKind
    reason: Reason


class Action(StrEnum):
    """What happens for one recipient; the past tense is the log's event."""

    ENCRYPT = "encrypt"
    UNCHANGED = "unchanged"
    PLAIN = "plain"
    DEFER = "defer"
    REFUSE = "refuse"
    HOLD = "hold"
    DONE = "done"  # a copy was accepted at an earlier attempt


@value
class Style:
    """How a ciphertext is written, as the configuration, the rule for a recipient and the recipient's certificate say.

    Recipients whose styles differ share no ciphertext.  Each field has the name and meaning of its option
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
        """Whether it makes AuthEnvelopedData (RFC 5083), which older clients do not read."""
        return self.cipher.endswith("-gcm")


@value
class Decision:
    """What happens for one recipient and why; ``rule`` names what in the configuration decided.  ``readers`` are
    the look-ups of further readers (also_to), ``style`` is how their copy is written.  ``waits``: this may be an alias,
    and the stage decides, which knows where it led."""

    recipient: Recipient
    action: Action
    reason: Reason
    rule: str = ""
    lookup: KeyLookup | None = None
    readers: tuple[KeyLookup, ...] = ()
    style: Style = field(default_factory=Style)
    waits: bool = False

    @property
    def key(self) -> X509Key | PGPKey | None:
        """The key to encrypt to, where the action is ENCRYPT."""
        return self.lookup.key if self.lookup and self.action is Action.ENCRYPT else None


class CopyForm(StrEnum):
    """The form of a copy, as ``envelopes.json`` names it."""

    SMIME = "smime"
    OPENPGP = "openpgp"
    PLAIN = "plain"
    UNCHANGED = "unchanged"


@value
class HeaderEdits:
    """What changes in the header of a message: the indexes of fields that go, the fields that come (at the end, in
    order; name, and value without its leading space)."""

    removed: tuple[int, ...] = ()
    added: tuple[tuple[str, str], ...] = ()


@value
class Rewrite(HeaderEdits):
    """How a copy differs from the message that came in: its header, and the new body, None where that stays.

    ``body`` makes the new body from the start each time it is called, in blocks, and raises before or within them.
    """

    body: Callable[[], Iterator[bytes]] | None = None


@value
class HeaderProtection:
    """What was asked for a copy's header fields (off, copy or hide), the names of those that stand inside it and of
    those hidden outside, and why none does where that was asked for."""

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
    """A copy that the MTA's listener did not take: for whom, and what it said; ``is_of_copy``: to RCPT or to the
    final dot, and not to whatever concerns all."""

    recipient: Recipient
    detail: str
    is_of_copy: bool = False


_OK = Reason("ok", "")


class Disposition(Enum):
    """What the MTA is told about the message as a whole."""

    DELIVER = "deliver"
    DEFER = "defer"
    REFUSE = "refuse"
    HOLD = "hold"


@value
class Outcome:
    """What ``pipeline.process`` found: one decision a recipient, and the copies owed where all is delivered.

    ``copies`` is empty unless the disposition is DELIVER or HOLD; all but number ``kept`` (None for
    none) are re-injected.  ``bounced`` are
    told to the sender, ``relayed`` see policy.is_relayed; ``reason`` and ``culprits`` explain what is not delivered.
    """

    disposition: Disposition
    decisions: tuple[Decision, ...]
    classification: Classification
    direction: Direction
    copies: tuple[Copy, ...] = ()
    reason: Reason = _OK
    culprits: tuple[Recipient, ...] = ()
    kept: int | None = 0
    bounced: tuple[Decision, ...] = ()
    relayed: tuple[Recipient, ...] = ()

    @property
    def waits(self) -> bool:
        """Is there anybody who may be an alias, and has no copy yet?"""
        return any(decision.waits and decision.action is not Action.DONE for decision in self.decisions)
