"""Path validation (RFC 5280 section 6) for SMIMEA usages 0 and 1, by cryptography's verifier.

Anchors are the CAs of ``smime.ca_file`` and those of usage 2 in the same answer; intermediate CAs come from both too.
The verifier checks name constraints, path lengths, signatures and unknown critical extensions.  We check that a CA is
for mail, since the verifier's own defaults are for TLS.  Time is bounded: few authorities in an answer, short paths, a
limited number of certificates to search a path for, and of signature checks in failed searches.  Anything beyond these
bounds is too_many_candidates: nobody looked, so it is neither valid nor untrusted.  With cross-certified CAs the first
path found decides, even if only another path leads through the CA that usage 0 names: such a certificate is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification

from smilla.errors import ParseError
from smilla.keys.validity.certificate import UNREADABLE, read, shown
from smilla.keys.validity.x509_checks import is_for_mail
from smilla.keys.validity.x509_revocation import RevocationLists
from smilla.model import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from smilla.keys.validity.certificate import Certificate, Reading
    from smilla.keys.validity.smimea import RecordSet

_MAX_DEPTH = 4  # intermediate CAs
_MAX_SEARCHES = 16  # an answer
_MAX_CHECKS = 256  # signatures in failed searches, per answer: about 30 ms
_A_SEARCH = 128  # the most that the verifier checks in one search
_SLOW = 8  # a check by a large curve or RSA key counts as this many usual ones


@dataclass(frozen=True, slots=True)
class TrustStore:
    """What is trusted for usages 0 and 1, read once: the authorities of ``smime.ca_file`` and the revocation lists of
    ``smime.crl_file``.

    ``stores`` are tried in order: first only the self-issued authorities, so that a path goes up as far as it can, then
    all, since the administrator may trust an intermediate CA without its root.
    """

    stores: tuple[verification.Store, ...]
    intermediates: tuple[x509.Certificate, ...]
    size: int
    revocation: RevocationLists


def load_trust_store(raw: bytes, raw_crls: bytes = b"") -> TrustStore:
    """From certificates in PEM, and revocation lists in PEM or DER.  Intermediate CAs belong in it too, unless the
    answers carry them.

    Raises ParseError if there are neither certificates nor lists, or one cannot be read.
    """
    revocation = RevocationLists.load(raw_crls) if raw_crls else RevocationLists(())
    if not raw and raw_crls:
        return TrustStore((), (), 0, revocation)
    try:
        authorities = x509.load_pem_x509_certificates(raw)
        roots = [c for c in authorities if c.subject == c.issuer]
        partial = len(roots) not in (0, len(authorities))
        stores = [verification.Store(roots)] if partial else []
        stores.append(verification.Store(authorities))
        others = tuple(c for c in authorities if c.subject != c.issuer)
        return TrustStore(tuple(stores), others, len(authorities), revocation)
    except UNREADABLE as error:
        raise ParseError(f"no certification authorities in PEM: {error}") from error


class Paths:
    """The paths of one answer's certificates at one instant; each is searched once."""

    def __init__(self, records: RecordSet, trusted: TrustStore | None, now: datetime) -> None:
        self._records, self._trusted, self._now = records, trusted, now
        self._found: dict[bytes, tuple[Certificate, ...] | Reason] = {}
        self._checks_left = _MAX_CHECKS

    @property
    def has_anchor(self) -> bool:
        """Whether any CA is trusted at all."""
        return bool(self._records.anchors or (self._trusted and self._trusted.size))

    def find(self, certificate: Certificate) -> tuple[Certificate, ...] | Reason:
        """The path from the certificate (first) to its anchor (last), or why there is none."""
        if certificate.raw not in self._found:
            if len(self._found) == _MAX_SEARCHES:
                return _too_many(f"the answer has more than {_MAX_SEARCHES} certificates to validate")
            self._found[certificate.raw] = self._search(certificate)
        return self._found[certificate.raw]

    def revoked(self, path: Sequence[Certificate]) -> list[Reason]:
        """What the configured revocation lists say against a path."""
        return self._trusted.revocation.check(path, self._now) if self._trusted else []

    def _search(self, certificate: Certificate) -> tuple[Certificate, ...] | Reason:
        problem, other = "", False
        for store in self._stores:
            if self._checks_left <= 0:
                return _too_many("the answer has more CAs and certificates than we can search for a path")
            try:
                found = _verifier(store, self._now).verify(certificate.parsed, self._intermediates)
            except (verification.VerificationError, *UNREADABLE) as error:
                problem = shown(str(error))
                self._checks_left -= self._cost
                continue
            path = tuple(reading.certificate for reading in map(_read, found.chain) if reading.certificate)
            if len(path) == len(found.chain) and self._records.permit(path):
                return path
            other = True
        if self._records.left_out:
            return _too_many("the answer has more CAs than we look at, and no path leads through those")
        if other:
            return Reason("other_ca", "no valid path leads through the CA that a record of usage 0 names")
        return Reason("untrusted", f"no valid path leads to a trusted CA: {problem}")

    @cached_property
    def _cost(self) -> int:
        """The signatures that a failed search may check: each CA of the answer may appear at each step.  The trust
        store's CAs are the administrator's concern."""
        authorities = {c.raw: c for c in (*self._records.anchors, *self._records.intermediates)}
        checks, at_a_step = 1, 1
        for _ in range(_MAX_DEPTH + 1):
            at_a_step *= len(authorities)
            checks = min(_A_SEARCH, checks + at_a_step)
        return checks * (_SLOW if any(_is_slow(c.public_key) for c in authorities.values()) else 1)

    @cached_property
    def _stores(self) -> tuple[verification.Store, ...]:
        stores = self._trusted.stores if self._trusted else ()
        if not self._records.anchors:
            return stores
        return (verification.Store([anchor.parsed for anchor in self._records.anchors]), *stores)

    @cached_property
    def _intermediates(self) -> list[x509.Certificate]:
        configured = self._trusted.intermediates if self._trusted else ()
        return [*(c.parsed for c in self._records.intermediates), *configured]


def _too_many(text: str) -> Reason:
    return Reason("too_many_candidates", text)


def _is_slow(key: object) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size > 4096 or key.public_numbers().e.bit_length() > 17
    return not (isinstance(key, ec.EllipticCurvePublicKey) and key.key_size <= 256)


def _read(certificate: x509.Certificate) -> Reading:
    return read(certificate.public_bytes(Encoding.DER), pem=False)


def _verifier(store: verification.Store, now: datetime) -> verification.ClientVerifier:
    """We check the leaf's extensions ourselves; a CA must say that it is one, and must not be for something else."""
    ca_policy = (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, verification.Criticality.AGNOSTIC, None)
        .may_be_present(x509.KeyUsage, verification.Criticality.AGNOSTIC, _may_sign_certificates)
        .may_be_present(x509.ExtendedKeyUsage, verification.Criticality.AGNOSTIC, _may_be_for_mail)
    )
    builder = verification.PolicyBuilder().store(store).time(now).max_chain_depth(_MAX_DEPTH)
    leaf_policy = verification.ExtensionPolicy.permit_all()
    return builder.extension_policies(ca_policy=ca_policy, ee_policy=leaf_policy).build_client_verifier()


def _may_sign_certificates(_: verification.Policy, __: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage and not usage.key_cert_sign:
        raise ValueError("the CA's keyUsage does not let it sign certificates")


def _may_be_for_mail(_: verification.Policy, __: x509.Certificate, usages: x509.ExtendedKeyUsage | None) -> None:
    if usages and not is_for_mail(usages):
        raise ValueError("the CA is not for e-mail")
