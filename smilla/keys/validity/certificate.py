"""What a certificate says (RFC 5280), read once, and octet for octet where octets count.

Promises: for any octets, ``read`` gives a Certificate or says why there is none; no part of a Certificate can raise
later.  The parser is cryptography's, which is lazy and strict: it may fail at the first access to a part.  Readings are
remembered, bounded in entries and octets, since the same few certificates come with every message.  Nothing that
depends on the time or the address is remembered.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from smilla.errors import ParseError
from smilla.formats import der
from smilla.keys.memory import Memory
from smilla.keys.validity import capabilities, public_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from smilla.model import OAEP

_MAX_OCTETS = 64 * 1024
_MAX_PEM_OCTETS = 16 * _MAX_OCTETS  # a file may hold a chain, and the certificates printed as text
_MAX_NAMED = 512
_SMTP_UTF8_MAILBOX = "1.3.6.1.5.5.7.8.9"

# cryptography raises these for certificates that it cannot read, either on loading or on first access to a part.
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

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """Everything that the checks read, parsed once, so that no check meets a parser's exception.

    ``raw_issuer_and_serial`` and ``raw_public_key`` (SubjectPublicKeyInfo) are octet for octet as in ``raw``.  ``oaep``
    is the only padding that the key allows, if it says so; ``ciphers`` are the ciphers of ours that the certificate
    announces.
    """

    parsed: x509.Certificate
    raw: bytes
    raw_issuer_and_serial: bytes
    raw_public_key: bytes
    not_before: datetime
    not_after: datetime
    extensions: tuple[x509.Extension[x509.ExtensionType], ...]
    public_key: object
    algorithm_oid: str
    oaep: OAEP | None
    ciphers: tuple[str, ...]
    addresses: tuple[str, ...]

    def extension(self, kind: type[_Extension]) -> _Extension | None:
        """The value of the extension of that type."""
        return next((e.value for e in self.extensions if isinstance(e.value, kind)), None)

    @property
    def is_ca(self) -> bool:
        """Whether basicConstraints says CA:TRUE."""
        constraints = self.extension(x509.BasicConstraints)
        return constraints is not None and constraints.ca


@dataclass(frozen=True, slots=True)
class Reading:
    """What the octets turned out to be: a certificate, or why they are none.  ``facts`` describes them to a person, as
    far as they could be read."""

    certificate: Certificate | None
    facts: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""


class Readings(Memory[tuple[bytes, bool], "Reading"]):
    """The most recent readings."""

    def find(self, raw: bytes, pem: bool) -> Reading | None:
        """The reading of these octets, if it is remembered."""
        return self.recall((raw, pem))

    def keep(self, raw: bytes, pem: bool, reading: Reading) -> None:
        """Remembers a reading, unless the octets are more than a certificate has, as in a file that holds much else."""
        if len(raw) <= _MAX_OCTETS:
            self.remember((raw, pem), reading, _weight(raw))


def _weight(raw: bytes) -> int:
    """Roughly how much memory a reading takes, as measured: 6 KiB for a usual certificate, 100 for a crowded one."""
    return 5000 + 10 * len(raw)


_readings = Readings(entries=2000, octets=16 << 20)


def read(raw: bytes, *, pem: bool) -> Reading:
    """The certificate in DER, or with ``pem`` the first one of a file in either form."""
    reading = _readings.find(raw, pem)
    if reading is None:
        reading = _read(raw, pem)
        _readings.keep(raw, pem, reading)
    return reading


def _read(raw: bytes, pem: bool) -> Reading:
    facts: dict[str, str] = {}
    try:
        certificate, fault = _parsed(_from_pem(raw) if pem else raw, facts), ""
    except ParseError as error:
        certificate, fault = None, shown(str(error))
    return Reading(certificate, MappingProxyType(facts), fault)


def _parsed(raw: bytes, facts: dict[str, str]) -> Certificate:
    """The certificate; its description goes into ``facts``, as far as it can be read.  Raises ParseError."""
    if len(raw) > _MAX_OCTETS:
        raise ParseError(f"{len(raw)} octets are more than a certificate has")
    facts["fingerprint"] = hashlib.sha256(raw).hexdigest()
    octets = _octets(raw)
    try:
        return _fields(x509.load_der_x509_certificate(raw), raw, octets, facts)
    except UNREADABLE as error:
        raise ParseError(str(error) or type(error).__name__) from error


def _from_pem(raw: bytes) -> bytes:
    """The first certificate of a file in PEM (RFC 7468 section 5); any other octets unchanged."""
    found = re.search(rb"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----", raw[:_MAX_PEM_OCTETS])
    if raw[:1] == b"\x30" or not found:
        return raw
    try:
        return base64.b64decode(b"".join(found[1].split()), validate=True)
    except ValueError as error:
        raise ParseError(f"the PEM is malformed: {error}") from error


def _octets(raw: bytes) -> tuple[bytes, bytes]:
    """IssuerAndSerialNumber and SubjectPublicKeyInfo, cut from the certificate's octets: a new encoding may differ from
    what the recipient's program, or a hash in DNS, compares with.  Raises ParseError."""
    serial, _, issuer, _, _, public_key = _raw_fields(raw)
    return der.sequence(issuer.whole, serial.whole), public_key.whole


