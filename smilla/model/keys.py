"""Answers from sources, candidates for a key, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from smilla.address import EmailAddress
from smilla.value import value

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey, MLKEM1024PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.asymmetric.x448 import X448PublicKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    EncryptionPublicKey = (
        RSAPublicKey | EllipticCurvePublicKey | X25519PublicKey | X448PublicKey | MLKEM768PublicKey | MLKEM1024PublicKey
    )


class Format(StrEnum):
    """The two formats of keys, and so the two ways of encrypting a message.  (``CopyForm`` is the form of a copy.)"""

    SMIME = "smime"
    OPENPGP = "openpgp"


class DNSSECStatus(StrEnum):
    """What validation says about an answer (RFC 4035 section 4.3), or that there was none.

    A resolver that does not validate also answers ``INDETERMINATE``.
    """

    SECURE = "secure"
    INSECURE = "insecure"
    BOGUS = "bogus"
    INDETERMINATE = "indeterminate"
    UNREACHABLE = "unreachable"


RESTS_ON: Mapping[str, str] = {
    "smimea": "dnssec",
    "openpgpkey": "dnssec",
    "directory": "directory",
    "wkd": "web",
    "ldap": "ldap",
    "learned": "learned",
}
"""What a key of each source rests on, in the words of [keys] trust: DNSSEC, the administrator's word, the certificate
of a web server or of an LDAP server, or authenticated mail that brought it."""


def proof(source: str, status: DNSSECStatus | None) -> str:
    """What ``dnssec`` says in the log and in ``--json``: the status; where DNSSEC has no part in it, what a key of the
    source rests on instead; "" for the administrator's word."""
    if status is not None:
        return status.value
    word = RESTS_ON.get(source, "")
    return word if word not in ("dnssec", "directory") else ""


@value
class DNSAnswer:
    """One answer, or why there was none.

    ``raw_rdata`` holds the RDATA of each record of the requested type, in wire form, with CNAMEs followed.
    ``proven_by`` says in words what the status rests on.  ``malformed`` counts the records that could not be read.
    ``ttl_s`` limits how long the answer may be kept.  ``is_ours``: our own resolver could not be asked, so the domain's
    name servers are not to blame.  ``is_denied``: there is no such name, nor any below it (NXDOMAIN).
    """

    owner: str
    rdtype: str
    status: DNSSECStatus
    raw_rdata: tuple[bytes, ...] = ()
    malformed: int = 0
    ttl_s: int = 0
    detail: str = ""
    proven_by: str = ""
    is_ours: bool = False
    is_denied: bool = False


@value
class Candidate:
    """A certificate or key that a source named for an address, not yet judged.

    ``where`` is the owner name or the file; ``dnssec`` is None for sources outside DNS;
    ``raw`` is DER (or a hash, or a SubjectPublicKeyInfo) for S/MIME and OpenPGP packets or armour otherwise.
    """

    source: str
    where: str
    format: Format
    raw: bytes
    dnssec: DNSSECStatus | None = None


@value
class SMIMEACandidate(Candidate):
    """An SMIMEA record (RFC 8162 section 2): the fields of a TLSA record (RFC 6698 section 2.1)."""

    usage: int = 3
    selector: int = 0
    matching_type: int = 0


@value
class Reason:
    """Why something holds or fails: a stable word for programs and the log, a sentence for people."""

    code: str
    text: str


@value
class SourceAnswer:
    """What a source answered: where we asked, the candidates, and in ``detail`` why there are none.  ``dns`` is the
    underlying DNS answer, None outside DNS.  ``is_unreachable``: the source could not be read or asked at all.
    ``unclear`` is why we could not ask, or what we did not understand, so that silence proves nothing.  ``local_part``
    is the spelling under which the source has it: in lower case, say, or without a tag."""

    source: str
    where: str
    candidates: tuple[Candidate, ...] = ()
    detail: str = ""
    dns: DNSAnswer | None = None
    is_unreachable: bool = False
    unclear: Reason | None = None
    local_part: str = ""

    @property
    def status(self) -> DNSSECStatus | None:
        """What DNSSEC says; None for a source outside DNS that could be read."""
        if self.dns is not None:
            return self.dns.status
        return DNSSECStatus.UNREACHABLE if self.is_unreachable else None

    @property
    def malformed(self) -> int:
        """How many records could not be read at all."""
        return self.dns.malformed if self.dns is not None else 0


class UsableKey:
    """A key that passed the gate for one address at one time.  Only ``smilla.keys.validity`` constructs one.

    The encrypters accept nothing else, so an unchecked key cannot reach them.
    """

    __slots__ = ()
    format: Format


@dataclass(frozen=True, slots=True)
class OAEP:
    """RSAES-OAEP with its parameters (RFC 4055 section 4.1): the hashes as sha1 … sha512, and ``raw_algorithm``, the
    AlgorithmIdentifier that states them."""

    digest: str
    mask_digest: str
    raw_algorithm: bytes
    label: bytes = b""


