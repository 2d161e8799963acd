"""An encrypted message and the keys of its reader in, the MIME entity inside out; and that entity put back in place.

Every outcome but one is NotDecrypted, and then nothing of the plaintext leaves this file, except by ``opened``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smilla.classify import classify
from smilla.copies.rewrap import MARK
from smilla.decrypt import cms, entity
from smilla.decrypt.whole import enclosed
from smilla.errors import NotDecrypted, ParseError
from smilla.formats import header_text, mime
from smilla.model import Format, MessageKind, Rewrite
from smilla.value import value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from smilla.decrypt.entity import Entity
    from smilla.decrypt.held_key import HeldKey
    from smilla.model import Header, Message
    from smilla.ports import OpenPGPOpener

_HIDDEN = ("subject", "comments", "keywords", "thread-topic")  # what hide takes off the outer header


@value
class Decrypted:
    """The whole that was inside.  ``authenticated``: a tag or code proves that it is what somebody encrypted with the
    content key; otherwise (EnvelopedData) anybody on the way may have changed it, and only a valid signature inside
    says more.  ``raw_sealed`` is the ciphertext: a signature may be in it, beside the content."""

    form: Format
    entity: Entity
    authenticated: bool
    raw_sealed: bytes = b""


@value
class Opened:
    """The same before anybody has looked at what was inside: ``raw`` are its octets."""

    form: Format
    raw: bytes
    authenticated: bool
    raw_sealed: bytes


def decrypted(message: Message, keys: Sequence[HeldKey] = (), openpgp: OpenPGPOpener | None = None) -> Decrypted:
    """What is inside.  Raises NotDecrypted, as ``opened`` and ``as_entity``."""
    return as_entity(opened(message, keys, openpgp))


def as_entity(found: Opened) -> Decrypted:
    """What was inside, as one entity.  Raises NotDecrypted: ``nested`` if it is encrypted again; ``no_entity`` if it
    was authenticated and is no MIME entity; ``undecryptable`` if it was not."""
    inner = _entity(found.raw, authenticated=found.authenticated)
    return Decrypted(found.form, inner, found.authenticated, found.raw_sealed)


def opened(message: Message, keys: Sequence[HeldKey] = (), openpgp: OpenPGPOpener | None = None) -> Opened:
    """The octets inside, for ``as_entity`` or for whoever can prove otherwise that nobody has changed them.

    Raises NotDecrypted: what ``whole.enclosed`` and ``cms.opened`` say; ``no_key`` without any key for the format; and
    what the OpenPGP engine says (``not_for_this_key``, ``undecryptable``, or ``engine``, which is temporary).
    """
    found = enclosed(message)
    if found.form is Format.SMIME:
        if not keys:
            raise NotDecrypted("no_key", "there is no private key for S/MIME")
        inside = cms.opened(found.raw, keys)
        return Opened(found.form, inside.raw_content, inside.authenticated, found.raw)
    if openpgp is None:
        raise NotDecrypted("no_key", "there is no private key for OpenPGP")
    return Opened(found.form, openpgp.opened(found.raw), True, found.raw)


def _entity(raw: bytes, *, authenticated: bool) -> Entity:
    """The plaintext as one entity.  What is wrong with one that was not authenticated says nothing: it could tell an
    attacker about a padding."""
    try:
        inner = entity.read(raw)
    except ParseError as error:
        if not authenticated:
            raise cms.undecryptable() from None
        raise NotDecrypted("no_entity", f"what is inside is no MIME entity: {error}") from error
    if not authenticated:
        checked(inner)
    if classify(inner.message).kind is MessageKind.ENCRYPTED:
        raise NotDecrypted("nested", "what is inside is encrypted again")
    return inner


def checked(inner: Entity) -> None:
    """Reads an entity that nothing authenticates to its last octet.  Raises NotDecrypted, as for a wrong padding."""
    try:
        entity.check(inner)
    except ParseError:
        raise cms.undecryptable() from None


def rejoined(message: Message, inner: Entity, form: Format) -> Rewrite:
    """The message with the entity in place of the ciphertext: its Content-* fields for those outside, its body for the
    body, octet for octet.

    Fields hidden from the outer header come back where the entity says that they are protected (RFC 9788), or in the
    older way: Subject, and the three that ``[smime] protect_headers = "hide"`` takes away.  All other fields stay as
    they are outside, where DKIM and DMARC have judged them; those inside are not shown (RFC 9788 section 4.4: a From
    inside could be anybody's).
    """
    restored = _restored(message, inner)
    names = {header.name for header in restored}
    gone = [
        index
        for index, header in enumerate(message.headers)
        if header.name.startswith("content-") or header.name == MARK.lower() or header.name in names
    ]
    added = [_added(header) for header in inner.headers if header.name.startswith("content-")]
    if "mime-version" not in message.places:
        added.insert(0, ("MIME-Version", "1.0"))
    mark = (MARK, f"decrypted; format={form.value}")

    def body() -> Iterator[bytes]:
        return iter([inner.raw_body])

    return Rewrite(tuple(gone), (*map(_added, restored), *added, mark), body)


def _restored(message: Message, inner: Entity) -> list[Header]:
    """Fields of the payload's header, each once, that stand outside with another value, or not at all."""
    payload = _payload(inner)
    kinds = [mime.content_type(header.raw_value) for header in payload.headers if header.name == "content-type"]
    if len(kinds) != 1 or kinds[0] is None or not _protects(kinds[0]):
        return []
    found = [header for header in payload.headers if header.name in _HIDDEN]
    outside = {header.name: [one.raw_value.strip() for one in message.named(header.name)] for header in found}
    once = [header for header in found if sum(one.name == header.name for one in found) == 1]
    return [header for header in once if outside[header.name] != [header.raw_value.strip()]]


def _protects(kind: mime.ContentType) -> bool:
    older = kind.parameters.get("protected-headers") == "v1"
    return kind.parameters.get("hp", "cipher" if older else "").lower() == "cipher"


def _payload(inner: Entity) -> Entity:
    """The Cryptographic Payload (RFC 9787 section 4.2): what is signed, if the entity is multipart/signed."""
    kinds = [mime.content_type(header.raw_value) for header in inner.headers if header.name == "content-type"]
    kind = kinds[0] if kinds else None
    if kind is None or kind.media_type != "multipart/signed":
        return inner
    boundary = kind.parameters.get("boundary", "").encode("utf-8", "surrogateescape")
    try:
        sections = list(mime.multipart_sections([inner.raw_body], boundary)) if boundary else []
        first = b"".join(octets for section, octets in sections if section == 1)
        return entity.read(first.removeprefix(b"\r\n"))
    except ParseError:
        return inner


def _added(header: Header) -> tuple[str, str]:
    """The field as an edit: ASCII, with 8-bit octets as encoded words."""
    value = header.raw_value.removeprefix(b" ")
    if not value.isascii():
        value = header_text.encoded(b"".join(value.split(b"\r\n")).strip())
    return header.raw_name.rstrip(b" \t").decode("ascii"), value.decode("ascii")
