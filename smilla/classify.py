"""What a message is, by its structure and never by mention: encrypted, signed or plain, with the reason.

A message counts as encrypted only where every octet that a reader would show is ciphertext: multipart/encrypted
(RFC 3156 section 4), application/pkcs7-mime with enveloped-data or authEnveloped-data (RFC 8551 section 3.2), or a
body that is one armoured, encrypted OpenPGP message.  What claims to be encrypted and is not, and whatever is
malformed or ambiguous, counts as plain: encrypting twice is harmless, passing plaintext is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, groupby

from smilla.errors import ParseError
from smilla.formats import cms, mime, openpgp
from smilla.model import Classification, Message, MessageKind, Reason

_PKCS7_MIME = ("application/pkcs7-mime", "application/x-pkcs7-mime")
_PART_LIMIT = 4096
# A reader may show the header of a part: only these fields stand there, none long enough to hold a letter.
_PART_FIELDS = {f"content-{name}" for name in ("type", "transfer-encoding", "disposition", "description", "id")}
_MAX_PART_FIELD = 255
_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
_ARMOUR_BEGIN = b"-----BEGIN PGP MESSAGE-----"


def classify(message: Message) -> Classification:
    """The message's kind and why.  Raises nothing: what cannot be read is plain."""
    types = [h.raw_value for h in message.headers if h.name == "content-type"]
    encodings = [h.raw_value for h in message.headers if h.name == "content-transfer-encoding"]
    if len(types) > 1 or len(encodings) > 1:
        return _plain("ambiguous", "a Content-Type or Content-Transfer-Encoding field stands twice")
    kind = mime.content_type(types[0]) if types else mime.ContentType("text/plain", {})
    if kind is None:
        return _plain("malformed_content_type", "the Content-Type field is malformed")
    encoding = mime.transfer_encoding(encodings[0]) if encodings else ""
    try:
        return _by_type(kind, encoding, message)
    except ParseError as error:
        return _plain("malformed", f"{kind.media_type}: {error}")


def _by_type(kind: mime.ContentType, encoding: str, message: Message) -> Classification:
    blocks = message.body.blocks()
    if kind.media_type == "multipart/encrypted":
        return _multipart_encrypted(kind, encoding, blocks)
    if kind.media_type in _PKCS7_MIME:
        return _pkcs7(kind, encoding, blocks)
    if kind.media_type == "multipart/signed":
        return Classification(MessageKind.SIGNED, Reason("signed", "multipart/signed: signed, not encrypted"))
    if kind.media_type.startswith("multipart/"):
        return _plain("plain", f"{kind.media_type} is not encrypted")
    if not _begins_like_armour(encoding, message):
        return _plain("plain", f"{kind.media_type} is not encrypted")
    return _armoured(encoding, blocks, f"the {kind.media_type} body")


def _plain(code: str, text: str) -> Classification:
    return Classification(MessageKind.PLAIN, Reason(code, text))


def _encrypted(text: str) -> Classification:
    return Classification(MessageKind.ENCRYPTED, Reason("already_encrypted", text))


def _begins_like_armour(encoding: str, message: Message) -> bool:
    """A cheap look at the first octets, so that an ordinary body is not walked through."""
    head = b""
    for block in mime.decoded(message.body.blocks(), encoding):
        head = head + block[:256] if head else block.lstrip()[:256]
        if len(head) >= len(_ARMOUR_BEGIN):
            break
    return head.startswith(_ARMOUR_BEGIN)


def _armoured(encoding: str, blocks: Iterable[bytes], what: str) -> Classification:
    check = openpgp.encrypted_message(mime.decoded(blocks, encoding))
    if check.encrypted:
        return _encrypted(f"{what} is one encrypted OpenPGP message")
    return _plain("plain", f"{what} is not one encrypted OpenPGP message: {check.reason}")


