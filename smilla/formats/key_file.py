"""The content of an administrator's key file: every certificate and every OpenPGP key, anywhere in the file.

A file may be DER, PEM (RFC 7468) with text around and between, PKCS #7 with certificates, or OpenPGP, binary or
armoured, several in a row, as ``gpg --export`` and ``openssl pkcs12`` write them.  What others do: most read only the
first certificate, and so may get a CA or an expired one instead of the intended one.  What we do: all of them are
candidates.  So is anything that we do not understand; it is never taken for absence.
"""

from __future__ import annotations

import base64
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from smilla.errors import ParseError
from smilla.formats import der, openpgp
from smilla.formats.armour import dearmour
from smilla.model import Format

MOST = 200  # keys in one file
USUAL = 16 * 1024  # octets of a file; the contents of a larger one are not worth remembering
_LINE = re.compile(rb"-----(BEGIN|END) ([A-Z0-9 ]{3,40})-----")
_CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")
_PKCS7 = (b"PKCS7", b"CMS")
_PBES2 = der.oid("1.2.840.113549.1.5.13")  # RFC 8018 appendix A.4
_OF_PKCS12 = der.oid("1.2.840.113549.1.12.1.0")[:-1]  # RFC 7292 appendix C: the arcs below this one
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
    has_blocks = False
    for label, text, whole in _blocks(raw):
        has_blocks = True
        yield from _of_block(label, text, whole)
    if has_blocks or not raw.strip():
        return
    if raw[:1] == b"\x30":
        yield from ((Format.SMIME, certificate) for certificate in _of_der(raw))
    elif raw[0] & 0x80:
        yield from ((Format.OPENPGP, key) for key in _of_packets(raw))
    else:
        yield expected, raw


def _blocks(raw: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Each block from a first line to the next last line with its label: label, text between, the whole.  Takes the
    time of one reading, however many first lines lack a last one."""
    last: dict[bytes, deque[re.Match[bytes]]] = {}
    lines = list(_LINE.finditer(raw))
    for line in lines:
        if line[1] == b"END":
            last.setdefault(line[2], deque()).append(line)
    position = 0
    for line in lines:
        ends = last.get(line[2], deque())
        if line[1] == b"END" or line.start() < position or not ends:
            continue
        while ends and ends[0].start() < line.end():
            ends.popleft()
        if ends:
            position = ends[0].end()
            yield line[2], raw[line.end() : ends[0].start()], raw[line.start() : position]


def _of_block(label: bytes, text: bytes, whole: bytes) -> Iterator[tuple[Format, bytes]]:
    if label in _CERTIFICATES:
        raw = _base64(text)
        # openssl x509 -trustout appends the uses that a certificate is trusted for.
        yield Format.SMIME, next(_of_der(raw), raw) if label == b"TRUSTED CERTIFICATE" else raw
    elif label in _PKCS7:
        yield from ((Format.SMIME, certificate) for certificate in _of_pkcs7(whole))
    elif label.startswith(b"PGP P"):
        try:
            yield from ((Format.OPENPGP, key) for key in _of_packets(dearmour(whole.strip()).data))
        except ParseError:
            yield Format.OPENPGP, whole


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


def _of_pkcs7(whole: bytes) -> Iterator[bytes]:
    try:
        for certificate in pkcs7.load_pem_pkcs7_certificates(whole):
            yield certificate.public_bytes(Encoding.DER)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        yield whole


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
