"""May a certificate speak for the sender of a message that its key has signed?  (RFC 8550 sections 3 and 4)

It must name the address in From, be meant for signing mail, be in its dates, and lead to an authority of
[smime] ca_file, with nothing in the revocation lists against any part of the path.  Or it stands in the administrator's
folder of keys for that address: then no path is needed, since the folder is the administrator's word.

What others do: most also take the signing time, which the signer writes, for the time of the check.  We take the time
at which the message comes: a certificate that has ended proves nothing about new mail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from smilla.keys.validity.smimea import RecordSet
from smilla.keys.validity.x509_checks import (
    Findings,
    check_address,
    check_critical_extensions,
    check_extended_key_usage,
    check_period,
)
from smilla.keys.validity.x509_paths import Paths
from smilla.model import Format, Reason, SMIMEACandidate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from smilla.address import EmailAddress
    from smilla.keys.validity.certificate import Certificate
    from smilla.keys.validity.x509_paths import TrustStore

_LEAST_BITS = 2047


def against(
    certificate: Certificate,
    beside: Sequence[bytes],
    address: EmailAddress,
    now: datetime,
    trusted: TrustStore | None,
) -> tuple[Reason, ...]:
    """Everything against it; () if nothing is.  ``beside`` are the certificates, in DER, that came with it."""
    findings = _of_its_own(certificate, now)
    check_address(certificate, address, findings)
    if not certificate.addresses:
        findings.against("other_address", "the certificate names no address")
    if not findings.reasons:
        findings.reasons += _against_path(certificate, beside, now, trusted)
    return tuple(findings.reasons)


def against_held(certificate: Certificate, now: datetime) -> tuple[Reason, ...]:
    """The same for one that stands in the folder of keys for the address."""
    return tuple(_of_its_own(certificate, now).reasons)


def _of_its_own(certificate: Certificate, now: datetime) -> Findings:
    findings = Findings(facts={"addresses": ", ".join(certificate.addresses)})
    check_period(certificate, now, findings)
    check_extended_key_usage(certificate, findings)
    check_critical_extensions(certificate, findings)
    usage = certificate.extension(x509.KeyUsage)
    if usage is not None and not (usage.digital_signature or usage.content_commitment):
        findings.against("key_usage", "the keyUsage does not allow signing")
    if isinstance(certificate.public_key, rsa.RSAPublicKey) and certificate.public_key.key_size < _LEAST_BITS:
        findings.against("weak_key", f"an RSA key of {certificate.public_key.key_size} bits is too weak")
    return findings


def _against_path(
    certificate: Certificate, beside: Sequence[bytes], now: datetime, trusted: TrustStore | None
) -> list[Reason]:
    """The certificates beside it are only what a path may lead through."""
    came = [SMIMEACandidate("message", "", Format.SMIME, raw, usage=1) for raw in beside]
    paths = Paths(RecordSet(came), trusted, now)
    if not paths.has_anchor:
        return [Reason("no_trust_store", "no authority is configured (smime.ca_file)")]
    path = paths.find(certificate)
    return [path] if isinstance(path, Reason) else paths.revoked(path)
