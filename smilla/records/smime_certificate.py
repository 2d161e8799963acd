"""A self-signed S/MIME certificate fit for publishing in DNS (RFC 8162, RFC 8550), with its private key.

With usage 3 DNSSEC vouches for it, so nobody else need sign it.  It names the address (rfc822Name, or SmtpUTF8Mailbox,
RFC 9598, where the local part is not ASCII), and says what it is for.  The default is RSA, which all programs open; of
the readers that we know, NSS before 3.110 and gpgsm before 2.4 open nothing that was written to an elliptic curve.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from smilla.address import EmailAddress
from smilla.formats import der
from smilla.records.wanted import Wanted

CURVES: dict[str, type[ec.EllipticCurve]] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1}
RSA_BITS = (2048, 3072, 4096)
_SMTP_UTF8_MAILBOX = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9")
_BEFORE = timedelta(minutes=5)  # clocks differ
_MAX_COMMON_NAME = 64  # RFC 5280 appendix A.1


@dataclass(frozen=True, slots=True)
class CertificatePair:
    """The certificate in DER, and its private key."""

    raw: bytes
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def public_file(self) -> bytes:
        """The certificate in PEM."""
        return x509.load_der_x509_certificate(self.raw).public_bytes(Encoding.PEM)


def make(wanted: Wanted, curve: str = "", bits: int = 3072) -> CertificatePair:
    """A certificate as wanted.  ``curve`` is one of CURVES, "" for RSA with ``bits``; the common name is the person's
    name, or the address where there is none."""
    key = ec.generate_private_key(CURVES[curve]()) if curve else rsa.generate_private_key(65537, bits)
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, (wanted.name or str(wanted.address))[:_MAX_COMMON_NAME])]
    )
    public = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(wanted.now - _BEFORE)
        .not_valid_after(wanted.now + timedelta(days=wanted.days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(agrees=bool(curve)), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_mailbox(wanted.address)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    return CertificatePair(builder.sign(key, SHA256()).public_bytes(Encoding.DER), key)


def _key_usage(*, agrees: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not agrees,
        data_encipherment=False,
        key_agreement=agrees,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _mailbox(address: EmailAddress) -> x509.GeneralName:
    """RFC 9598 section 3: SmtpUTF8Mailbox only where the local part needs it; the domain then in U-labels."""
    local = address.raw.rpartition("@")[0]
    if local.isascii():
        return x509.RFC822Name(f"{local}@{address.domain}")
    text = f"{local}@{_u_labels(address.domain)}"
    return x509.OtherName(_SMTP_UTF8_MAILBOX, der.tlv(der.UTF8_STRING, text.encode()))


def _u_labels(domain: str) -> str:
    """RFC 5280 section 7.2 and RFC 9598 section 3; a label that is no A-label stays."""
    return ".".join(
        label[4:].encode("ascii").decode("punycode") if label.startswith("xn--") else label
        for label in domain.split(".")
    )
