"""Certificate revocation lists (RFC 5280 section 5) from a file.

Checked: every certificate of a path (usages 0 and 1) whose issuer has a list in the file, with the list's signature,
its issuer's right to sign it, and its dates.  Not checked: certificates whose issuer has none, those of usage 3, for
which the DNS record stands, and OCSP.  Nothing is ever fetched.

A list that is out of date, or not signed by its CA, cannot say whether a certificate is still valid: this counts
against the certificate, until the administrator provides another list.  Partial lists (delta lists, some reasons only,
another CA's) are refused when they are read, since whatever they omit would pass as valid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509

from smilla.errors import ParseError
from smilla.formats import der
from smilla.keys.validity.certificate import UNREADABLE, in_words, shown
from smilla.model import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from smilla.keys.validity.certificate import Certificate

TEMPORARY = frozenset({"stale_crl", "bad_crl"})  # another list can clear these reasons

_PEM = re.compile(rb"-----BEGIN X509 CRL-----[^-]*-----END X509 CRL-----")
_KNOWN_EXTENSIONS = (x509.IssuingDistributionPoint, x509.AuthorityKeyIdentifier, x509.CRLNumber, x509.FreshestCRL)
_REMEMBERED = 4096

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, eq=False)
class _List:
    """One list; ``kinds`` says which certificates it covers: of CAs (True), of end entities (False)."""

    parsed: x509.CertificateRevocationList
    issuer: x509.Name
    issued_at: datetime
    expires_at: datetime | None
    key_identifier: bytes | None
    kinds: tuple[bool, ...]

    def holds(self, now: datetime) -> bool:
        """Whether the list is in force (RFC 5280 section 5.1.2.5: nextUpdate is mandatory)."""
        return self.expires_at is not None and self.issued_at <= now <= self.expires_at

    def is_of(self, authority: Certificate) -> bool:
        """False if the key identifiers say that another CA of the same name signed it."""
        identifier = authority.extension(x509.SubjectKeyIdentifier)
        return self.key_identifier is None or identifier is None or self.key_identifier == identifier.digest


class RevocationLists:
    """The lists of ``smime.crl_file``."""

    def __init__(self, lists: Iterable[_List]) -> None:
        self._by_issuer: dict[x509.Name, list[_List]] = {}
        for one in lists:
            self._by_issuer.setdefault(one.issuer, []).append(one)
        self._signed: dict[tuple[_List, bytes], bool] = {}
        self._entries: dict[tuple[_List, int], x509.RevokedCertificate | None] = {}

    @classmethod
    def load(cls, raw: bytes) -> RevocationLists:
        """From lists in PEM, or in DER one after the other.  Raises ParseError if there is none, or one cannot be read
        or used."""
        try:
            parsed = [*map(x509.load_pem_x509_crl, _PEM.findall(raw))] or [*map(x509.load_der_x509_crl, _elements(raw))]
            return cls([_read(one) for one in parsed])
        except UNREADABLE as error:
            raise ParseError(f"a revocation list cannot be read: {error}") from error

    def check(self, path: Sequence[Certificate], now: datetime) -> list[Reason]:
        """The reasons against each certificate of a path except the last one, its anchor."""
        reasons = []
        for certificate, authority in pairwise(path) if self._by_issuer else ():
            reason = self._against(certificate, authority, now)
            if reason:
                reasons.append(reason)
        return reasons

    def _against(self, certificate: Certificate, authority: Certificate, now: datetime) -> Reason | None:
        named = self._by_issuer.get(certificate.parsed.issuer, [])
        lists = [one for one in named if certificate.is_ca in one.kinds and one.is_of(authority)]
        signed = [one for one in lists if self._is_signed(one, authority)]
        for one in signed:
            if entry := self._entry(one, certificate.parsed.serial_number):
                return _revoked(entry, certificate)
        if not lists or any(one.holds(now) for one in signed):
            return None
        name = shown(lists[0].issuer.rfc4514_string())
        if not signed:
            return Reason("bad_crl", f"the revocation list of {name} in smime.crl_file is not signed by that CA")
        return Reason("stale_crl", _stale(max(signed, key=lambda one: one.issued_at), name, now))

    def _is_signed(self, one: _List, authority: Certificate) -> bool:
        """RFC 5280 section 6.3.3 (f) and (g)."""
        usage = authority.extension(x509.KeyUsage)
        if usage is not None and not usage.crl_sign:
            return False
        key = (one, authority.raw_public_key)
        return _remembered(self._signed, key, lambda: _verified(one.parsed, authority.public_key))

    def _entry(self, one: _List, serial: int) -> x509.RevokedCertificate | None:
        """Searching a list is slow: 65 ms for a million entries.  No path leads to a negative serial number."""
        find = one.parsed.get_revoked_certificate_by_serial_number
        return _remembered(self._entries, (one, serial), lambda: find(serial) if serial >= 0 else None)


def _elements(raw: bytes) -> list[bytes]:
    found: list[bytes] = []
    offset = 0
    while offset < len(raw) or not found:
        element = der.read(raw, offset)
        found.append(element.whole)
        offset = element.end
    return found


def _read(parsed: x509.CertificateRevocationList) -> _List:
    scope: tuple[bool, ...] = (True, False)
    identifier = None
    for extension in parsed.extensions:
        value = extension.value
        if isinstance(value, x509.IssuingDistributionPoint):
            scope = _scope(value)
        elif isinstance(value, x509.AuthorityKeyIdentifier):
            identifier = value.key_identifier
        if isinstance(value, x509.DeltaCRLIndicator):
            raise ParseError("a delta revocation list is not supported")
        if extension.critical and not isinstance(value, _KNOWN_EXTENSIONS):
            raise ParseError(f"a revocation list has the unknown critical extension {extension.oid.dotted_string}")
    return _List(parsed, parsed.issuer, parsed.last_update_utc, parsed.next_update_utc, identifier, scope)


def _scope(point: x509.IssuingDistributionPoint) -> tuple[bool, ...]:
    """RFC 5280 section 5.2.5."""
    if point.indirect_crl or point.only_some_reasons or point.only_contains_attribute_certs:
        raise ParseError("a revocation list that covers only some reasons, another CA or attributes is not supported")
    if point.only_contains_ca_certs:
        return (True,)
    return (False,) if point.only_contains_user_certs else (True, False)


def _verified(parsed: x509.CertificateRevocationList, public_key: object) -> bool:
    try:
        return parsed.is_signature_valid(public_key)  # type: ignore[arg-type]  # other kinds raise TypeError
    except UNREADABLE:
        return False


def _revoked(entry: x509.RevokedCertificate, certificate: Certificate) -> Reason:
    whose = "a CA's certificate in its path" if certificate.is_ca else "the certificate"
    return Reason("revoked", f"{whose} was revoked on {in_words(entry.revocation_date_utc)} ({_why(entry)})")


def _why(entry: x509.RevokedCertificate) -> str:
    """RFC 5280 section 5.3.1."""
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return "no reason given"


def _stale(one: _List, name: str, now: datetime) -> str:
    text = f"whether it is revoked cannot be told: the revocation list of {name} in smime.crl_file "
    if one.expires_at is None:
        return text + "does not say until when it holds"
    return text + (
        f"holds from {in_words(one.issued_at)}" if now < one.issued_at else f"ended {in_words(one.expires_at)}"
    )


def _remembered(known: dict[_Key, _Value], key: _Key, find: Callable[[], _Value]) -> _Value:
    """Bounded.  Two threads may both search, and find the same."""
    try:
        return known[key]
    except KeyError:
        if len(known) >= _REMEMBERED:
            known.clear()
        value = known[key] = find()
        return value
