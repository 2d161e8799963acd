"""What a certificate's own fields say for or against encrypting to it.

Sources: RFC 8550 (certificates in S/MIME), RFC 8551 section 4.2 (key sizes), RFC 5280 section 4.2 (extensions), RFC
9598 (SmtpUTF8Mailbox).  Each check adds its reasons and raises nothing; none looks at other certificates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x448, x25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from smilla import address as addresses
from smilla.errors import AddressError
from smilla.formats.oaep import RSAES_OAEP
from smilla.keys.validity import capabilities
from smilla.keys.validity.certificate import in_words
from smilla.keys.validity.public_key import RSA, SIGNATURE_ALGORITHMS
from smilla.model import Reason

if TYPE_CHECKING:
    from datetime import datetime

    from smilla.address import EmailAddress
    from smilla.keys.validity.certificate import Certificate

_MAX_ADDRESS = 1024
# ML-DSA, SLH-DSA and both over a hash (RFC 9881, RFC 9909, FIPS 204 and 205); the arc's future entries are unknown.
_OTHER_SIGNATURES = frozenset(f"2.16.840.1.101.3.4.3.{number}" for number in range(17, 47))
# Purposes that are not mail (RFC 5280 section 4.2.1.12, RFC 3161, RFC 4556, RFC 6494, RFC 9336); any other unknown one
# may be a program's own identifier for encryption.
_OTHER_PURPOSES = frozenset(
    (
        *(f"1.3.6.1.5.5.7.3.{number}" for number in (1, 2, 3, 5, 6, 7, 8, 9, 13, 14, 17, 21, 22, 27, 28, 30, 36)),
        "1.3.6.1.5.2.3.5",  # key distribution centre
        "1.3.6.1.4.1.311.20.2.2",  # smart-card logon
        "1.3.6.1.4.1.311.10.3.12",  # signing of documents
        "1.3.6.1.4.1.11129.2.4.4",  # certificate transparency
    )
)
_AGREEMENT_KEYS = (ec.EllipticCurvePublicKey, x25519.X25519PublicKey, x448.X448PublicKey)
_EC_STRENGTH = {
    "secp256r1": 128,
    "secp384r1": 192,
    "secp521r1": 256,
    # The web's CAs do not use these; German authorities and grid operators do (BSI TR-03109, RFC 5639).
    "brainpoolP256r1": 128,
    "brainpoolP384r1": 192,
    "brainpoolP512r1": 256,
}
_STRENGTH = {  # by algorithm: X25519, X448 (RFC 7748 section 7), ML-KEM-768 and -1024 (FIPS 203 section 8)
    "1.3.101.110": 128,
    "1.3.101.111": 224,
    "2.16.840.1.101.3.4.4.2": 192,
    "2.16.840.1.101.3.4.4.3": 256,
}
_RSA_STRENGTH = ((15360, 256), (7680, 192), (4096, 140), (3072, 128), (0, 112))  # NIST SP 800-57 part 1, table 2

# RFC 5280 section 4.2 requires every implementation to process these; in a leaf, policies and constraints for CAs say
# nothing, and path validation checks them itself.
_KNOWN_EXTENSIONS = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.CertificatePolicies,
    x509.PolicyConstraints,
    x509.InhibitAnyPolicy,
    x509.NameConstraints,
)


@dataclass(slots=True)
class Findings:
    """The results of the checks, as they are collected."""

    reasons: list[Reason] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    _is_for_else: bool = False
    _is_doubtful: bool = False

    @property
    def meant(self) -> bool:
        """False if it was published for another purpose, and all of it was understood."""
        return self._is_doubtful or not self._is_for_else

    def against(self, code: str, text: str) -> None:
        """It was meant for encryption, and cannot be used."""
        self.reasons.append(Reason(code, text))

    def not_meant(self, code: str, text: str) -> None:
        """It was published for another purpose."""
        self._is_for_else = True
        self.against(code, text)

    def not_understood(self, code: str, text: str) -> None:
        """It cannot be used, and nobody can tell its purpose."""
        self._is_doubtful = True
        self.against(code, text)


def check(certificate: Certificate, address: EmailAddress | None, now: datetime, findings: Findings) -> int:
    """All checks of an end entity's certificate; ``address`` is None if it need not be named.  Returns the strength of
    the key in bits of a symmetric one."""
    check_period(certificate, now, findings)
    strength = _check_algorithm(certificate, findings)
    _check_key_usage(certificate, findings)
    check_extended_key_usage(certificate, findings)
    check_critical_extensions(certificate, findings)
    if address is not None:
        check_address(certificate, address, findings)
    return strength


def check_period(certificate: Certificate, now: datetime, findings: Findings) -> None:
    """RFC 8162 section 9: an expired certificate must not be used, DNSSEC or not."""
    if now < certificate.not_before:
        findings.against("not_yet_valid", f"the certificate is not valid before {in_words(certificate.not_before)}")
    if now > certificate.not_after:
        findings.against("expired", f"the certificate expired on {in_words(certificate.not_after)}")


def _check_algorithm(certificate: Certificate, findings: Findings) -> int:
    """The strength of the key in bits of a symmetric one."""
    oid, key = certificate.algorithm_oid, certificate.public_key
    if oid in SIGNATURE_ALGORITHMS or oid in _OTHER_SIGNATURES:
        findings.not_meant("signing_only", f"a key for {findings.facts['algorithm']} can sign only")
    elif isinstance(key, rsa.RSAPublicKey) and oid in (RSA, RSAES_OAEP):
        return _check_rsa(key, findings)
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _EC_STRENGTH:
        return _EC_STRENGTH[key.curve.name]
    elif isinstance(key, ec.EllipticCurvePublicKey):
        findings.against("unsupported_curve", f"the curve {key.curve.name} is not supported")
    elif key is not None and oid in _STRENGTH:
        return _STRENGTH[oid]
    else:
        algorithm = findings.facts["algorithm"]
        findings.against("unsupported_key", f"the public key (algorithm {algorithm}) is malformed or not supported")
    return 0


def _check_rsa(key: rsa.RSAPublicKey, findings: Findings) -> int:
    """RFC 8551 section 4.2.  Programs that multiply two random 1024-bit primes sometimes get a modulus of 2047 bits,
    which is as strong as one of 2048.  OpenSSL's own limits bound the other side."""
    bits, numbers = key.key_size, key.public_numbers()
    if bits < 2047:
        findings.against("weak_key", f"an RSA key of {bits} bits is too weak: at least 2048 are needed")
    if bits > 16384:
        findings.against("oversize_key", f"an RSA key of {bits} bits is too long to compute with")
    if not (3 <= numbers.e < 1 << 64 and numbers.e % 2 and numbers.n % 2):
        findings.against("malformed_key", "the RSA modulus or exponent is impossible")
    return next(strength for least, strength in _RSA_STRENGTH if bits >= least)


