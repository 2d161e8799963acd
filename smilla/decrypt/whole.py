"""The ciphertext of a message that is encrypted as a whole; any other message stays as it is.

Decrypting a part beside readable parts is how EFAIL's direct exfiltration works: a mail program joins what stands
before and after the part with what was inside.  So ``classify`` judges first, and it takes a message for encrypted only
where every octet that a reader would show is ciphertext.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from smilla.classify import classify
from smilla.errors import NotDecrypted, ParseError
from smilla.formats import mime, parts
from smilla.formats.armour import dearmour
from smilla.formats.openpgp import SED, EncryptedMessageReader
from smilla.model import Format, MessageKind
from smilla.value import value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from smilla.model import Message

_MULTIPART = ("multipart/encrypted", "multipart/mixed")


@value
class Enclosed:
    """The ciphertext: CMS in BER or DER, or binary OpenPGP packets."""

    form: Format
    raw: bytes


def enclosed(message: Message) -> Enclosed:
    """The ciphertext of a message that is nothing else.

    Raises NotDecrypted: ``not_encrypted`` if it is not encrypted as a whole, ``inline`` if the body itself is armour
    and so holds no MIME entity, ``no_integrity`` for OpenPGP data without modification detection (RFC 9580 section
    13.7: they must not be taken for what the sender wrote).
    """
    judged = classify(message)
    if judged.kind is not MessageKind.ENCRYPTED:
        raise NotDecrypted("not_encrypted", f"it is not encrypted as a whole: {judged.reason.text}")
    try:
        return _smime(message) if judged.format is Format.SMIME else _openpgp(message)
    except ParseError as error:
        raise NotDecrypted("malformed", f"its structure is malformed: {error}") from error


def _smime(message: Message) -> Enclosed:
    return Enclosed(Format.SMIME, b"".join(mime.decoded(message.body.blocks(), _encoding(message))))


def _encoding(message: Message) -> str:
    fields = message.named("content-transfer-encoding")
    return mime.transfer_encoding(fields[0].raw_value) if fields else ""


def _openpgp(message: Message) -> Enclosed:
    fields = message.named("content-type")
    kind = mime.content_type(fields[0].raw_value) if fields else None
    if kind is None or kind.media_type not in _MULTIPART:
        raise NotDecrypted("inline", "its body is armour, which holds a text and no MIME entity")
    boundary = kind.parameters["boundary"].encode("utf-8", "surrogateescape")
    raw = dearmour(_armour(mime.multipart_sections(message.body.blocks(), boundary))).data
    reader = EncryptedMessageReader()
    reader.feed(raw)
    reader.finish()
    if reader.container == SED:
        raise NotDecrypted("no_integrity", "its OpenPGP data have neither a modification detection code nor a tag")
    return Enclosed(Format.OPENPGP, raw)


def _armour(sections: Iterable[tuple[int, bytes]]) -> bytes:
    """The armour: the content of the only part that is neither the control part nor an empty text."""
    for section, group in groupby(sections, key=lambda pair: pair[0]):
        octets: Iterator[bytes] = (block for _, block in group)
        if section in (0, -1):
            continue
        part = parts.read_part(octets)
        if part.kind.media_type != "application/pgp-encrypted" and not part.kind.media_type.startswith("text/"):
            return b"".join(mime.decoded(part.blocks, part.encoding))
    raise ParseError("no part with the ciphertext")
