"""What the SMIMEA records of one answer say together.

RFC 8162 takes usage, selector and matching type from RFC 6698 section 2.1.  A record either holds a certificate
(selector 0, matching type 0) or names one by its public key or by a hash.  A named certificate must come from
elsewhere: from another record of the answer, or from the directory source.

How records combine.  DANE for TLS (RFC 6698, RFC 7671): the server presents a chain, and any one matching record is
enough.  In mail nobody presents anything: there are only the records.  What we do: each certificate that a record of
usage 1 or 3 holds or names stands alone, under that record's usage, whatever the other records say about other
certificates.  A record of usage 2 adds a trust anchor for usages 0 and 1.  A record of usage 0 that names a CA
restricts usages 0 and 1 to paths through that CA (through any of them, if there are several).  This is stricter than
TLS, where usage 1 would stand beside usage 0: a publisher who names a CA wants no certificate from another one.  An end
entity's certificate under usage 0 is against the RFC; as the intention is clear, it counts as usage 1.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from smilla.errors import ParseError
from smilla.formats import der
from smilla.keys.validity.certificate import read
from smilla.model import Reason, SMIMEACandidate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from smilla.keys.validity.certificate import Certificate
    from smilla.model import Candidate

_Name = tuple[int, int, bytes]  # selector, matching type, association data
_HASH_OCTETS = {1: 32, 2: 64}  # SHA-256 and SHA-512, by matching type
_MAX_AUTHORITIES = 8  # in one answer; each may multiply the paths to try
_MAX_ALIKE = 2  # with one name and key: a search tries each of them at every step
_MAX_NAMED = 4  # certificates that one record may name: a public key may be in many


def unknown(record: SMIMEACandidate) -> tuple[Reason, ...]:
    """RFC 6698 section 2.1; an unregistered value is for a purpose that we cannot know."""
    reasons = []
    if record.usage not in range(4):
        reasons.append(Reason("unknown_usage", f"certificate usage {record.usage} is not known"))
    if record.selector not in (0, 1):
        reasons.append(Reason("unknown_selector", f"selector {record.selector} is not known"))
    if record.matching_type not in (0, 1, 2):
        reasons.append(Reason("unknown_matching_type", f"matching type {record.matching_type} is not known"))
    return tuple(reasons)


def holds_certificate(record: Candidate) -> bool:
    """Whether the record carries a whole certificate, which can be encrypted to."""
    return isinstance(record, SMIMEACandidate) and (record.selector, record.matching_type) == (0, 0)


def shape_fault(record: SMIMEACandidate) -> str:
    """What is wrong with a record that holds no certificate, and may be one under the wrong numbers.  Empty if it is a
    hash of the right length, or a public key."""
    octets = len(record.raw)
    if record.matching_type:
        expected = _HASH_OCTETS[record.matching_type]
        wrong = f"the record holds {octets} octets instead of a hash of {expected}" if octets != expected else ""
    else:
        wrong = "" if _is_public_key(record.raw) else "the record does not hold the public key that it announces"
    return f"{wrong} (RFC 6698 section 2.1)" if wrong else ""


def _is_public_key(raw: bytes) -> bool:
    """Whether the octets have the form of a SubjectPublicKeyInfo, for any algorithm (RFC 5280 section 4.1.2.7)."""
    try:
        whole = der.read(raw)
        parts = [part.tag for part in islice(whole.children(), 3)]
    except ParseError:
        return False
    return (whole.tag, whole.end, parts) == (der.SEQUENCE, len(raw), [der.SEQUENCE, der.BIT_STRING])


class RecordSet:
    """The records of one answer, and the certificates that they may name."""

    def __init__(self, candidates: Sequence[Candidate], others: Sequence[bytes] = ()) -> None:
        """``others`` are the directory's files for the same address, in DER or PEM."""
        records = (c for c in candidates if isinstance(c, SMIMEACandidate))
        self._records = [record for record in records if not unknown(record)]
        held = (read(record.raw, pem=False).certificate for record in self._records if holds_certificate(record))
        self._published = _distinct(held)
        self._others = _distinct(read(raw, pem=True).certificate for raw in others)

    @cached_property
    def _named(self) -> dict[_Name, list[Certificate]]:
        """Every way of naming each certificate; the newest first."""
        index: dict[_Name, list[Certificate]] = {}
        known = _distinct([*self._published, *self._others])
        for certificate in sorted(known, key=lambda c: c.not_before, reverse=True):
            for name in _names(certificate):
                index.setdefault(name, []).append(certificate)
        return index

    def named_by(self, record: SMIMEACandidate) -> tuple[Certificate, ...]:
        """The certificates that the record holds or names, as far as we know them; the newest first."""
        return tuple(self._named.get(_name(record), ())[:_MAX_NAMED])

    def origin(self, certificate: Certificate) -> str:
        """Where a named certificate comes from, in words."""
        here = any(certificate.raw == published.raw for published in self._published)
        return "another record of the answer" if here else "the directory"

    @cached_property
    def anchors(self) -> tuple[Certificate, ...]:
        """The CAs of usage 2."""
        return _bounded(self._all_anchors)

    @cached_property
    def intermediates(self) -> tuple[Certificate, ...]:
        """The CAs that the answer holds."""
        return _bounded(self._all_intermediates)

    @cached_property
    def left_out(self) -> bool:
        """Whether the answer has more CAs than we look at, so that a failed search proves nothing."""
        looked_at = len(self.anchors) + len(self.intermediates)
        return looked_at < len(self._all_anchors) + len(self._all_intermediates)

    @cached_property
    def _all_anchors(self) -> tuple[Certificate, ...]:
        named = (c for record in self._of_usage(2) for c in self.named_by(record))
        return _distinct(c for c in named if c.is_ca)

    @cached_property
    def _all_intermediates(self) -> tuple[Certificate, ...]:
        return tuple(c for c in self._published if c.is_ca)

    @cached_property
    def _constraints(self) -> frozenset[_Name]:
        """How the CAs of usage 0 are named.  An unreadable record constrains nothing, nor does an end entity's."""
        names = set()
        for record in self._of_usage(0):
            named = self.named_by(record)
            readable = bool(named) or not holds_certificate(record)
            if readable and all(certificate.is_ca for certificate in named):
                names.add(_name(record))
        return frozenset(names)

    def permit(self, path: Iterable[Certificate]) -> bool:
        """Whether a CA of usage 0 is in the path, if the answer has such records."""
        return not self._constraints or any(self._constraints.intersection(_names(c)) for c in path)

    def _of_usage(self, usage: int) -> list[SMIMEACandidate]:
        return [record for record in self._records if record.usage == usage]


