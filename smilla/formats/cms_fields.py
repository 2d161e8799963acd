"""The fields beside the ciphertext of CMS (RFC 5652 sections 6.1 and 6.2), and which text they may hold.

Names of issuers and certificates are text, and must have their proper structure.  Every other field is a key, a number,
an identifier or random, and holds no text.
"""

from __future__ import annotations

from smilla.formats import der
from smilla.formats.ciphertext import FaultError, check_ciphertext, has_run

_ORI_KEM = der.oid("1.2.840.113549.1.9.16.13.3")[2:]  # RFC 9629
_KEY_AGREEMENT, _OTHER = 0xA1, 0xA4
# Printable octets in a row: 20 random ones once in a million places, those of an encrypted key once in 10**8.
_SHORT, _SHORT_IN_KEY = 16, 24

Field = tuple[int, bytes]  # the tag and the content


def check_recipient(tag: int, fields: list[Field]) -> None:
    """A RecipientInfo whose fields already have the right tags.  Raises ParseError."""
    if tag == _OTHER:
        _check_other(fields)
        return
    for position, (field_tag, content) in enumerate(fields):
        if tag == _KEY_AGREEMENT and field_tag == 0xA0:
            _check_names(content)
        elif tag == _KEY_AGREEMENT and position == len(fields) - 1:
            for key in _children(content):
                _check_names(key.content)
        elif tag == der.SEQUENCE and position == 1 and field_tag == der.SEQUENCE:
            _check_issuer(content)
        else:
            _check_field(field_tag, content)


def check_originator(fields: list[Field]) -> None:
    """Certificates and revocation lists, each of them signed.  Raises ParseError."""
    for _, content in fields:
        for signed in _children(content):
            if [part.tag for part in _children(signed.content)] != [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
                raise FaultError("readable", "the originator info holds something other than certificates")


def check_attributes(content: bytes) -> None:
    """Also checks for UTF-16.  Raises ParseError."""
    _check_text(content, _SHORT_IN_KEY)


def _check_other(fields: list[Field]) -> None:
    """A KEMRecipientInfo (RFC 9629 section 3), the only one in use."""
    if len(fields) < 2:
        return
    if fields[0][1] != _ORI_KEM or fields[1][0] != der.SEQUENCE:
        raise FaultError("readable", "a recipient info of another kind could be readable")
    for position, part in enumerate(_children(fields[1][1])):
        if position == 1 and part.tag == der.SEQUENCE:
            _check_issuer(part.content)
        else:
            _check_field(part.tag, part.content)


def _check_field(tag: int, content: bytes) -> None:
    is_key = tag & ~0x20 == der.OCTET_STRING
    if is_key:
        check_ciphertext(content)
    _check_text(content, _SHORT_IN_KEY if is_key else _SHORT)


def _check_text(content: bytes, most: int) -> None:
    if has_run(content, most) or has_run(content.replace(b"\0", b""), most):
        raise FaultError("readable", "a field beside the ciphertext is readable text")


def _check_names(content: bytes) -> None:
    for part in _children(content):
        if part.tag == der.SEQUENCE:
            _check_issuer(part.content)
        else:
            _check_field(part.tag, part.content)


def _check_issuer(content: bytes) -> None:
    """IssuerAndSerialNumber: a Name, whose attributes each have a type, and a number."""
    for position, part in enumerate(_children(content)):
        if part.tag != (der.SEQUENCE, der.INTEGER)[position] if position < 2 else True:
            raise FaultError("readable", "the issuer of a recipient's certificate is not a name")
        if position:
            _check_text(part.content, _SHORT)
            continue
        for names in part.children():
            for attribute in names.children():
                if names.tag != der.SET or [child.tag for child in attribute.children()][:1] != [der.OID]:
                    raise FaultError("readable", "the issuer of a recipient's certificate is not a name")


def _children(content: bytes) -> list[der.TLV]:
    return list(der.TLV(content, 0, 0, 0, len(content)).children())
