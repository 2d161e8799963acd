"""Certificates for tests, made by cryptography; RSA keys are made once a process, since they take long."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mlkem, padding, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from smilla.formats import der

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import (
        CertificateIssuerPrivateKeyTypes,
        CertificatePublicKeyTypes,
        PrivateKeyTypes,
    )

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "p256": ec.SECP256R1,
    "p384": ec.SECP384R1,
    "p521": ec.SECP521R1,
    "bp256": ec.BrainpoolP256R1,
    "bp384": ec.BrainpoolP384R1,
    "bp512": ec.BrainpoolP512R1,
    "k256": ec.SECP256K1,
}
_GENERATORS: dict[str, Callable[[], PrivateKeyTypes]] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    "x25519": x25519.X25519PrivateKey.generate,
    "x448": x448.X448PrivateKey.generate,
    "mlkem768": mlkem.MLKEM768PrivateKey.generate,
    "mlkem1024": mlkem.MLKEM1024PrivateKey.generate,
}
_UNABLE_TO_SIGN = (
    x25519.X25519PrivateKey,
    x448.X448PrivateKey,
    mlkem.MLKEM768PrivateKey,
    mlkem.MLKEM1024PrivateKey,
)
_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@cache
def make_key(kind: str, number: int = 0) -> PrivateKeyTypes:
    """A private key: rsaBITS, p256, p384, p521, bp256, bp384, bp512, k256, ed25519, ed448, x25519, x448, mlkem768,
    mlkem1024 or dsa; another for each ``number``."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[3:]))
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind]())
    if kind == "dsa":
        return dsa.generate_private_key(2048)
    return _GENERATORS[kind]()


def key_usage(*names: str) -> x509.KeyUsage:
    """The keyUsage extension with these bits."""
    return x509.KeyUsage(**{name: name in names for name in _KEY_USAGES})


def make_certificate(
    kind: str = "rsa2048",
    *,
    email: str | Sequence[str] = (),
    subject_email: str | None = None,
    common_name: str = "Hugh",
    usages: Sequence[str] | None = None,
    extended: Sequence[x509.ObjectIdentifier] | None = None,
    ca: bool | None = None,
    not_before: datetime = NOW - timedelta(days=30),
    not_after: datetime = NOW + timedelta(days=30),
    serial: int | None = None,
    number: int = 0,
    other_names: Sequence[x509.GeneralName] = (),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    issuer: tuple[PrivateKeyTypes, bytes] | None = None,
) -> tuple[PrivateKeyTypes, bytes]:
    """A private key and its certificate in DER, self-signed unless ``issuer`` (what this function returned) signs."""
    key = make_key(kind, number)
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if subject_email is not None:
        attributes.append(x509.NameAttribute(NameOID.EMAIL_ADDRESS, subject_email))
    subject = x509.Name(attributes)
    signer, issuer_name = (key, subject) if issuer is None else (issuer[0], _subject(issuer[1]))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(_public(key))
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    names = [*map(x509.RFC822Name, [email] if isinstance(email, str) else email), *other_names]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usages is not None:
        builder = builder.add_extension(key_usage(*usages), critical=True)
    if extended is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return key, _signed(builder, signer)


def to_pem(der: bytes) -> bytes:
    """The certificate in PEM."""
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def _subject(der: bytes) -> x509.Name:
    return x509.load_der_x509_certificate(der).subject


def _public(key: PrivateKeyTypes) -> CertificatePublicKeyTypes:
    public: CertificatePublicKeyTypes = key.public_key()  # type: ignore[assignment]  # DH keys are never made here
    return public


def _signed(builder: x509.CertificateBuilder, signer: PrivateKeyTypes) -> bytes:
    if isinstance(signer, _UNABLE_TO_SIGN):  # somebody else's signature stands there
        signer = make_key("p256")
    unhashed = isinstance(signer, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey))
    able: CertificateIssuerPrivateKeyTypes = signer  # type: ignore[assignment]
    return builder.sign(able, None if unhashed else hashes.SHA256()).public_bytes(Encoding.DER)


def with_key_algorithm(der_certificate: bytes, algorithm: bytes, signer: PrivateKeyTypes) -> bytes:
    """The certificate with another AlgorithmIdentifier in its SubjectPublicKeyInfo, signed anew by an RSA key."""
    assert isinstance(signer, rsa.RSAPrivateKey)
    tbs, signature_algorithm, _ = der.read(der_certificate).children()
    fields = [field.whole for field in tbs.children()]
    _, public_key = der.read(fields[6]).children()
    fields[6] = der.sequence(algorithm, public_key.whole)
    signed = der.sequence(*fields)
    signature = signer.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return der.sequence(signed, signature_algorithm.whole, der.bit_string(signature))


def capabilities(*oids: str, critical: bool = False) -> tuple[x509.ExtensionType, bool]:
    """The smimeCapabilities extension (RFC 4262) with these object identifiers."""
    value = der.sequence(*(der.sequence(der.oid(oid)) for oid in oids))
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.840.113549.1.9.15"), value), critical


def association_data(der: bytes, selector: int, matching_type: int) -> bytes:
    """What an SMIMEA record with this selector and matching type holds for a certificate (RFC 6698 section 2.1)."""
    public = x509.load_der_x509_certificate(der).public_key()
    raw = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) if selector == 1 else der
    return {1: hashlib.sha256(raw).digest(), 2: hashlib.sha512(raw).digest()}.get(matching_type, raw)


def make_crl(
    issuer: tuple[PrivateKeyTypes, bytes],
    revoked: Mapping[bytes, x509.ReasonFlags | None] | None = None,
    *,
    issued_at: datetime = NOW - timedelta(days=1),
    expires_at: datetime = NOW + timedelta(days=1),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    """A revocation list in DER, signed by ``issuer`` (what ``make_certificate`` returned); ``revoked`` gives a reason
    for each certificate, revoked two days ago."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(_subject(issuer[1]))
    builder = builder.last_update(issued_at).next_update(expires_at)
    for raw, reason in (revoked or {}).items():
        serial = x509.load_der_x509_certificate(raw).serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - timedelta(days=2))
        entry = entry.add_extension(x509.CRLReason(reason), critical=False) if reason else entry
        builder = builder.add_revoked_certificate(entry.build())
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    able: CertificateIssuerPrivateKeyTypes = issuer[0]  # type: ignore[assignment]
    return builder.sign(able, hashes.SHA256()).public_bytes(Encoding.DER)
