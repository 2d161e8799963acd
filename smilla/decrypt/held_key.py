"""The private keys of a PKCS #12 (RFC 7292) or PEM (RFC 7468) file, and the names by which messages call them.

A message names a certificate, never a key.  So a file must have the certificate beside the key.  Certificates that were
renewed with the same key may stand there together, and each of them names it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key, pkcs12

from smilla.errors import ParseError
from smilla.formats import der

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{3,40})-----.*?-----END \1-----", re.DOTALL)
_CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE")


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A private key, and every name under which a message may be encrypted to it: IssuerAndSerialNumber in DER, and
    subject key identifiers (RFC 5652 section 6.2.1).  ``raw_certificates`` are its certificates in DER."""

    private: PrivateKeyTypes = field(repr=False)
    raw_certificates: tuple[bytes, ...]
    raw_names: frozenset[bytes]
    raw_identifiers: frozenset[bytes]


def read(raw: bytes, password: bytes | None = None) -> tuple[HeldKey, ...]:
    """The keys of a file, PKCS #12 or PEM.  Raises ParseError, which says what is missing, and nothing of the key."""
    try:
        pairs = list(_of_pem(raw, password) if _BLOCK.search(raw) else _of_pkcs12(raw, password))
    except (ValueError, TypeError) as error:
        raise ParseError("it cannot be opened: the password is wrong or missing, or the file is damaged") from error
    except UnsupportedAlgorithm as error:
        raise ParseError("its encryption, or the kind of its key, is not supported here") from error
    if not pairs:
        raise ParseError("it has no private key")
    return tuple(_held(private, certificates) for private, certificates in pairs)


_Certificates = list[x509.Certificate]


def _of_pem(raw: bytes, password: bytes | None) -> Iterator[tuple[PrivateKeyTypes, _Certificates]]:
    blocks = [(found[1], found[0]) for found in _BLOCK.finditer(raw)]
    certificates = [x509.load_pem_x509_certificate(block) for label, block in blocks if label in _CERTIFICATES]
    for label, block in blocks:
        if label.endswith(b"PRIVATE KEY"):
            locked = b"ENCRYPTED" in block
            yield load_pem_private_key(block, password if locked else None), certificates


def _of_pkcs12(raw: bytes, password: bytes | None) -> Iterator[tuple[PrivateKeyTypes, _Certificates]]:
    found = pkcs12.load_pkcs12(raw, password)
    if found.key is not None:
        yield found.key, [one.certificate for one in (found.cert, *found.additional_certs) if one is not None]


def _held(private: PrivateKeyTypes, certificates: _Certificates) -> HeldKey:
    public = _raw_public(private)
    own = tuple(raw for raw in (one.public_bytes(Encoding.DER) for one in certificates) if _raw_key(raw) == public)
    if not own:
        raise ParseError("it has a private key without the certificate that belongs to it")
    raw_key_bits = list(der.read(public).children())[1].content[1:]
    identifiers = {hashlib.sha1(raw_key_bits, usedforsecurity=False).digest(), *_identifiers(own)}
    return HeldKey(private, own, frozenset(map(issuer_and_serial, own)), frozenset(identifiers))


def _raw_public(private: PrivateKeyTypes) -> bytes:
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _raw_key(raw_certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo, as cryptography writes that of a private key: an id-RSAES-OAEP key is an RSA key."""
    try:
        public = x509.load_der_x509_certificate(raw_certificate).public_key()
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return b""


def _identifiers(raw_certificates: Iterable[bytes]) -> Iterator[bytes]:
    """The identifiers that the certificates state; programs also compute one (RFC 5280 section 4.2.1.2)."""
    for raw in raw_certificates:
        try:
            extensions = x509.load_der_x509_certificate(raw).extensions
            yield extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        except (ValueError, x509.ExtensionNotFound):
            continue


def issuer_and_serial(raw_certificate: bytes) -> bytes:
    """IssuerAndSerialNumber (RFC 5652 section 10.2.4) with the issuer's name octet for octet.  Raises ParseError."""
    tbs = next(der.read(raw_certificate).children())
    fields = [field for field in tbs.children() if field.tag != 0xA0]  # the version
    if len(fields) < 3:
        raise ParseError("a certificate is cut off")
    return der.sequence(fields[2].whole, fields[0].whole)
