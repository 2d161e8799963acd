"""S/MIME: the content of CMS EnvelopedData and AuthEnvelopedData (RFC 8551, RFC 5652, RFC 5083), for our keys.

Promises: nothing is returned before the whole is decrypted, and of AuthEnvelopedData nothing before its tag has been
checked.  EnvelopedData proves nothing about its content: whoever can change a message on its way can change the text
in it, and make a reader's program send it off (EFAIL, CVE-2017-17689).  So what comes out is marked ``authenticated``
or not, and the caller decides.

Every failure of the cryptography is one and the same NotDecrypted, ``undecryptable``: whether a padding was right, of
the key or of the content, must not show in any answer, log or file (RFC 3218, and Vaudenay's attack on CBC).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.padding import PKCS7

from smilla.decrypt.cms_recipients import content_key, mine
from smilla.errors import NotDecrypted, ParseError
from smilla.formats import ber, der
from smilla.formats.cms import AUTH_ENVELOPED_DATA, ENVELOPED_DATA
from smilla.value import value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smilla.decrypt.held_key import HeldKey

_MOST_TRIED = 8  # RecipientInfos that name us; a message has one or two, and each costs an RSA operation
_ICV_OCTETS = (12, 13, 14, 15, 16)  # RFC 5084 section 3.2

_CBC = {  # object identifier -> octets of the key and of the block
    "2.16.840.1.101.3.4.1.2": (16, 16),
    "2.16.840.1.101.3.4.1.22": (24, 16),
    "2.16.840.1.101.3.4.1.42": (32, 16),
    "1.2.840.113549.3.7": (24, 8),  # DES-EDE3, which older programs still write
}
_GCM = {"2.16.840.1.101.3.4.1.6": 16, "2.16.840.1.101.3.4.1.26": 24, "2.16.840.1.101.3.4.1.46": 32}
_CHACHA20_POLY1305 = "1.2.840.113549.1.9.16.3.18"  # RFC 8103


@value
class Opened:
    """The content, octet for octet, and whether a tag over all of it was checked."""

    raw_content: bytes
    authenticated: bool


class _Suite(Protocol):
    """A content cipher with its parameters."""

    @property
    def key_octets(self) -> int:
        """The length of its key."""

    def opened(self, key: bytes, ciphertext: bytes) -> bytes | None:
        """The content; None if anything at all is wrong."""


def opened(raw: bytes, keys: Sequence[HeldKey]) -> Opened:
    """Opens a ContentInfo in BER or DER with the first of the keys that can.

    Raises NotDecrypted: ``not_for_this_key`` if it names none of the certificates, ``unsupported`` if we do not know
    the cipher, ``malformed``, and ``undecryptable`` for all else.
    """
    try:
        envelope = _read(ber.to_der(raw))
        found = [(one, key) for key in keys for one in mine(envelope.recipients, key)]
    except (ParseError, ValueError, StopIteration) as error:
        raise NotDecrypted("malformed", f"the CMS structure is malformed: {error}") from error
    if not found:
        raise NotDecrypted("not_for_this_key", "it is encrypted to other certificates only")
    if len(found) > _MOST_TRIED:
        raise NotDecrypted("malformed", "it names the certificate too many times")
    for one, key in found:
        content = envelope.suite.opened(content_key(one, key, envelope.suite.key_octets), envelope.ciphertext)
        if content is not None:
            return Opened(content, envelope.authenticated)
    raise undecryptable()


def undecryptable() -> NotDecrypted:
    """The one failure of everything that depends on a key."""
    return NotDecrypted("undecryptable", "it does not decrypt to one MIME entity")


# --- the structure -----------------------------------------------------------------------------------------


@value
class _Envelope:
    recipients: der.TLV
    suite: _Suite
    ciphertext: bytes
    authenticated: bool


def _read(raw: bytes) -> _Envelope:
    """The parts that decrypting needs.  Raises ParseError, ValueError and NotDecrypted."""
    oid, explicit = der.read(raw).children()
    content_type = der.dotted(oid.content)
    if content_type not in (ENVELOPED_DATA, AUTH_ENVELOPED_DATA):
        raise ParseError("neither enveloped-data nor authEnveloped-data")
    (data,) = explicit.children()
    fields = list(data.children())[1:]
    if fields and fields[0].tag == 0xA0:  # OriginatorInfo
        fields = fields[1:]
    recipients, encrypted, *after = fields
    parts = list(encrypted.children())
    if recipients.tag != der.SET or len(parts) != 3:
        raise ParseError("not the structure of enveloped data")
    algorithm, ciphertext = parts[1], ber.joined(parts[2])
    authenticated = content_type == AUTH_ENVELOPED_DATA
    suite = _aead(algorithm, after) if authenticated else _cbc(algorithm)
    return _Envelope(recipients, suite, ciphertext, authenticated)


def _identifier(algorithm: der.TLV) -> tuple[str, der.TLV]:
    oid, parameters = algorithm.children()
    return der.dotted(oid.content), parameters


def _cbc(algorithm: der.TLV) -> _Suite:
    name, parameters = _identifier(algorithm)
    if name not in _CBC:
        raise NotDecrypted("unsupported", f"its content is encrypted with a cipher that smilla does not read ({name})")
    key_octets, block = _CBC[name]
    if parameters.tag != der.OCTET_STRING or len(parameters.content) != block:
        raise ParseError("the initialisation vector has the wrong length")
    return _WithoutTag(key_octets, block, parameters.content)


def _aead(algorithm: der.TLV, after: list[der.TLV]) -> _Suite:
    """The cipher, its tag, and the attributes that the tag covers: their DER, as a SET OF (RFC 5083 section 2.2)."""
    name, parameters = _identifier(algorithm)
    attributes = after[0] if after and after[0].tag == 0xA1 else None
    raw_tag = after[1 if attributes else 0].content if len(after) > bool(attributes) else b""
    covered = der.set_of(*(one.whole for one in attributes.children())) if attributes else b""
    if name in _GCM:
        nonce, *stated = parameters.children()
        octets = int.from_bytes(stated[0].content, "big") if stated else 12
        if octets not in _ICV_OCTETS or len(raw_tag) != octets or not nonce.content:
            raise ParseError("the authentication tag has the wrong length")
        return _WithTag(_GCM[name], nonce.content, raw_tag, covered)
    if name == _CHACHA20_POLY1305:
        if len(raw_tag) != 16 or len(parameters.content) != 12:
            raise ParseError("the nonce or the authentication tag has the wrong length")
        return _ChaCha(32, parameters.content, raw_tag, covered)
    raise NotDecrypted("unsupported", f"its content is encrypted with a cipher that smilla does not read ({name})")


# --- the content -------------------------------------------------------------------------------------------


@value
class _WithoutTag:
    """AES or triple DES in CBC mode (RFC 3565, RFC 3370 section 5.1)."""

    key_octets: int
    block: int
    iv: bytes

    def opened(self, key: bytes, ciphertext: bytes) -> bytes | None:
        try:
            cipher = algorithms.AES(key) if self.block == 16 else TripleDES(key)
            decryptor = Cipher(cipher, modes.CBC(self.iv)).decryptor()
            padded = decryptor.update(ciphertext) + decryptor.finalize()
            unpadder = PKCS7(self.block * 8).unpadder()
            return unpadder.update(padded) + unpadder.finalize()
        except ValueError:
            return None


@value
class _WithTag:
    """AES in GCM mode (RFC 5084)."""

    key_octets: int
    nonce: bytes
    raw_tag: bytes
    covered: bytes

    def opened(self, key: bytes, ciphertext: bytes) -> bytes | None:
        try:
            mode = modes.GCM(self.nonce, self.raw_tag, min_tag_length=len(self.raw_tag))
            decryptor = Cipher(algorithms.AES(key), mode).decryptor()
            decryptor.authenticate_additional_data(self.covered)
            return decryptor.update(ciphertext) + decryptor.finalize()
        except (ValueError, InvalidTag):
            return None


@value
class _ChaCha:
    """ChaCha20 with Poly1305 (RFC 8103)."""

    key_octets: int
    nonce: bytes
    raw_tag: bytes
    covered: bytes

    def opened(self, key: bytes, ciphertext: bytes) -> bytes | None:
        try:
            return ChaCha20Poly1305(key).decrypt(self.nonce, ciphertext + self.raw_tag, self.covered)
        except (ValueError, InvalidTag):
            return None