def _pkcs7(kind: mime.ContentType, encoding: str, blocks: Iterable[bytes]) -> Classification:
    """The DER decides, whatever the smime-type parameter says (RFC 8551 section 3.2.2)."""
    check = cms.is_enveloped(mime.decoded(blocks, encoding))
    if check.encrypted:
        return _encrypted(f"{kind.media_type} with CMS {check.reason}")
    if kind.parameters.get("smime-type", "").lower() == "signed-data":
        return Classification(MessageKind.SIGNED, Reason("signed", f"{kind.media_type} is signed, not encrypted"))
    return _plain("plain", f"{kind.media_type} is not encrypted: {check.reason}")


def _multipart_encrypted(kind: mime.ContentType, encoding: str, blocks: Iterable[bytes]) -> Classification:
    """Exactly two parts, no text around them, and the second one really encrypted (RFC 3156 section 4)."""
    if kind.parameters.get("protocol", "").lower() != "application/pgp-encrypted":
        return _plain("plain", "multipart/encrypted, but its protocol is not application/pgp-encrypted")
    if encoding not in ("", "7bit", "8bit", "binary") or not kind.parameters.get("boundary"):
        return _plain("malformed", "multipart/encrypted without a boundary, or with a transfer encoding")
    boundary = kind.parameters["boundary"].encode("utf-8", "surrogateescape")
    return _two_parts(mime.multipart_sections(blocks, boundary))


def _two_parts(sections: Iterator[tuple[int, bytes]]) -> Classification:
    result = None
    for section, group in groupby(sections, key=lambda pair: pair[0]):
        octets = (block for _, block in group)
        if section in (0, -1):
            if any(block.strip() for block in octets):
                return _plain("malformed", "multipart/encrypted with text before or after its parts")
        elif section == 1:
            if problem := _control_part_problem(octets):
                return _plain("malformed", problem)
        elif section == 2:
            result = _second_part(octets)
            if result.kind is not MessageKind.ENCRYPTED:
                return result
        else:
            return _plain("malformed", "multipart/encrypted with more than two parts")
    return result or _plain("malformed", "multipart/encrypted without a second part")


def _control_part_problem(octets: Iterable[bytes]) -> str:
    """The first part says "Version: 1" and nothing else: anything more would be readable text."""
    raw = b""
    for block in octets:
        raw += block
        if len(raw) > _PART_LIMIT:
            break
    fields, body = _split_part(raw)
    kind = mime.content_type(fields.get("content-type", b"")) if fields else None
    if len(raw) > _PART_LIMIT or kind is None or kind.media_type != "application/pgp-encrypted":
        return "multipart/encrypted whose first part is not application/pgp-encrypted"
    if not re.fullmatch(rb"\s*version\s*:\s*1\s*", body, re.IGNORECASE):
        return 'multipart/encrypted whose first part says more, or other, than "Version: 1"'
    return ""


def _second_part(octets: Iterator[bytes]) -> Classification:
    head = b""
    for block in octets:
        head += block
        if len(head) > _PART_LIMIT or _END_OF_HEADER.search(head, 2):
            break
    fields, body = _split_part(head)
    if fields is None or "content-type" not in fields:
        return _plain("malformed", "multipart/encrypted whose second part has no proper header")
    encoding = mime.transfer_encoding(fields.get("content-transfer-encoding", b""))
    return _armoured(encoding, chain([body], octets), "the second part of multipart/encrypted")


def _split_part(raw: bytes) -> tuple[dict[str, bytes] | None, bytes]:
    """Header fields and the beginning of the body of a part that begins with the line end of its delimiter; None
    where the header is missing, malformed, or holds what could be a letter."""
    inner = raw.removeprefix(b"\r").removeprefix(b"\n")
    end = _END_OF_HEADER.search(inner)
    if end is None:
        return None, b""
    fields = mime.part_headers(inner[: end.start()])
    if fields is None or not fields.keys() <= _PART_FIELDS or max(map(len, fields.values())) > _MAX_PART_FIELD:
        return None, b""
    return fields, inner[end.end() :]
