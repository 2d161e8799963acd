"""Is a message encrypted, signed or plain?  Judged by its structure, never by what it claims, and with the reason.

A message counts as encrypted only if every octet that a reader would show is ciphertext: multipart/encrypted (RFC 3156
section 4), application/pkcs7-mime with enveloped-data or authEnveloped-data (RFC 8551 section 3.2), or a body that is
one armoured, encrypted OpenPGP message.  False claims of encryption, and anything malformed or ambiguous, count as
plain: encrypting twice is harmless, passing plaintext is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, groupby

from smilla.errors import ParseError
from smilla.formats import cms, mime, notices, openpgp, parts
from smilla.model import Classification, Format, Message, MessageKind, Reason

_PKCS7_MIME = ("application/pkcs7-mime", "application/x-pkcs7-mime")
_PKCS7_AT_ALL = re.compile(rb"\s*application/(?:x-)?pkcs7-mime\s*;", re.IGNORECASE)
_READABLE, _EMPTY, _CONTROL, _CIPHERTEXT, _BOTH = "readable", "empty", "control", "ciphertext", "both"
_MOST_PARTS = 3
_ARMOUR_BEGIN = b"-----BEGIN PGP MESSAGE-----"
# In these, ASCII is ASCII; in others (UTF-7, HZ) a line of the armour could be words in disguise.
_CHARSETS = re.compile(
    r"|(?:us-)?ascii|utf-?8|unknown-8bit|(?:iso|windows|cp|koi8|ibm)[-_]?[0-9a-z_-]{1,12}|big5|gbk?|gb2312|gb18030"
    r"|shift_jis|sjis|euc-[a-z]{2}|ks_c_5601-1987|tis-620",
    re.IGNORECASE,
)


def classify(message: Message) -> Classification:
    """The message's kind and why.  Raises nothing: a message that cannot be read is plain."""
    types = [header.raw_value for header in message.named("content-type")]
    encodings = [header.raw_value for header in message.named("content-transfer-encoding")]
    if len(types) > 1 or len(encodings) > 1:
        return _plain("ambiguous", "a Content-Type or Content-Transfer-Encoding field stands twice")
    kind = mime.content_type(types[0]) if types else mime.ContentType("text/plain", {})
    encoding = mime.transfer_encoding(encodings[0]) if encodings else ""
    if kind is None:
        # Whatever a reader makes of the parameters, there is nothing but ciphertext to be read.
        if _PKCS7_AT_ALL.match(types[0]) and (check := _enveloped(encoding, message.body.blocks())):
            return _encrypted(f"application/pkcs7-mime, whose parameters are malformed, with CMS {check}", Format.SMIME)
        return _plain("malformed_content_type", "the Content-Type field is malformed")
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
    if kind.media_type == "multipart/mixed":
        return _mixed(kind, encoding, blocks)
    if kind.media_type.startswith("multipart/"):
        return _plain("plain", f"its content is {kind.media_type}, not encrypted yet")
    return _one_body(kind, encoding, message)


def _one_body(kind: mime.ContentType, encoding: str, message: Message) -> Classification:
    """A body without parts: CMS by its name, if its DER agrees, or armour."""
    if _named_p7m(kind, message) and (check := _enveloped(encoding, message.body.blocks())):
        return _encrypted(f"{kind.media_type} named *.p7m with CMS {check}", Format.SMIME)
    if not _begins_like_armour(encoding, message):
        return _plain("plain", f"its content is {kind.media_type}, not encrypted yet")
    if not _CHARSETS.fullmatch(kind.parameters.get("charset", "")):
        return _plain("plain", f"{kind.media_type} in a character set in which armour may be words")
    return _armoured(encoding, message.body.blocks(), f"the {kind.media_type} body")


def _plain(code: str, text: str) -> Classification:
    return Classification(MessageKind.PLAIN, Reason(code, text))


def _encrypted(text: str, form: Format) -> Classification:
    return Classification(MessageKind.ENCRYPTED, Reason("already_encrypted", text), form)


def _begins_like_armour(encoding: str, message: Message) -> bool:
    """A cheap look at the first octets, so that an ordinary body is not read to its end."""
    head = b""
    for block in mime.decoded(message.body.blocks(), encoding):
        head = head + block[:256] if head else block.lstrip()[:256]
        if len(head) >= len(_ARMOUR_BEGIN):
            break
    return head.startswith(_ARMOUR_BEGIN)


def _armoured(encoding: str, blocks: Iterable[bytes], what: str) -> Classification:
    check = openpgp.encrypted_message(mime.decoded(blocks, encoding))
    if check.encrypted:
        return _encrypted(f"{what} is one encrypted OpenPGP message", Format.OPENPGP)
    return _plain("plain", f"{what} is not one encrypted OpenPGP message: {check.reason}")


def _pkcs7(kind: mime.ContentType, encoding: str, blocks: Iterable[bytes]) -> Classification:
    """The DER decides, whatever the smime-type parameter says (RFC 8551 section 3.2.2)."""
    check = cms.is_enveloped(mime.decoded(blocks, encoding))
    if check.encrypted:
        return _encrypted(f"{kind.media_type} with CMS {check.reason}", Format.SMIME)
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
            if not _only_notices(octets):
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


def _only_notices(octets: Iterable[bytes]) -> bool:
    reader = notices.NoticeReader()
    for block in octets:
        reader.feed(block)
    return reader.only_notices()


