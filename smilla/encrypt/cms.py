"""S/MIME: CMS EnvelopedData and AuthEnvelopedData (RFC 8551, RFC 5652, RFC 5083) for keys that passed the gate.

Promises: DER with definite lengths, made block by block; a fresh content-encryption key and IV for each message;
EncryptionError, never a message that fewer can read than were asked for.  The length of all stands in the first
octets, so that a message that ends with an error is also by its form no whole one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.ciphers import AEADEncryptionContext, Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from smilla.errors import EncryptionError
from smilla.formats import der
from smilla.model import X509Key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_BLOCK = 64 * 1024
_ICV_OCTETS = 16

_ENVELOPED_DATA = der.oid("1.2.840.113549.1.7.3")
_AUTH_ENVELOPED_DATA = der.oid("1.2.840.113549.1.9.16.1.23")
_DATA = der.oid("1.2.840.113549.1.7.1")
_SHA256 = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"), der.null())

_RSA_PKCS1 = der.sequence(der.oid("1.2.840.113549.1.1.1"), der.null())
_RSA_OAEP = der.sequence(  # RFC 4055 section 4.1; the label is the default, empty
    der.oid("1.2.840.113549.1.1.7"),
    der.sequence(
        der.context(0, _SHA256),
        der.context(1, der.sequence(der.oid("1.2.840.113549.1.1.8"), _SHA256)),
    ),
)
_EC_PUBLIC_KEY = der.sequence(der.oid("1.2.840.10045.2.1"))  # the curve is the recipient's (RFC 5753 section 3.1.1)
_STD_DH_SHA1_KDF = der.oid("1.3.133.16.840.63.0.2")


@dataclass(frozen=True, slots=True)
class _Suite:
    """A content cipher and the key wrap of the same strength (RFC 5753 section 8)."""

    algorithm: bytes
    wrap: bytes
    key_octets: int
    iv_octets: int
    authenticated: bool = False


_AES128_WRAP = der.sequence(der.oid("2.16.840.1.101.3.4.1.5"))
_AES256_WRAP = der.sequence(der.oid("2.16.840.1.101.3.4.1.45"))
_SUITES = {
    "aes256-cbc": _Suite(der.oid("2.16.840.1.101.3.4.1.42"), _AES256_WRAP, 32, 16),
    "aes128-cbc": _Suite(der.oid("2.16.840.1.101.3.4.1.2"), _AES128_WRAP, 16, 16),
    "aes256-gcm": _Suite(der.oid("2.16.840.1.101.3.4.1.46"), _AES256_WRAP, 32, 12, authenticated=True),
}
_PADDINGS = {
    "pkcs1": (_RSA_PKCS1, padding.PKCS1v15()),
    "oaep-sha256": (_RSA_OAEP, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)),
}


def encrypt(
    content: Iterable[bytes],
    size: int,
    keys: Sequence[X509Key],
    *,
    cipher: str = "aes256-cbc",
    rsa_padding: str = "pkcs1",
) -> Iterator[bytes]:
    """A ContentInfo in DER that each of ``keys`` opens, in blocks.

    ``content`` comes in pieces of any length, ``size`` octets in all.  Raises EncryptionError: at once for the
    keys, and before the last block where the content is longer or shorter than ``size``.
    """
    envelope = _envelope(size, keys, cipher, rsa_padding)
    return _write(envelope, _exactly(content, size))


def encrypted_size(
    size: int, keys: Sequence[X509Key], *, cipher: str = "aes256-cbc", rsa_padding: str = "pkcs1"
) -> int:
    """How many octets ``encrypt`` makes of ``size`` octets; raises EncryptionError as it does."""
    envelope = _envelope(size, keys, cipher, rsa_padding)
    return len(envelope.head) + envelope.ciphertext_octets + envelope.tail_octets


# --- the envelope ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Envelope:
    """All that precedes the ciphertext, and what encrypts it."""

    head: bytes
    context: CipherContext | AEADEncryptionContext
    ciphertext_octets: int
    padding: bytes
    tail_octets: int


def _envelope(size: int, keys: Sequence[X509Key], cipher: str, rsa_padding: str) -> _Envelope:
    suite = _SUITES.get(cipher)
    if suite is None or rsa_padding not in _PADDINGS:
        raise EncryptionError(f"no such cipher or padding: {cipher!r}, {rsa_padding!r}")
    if size < 0:
        raise EncryptionError("content of negative size")
    cek, iv = os.urandom(suite.key_octets), os.urandom(suite.iv_octets)
    version, recipients = _recipient_infos(keys, cek, suite, rsa_padding)
    if suite.authenticated:
        return _auth_enveloped_data(size, recipients, suite, cek, iv)
    return _enveloped_data(size, der.integer(version) + recipients, suite, cek, iv)


def _enveloped_data(size: int, start: bytes, suite: _Suite, cek: bytes, iv: bytes) -> _Envelope:
    """RFC 5652 section 6.1, padded as section 6.3 says; ``start`` is the version and the recipients."""
    pad = 16 - size % 16
    algorithm = der.sequence(suite.algorithm, der.octet_string(iv))
    head = _head(_ENVELOPED_DATA, start, algorithm, size + pad, 0)
    context = Cipher(algorithms.AES(cek), modes.CBC(iv)).encryptor()
    return _Envelope(head, context, size + pad, bytes((pad,)) * pad, 0)


def _auth_enveloped_data(size: int, recipients: bytes, suite: _Suite, cek: bytes, nonce: bytes) -> _Envelope:
    """RFC 5083 section 2.1, always version 0.  The length of the ICV must be stated: its default is 12
    (RFC 5084 section 3.2)."""
    algorithm = der.sequence(suite.algorithm, der.sequence(der.octet_string(nonce), der.integer(_ICV_OCTETS)))
    tail_octets = len(der.header(der.OCTET_STRING, _ICV_OCTETS)) + _ICV_OCTETS
    head = _head(_AUTH_ENVELOPED_DATA, der.integer(0) + recipients, algorithm, size, tail_octets)
    context = Cipher(algorithms.AES(cek), modes.GCM(nonce)).encryptor()
    return _Envelope(head, context, size, b"", tail_octets)


def _head(content_type: bytes, start: bytes, algorithm: bytes, ciphertext: int, tail: int) -> bytes:
    """The octets before the ciphertext, innermost element first, since each states the length of what it holds."""
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


# --- recipients --------------------------------------------------------------------------------------------


def _recipient_infos(keys: Sequence[X509Key], cek: bytes, suite: _Suite, rsa_padding: str) -> tuple[int, bytes]:
    """The version of EnvelopedData and its RecipientInfos; a certificate named twice has one."""
    if not keys:
        raise EncryptionError("no key to encrypt to")
    infos = {}
    version = 0
    for key in keys:
        if not isinstance(key, X509Key):
            raise EncryptionError(f"a {type(key).__name__} is no certificate that passed the gate")
        try:
            if isinstance(key.public_key, ec.EllipticCurvePublicKey):
                version = 2
                infos[key.fingerprint] = _key_agreement(key, key.public_key, cek, suite)
            else:
                algorithm, scheme = _PADDINGS[rsa_padding]
                encrypted = key.public_key.encrypt(cek, scheme)
                infos[key.fingerprint] = _key_transport(key, algorithm, encrypted)
        except (ValueError, UnsupportedAlgorithm, InternalError) as error:
            raise EncryptionError(f"cannot encrypt to the certificate {key.fingerprint}: {error}") from error
    return version, der.set_of(*infos.values())


def _key_transport(key: X509Key, algorithm: bytes, encrypted: bytes) -> bytes:
    """KeyTransRecipientInfo (RFC 5652 section 6.2.1); version 0 goes with issuerAndSerialNumber."""
    return der.sequence(der.integer(0), key.raw_issuer_and_serial, algorithm, der.octet_string(encrypted))


def _key_agreement(key: X509Key, public_key: ec.EllipticCurvePublicKey, cek: bytes, suite: _Suite) -> bytes:
    """KeyAgreeRecipientInfo, ephemeral-static ECDH without ukm (RFC 5753 section 3.1)."""
    ephemeral = ec.generate_private_key(public_key.curve)
    kek = _key_encryption_key(ephemeral.exchange(ec.ECDH(), public_key), suite)
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return der.context(
        1,
        der.integer(3),
        der.context(0, der.context(1, _EC_PUBLIC_KEY, der.bit_string(point))),
        der.sequence(_STD_DH_SHA1_KDF, suite.wrap),
        der.sequence(der.sequence(key.raw_issuer_and_serial, der.octet_string(aes_key_wrap(kek, cek)))),
    )


def _key_encryption_key(shared_secret: bytes, suite: _Suite) -> bytes:
    """The X9.63 KDF over ECC-CMS-SharedInfo (RFC 5753 section 7.2)."""
    bits = (suite.key_octets * 8).to_bytes(4, "big")
    shared_info = der.sequence(suite.wrap, der.context(2, der.octet_string(bits)))
    # SHA-1 as a KDF is what clients read; collisions, which it does not resist, are no help against a KDF.
    return X963KDF(hashes.SHA1(), suite.key_octets, shared_info).derive(shared_secret)  # noqa: S303


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
    """The content in blocks of middling length; raises EncryptionError where it is not ``size`` octets long."""
    seen = 0
    for block in _blocks(content):
        seen += len(block)
        if seen > size:
            raise EncryptionError(f"the content is longer than the {size} octets announced")
        yield block
    if seen < size:
        raise EncryptionError(f"the content has {seen} octets, not the {size} announced")


def _blocks(content: Iterable[bytes]) -> Iterator[bytes]:
    """Small pieces joined and large ones cut: one call of the cipher for each would cost more than the cipher."""
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
