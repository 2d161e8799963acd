"""The content of an administrator's key file: every certificate and every OpenPGP key, anywhere in the file.

A file may be DER, PEM (RFC 7468) with text around and between, PKCS #7 with certificates, or OpenPGP, binary or
armoured, several in a row, as ``gpg --export`` and ``openssl pkcs12`` write them.  What others do: most read only the
first certificate, and so may get a CA or an expired one instead of the intended one.  What we do: all of them are
candidates.  So is anything that we do not understand; it is never taken for absence.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from smilla.errors import ParseError
from smilla.formats import ber, der, openpgp
from smilla.formats.armour import dearmour
from smilla.model import Format

MOST = 200  # keys in one file
USUAL = 16 * 1024  # octets of a file; the contents of a larger one are not worth remembering
_LINE = re.compile(rb"-----(BEGIN|END) ([A-Z0-9 ]{3,40})-----")
_CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")
_PKCS7 = (b"PKCS7", b"CMS")
_PBES2 = der.oid("1.2.840.113549.1.5.13")  # RFC 8018 appendix A.4
_OF_PKCS12 = der.oid("1.2.840.113549.1.12.1.0")[:-1]  # RFC 7292 appendix C: the arcs below this one
_SIGNED_DATA = der.oid("1.2.840.113549.1.7.2")
_CERTIFICATE_SET = 0xA0  # certificates [0] IMPLICIT CertificateSet
_FEWEST = 64  # characters of a whole block: no certificate is that small, however its lines end
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Contents:
    """The keys of a file, each in the form that the gate accepts; whether there is a private key among them; and
    whether there are more keys than we read."""

    keys: tuple[tuple[Format, bytes], ...]
    has_private: bool = False
    has_more: bool = False


def problem(raw: bytes) -> str:
    """Why this is no key at all, in words for whoever handed it in; "" where it may be a damaged one."""
    text = raw.removeprefix(_BOM).strip()
    if not text:
        return "it is empty"
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "it is text in UTF-16; store it as ASCII"
    if found := _LINE.search(text):
        label = found[2].decode("ascii").lower()
        if label.startswith("pgp p"):
            return "its OpenPGP armour is damaged or cut off"
        is_known = found[2] in (*_CERTIFICATES, *_PKCS7)
        return "" if is_known else f"it holds a {label}, which is neither a certificate nor an OpenPGP key"
    if text.isascii() and text[:1] != b"0":
        return "it is text, and neither PEM, DER, PKCS #7 nor OpenPGP"
    return ""


def contents(raw: bytes, expected: Format) -> Contents:
    """Everything in a file.  ``expected`` is the format that the file's name suggests, used if the octets do not show
    it."""
    return _usual(raw, expected) if len(raw) <= USUAL else _contents(raw, expected)


@lru_cache(maxsize=1000)
def _usual(raw: bytes, expected: Format) -> Contents:
    return _contents(raw, expected)


def _contents(raw: bytes, expected: Format) -> Contents:
    text = raw.removeprefix(_BOM)
    has_private = re.search(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY", text) is not None
    first = tuple(islice(_keys(text, expected), MOST + 1))
    keys = first[:MOST] or ((expected, raw),)
    has_private = has_private or _is_private_der(raw) or any(_is_secret(*key) for key in first)
    return Contents(keys, has_private, has_more=len(first) > MOST)


def _keys(raw: bytes, expected: Format) -> Iterator[tuple[Format, bytes]]:
    blocks = list(_blocks(raw))
    if any(block.is_whole for block in blocks):
        for block in blocks:
            yield from _of_block(block)
    elif raw[:1] == b"\x30":
        yield from ((Format.SMIME, certificate) for element in _of_der(raw) for certificate in _of_pkcs7(element))
    elif raw[:1] >= b"\x80":
        yield from ((Format.OPENPGP, key) for key in _of_packets(raw))
    elif raw.strip():
        yield expected, raw


@dataclass(frozen=True, slots=True)
class _Block:
    """A PEM block or armour: its label, the text inside, and the whole."""

    label: bytes
    text: bytes
    whole: bytes
    is_whole: bool


def _blocks(raw: bytes) -> Iterator[_Block]:
    """Each first line that the last line with its label follows.  Another first line is a block that was cut off, if
    nothing else stands in that line; in the midst of a sentence it is a mention."""
    lines = list(_LINE.finditer(raw))
    ends = [*(line.start() for line in lines[1:]), len(raw)]
    before = 0  # the end of the marker before
    for line, following, end in zip(lines, [*lines[1:], None], ends, strict=False):
        least, before = before, line.end()
        if line[1] == b"END":
            continue
        text = raw[line.end() : end]
        if following is not None and (following[1], following[2]) == (b"END", line[2]):
            yield _Block(line[2], text, raw[line.start() : following.end()], is_whole=True)
        elif text.strip() and _is_alone(raw, line, least):
            yield _Block(line[2], text, raw[line.start() : end], is_whole=False)


def _is_alone(raw: bytes, line: re.Match[bytes], least: int) -> bool:
    """``least`` is where the marker before ends: one of the same line is not alone either."""
    begin = raw.rfind(b"\n", least, line.start())
    if begin < 0 < least:
        return False
    return not raw[begin + 1 : line.start()].strip() and raw[line.end() : line.end() + 1] in (b"\r", b"\n")


def _of_block(block: _Block) -> Iterator[tuple[Format, bytes]]:
    """A block that was cut off stays as it is, which is malformed: nobody knows whose key it was."""
    if block.label in _CERTIFICATES:
        if block.is_whole and sum(map(len, block.text.split())) < _FEWEST:
            return  # a note, or lines between which to paste
        raw = _base64(block.text) if block.is_whole else block.whole
        # openssl x509 -trustout appends the uses that a certificate is trusted for.
        yield Format.SMIME, next(_of_der(raw), raw) if block.label == b"TRUSTED CERTIFICATE" else raw
    elif block.label in _PKCS7:
        raw = _base64(block.text) if block.is_whole else block.whole
        yield from ((Format.SMIME, certificate) for certificate in _of_pkcs7(raw))
    elif block.label.startswith(b"PGP P"):
        yield from ((Format.OPENPGP, key) for key in _of_armour(block))


def _of_armour(block: _Block) -> Iterator[bytes]:
    """GnuPG takes keys whose armour lacks its empty line, or has header lines of any form; so do we."""
    data = block.text.split(b"\n")
    begins = next((n for n, line in enumerate(data) if line.strip() and b":" not in line), len(data))
    plain = b"-----BEGIN %b-----\n\n%b-----END %b-----\n" % (block.label, b"\n".join(data[begins:]), block.label)
    for armour in (block.whole.strip(), plain) if block.is_whole else ():
        with suppress(ParseError):
            yield from _of_packets(dearmour(armour).data)
            return
    yield block.whole


def _base64(text: bytes) -> bytes:
    """The octets of a PEM block, or the text itself if it is not base64; the gate then calls it malformed."""
    lines = text.split(b"\n")
    data = b"".join(b"".join(line.split()) for line in lines if b":" not in line)
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        return text


def _of_der(raw: bytes) -> Iterator[bytes]:
    """The elements that follow one another."""
    rest = raw
    while rest[:1] == b"\x30":
        try:
            element = der.read(rest).whole
        except ParseError:
            break
        yield element
        rest = rest[len(element) :].lstrip(b"\r\n")
    if rest is raw:
        yield raw


def _of_pkcs7(raw: bytes) -> Iterator[bytes]:
    """The certificates of PKCS #7 (SignedData, RFC 5652 section 5.1), in DER or BER; anything else as it is."""
    try:
        element = der.read(raw)
    except ParseError:
        try:
            element = der.read(ber.to_der(raw))
        except ParseError:
            yield raw
            return
    found = _certificates_in(element)
    yield from [raw] if found is None else found