def _distinct(certificates: Iterable[Certificate | None]) -> tuple[Certificate, ...]:
    """Each certificate once, in the order given."""
    return tuple({c.raw: c for c in certificates if c is not None}.values())


def _bounded(authorities: Iterable[Certificate]) -> tuple[Certificate, ...]:
    """The CAs that we look at, in an order independent of the resolver's.  Of those with one name and key, the
    longest-lived: a renewed CA replaces its old certificate with such a one."""
    kept: list[Certificate] = []
    alike: Counter[tuple[bytes, bytes]] = Counter()
    for certificate in sorted(authorities, key=lambda c: (c.not_after, c.raw), reverse=True):
        who = certificate.parsed.subject.public_bytes(), certificate.raw_public_key
        alike[who] += 1
        if alike[who] <= _MAX_ALIKE and len(kept) < _MAX_AUTHORITIES:
            kept.append(certificate)
    return tuple(kept)


def _name(record: SMIMEACandidate) -> _Name:
    return record.selector, record.matching_type, record.raw


def _names(certificate: Certificate) -> tuple[_Name, ...]:
    """Every way of naming the certificate (RFC 6698 sections 2.1.2 and 2.1.3)."""
    return tuple(
        (selector, matching_type, data)
        for selector, raw in ((0, certificate.raw), (1, certificate.raw_public_key))
        for matching_type, data in enumerate((raw, hashlib.sha256(raw).digest(), hashlib.sha512(raw).digest()))
    )
