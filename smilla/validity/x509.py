"""May this certificate be used to encrypt to this address now?

Promises: any octets give an Assessment, never an exception; every reason against is collected, not the first one;
only what passed all checks becomes an X509Key.  What was published for another purpose than encryption (a hash, a
CA, a signing certificate) is told apart from what was meant for it and cannot be used.

Sources: RFC 8162 (SMIMEA), RFC 6698 section 2.1 (usage, selector, matching type), RFC 8550 (certificates in
S/MIME), RFC 5280 section 4.2 (extensions), RFC 9598 (SmtpUTF8Mailbox).  The signature of a certificate of usage 3
is not checked: DNSSEC vouches for it (RFC 7671 section 5.1).  Its dates are (RFC 8162 section 9).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from smilla import address as addresses
from smilla.errors import AddressError, ParseError
from smilla.model import Assessment, Reason, SMIMEACandidate, X509Key
from smilla.validity.certificate import RSA, SIGNATURE_ALGORITHMS, UNREADABLE, in_words, read, shown

if TYPE_CHECKING:
    from datetime import datetime

    from smilla.address import EmailAddress
    from smilla.model import Candidate
    from smilla.validity.certificate import Certificate

_MAX_ADDRESS = 1024
_OTHER_SIGNATURES = "2.16.840.1.101.3.4.3."  # ML-DSA and SLH-DSA (RFC 9881, RFC 9909)
_EC_STRENGTH = {"secp256r1": 128, "secp384r1": 192, "secp521r1": 256}
_RSA_STRENGTH = ((15360, 256), (7680, 192), (4096, 140), (3072, 128), (0, 112))  # NIST SP 800-57 part 1, table 2

# What RFC 5280 section 4.2 asks every implementation to process; in a leaf the policies and constraints of CAs say
# nothing, and path validation looks at them itself.
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


def assess(
    candidate: Candidate,
    address: EmailAddress,
    now: datetime,
    trusted: TrustStore | None = None,
    *,
    require_address: bool,
) -> Assessment:
    """The gate for certificates from any source.

    ``now`` is in UTC.  ``trusted`` serves SMIMEA usages 0 and 1.  With ``require_address`` (DNS) one of the
    addresses that the certificate names must be ``address``, where it names any (RFC 8550 section 3).
    """
    findings = _Findings()
    if isinstance(candidate, SMIMEACandidate):
        _check_record(candidate, findings)
        if (candidate.selector, candidate.matching_type) != (0, 0):
            return Assessment(candidate, None, tuple(findings.reasons), findings.meant)
    try:
        certificate = read(candidate.raw, findings.facts, pem=not isinstance(candidate, SMIMEACandidate))
    except ParseError as error:
        findings.against("malformed", f"the certificate is malformed: {shown(str(error))}")
        return Assessment(candidate, None, tuple(findings.reasons), findings.meant, findings.facts)
    _check_period(certificate, now, findings)
    strength = _check_algorithm(certificate, findings)
    _check_key_usage(certificate, findings)
    _check_extended_key_usage(certificate, findings)
    _check_critical_extensions(certificate, findings)
    if require_address:
        _check_address(certificate, address, findings)
    if isinstance(candidate, SMIMEACandidate) and candidate.usage in (0, 1):
        _check_path(certificate, candidate.usage, now, trusted, findings)
    key = None if findings.reasons else _usable(certificate, strength, findings.facts)
    return Assessment(candidate, key, tuple(findings.reasons), findings.meant, findings.facts)


# --- trust -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrustStore:
    """Certification authorities that are trusted for usages 0 and 1: ``smime.ca_file``, read once."""

    store: verification.Store
    size: int


def load_trust_store(raw: bytes) -> TrustStore:
    """From certificates in PEM; intermediate ones belong in it too, since SMIMEA carries no chain.

    Raises ParseError where there is none, or one cannot be read.
    """
    try:
        certificates = x509.load_pem_x509_certificates(raw)
        return TrustStore(verification.Store(certificates), len(certificates))
    except UNREADABLE as error:
        raise ParseError(f"no certification authorities in PEM: {error}") from error


def _check_path(
    certificate: Certificate, usage: int, now: datetime, trusted: TrustStore | None, findings: _Findings
) -> None:
    if usage == 0 and certificate.is_ca:
        findings.not_meant("ca_only", "usage 0 names a CA's certificate, which gives nothing to encrypt to")
    elif trusted is None:
        text = f"usage {usage} asks for a certificate of a trusted CA, and none is configured (smime.ca_file)"
        findings.against("no_trust_store", text)
    elif not findings.outdated:
        try:
            _verifier(trusted, now).verify(certificate.parsed, [])
        except (verification.VerificationError, *UNREADABLE) as error:
            findings.against("untrusted", f"no valid path leads to a trusted CA: {shown(str(error))}")


def _verifier(trusted: TrustStore, now: datetime) -> verification.ClientVerifier:
    """Path validation (RFC 5280 section 6) for e-mail: cryptography's own defaults are for TLS.

    The leaf's extensions are ours to check; a CA must say that it is one, and may not be for something else.
    """
    ca_policy = (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, verification.Criticality.AGNOSTIC, None)
        .may_be_present(x509.KeyUsage, verification.Criticality.AGNOSTIC, _may_sign_certificates)
        .may_be_present(x509.ExtendedKeyUsage, verification.Criticality.AGNOSTIC, _may_be_for_mail)
    )
    builder = verification.PolicyBuilder().store(trusted.store).time(now)
    leaf_policy = verification.ExtensionPolicy.permit_all()
    return builder.extension_policies(ca_policy=ca_policy, ee_policy=leaf_policy).build_client_verifier()


def _may_sign_certificates(_: verification.Policy, __: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage and not usage.key_cert_sign:
        raise ValueError("the CA's keyUsage does not let it sign certificates")


def _may_be_for_mail(_: verification.Policy, __: x509.Certificate, usages: x509.ExtendedKeyUsage | None) -> None:
    if usages and not _is_for_mail(usages):
        raise ValueError("the CA is not for e-mail")


def _is_for_mail(usages: x509.ExtendedKeyUsage) -> bool:
    return ExtendedKeyUsageOID.EMAIL_PROTECTION in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages


# --- the checks --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Findings:
    """What the checks say, as it is collected."""

    reasons: list[Reason] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    meant: bool = True
    outdated: bool = False

    def against(self, code: str, text: str) -> None:
        """Meant for encryption, and cannot be used."""
        self.reasons.append(Reason(code, text))

    def not_meant(self, code: str, text: str) -> None:
        """Published for another purpose."""
        self.meant = False
        self.against(code, text)


def _check_record(record: SMIMEACandidate, findings: _Findings) -> None:
    """RFC 6698 section 2.1; whatever is not registered there is for a purpose that we cannot know."""
    if record.usage not in range(4):
        findings.not_meant("unknown_usage", f"certificate usage {record.usage} is not known")
    elif record.usage == 2:
        findings.not_meant("ca_only", "usage 2 names a CA's certificate, which gives nothing to encrypt to")
    if record.matching_type in (1, 2):
        findings.not_meant("hash_only", "the record holds a hash, which gives nothing to encrypt to")
    elif record.matching_type != 0:
        findings.not_meant("unknown_matching_type", f"matching type {record.matching_type} is not known")
    if record.selector not in (0, 1):
        findings.not_meant("unknown_selector", f"selector {record.selector} is not known")
    elif record.selector == 1 and record.matching_type == 0:
        findings.not_meant("bare_key", "the record holds a public key without its certificate")


def _check_period(certificate: Certificate, now: datetime, findings: _Findings) -> None:
    if now < certificate.not_before:
        findings.outdated = True
        findings.against("not_yet_valid", f"the certificate is not valid before {in_words(certificate.not_before)}")
    if now > certificate.not_after:
        findings.outdated = True
        findings.against("expired", f"the certificate expired on {in_words(certificate.not_after)}")


def _check_algorithm(certificate: Certificate, findings: _Findings) -> int:
    """The strength of the key in bits of a symmetric one."""
    oid, key = certificate.algorithm_oid, certificate.public_key
    if oid in SIGNATURE_ALGORITHMS or oid.startswith(_OTHER_SIGNATURES):
        findings.not_meant("signing_only", f"a key for {findings.facts['algorithm']} can sign only")
    elif isinstance(key, rsa.RSAPublicKey) and oid == RSA:
        return _check_rsa(key, findings)
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _EC_STRENGTH:
        return _EC_STRENGTH[key.curve.name]
    elif isinstance(key, ec.EllipticCurvePublicKey):
        findings.against("unsupported_curve", f"the curve {key.curve.name} is not supported")
    else:
        findings.against("unsupported_key", f"the public key (algorithm {oid}) is malformed or not supported")
    return 0


def _check_rsa(key: rsa.RSAPublicKey, findings: _Findings) -> int:
    """RFC 8551 section 4.2.  A modulus of 2047 bits comes from programs that multiply two primes of 1024 bits and
    take what comes; it is as strong as one of 2048.  OpenSSL's own limits end the other side."""
    bits, numbers = key.key_size, key.public_numbers()
    if bits < 2047:
        findings.against("weak_key", f"an RSA key of {bits} bits is too weak: at least 2048 are needed")
    if bits > 16384:
        findings.against("oversize_key", f"an RSA key of {bits} bits is too long to compute with")
    if not (3 <= numbers.e < 1 << 64 and numbers.e % 2 and numbers.n % 2):
        findings.against("malformed_key", "the RSA modulus or exponent is impossible")
    return next(strength for least, strength in _RSA_STRENGTH if bits >= least)


