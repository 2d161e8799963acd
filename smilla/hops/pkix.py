"""A mail server's certificate against authorities and the host's name, as a sender with MTA-STS judges it (RFC 8461
section 4.2), from the chain alone: no second connection is needed.

Where the RFCs leave a choice: Postfix and Exim take a certificate without extended key usages, and so do we; a CA must
say that it is one, and a certificate that is not for TLS servers is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from smilla.errors import ParseError
from smilla.hops import tlsa
from smilla.hops.names import bears

_DEEPEST = 8  # intermediate CAs
_MOST = 16  # certificates of a chain that are looked at
_FOR_SERVERS = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)


class Authorities:
    """What is trusted, read once."""

    def __init__(self, raw_pem: bytes) -> None:
        """``raw_pem`` are certificates in PEM; what surrounds them does not count.  Raises ParseError."""
        try:
            self._store = verification.Store(x509.load_pem_x509_certificates(raw_pem))
        except _UNREADABLE as error:
            raise ParseError(f"no certification authorities in PEM: {error}") from error

    def fault(self, chain: Sequence[bytes], host: str, now: datetime) -> str:
        """Why the chain in DER, the server's own certificate first, is not valid for the host; "" if it is."""
        return self.fault_among(chain, [host], now)

    def fault_among(self, chain: Sequence[bytes], wanted: Sequence[str], now: datetime) -> str:
        """The same where the certificate must bear one of several names; ".example.org" is any name below that."""
        try:
            leaf, *others = [x509.load_der_x509_certificate(raw) for raw in chain[:_MOST]]
            self._verifier(now).verify(leaf, others)
            own = tlsa.dns_names(leaf)
        except verification.VerificationError as error:
            return _in_words(error, leaf, now)
        except _UNREADABLE as error:
            return f"the server's chain cannot be read: {error}"
        if not any(bears(name, one) for name in own for one in wanted):
            return f"the certificate is for {', '.join(own[:4]) or 'no host'}, not for {' or '.join(wanted)}"
        return ""

    def _verifier(self, now: datetime) -> verification.ClientVerifier:
        policy, agnostic = verification.ExtensionPolicy.permit_all(), verification.Criticality.AGNOSTIC
        authority = policy.require_present(x509.BasicConstraints, agnostic, None)
        server = policy.may_be_present(x509.ExtendedKeyUsage, agnostic, _may_be_for_servers)
        builder = verification.PolicyBuilder().store(self._store).time(now).max_chain_depth(_DEEPEST)
        return builder.extension_policies(ca_policy=authority, ee_policy=server).build_client_verifier()


def _may_be_for_servers(_: verification.Policy, __: x509.Certificate, usages: x509.ExtendedKeyUsage | None) -> None:
    if usages and not _FOR_SERVERS & set(usages):
        raise ValueError("the certificate is not for TLS servers")


def _in_words(error: Exception, leaf: x509.Certificate, now: datetime) -> str:
    if now > leaf.not_valid_after_utc:
        return f"the certificate ended on {leaf.not_valid_after_utc:%Y-%m-%d}"
    if now < leaf.not_valid_before_utc:
        return f"the certificate begins on {leaf.not_valid_before_utc:%Y-%m-%d}"
    if _is_own_issuer(leaf):
        return "the certificate is self-signed, and no authority that is trusted"
    return f"no valid path leads to an authority that is trusted: {error}"


def _is_own_issuer(leaf: x509.Certificate) -> bool:
    try:
        return leaf.subject == leaf.issuer
    except _UNREADABLE:
        return False
