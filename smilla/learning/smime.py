"""The certificate of a sender whose S/MIME signature holds (RFC 8551, RFC 8550).

The signature must be of the whole message, and its certificate must name the address in From, and lead to an authority
of [smime] ca_file today.  What is learned is that certificate, if it is for encryption, too; otherwise the newest one
that came along, is for encryption, and meets the same demands.  The authorities between are kept with it, so that the
path can be tried again for every message that is encrypted: one that is revoked later, or whose authority is no longer
trusted, is not used.

What others do: mail programs take certificates from any signed message.  What we do: DMARC must have passed as well.  A
signature does not grow old, so somebody could send an old message once more, to bring back an old certificate: the
signed time counts, or where there is none, a DKIM signature must cover the date.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from smilla.decrypt import signature, signed_data
from smilla.decrypt.entity import Entity
from smilla.decrypt.signed_data import BadSignature, SignedData
from smilla.errors import NotDecrypted, ParseError
from smilla.formats import der
from smilla.keys.discovery import learned
from smilla.keys.validity import certificate, signer, x509
from smilla.keys.validity.certificate import Certificate
from smilla.keys.validity.smimea import RecordSet
from smilla.keys.validity.x509_paths import Paths, TrustStore
from smilla.learning.authenticated import Sender, UnprovenError, covered_by_sender, latest
from smilla.model import Format, LearnedKey, Message
from smilla.ports import Ports

WAY = "smime"
_MOST_OCTETS = 4 << 20  # of a body, which is held in memory to be hashed
_SIGNING_TIME = "1.2.840.113549.1.9.5"
_TIMES = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}  # UTCTime, GeneralizedTime


def may_offer(message: Message) -> bool:
    """A cheap look: does its type name S/MIME?"""
    return any(b"pkcs7" in field.raw_value.lower() for field in message.named("content-type"))


def key_of(message: Message, sender: Sender, ports: Ports) -> LearnedKey | None:
    """None if the message has no S/MIME signature.  Raises UnprovenError."""
    if message.body.size > _MOST_OCTETS:
        raise UnprovenError(f"the message has more than {_MOST_OCTETS} octets")
    now, trusted = ports.clock.now(), _trusted(ports.raw_trust_store, ports.raw_crls)
    try:
        found = signature.signed_content(Entity(message.headers, b"".join(message.body.blocks())))
        if found is None:
            return None
        data, raw_content = found
        signing = signed_data.signed_by(data, raw_content)
        sent_at = _sent_at(message, sender, data, now)
    except (ParseError, BadSignature, NotDecrypted) as error:
        raise UnprovenError(str(error)) from error
    if reasons := signer.against(signing, data.certificates, sender.address, now, trusted):
        raise UnprovenError("; ".join(reason.text for reason in reasons))
    return _chosen(signing, data, sender, sent_at, _Judge(data, sender, now, trusted))


class _Judge:
    """The gate, for certificates that came with one message."""

    def __init__(self, data: SignedData, sender: Sender, now: datetime, trusted: TrustStore | None) -> None:
        self._data, self._sender, self._now, self._trusted = data, sender, now, trusted
        self.against = ""

    def raw_with_path(self, found: Certificate) -> bytes | None:
        """The certificate and the authorities between it and its anchor, if the gate takes it so; None if not."""
        came = [learned.certificate(self._sender.address, raw) for raw in self._data.certificates]
        path = Paths(RecordSet(came), self._trusted, self._now).find(found)
        if not isinstance(path, tuple):
            self.against = path.text
            return None
        raw = b"".join(one.raw for one in (found, *path[1:-1]))
        candidates = learned.candidates(self._sender.address, Format.SMIME, raw)
        assessment = x509.assess_all(candidates, self._sender.address, self._now, self._trusted)[0]
        self.against = "; ".join(reason.text for reason in assessment.reasons)
        return raw if assessment.key is not None else None


def _chosen(signing: Certificate, data: SignedData, sender: Sender, sent_at: datetime, judge: _Judge) -> LearnedKey:
    others = [one for one in map(_read, data.certificates) if one is not None and one.raw != signing.raw]
    named = [one for one in others if _names(one, sender)]
    newest_first = sorted(named, key=lambda one: one.not_before, reverse=True)
    against = ""
    for found in (signing, *newest_first):
        if (raw := judge.raw_with_path(found)) is not None:
            fingerprint = certificate.read(found.raw, pem=False).facts["fingerprint"]
            return LearnedKey(sender.address, Format.SMIME, raw, fingerprint, WAY, sent_at.timestamp())
        against = against or judge.against
    raise UnprovenError(against)


def _read(raw: bytes) -> Certificate | None:
    return certificate.read(raw, pem=False).certificate


def _names(found: Certificate, sender: Sender) -> bool:
    return any(name.folded == sender.address.folded for name in x509.addresses(found.raw))


def _sent_at(message: Message, sender: Sender, data: SignedData, now: datetime) -> datetime:
    """The earlier one of Date and the signed time.  Raises UnprovenError, ParseError."""
    signed_at = _signing_time(data)
    if signed_at is None:
        if not covered_by_sender(message, sender, "from", "date"):
            raise UnprovenError("the signature has no time, and no DKIM signature of the sender's domain covers Date")
        return sender.sent_at
    return latest(min(signed_at, sender.sent_at), now)


def _signing_time(data: SignedData) -> datetime | None:
    """RFC 5652 section 11.3, of the one signer whose attributes were checked."""
    for attribute in (one for field in data.signers[0] if field.tag == 0xA0 for one in field.children()):
        kind, values = attribute.children()
        if der.dotted(kind.content) != _SIGNING_TIME:
            continue
        found = list(values.children())
        if len(found) != 1 or found[0].tag not in _TIMES:
            raise ParseError("the signed time is malformed")
        try:
            read = datetime.strptime(found[0].content.decode("ascii"), _TIMES[found[0].tag])
        except ValueError as error:
            raise ParseError("the signed time is malformed") from error
        return read.replace(tzinfo=UTC)
    return None


@lru_cache(maxsize=2)
def _trusted(raw: bytes, raw_crls: bytes) -> TrustStore | None:
    return x509.load_trust_store(raw, raw_crls) if raw or raw_crls else None