def _check_key_usage(certificate: Certificate, findings: _Findings) -> None:
    """RFC 8550 section 4.4.2; without the extension the key is for any use."""
    usage = certificate.extension(x509.KeyUsage)
    if usage is None:
        return
    agreement = isinstance(certificate.public_key, ec.EllipticCurvePublicKey)
    if usage.key_agreement if agreement else usage.key_encipherment:
        return
    if usage.key_agreement or usage.key_encipherment or usage.data_encipherment:
        needed = "keyAgreement" if agreement else "keyEncipherment"
        findings.against("key_usage", f"the keyUsage lacks {needed}, which this kind of key needs")
    else:
        findings.not_meant("signing_only", "the keyUsage does not allow encryption")


def _check_extended_key_usage(certificate: Certificate, findings: _Findings) -> None:
    """RFC 8550 section 4.4.4; without the extension the key is for any use."""
    usages = certificate.extension(x509.ExtendedKeyUsage)
    if usages is not None and not _is_for_mail(usages):
        findings.not_meant("not_for_mail", "the extended key usage does not include e-mail protection")


def _check_critical_extensions(certificate: Certificate, findings: _Findings) -> None:
    """RFC 5280 section 4.2: a critical extension that is not understood forbids the certificate."""
    for extension in certificate.extensions:
        if extension.critical and not isinstance(extension.value, _KNOWN_EXTENSIONS):
            oid = extension.oid.dotted_string
            findings.against("critical_extension", f"the critical extension {oid} is not supported")


def _check_address(certificate: Certificate, address: EmailAddress, findings: _Findings) -> None:
    if certificate.addresses and not any(_is_same(text, address) for text in certificate.addresses):
        text = f"the certificate is for {findings.facts['addresses']}, not for this address"
        findings.against("other_address", text)


def _is_same(text: str, address: EmailAddress) -> bool:
    try:
        return len(text) <= _MAX_ADDRESS and addresses.parse(text).folded == address.folded
    except AddressError:
        return False


def _usable(certificate: Certificate, strength: int, facts: dict[str, str]) -> X509Key | None:
    if not isinstance(certificate.public_key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)):
        return None
    return X509Key(
        raw=certificate.raw,
        fingerprint=facts["fingerprint"],
        algorithm=facts["algorithm"],
        strength=strength,
        expires_at=certificate.not_after,
        raw_issuer_and_serial=certificate.raw_issuer_and_serial,
        public_key=certificate.public_key,
    )
