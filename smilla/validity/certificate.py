"""What a certificate says (RFC 5280), read once and octet for octet where octets count.

Promises: ``read`` gives a Certificate or raises ParseError, whatever the octets are; no part of a Certificate can
raise later.  The parser is cryptography's, which is lazy and strict: it may fail at the first look at a part.
"""

from __future__ import annotations

import base64
import hashlib
import re
import warnings
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from smilla.errors import ParseError
from smilla.formats import der

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

RSA = "1.2.840.113549.1.1.1"
SIGNATURE_ALGORITHMS = {
    "1.2.840.113549.1.1.10": "RSASSA-PSS",
    "1.2.840.10040.4.1": "DSA",
    "1.3.101.112": "Ed25519",
    "1.3.101.113": "Ed448",
}
CURVES = {"secp256r1": "EC P-256", "secp384r1": "EC P-384", "secp521r1": "EC P-521"}

_MAX_OCTETS = 64 * 1024
_MAX_PEM_OCTETS = 16 * _MAX_OCTETS  # a file may hold a chain, and the certificates written out as text
_MAX_NAMED = 512
_SMTP_UTF8_MAILBOX = "1.3.6.1.5.5.7.8.9"

# What cryptography raises for certificates that it cannot read, now at loading and now at the first look at a part.
UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    CryptographyDeprecationWarning,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

# Serial numbers that are zero or negative are against RFC 5280 section 4.1.2.2, which asks to bear with them; a
# stranger's certificate is no reason for a line on stderr.
warnings.filterwarnings("ignore", message="Parsed a serial number", category=CryptographyDeprecationWarning)

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Certificate:
    """All that the checks look at, read once, so that no check meets a parser's exception."""

    parsed: x509.Certificate
    raw: bytes
    raw_issuer_and_serial: bytes
    not_before: datetime
    not_after: datetime
    extensions: tuple[x509.Extension[x509.ExtensionType], ...]
    public_key: object
    algorithm_oid: str
    addresses: tuple[str, ...]

    def extension(self, kind: type[_Extension]) -> _Extension | None:
        """The value of the extension of that type."""
        return next((e.value for e in self.extensions if isinstance(e.value, kind)), None)

    @property
    def is_ca(self) -> bool:
        """Whether basicConstraints says CA:TRUE."""
        constraints = self.extension(x509.BasicConstraints)
        return constraints is not None and constraints.ca


def read(raw: bytes, facts: dict[str, str], *, pem: bool) -> Certificate:
    """The certificate, its description put into ``facts`` as far as it can be read.  Raises ParseError."""
    raw = _from_pem(raw) if pem else raw
    if len(raw) > _MAX_OCTETS:
        raise ParseError(f"{len(raw)} octets are more than a certificate has")
    facts["fingerprint"] = hashlib.sha256(raw).hexdigest()
    raw_issuer_and_serial = _issuer_and_serial(raw)
    try:
        return _fields(x509.load_der_x509_certificate(raw), raw, raw_issuer_and_serial, facts)
    except UNREADABLE as error:
        raise ParseError(str(error) or type(error).__name__) from error


def _from_pem(raw: bytes) -> bytes:
    """The first certificate of a file in PEM (RFC 7468 section 5); any other octets as they are."""
    found = re.search(rb"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----", raw[:_MAX_PEM_OCTETS])
    if raw[:1] == b"\x30" or not found:
        return raw
    try:
        return base64.b64decode(b"".join(found[1].split()), validate=True)
    except ValueError as error:
        raise ParseError(f"the PEM is malformed: {error}") from error


def _issuer_and_serial(raw: bytes) -> bytes:
    """IssuerAndSerialNumber from the octets of the certificate: an issuer encoded anew may differ from the one
    that the recipient's program compares with.  Raises ParseError."""
    certificate = der.read(raw)
    tbs = next(certificate.children(), certificate)
    fields = list(islice(tbs.children(), 4))
    if fields and fields[0].tag == 0xA0:  # the version, absent in version 1
        del fields[0]
    if [f.tag for f in fields[:3]] != [der.INTEGER, der.SEQUENCE, der.SEQUENCE]:
        raise ParseError("these octets are no certificate")
    serial, _, issuer = fields[:3]
    return der.sequence(issuer.whole, serial.whole)


def _fields(certificate: x509.Certificate, raw: bytes, ias: bytes, facts: dict[str, str]) -> Certificate:
    facts["serial"] = shown(f"{certificate.serial_number:x}")
    facts["issuer"] = shown(certificate.issuer.rfc4514_string())
    facts["subject"] = shown(certificate.subject.rfc4514_string())
    not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    facts["not_before"], facts["not_after"] = in_words(not_before), in_words(not_after)
    oid = certificate.public_key_algorithm_oid.dotted_string
    public_key = _public_key(certificate)
    facts["algorithm"] = _algorithm_name(public_key, oid)
    named = tuple(islice(_named_addresses(certificate), _MAX_NAMED))
    facts["addresses"] = shown(", ".join(named))
    extensions = tuple(certificate.extensions)
    return Certificate(certificate, raw, ias, not_before, not_after, extensions, public_key, oid, named)


def _public_key(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except UNREADABLE:  # an algorithm or curve that cryptography does not know, or a point that is on none
        return None


def _algorithm_name(public_key: object, oid: str) -> str:
    if isinstance(public_key, rsa.RSAPublicKey) and oid == RSA:
        return f"RSA-{public_key.key_size}"
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return CURVES.get(public_key.curve.name, f"EC {public_key.curve.name}")
    return SIGNATURE_ALGORITHMS.get(oid, oid)


def _named_addresses(certificate: x509.Certificate) -> Iterator[str]:
    """Every address that the certificate names, as it is written there."""
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            yield from extension.value.get_values_for_type(x509.RFC822Name)
            for name in extension.value.get_values_for_type(x509.OtherName):
                if name.type_id.dotted_string == _SMTP_UTF8_MAILBOX:
                    yield _utf8_string(name.value)
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
        yield str(attribute.value)


def _utf8_string(raw: bytes) -> str:
    """The mailbox; what is malformed names one all the same, which is nobody's."""
    try:
        element = der.read(raw)
        return element.content.decode() if element.tag == der.UTF8_STRING else "(malformed)"
    except (ParseError, UnicodeDecodeError):
        return "(malformed)"


def in_words(instant: datetime) -> str:
    """An instant as a sentence has it."""
    return f"{instant:%Y-%m-%d %H:%M} UTC"


def shown(text: str) -> str:
    """What a stranger wrote, fit for a terminal and a log: bounded, without control characters."""
    printable = "".join(c if c.isprintable() else "?" for c in text[:500])
    return printable + ("…" if len(text) > 500 else "")