def _certificates_in(element: der.TLV) -> list[bytes] | None:
    """None if this is no SignedData; it may have no certificates."""
    try:
        kind, *content = element.children()
        if kind.whole != _SIGNED_DATA:
            return None
        (signed,) = (data for explicit in content for data in explicit.children())
        sets = [field for field in signed.children() if field.tag == _CERTIFICATE_SET]
        return [choice.whole for field in sets for choice in field.children() if choice.tag == der.SEQUENCE]
    except (ParseError, ValueError):
        return None


def _of_packets(raw: bytes) -> Iterator[bytes]:
    """The transferable keys that follow one another (RFC 9580 section 10.1).  Octets that are no packets stay with the
    key before them, which makes it malformed."""
    key, end = b"", 0
    try:
        for packet in openpgp.packets(raw):
            if packet.tag in (openpgp.PUBLIC_KEY, openpgp.SECRET_KEY) and key:
                yield key
                key = b""
            key += packet.raw
            end += len(packet.raw)
    except ParseError:
        key += raw[end:]
    if key:
        yield key


def _is_private_der(raw: bytes) -> bool:
    """PKCS #12, PKCS #8, or an RSA or EC private key: each begins with a version number (RFC 7292, 5958, 8017 and
    5915).  Or PKCS #8 encrypted: an algorithm of PKCS #5 or #12 (RFC 5958 section 3).  A certificate has neither."""
    try:
        children = list(der.read(raw).children()) if raw[:1] == b"\x30" else []
    except ParseError:
        return False
    if not children:
        return False
    first = children[0].whole
    return first[:1] == bytes((der.INTEGER,)) or first[2:].startswith(
        (_PBES2, bytes((der.OID,)) + b"\x0a" + _OF_PKCS12[2:])
    )


def _is_secret(form: Format, raw: bytes) -> bool:
    if form is not Format.OPENPGP or not raw or not raw[0] & 0x80:
        return False
    try:
        return any(packet.tag in (openpgp.SECRET_KEY, openpgp.SECRET_SUBKEY) for packet in openpgp.packets(raw))
    except ParseError:
        return False