def _check_key_usage(certificate: Certificate, findings: Findings) -> None:
    """RFC 8550 section 4.4.2; without the extension the key is for any use."""
    usage = certificate.extension(x509.KeyUsage)
    if usage is None:
        return
    agreement = isinstance(certificate.public_key, _AGREEMENT_KEYS)
    if usage.key_agreement if agreement else usage.key_encipherment:
        return
    if usage.key_agreement or usage.key_encipherment or usage.data_encipherment:
        needed = "keyAgreement" if agreement else "keyEncipherment"
        findings.against("key_usage", f"the keyUsage lacks {needed}, which this kind of key needs")
    elif not (usage.digital_signature or usage.content_commitment or usage.key_cert_sign or usage.crl_sign):
        findings.not_understood("key_usage", "the keyUsage names no known use")
    else:
        findings.not_meant("signing_only", "the keyUsage does not allow encryption")


def is_for_mail(usages: x509.ExtendedKeyUsage) -> bool:
    """RFC 8550 section 4.4.4: e-mail protection, or anything."""
    return ExtendedKeyUsageOID.EMAIL_PROTECTION in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages


def check_extended_key_usage(certificate: Certificate, findings: Findings) -> None:
    """RFC 8550 section 4.4.4; without the extension the key is for any use."""
    usages = certificate.extension(x509.ExtendedKeyUsage)
    if usages is None or is_for_mail(usages):
        return
    text = "the extended key usage does not include e-mail protection"
    if unknown := [usage.dotted_string for usage in usages if usage.dotted_string not in _OTHER_PURPOSES]:
        findings.not_understood("not_for_mail", f"{text}, and its purposes are not known: {', '.join(unknown[:5])}")
    else:
        findings.not_meant("not_for_mail", text)


def check_critical_extensions(certificate: Certificate, findings: Findings) -> None:
    """RFC 5280 section 4.2: an unknown critical extension forbids using the certificate."""
    for extension in certificate.extensions:
        oid = extension.oid.dotted_string
        understood = isinstance(extension.value, _KNOWN_EXTENSIONS) or oid == capabilities.OID
        if extension.critical and not understood:
            findings.not_understood("critical_extension", f"the critical extension {oid} is not supported")


def check_address(certificate: Certificate, address: EmailAddress, findings: Findings) -> None:
    """RFC 8550 section 3; one that names no address may be anybody's."""
    if certificate.addresses and not any(_is_same(text, address) for text in certificate.addresses):
        text = f"the certificate is for {findings.facts['addresses']}, not for this address"
        findings.against("other_address", text)


def _is_same(text: str, address: EmailAddress) -> bool:
    try:
        return len(text) <= _MAX_ADDRESS and addresses.parse(text).folded == address.folded
    except AddressError:
        return False