def raw_subject(raw: bytes) -> bytes:
    """The subject of a certificate that perhaps nobody can read otherwise, in DER; b"" if there is none."""
    try:
        return _raw_fields(raw)[4].whole
    except ParseError:
        return b""


def _raw_fields(raw: bytes) -> list[der.TLV]:
    """From the serial number to the public key (RFC 5280 section 4.1).  Raises ParseError."""
    certificate = der.read(raw)
    tbs = next(certificate.children(), certificate)
    fields = list(islice(tbs.children(), 7))
    if fields and fields[0].tag == 0xA0:  # the version, absent in version 1
        del fields[0]
    if [f.tag for f in fields[:6]] != [der.INTEGER, *[der.SEQUENCE] * 5]:
        raise ParseError("these octets are not a certificate")
    return fields[:6]


def _fields(
    certificate: x509.Certificate, raw: bytes, octets: tuple[bytes, bytes], facts: dict[str, str]
) -> Certificate:
    facts["serial"] = shown(f"{certificate.serial_number:x}")
    facts["issuer"] = shown(certificate.issuer.rfc4514_string())
    facts["subject"] = shown(certificate.subject.rfc4514_string())
    not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    facts["not_before"], facts["not_after"] = in_words(not_before), in_words(not_after)
    oid = certificate.public_key_algorithm_oid.dotted_string
    key, oaep = _public_key(certificate, octets[1])
    facts["algorithm"] = public_key.name(key, oid, oaep)
    named = tuple(islice(_named_addresses(certificate), _MAX_NAMED))
    facts["addresses"] = shown(", ".join(named))
    extensions = tuple(certificate.extensions)
    announced = capabilities.announced(extensions)
    if announced:
        facts["smime_capabilities"] = shown(", ".join(announced))
    return Certificate(
        parsed=certificate,
        raw=raw,
        raw_issuer_and_serial=octets[0],
        raw_public_key=octets[1],
        not_before=not_before,
        not_after=not_after,
        extensions=extensions,
        public_key=key,
        algorithm_oid=oid,
        oaep=oaep,
        ciphers=capabilities.ciphers(announced),
        addresses=named,
    )


def _public_key(certificate: x509.Certificate, raw: bytes) -> tuple[object, OAEP | None]:
    try:
        return public_key.load(certificate, raw)
    except (ParseError, *UNREADABLE):
        return None, None


def _named_addresses(certificate: x509.Certificate) -> Iterator[str]:
    """Every address that the certificate names, as written there."""
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            yield from extension.value.get_values_for_type(x509.RFC822Name)
            for name in extension.value.get_values_for_type(x509.OtherName):
                if name.type_id.dotted_string == _SMTP_UTF8_MAILBOX:
                    yield _utf8_string(name.value)
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
        yield str(attribute.value)


def _utf8_string(raw: bytes) -> str:
    """The mailbox.  A malformed one still names a mailbox, but nobody's."""
    try:
        element = der.read(raw)
        return element.content.decode() if element.tag == der.UTF8_STRING else "(malformed)"
    except (ParseError, UnicodeDecodeError):
        return "(malformed)"


def in_words(instant: datetime) -> str:
    """An instant as written in a sentence."""
    return f"{instant:%Y-%m-%d %H:%M} UTC"


def shown(text: str) -> str:
    """A stranger's text, made safe for a terminal and a log: bounded, without control characters."""
    printable = "".join(c if c.isprintable() else "?" for c in text[:500])
    return printable + ("…" if len(text) > 500 else "")
