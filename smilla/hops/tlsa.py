"""TLSA records against the chain that an SMTP server presents (RFC 6698, RFC 7671, RFC 7672).

Where the RFCs leave a choice:

* PKIX-TA(0) and PKIX-EE(1) are unusable in SMTP.  RFC 7672 section 3.1.3 leaves this to the client; Postfix and Exim do
  the same by default.
* DANE-TA(2): the server must present the certificate that the record names, also a root (RFC 7672 section 3.1.2).  A
  record that holds it in full does not replace it, since not every client would take it from there.
* DANE-EE(3): neither names nor dates count (RFC 7672 section 3.1.1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from smilla.errors import ParseError
from smilla.hops.names import fits
from smilla.model import DNSAnswer, DNSSECStatus
from smilla.value import value

_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)
_LENGTHS = {1: 32, 2: 64}  # octets of SHA-256 and SHA-512
_DEEPEST = 8  # certificates above the leaf
_MOST = 100  # records that are looked at
_MOST_CERTIFICATES = 32  # of the chain


class Verdict(StrEnum):
    """What the records of a host say of its chain.

    ABSENT is proven absence.  UNUSABLE: there are records, proven, and none that a client can use; it then demands TLS
    and cannot tell with whom (RFC 7672 section 2.2).  INSECURE, BOGUS and UNREACHABLE are those of the answer.
    UNCLEAR: the server's certificate cannot be read.
    """

    MATCH = "match"
    MISMATCH = "mismatch"
    UNUSABLE = "unusable"
    ABSENT = "absent"
    INSECURE = "insecure"
    BOGUS = "bogus"
    UNREACHABLE = "unreachable"
    UNCLEAR = "unclear"


_UNPROVEN = {
    DNSSECStatus.BOGUS: Verdict.BOGUS,
    DNSSECStatus.INDETERMINATE: Verdict.BOGUS,
    DNSSECStatus.UNREACHABLE: Verdict.UNREACHABLE,
    DNSSECStatus.INSECURE: Verdict.INSECURE,
}


@value
class Record:
    """One TLSA record (RFC 6698 section 2.1)."""

    usage: int
    selector: int
    matching_type: int
    raw: bytes

    @property
    def shown(self) -> str:
        """As in a zone file, shortened."""
        return f"{self.usage} {self.selector} {self.matching_type} {self.raw.hex()[:16]}"


@value
class Fault:
    """Why a record does not match or cannot be used: a stable word, and a sentence.  No reason of the log."""

    code: str
    text: str


@value
class RecordFinding:
    """One record: does it match the chain?  ``reasons`` says why not, or why a client cannot use it at all."""

    record: Record
    is_usable: bool
    is_match: bool
    reasons: tuple[Fault, ...] = ()


@value
class Judgement:
    """The verdict, and each record.  ``others`` are usable records that do not match: those of the next key, if a
    change of keys is on its way (RFC 7671 section 8.1), or of a former one."""

    verdict: Verdict
    text: str
    findings: tuple[RecordFinding, ...] = ()

    @property
    def others(self) -> tuple[Record, ...]:
        """The usable records that do not match this chain."""
        return tuple(f.record for f in self.findings if f.is_usable and not f.is_match)


def read(raw: bytes) -> Record:
    """From RDATA.  Raises ParseError."""
    if len(raw) < 4:
        raise ParseError("a TLSA record has fewer than 4 octets")
    return Record(raw[0], raw[1], raw[2], raw[3:])


def association(raw_certificate: bytes, selector: int, matching_type: int) -> bytes:
    """The certificate association data of a certificate in DER (RFC 6698 section 2.1.4).  Raises ParseError."""
    if selector not in (0, 1) or matching_type not in (0, 1, 2):
        raise ParseError(f"TLSA selector {selector} with matching type {matching_type} is not known")
    octets = raw_certificate if selector == 0 else _public_key(raw_certificate)
    if matching_type == 0:
        return octets
    return hashlib.sha256(octets).digest() if matching_type == 1 else hashlib.sha512(octets).digest()


def usable(answer: DNSAnswer) -> tuple[Record, ...]:
    """The records that a client can use, whatever the server presents."""
    found = []
    for raw in answer.raw_rdata[:_MOST]:
        with suppress(ParseError):
            if _fault(record := read(raw)) is None:
                found.append(record)
    return tuple(found)


def judge(answer: DNSAnswer, chain: Sequence[bytes], names: Sequence[str], now: datetime) -> Judgement:
    """The answer for ``_25._tcp.HOST`` against the chain in DER, the server's own certificate first.  ``names``, in
    A-labels, are those that a DANE-TA(2) certificate may have: the host's and the domain's (RFC 7672 section 3.2.2)."""
    if answer.status in _UNPROVEN:
        detail = answer.detail or f"the answer is {answer.status.value}"
        return Judgement(_UNPROVEN[answer.status], detail)
    if not answer.raw_rdata and not answer.malformed:
        return Judgement(Verdict.ABSENT, answer.detail or "there is no TLSA record")
    chain = chain[:_MOST_CERTIFICATES]
    try:
        presented = [x509.load_der_x509_certificate(raw) for raw in chain]
    except _UNREADABLE as error:
        return Judgement(Verdict.UNCLEAR, f"the server's certificate cannot be read: {error}")
    if not presented:
        return Judgement(Verdict.UNCLEAR, "the server presented no certificate")
    records = answer.raw_rdata[:_MOST]
    path = _path(chain, presented) if any(raw[:1] == b"\x02" for raw in records) else (0,)
    server = _Presented(chain, presented, path, tuple(names), now)
    findings = tuple(_examined(raw, server) for raw in records)
    return _summed_up(findings, answer)


def _summed_up(findings: tuple[RecordFinding, ...], answer: DNSAnswer) -> Judgement:
    usable = [finding for finding in findings if finding.is_usable]
    if matching := [finding.record.shown for finding in usable if finding.is_match]:
        return Judgement(Verdict.MATCH, f"TLSA {', '.join(matching)} matches", findings)
    if len(answer.raw_rdata) > _MOST:
        return Judgement(Verdict.UNCLEAR, f"there are more than {_MOST} TLSA records", findings)
    texts = "; ".join(dict.fromkeys(reason.text for finding in usable or findings for reason in finding.reasons))
    if usable:
        return Judgement(Verdict.MISMATCH, texts, findings)
    return Judgement(Verdict.UNUSABLE, texts or "no TLSA record can be read", findings)


@value
class _Presented:
    """``path`` is that of _path; it has the server's own certificate alone where no record needs more."""

    chain: Sequence[bytes]
    certificates: Sequence[x509.Certificate]
    path: Sequence[int]
    names: tuple[str, ...]
    now: datetime


