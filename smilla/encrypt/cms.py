"""S/MIME: CMS EnvelopedData and AuthEnvelopedData (RFC 8551, RFC 5652, RFC 5083) for keys that passed the gate.

Promises: DER with definite lengths, made block by block; a fresh content-encryption key and IV for each message;
EncryptionError, never a message that fewer people can read than requested.  The first octets state the total length, so
a message that breaks off with an error is visibly incomplete.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import AEADEncryptionContext, Cipher, CipherContext, algorithms, modes

from smilla.encrypt.cms_recipients import AES128_WRAP, AES256_WRAP, Wrap, recipient_infos
from smilla.errors import EncryptionError
from smilla.formats import der
from smilla.model import Reason, Style
from smilla.value import value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from smilla.model import X509Key

_BLOCK = 64 * 1024
_ICV_OCTETS = 16

_ENVELOPED_DATA = der.oid("1.2.840.113549.1.7.3")
_AUTH_ENVELOPED_DATA = der.oid("1.2.840.113549.1.9.16.1.23")
_DATA = der.oid("1.2.840.113549.1.7.1")


@dataclass(frozen=True, slots=True)
class _Suite:
    """A content cipher and the key wrap of equal strength (RFC 5753 section 8)."""

    algorithm: bytes
    wrap: Wrap
    key_octets: int
    iv_octets: int
    authenticated: bool = False


_SUITES = {  # RFC 3565 section 4.1, RFC 5084 section 3.2
    "aes256-cbc": _Suite(der.oid("2.16.840.1.101.3.4.1.42"), AES256_WRAP, 32, 16),
    "aes128-cbc": _Suite(der.oid("2.16.840.1.101.3.4.1.2"), AES128_WRAP, 16, 16),
    "aes256-gcm": _Suite(der.oid("2.16.840.1.101.3.4.1.46"), AES256_WRAP, 32, 12, authenticated=True),
    "aes128-gcm": _Suite(der.oid("2.16.840.1.101.3.4.1.6"), AES128_WRAP, 16, 12, authenticated=True),
}


def encrypt(content: Iterable[bytes], size: int, keys: Sequence[X509Key], style: Style) -> Iterator[bytes]:
    """A ContentInfo in DER that each of ``keys`` opens, in blocks.

    ``content`` comes in pieces of any length, ``size`` octets in all.  Parts of the style that a key cannot use, or
    overrides, are ignored.  Raises EncryptionError: at once because of the keys, or before the last block if the
    content is longer or shorter than ``size``.
    """
    return _write(_envelope(size, keys, style), _exactly(content, size))


def fault(key: X509Key) -> Reason | None:
    """Why no message can be written for this certificate, though it passed the gate; None if one can.  It tries to
    write the part for its holder, with every padding and key derivation."""
    for style in (Style(), Style(rsa_padding="oaep-sha256", ecdh_kdf="sha256")):
        try:
            recipient_infos([key], bytes(32), AES256_WRAP, style)
        except EncryptionError as error:
            return Reason("engine_refuses", str(error))
    return None


# --- the envelope ------------------------------------------------------------------------------------------


@value
class _Envelope:
    """Everything before the ciphertext, and what encrypts it."""

    head: bytes
    context: CipherContext | AEADEncryptionContext
    padding: bytes


def _envelope(size: int, keys: Sequence[X509Key], style: Style) -> _Envelope:
    suite = _SUITES.get(style.cipher)
    if suite is None:
        raise EncryptionError(f"no such cipher: {style.cipher!r}")
    if size < 0:
        raise EncryptionError("content of negative size")
    drawn = os.urandom(suite.key_octets + suite.iv_octets)  # together, since each draw costs a system call
    cek, iv = drawn[: suite.key_octets], drawn[suite.key_octets :]
    version, recipients = recipient_infos(keys, cek, suite.wrap, style)
    if suite.authenticated:
        return _auth_enveloped_data(size, recipients, suite, cek, iv)
    return _enveloped_data(size, der.integer(version) + recipients, suite, cek, iv)


def _enveloped_data(size: int, start: bytes, suite: _Suite, cek: bytes, iv: bytes) -> _Envelope:
    """RFC 5652 section 6.1, padded as in section 6.3; ``start`` is the version and the recipients."""
    pad = 16 - size % 16
    algorithm = der.sequence(suite.algorithm, der.octet_string(iv))
    head = _head(_ENVELOPED_DATA, start, algorithm, size + pad, 0)
    context = Cipher(algorithms.AES(cek), modes.CBC(iv)).encryptor()
    return _Envelope(head, context, bytes((pad,)) * pad)


def _auth_enveloped_data(size: int, recipients: bytes, suite: _Suite, cek: bytes, nonce: bytes) -> _Envelope:
    """RFC 5083 section 2.1, always version 0.  The length of the ICV must be stated, since its default is 12 (RFC 5084
    section 3.2)."""
    algorithm = der.sequence(suite.algorithm, der.sequence(der.octet_string(nonce), der.integer(_ICV_OCTETS)))
    tail_octets = len(der.header(der.OCTET_STRING, _ICV_OCTETS)) + _ICV_OCTETS
    head = _head(_AUTH_ENVELOPED_DATA, der.integer(0) + recipients, algorithm, size, tail_octets)
    context = Cipher(algorithms.AES(cek), modes.GCM(nonce)).encryptor()
    return _Envelope(head, context, b"")


def _head(content_type: bytes, start: bytes, algorithm: bytes, ciphertext: int, tail: int) -> bytes:
    """The octets before the ciphertext.  The innermost element comes first, since each states the length of its
    content."""
    head = der.header(0x80, ciphertext)
    for prefix, tag, after in (
        (_DATA + algorithm, der.SEQUENCE, 0),  # EncryptedContentInfo
        (start, der.SEQUENCE, tail),  # EnvelopedData
        (b"", 0xA0, tail),
        (content_type, der.SEQUENCE, tail),  # ContentInfo
    ):
        head = prefix + head
        head = der.header(tag, len(head) + ciphertext + after) + head
    return head


# --- the content -------------------------------------------------------------------------------------------


def _write(envelope: _Envelope, content: Iterator[bytes]) -> Iterator[bytes]:
    update: Callable[[bytes], bytes] = envelope.context.update
    pending = [envelope.head]
    for block in content:
        yield b"".join((*pending, update(block)))
        pending.clear()
    last = update(envelope.padding) + envelope.context.finalize()
    if isinstance(envelope.context, AEADEncryptionContext):
        last += der.octet_string(envelope.context.tag)
    yield b"".join((*pending, last))


def _exactly(content: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The content in medium-sized blocks; raises EncryptionError if it is not ``size`` octets long."""
    octets = 0
    for block in _blocks(content):
        octets += len(block)
        if octets > size:
            raise EncryptionError(f"the content is longer than the {size} octets announced")
        yield block
    if octets < size:
        raise EncryptionError(f"the content has {octets} octets, not the {size} announced")


def _blocks(content: Iterable[bytes]) -> Iterator[bytes]:
    """Joins small pieces and cuts large ones: one cipher call for each piece would cost more than the cipher."""
    pending: list[bytes] = []
    held = 0
    for piece in content:
        if held + len(piece) < _BLOCK:
            pending.append(piece)
            held += len(piece)
            continue
        for start in range(0, len(piece), _BLOCK):
            pending.append(piece[start : start + _BLOCK])
            yield b"".join(pending)
            pending.clear()
        held = 0
    if pending:
        yield b"".join(pending)