class Mechanism(StrEnum):
    """How the content-encryption key reaches the holder of a certificate: by key transport, by key agreement on the
    certificate's curve or on X25519 or X448, or by key encapsulation."""

    RSA = "rsa"
    ECDH = "ec"
    XDH = "xdh"
    KEM = "kem"


@dataclass(frozen=True, slots=True)
class X509Key(UsableKey):
    """A certificate that may be encrypted to.  ``issued_at`` is its notBefore; ``expires_at`` is its notAfter, or the
    end of a CA in its path that ends earlier.  ``raw_issuer_and_serial`` is the DER of IssuerAndSerialNumber (RFC 5652
    section 10.2.4), with the issuer octet for octet as in the certificate.

    ``oaep`` is the only padding allowed for an id-RSAES-OAEP key.  ``ciphers`` are the values of [smime] cipher that
    the certificate announces, in its order (RFC 4262).  ``is_common``: common programs can open what is encrypted to
    it.
    """

    raw: bytes
    fingerprint: str
    algorithm: str
    strength: int
    expires_at: datetime
    raw_issuer_and_serial: bytes
    public_key: EncryptionPublicKey
    mechanism: Mechanism
    issued_at: datetime | None = None
    oaep: OAEP | None = None
    ciphers: tuple[str, ...] = ()
    is_common: bool = True
    format: Format = field(default=Format.SMIME, init=False)


@dataclass(frozen=True, slots=True)
class PGPKey(UsableKey):
    """An OpenPGP certificate that may be encrypted to.

    ``raw`` is binary and holds only what passed: the primary key, the user IDs and encryption subkeys that are valid
    today, and their valid self-signatures.  So an engine that takes "every encryption subkey" takes the right ones.
    ``raw_bound`` is the same encryption key in the form for the engines, if that differs from ``raw`` (see
    formats/openpgp_binding.py); ``raw_bound_seipd2`` is the same again, announcing SEIPDv2 (RFC 9580 section
    5.2.3.32).  ``fingerprint`` is the primary key's; ``encrypts_to`` is that of the encryption key.
    """

    raw: bytes
    fingerprint: str
    algorithm: str
    strength: int
    expires_at: datetime | None
    version: int
    raw_bound: bytes = b""
    raw_bound_seipd2: bytes = b""
    issued_at: datetime | None = None
    encrypts_to: str = ""
    is_common: bool = True
    format: Format = field(default=Format.OPENPGP, init=False)

    @property
    def raw_for_engine(self) -> bytes:
        """The certificate to hand to an OpenPGP engine."""
        return self.raw_bound or self.raw

    @property
    def raw_for_seipd2(self) -> bytes:
        """The same for an engine that may write SEIPDv2 if every certificate announces it."""
        return self.raw_bound_seipd2 or self.raw_for_engine


@value
class Assessment:
    """The gate's verdict on one candidate: a key, or every reason against it.

    ``meant_for_encryption`` is False if it was published for another purpose (a hash, a signing or CA certificate
    alone, an unknown usage); that counts as no key.  ``facts`` describes the candidate to a person, as far as it could
    be read: subject, fingerprint, algorithm, not_before, not_after, created, user_ids …
    """

    candidate: Candidate
    key: X509Key | PGPKey | None
    reasons: tuple[Reason, ...]
    meant_for_encryption: bool = True
    facts: Mapping[str, str] = field(default_factory=dict)


class KeyVerdict(StrEnum):
    """The outcome of the search for an address's key; each one except USABLE is also the name of a [policy] option.

    ``NO_KEY`` is proven absence and nothing else.  A search that ended without a key and without that proof is
    ``UNCLEAR``.
    """

    USABLE = "usable"
    BOGUS = "bogus"
    UNREACHABLE = "unreachable"
    UNCLEAR = "unclear"
    UNUSABLE_KEY = "unusable_key"
    INSECURE = "insecure"
    NO_KEY = "no_key"


@value
class SourceFinding:
    """What one source yielded: where we looked, the DNSSEC status, each candidate's assessment, the verdict."""

    source: str
    where: str
    verdict: KeyVerdict
    status: DNSSECStatus | None
    ttl_s: int
    reason: Reason
    assessments: tuple[Assessment, ...] = ()
    proven_by: str = ""

    @property
    def proof(self) -> str:
        """See ``proof``."""
        return proof(self.source, self.status)


@value
class Judgement:
    """The result of judging a source's answer, the key taken from it, if any, when it was judged, and until when that
    holds."""

    finding: SourceFinding
    key: X509Key | PGPKey | None
    at: datetime
    until: datetime


@value
class KeyLookup:
    """The whole search for one address, source by source in the order asked.  ``engine`` is the only engine that takes
    the key, if only one does.  ``untrusted`` are the sources that were not asked, since [keys] trust leaves them out.
    """

    address: EmailAddress
    verdict: KeyVerdict
    reason: Reason
    key: X509Key | PGPKey | None
    source: str
    status: DNSSECStatus | None
    findings: tuple[SourceFinding, ...] = ()
    engine: str = ""
    untrusted: tuple[str, ...] = ()

    @property
    def proof(self) -> str:
        """See ``proof``."""
        return proof(self.source, self.status)