def _examined(raw: bytes, server: _Presented) -> RecordFinding:
    try:
        record = read(raw)
    except ParseError as error:
        unread = Fault("malformed", str(error))
        return RecordFinding(Record(-1, -1, -1, raw), is_usable=False, is_match=False, reasons=(unread,))
    if fault := _fault(record):
        return RecordFinding(record, is_usable=False, is_match=False, reasons=(fault,))
    reasons = _against_anchor(record, server) if record.usage == 2 else _against_own(record, server)
    return RecordFinding(record, is_usable=True, is_match=not reasons, reasons=tuple(reasons))


def _fault(record: Record) -> Fault | None:
    """Why no client can use the record."""
    what = f"TLSA {record.shown}"
    if record.usage not in (2, 3):
        return Fault("unusable_usage", f"{what}: usage {record.usage} is not for SMTP (RFC 7672 section 3.1.3)")
    if record.selector not in (0, 1) or record.matching_type not in (0, 1, 2):
        return Fault("unknown_type", f"{what}: the selector or matching type is not known")
    if len(record.raw) != _LENGTHS.get(record.matching_type, len(record.raw)):
        return Fault("malformed", f"{what}: {len(record.raw)} octets are no digest of matching type")
    return None


def _against_own(record: Record, server: _Presented) -> list[Fault]:
    if _names(record, server.chain[0]):
        return []
    return [Fault("other_certificate", f"TLSA {record.shown} does not match the server's certificate")]


def _path(chain: Sequence[bytes], certificates: Sequence[x509.Certificate]) -> tuple[int, ...]:
    """Where the certificates stand that lead from the server's own one upwards.  This is worked out once a server, as
    signatures have to be verified; the records, which may be many, are compared with it."""
    path = [0]
    while len(path) <= _DEEPEST + 1:
        rest = (at for at in range(1, len(chain)) if chain[at] not in [chain[one] for one in path])
        above = next((at for at in rest if _is_issued(certificates[path[-1]], certificates[at])), None)
        if above is None:
            break
        path.append(above)
    return tuple(path)


def _against_anchor(record: Record, server: _Presented) -> list[Fault]:
    """The path from the server's certificate to the one that the record names."""
    for end in range(1, min(len(server.path), _DEEPEST + 1)):
        if _names(record, server.chain[server.path[end]]):
            path = [server.certificates[at] for at in server.path[: end + 1]]
            return [*_against_dates(path, server.now), *_against_names(path[0], server.names)]
    if len(server.path) > _DEEPEST + 1:
        return [Fault("no_anchor", f"the server's chain has more than {_DEEPEST} certificates")]
    return [Fault("no_anchor", f"TLSA {record.shown} names no CA in the chain that the server presents")]


def _against_dates(path: Sequence[x509.Certificate], now: datetime) -> list[Fault]:
    found = []
    for one in path:
        subject = one.subject.rfc4514_string()
        if now > one.not_valid_after_utc:
            found.append(Fault("expired", f"{subject} ended on {one.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"))
        if now < one.not_valid_before_utc:
            found.append(Fault("not_yet_valid", f"{subject} begins on {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"))
    return found


def _against_names(leaf: x509.Certificate, names: Sequence[str]) -> list[Fault]:
    own = dns_names(leaf)
    if any(fits(pattern, name) for pattern in own for name in names):
        return []
    text = f"the certificate is for {', '.join(own) or 'no host'}, not for {' or '.join(names)}"
    return [Fault("other_name", text)]


def dns_names(leaf: x509.Certificate) -> list[str]:
    """The hosts that a certificate names: its dNSNames; only without them its common name (RFC 7672 section 3.2.3)."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = names.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, *_UNREADABLE):
        found = []
    common = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return found or [str(one.value) for one in common]


def _names(record: Record, raw_certificate: bytes) -> bool:
    try:
        return association(raw_certificate, record.selector, record.matching_type) == record.raw
    except ParseError:
        return False


def _is_issued(below: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        if not above.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        below.verify_directly_issued_by(above)
    except (x509.ExtensionNotFound, InvalidSignature, *_UNREADABLE):
        return False
    return True


def _public_key(raw_certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo in DER."""
    try:
        key = x509.load_der_x509_certificate(raw_certificate).public_key()
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except _UNREADABLE as error:
        raise ParseError(f"the certificate's public key cannot be read: {error}") from error