def _control_part_problem(octets: Iterator[bytes]) -> str:
    """The first part says "Version: 1" and nothing else; anything more would be readable text."""
    what = "multipart/encrypted whose first part"
    try:
        part = parts.read_part(octets)
        if part.kind.media_type != "application/pgp-encrypted":
            return f"{what} is not application/pgp-encrypted"
        content = part.small()
    except ParseError as error:
        return f"{what} {error}"
    if content is None or not parts.is_control(content):
        return f'{what} says more, or other, than "Version: 1"'
    return ""


def _second_part(octets: Iterator[bytes]) -> Classification:
    what = "the second part of multipart/encrypted"
    try:
        part = parts.read_part(octets)
    except ParseError as error:
        return _plain("malformed", f"multipart/encrypted whose second part {error}")
    return _armoured(part.encoding, part.blocks, what)


def _mixed(kind: mime.ContentType, encoding: str, blocks: Iterable[bytes]) -> Classification:
    """PGP/MIME as Exchange rewrites it: the two parts in a multipart/mixed, beside an empty text.  Or as iPGMail writes
    it: the ciphertext in the control part, between two empty texts.

    Thunderbird and Enigmail offer to repair such a message, but cannot once it is encrypted again.
    """
    usual = _plain("plain", "its content is multipart/mixed, not encrypted yet")
    boundary = kind.parameters.get("boundary", "").encode("utf-8", "surrogateescape")
    if not boundary or encoding not in ("", "7bit", "8bit", "binary"):
        return usual
    roles = list(_roles(mime.multipart_sections(blocks, boundary)))
    parts_left = sorted(role for role in roles if role != _EMPTY)
    if (parts_left == [_CIPHERTEXT, _CONTROL] and roles.count(_EMPTY) <= 1) or parts_left == [_BOTH]:
        what = "multipart/mixed is PGP/MIME that a server changed: one encrypted OpenPGP message"
        return _encrypted(what, Format.OPENPGP)
    if _CONTROL in roles:
        return _plain("plain", "multipart/mixed with the parts of PGP/MIME, and more, or malformed")
    return usual


def _roles(sections: Iterator[tuple[int, bytes]]) -> Iterator[str]:
    """What each part is, up to the first readable part or the first part too many."""
    count = 0
    try:
        for section, group in groupby(sections, key=lambda pair: pair[0]):
            octets = (block for _, block in group)
            around = section in (0, -1)
            if around and _only_notices(octets):
                continue
            role = _READABLE if around or count == _MOST_PARTS else _role(octets)
            yield role
            count += 1
            if role == _READABLE:
                return
    except ParseError:
        yield _READABLE


def _role(octets: Iterator[bytes]) -> str:
    """What a part is in PGP/MIME that a server changed; anything that a person could read is readable.  Raises
    ParseError."""
    part = parts.read_part(octets)
    if part.kind.media_type == "multipart/alternative":
        return _EMPTY if _all_empty(part) else _READABLE
    if part.kind.media_type in ("text/plain", "text/html"):
        return _EMPTY if _is_empty(part) else _READABLE
    if part.kind.media_type == "application/pgp-encrypted":
        return _control_role(part)
    if part.kind.media_type == "application/octet-stream":
        check = openpgp.encrypted_message(mime.decoded(part.blocks, part.encoding))
        return _CIPHERTEXT if check.encrypted else _READABLE
    return _READABLE


def _control_role(part: parts.Part) -> str:
    """The control part, or in its place the ciphertext.  Raises ParseError."""
    begin = b""
    for block in part.blocks:
        begin += block
        if len(begin) > parts.MOST_SMALL_OCTETS:
            break
    else:
        if parts.is_control(b"".join(mime.decoded([begin], part.encoding))):
            return _CONTROL
    check = openpgp.encrypted_message(mime.decoded(chain([begin], part.blocks), part.encoding))
    return _BOTH if check.encrypted else _READABLE


def _is_empty(part: parts.Part) -> bool:
    content = part.small()
    return content is not None and parts.is_empty_text(content)


def _all_empty(part: parts.Part) -> bool:
    """Exchange turns the empty text into a text and an HTML page, both empty.  Raises ParseError."""
    boundary = part.kind.parameters.get("boundary", "").encode("utf-8", "surrogateescape")
    if not boundary or part.encoding not in ("", "7bit", "8bit", "binary"):
        return False
    for section, group in groupby(mime.multipart_sections(part.blocks, boundary), key=lambda pair: pair[0]):
        octets = (block for _, block in group)
        if section in (0, -1):
            if not _only_notices(octets):
                return False
            continue
        inner = parts.read_part(octets)
        if section > _MOST_PARTS or inner.kind.media_type not in ("text/plain", "text/html") or not _is_empty(inner):
            return False
    return True


def _named_p7m(kind: mime.ContentType, message: Message) -> bool:
    """Whether the body is named as RFC 8551 sections 3.2.1 and 3.9 say, whatever its type."""
    if kind.media_type.startswith("message/"):
        return False
    names = [kind.parameters.get("name", "")]
    for header in message.named("content-disposition"):
        if (found := mime.disposition(header.raw_value)) is not None:
            names.append(found.get("filename", ""))
    return any(name.strip().lower().endswith(".p7m") for name in names)


def _enveloped(encoding: str, blocks: Iterable[bytes]) -> str:
    """The CMS content type in words, if the octets are DER of that type and nothing else."""
    try:
        check = cms.is_enveloped(mime.decoded(blocks, encoding))
    except ParseError:
        return ""
    return check.reason if check.encrypted else ""
