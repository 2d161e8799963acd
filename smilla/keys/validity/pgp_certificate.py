"""The parts of an OpenPGP certificate (RFC 9580 section 10.1.1), and the standing of each at one time.

Promises: a part is valid only by a self-signature that verifies, was made in the past and has not expired.  A
revocation counts unless it is proven false.  The work is bounded, however the certificate is built.

A part that occurs twice is one part, with the signatures of both places; so are the parts of one primary key in several
records of an answer.  RFC 7929 does not mention such records.  Others take each record alone, and so use a subkey that
the next record revokes.  Here the records are merged first, as gpg and Sequoia merge what they import.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from smilla.errors import ParseError
from smilla.formats import openpgp
from smilla.formats.armour import PUBLIC_KEY, dearmour, is_armoured
from smilla.formats.openpgp_keys import Key, Signature, parse_key, parse_signature
from smilla.keys.validity.pgp_signatures import Verdict, verify
from smilla.model import Candidate, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smilla.formats.openpgp import Packet

DIRECT_KEY = (0x1F,)
CERTIFICATIONS = (0x10, 0x11, 0x12, 0x13)
SUBKEY_BINDING = (0x18,)
KEY_REVOCATION, SUBKEY_REVOCATION, CERTIFICATION_REVOCATION = 0x20, 0x28, 0x30

_BINARY_ONLY = ("openpgpkey",)  # RFC 7929 section 2.3
_MAX_OCTETS = 2 * 1024 * 1024
_MAX_PACKETS = 20_000
_MAX_VERIFICATIONS = 100  # people renew a key once a year; a brainpoolP512r1 signature costs two milliseconds
_MAX_COMPARISONS = 400  # of a revocation with a subkey elsewhere: a few microseconds each, unless they match
_NONCRITICAL = 40  # from this tag on, packets need not be understood (RFC 9580 section 4.3)
_IGNORED = (openpgp.MARKER, openpgp.TRUST, openpgp.PADDING)


class RefusedError(ParseError):
    """A candidate that is not exactly one readable public certificate, and why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.reason = Reason(code, text)


@dataclass(slots=True)
class Component:
    """The primary key itself, a user ID or a subkey, with the signatures that follow it.

    ``octets`` are what its signatures cover, before their trailer.  ``fault`` says why a subkey cannot be read; ``key``
    is then None.  ``has_unread``: some of its signatures cannot be read.
    """

    packet: Packet
    octets: bytes
    key: Key | None = None
    signatures: list[Signature] = field(default_factory=list)
    fault: str = ""
    has_unread: bool = False
    unread_revocation: Reason | None = None


@dataclass(slots=True)
class Certificate:
    """One transferable public key, as published.

    ``parts`` are its user IDs and subkeys by tag and body; ``unknown`` the tags of packets that were skipped;
    ``subkey_revocations`` all of them, wherever they occur.
    """

    primary: Key
    direct: Component
    user_ids: list[Component] = field(default_factory=list)
    subkeys: list[Component] = field(default_factory=list)
    parts: dict[tuple[int, bytes], Component] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)
    subkey_revocations: list[Signature] = field(default_factory=list)


def read(candidate: Candidate, family: Iterable[bytes] = ()) -> Certificate:
    """The certificate in the candidate's octets, with what the records of its ``family`` say about the same primary
    key.  Raises ParseError; its subclass RefusedError gives the code."""
    if is_armoured(candidate.raw) and candidate.source in _BINARY_ONLY:
        raise RefusedError("armoured", "the record holds ASCII armour; RFC 7929 section 2.3 asks for the binary form")
    found: list[Certificate] = []
    _collect(candidate.raw, found)
    if not found:
        raise ParseError("it contains no key")
    for raw in family:
        if raw != candidate.raw:
            for other in _salvaged(raw):
                _merge(found[0], other)
    return found[0]


def families(raws: Iterable[bytes]) -> dict[bytes, tuple[bytes, ...]]:
    """By the body of a primary key's packet: which of the octets hold parts of that key, as far as they can be read.  A
    revocation counts even if garbage follows it or another key precedes it."""
    found: dict[bytes, tuple[bytes, ...]] = {}
    for raw in dict.fromkeys(raws):
        for primary in dict.fromkeys(certificate.primary.packet.body for certificate in _salvaged(raw)):
            found[primary] = (*found.get(primary, ()), raw)
    return found


def primary_body(candidate: Candidate) -> bytes:
    """The body of its primary key's packet, empty if the candidate cannot be read."""
    try:
        return read(candidate).primary.packet.body
    except ParseError:
        return b""


def _salvaged(raw: bytes) -> list[Certificate]:
    found: list[Certificate] = []
    with suppress(ParseError):
        _collect(raw, found, several=True)
    return found


def _collect(raw: bytes, found: list[Certificate], *, several: bool = False) -> None:
    """Adds the certificates; only one, unless ``several`` is set.  Raises ParseError; what was read before stays."""
    if len(raw) > _MAX_OCTETS:
        raise RefusedError("too_complex", f"{len(raw)} octets are too many for a key")
    component: Component | None = None
    for number, packet in enumerate(openpgp.packets(_dearmoured(raw) if is_armoured(raw) else raw)):
        _refuse(packet, number, bool(found) and not several)
        if packet.tag == openpgp.PUBLIC_KEY:
            certificate, component = _certificate(packet)
            found.append(certificate)
        elif packet.tag not in _IGNORED:
            if not found:
                raise ParseError(f"a packet with tag {packet.tag} where a key must begin")
            component = _add(found[-1], component, packet)


def _merge(into: Certificate, other: Certificate) -> None:
    """Adds what the other certificate says, if it has the same primary key."""
    if other.primary.packet.body != into.primary.packet.body:
        return
    into.unknown |= other.unknown
    into.subkey_revocations += other.subkey_revocations
    _merge_signatures(into.direct, other.direct)
    for where, component in other.parts.items():
        if where in into.parts:
            _merge_signatures(into.parts[where], component)
        else:
            into.parts[where] = component
            (into.user_ids if component.packet.tag == openpgp.USER_ID else into.subkeys).append(component)


def _merge_signatures(into: Component, other: Component) -> None:
    into.has_unread |= other.has_unread
    into.unread_revocation = into.unread_revocation or other.unread_revocation
    known = {signature.packet.body for signature in into.signatures}
    into.signatures += [signature for signature in other.signatures if signature.packet.body not in known]


def _dearmoured(raw: bytes) -> bytes:
    armoured = dearmour(raw)
    if armoured.label != PUBLIC_KEY and "PRIVATE" not in armoured.label:
        raise ParseError(f"the armour holds a {armoured.label}, not a key")
    return armoured.data


def _refuse(packet: Packet, number: int, is_second: bool) -> None:
    if number >= _MAX_PACKETS:
        raise RefusedError("too_complex", f"more than {_MAX_PACKETS} packets are too many for a key")
    if packet.tag in (openpgp.SECRET_KEY, openpgp.SECRET_SUBKEY):
        raise RefusedError("secret_key", "secret key material is published: the key must be revoked and replaced")
    if packet.tag == openpgp.PUBLIC_KEY and is_second:
        raise RefusedError(
            "several_keys", "it contains several keys; RFC 7929 section 2.1 asks for one key in each record"
        )


def _certificate(packet: Packet) -> tuple[Certificate, Component]:
    primary = parse_key(packet)
    direct = Component(packet, primary.signed_octets if primary.fingerprint else b"", primary)
    return Certificate(primary, direct), direct


def _add(found: Certificate, component: Component | None, packet: Packet) -> Component | None:
    """Puts a packet where it belongs and returns the component that later signatures follow.

    A signature that cannot be read counts as absent, unless it says that it is a revocation.  So does anything that
    follows a user attribute or a packet that need not be understood (RFC 9580 section 4.3), but we remember the tag:
    such a packet may be for encryption, like a subkey that cannot be read.
    """
    if packet.tag == openpgp.SIGNATURE:
        _attach(found, component, packet)
        return component
    if packet.tag == openpgp.USER_ID:
        length = len(packet.body).to_bytes(4, "big")
        user_id = Component(packet, found.direct.octets + b"\xb4" + length + packet.body)
        return _once(found, user_id, found.user_ids)
    if packet.tag == openpgp.PUBLIC_SUBKEY:
        return _once(found, _subkey(found, packet), found.subkeys)
    if packet.tag == openpgp.USER_ATTRIBUTE:
        return None
    if packet.tag >= _NONCRITICAL:
        found.unknown.add(packet.tag)
        return None
    raise ParseError(f"a packet with tag {packet.tag} in a key")


def _once(found: Certificate, component: Component, among: list[Component]) -> Component:
    """The component, or the same one from earlier on: a revocation counts, whichever of the two it follows."""
    where = component.packet.tag, component.packet.body
    if where not in found.parts:
        found.parts[where] = component
        among.append(component)
    return found.parts[where]


def _subkey(found: Certificate, packet: Packet) -> Component:
    try:
        key = parse_key(packet)
    except ParseError as error:
        return Component(packet, b"", fault=f"a subkey that cannot be read ({error})")
    if key.version != found.primary.version:
        return Component(packet, b"", fault=f"a subkey of version {key.version} under a key of another version")
    return Component(packet, found.direct.octets + key.signed_octets if key.fingerprint else b"", key)


def _attach(found: Certificate, component: Component | None, packet: Packet) -> None:
    """Direct-key signatures and revocations of the key or of a subkey count wherever they occur: a revocation is often
    just appended."""
    try:
        signature = parse_signature(packet)
    except ParseError:
        kind = packet.body[1] if len(packet.body) > 1 else 0
        place = found.direct if kind == KEY_REVOCATION or component is None else component
        place.has_unread = True
        if kind in (KEY_REVOCATION, SUBKEY_REVOCATION):
            place.unread_revocation = Reason("revoked", "it contains a revocation that cannot be read")
        return
    if signature.type in (*DIRECT_KEY, KEY_REVOCATION):
        found.direct.signatures.append(signature)
        return
    if signature.type == SUBKEY_REVOCATION:
        found.subkey_revocations.append(signature)
    if component is not None:
        component.signatures.append(signature)


# --- the standing of a part --------------------------------------------------------------------------------


@dataclass(slots=True)
class Standing:
    """``binding`` is the newest valid self-signature; ``stated`` the newest that is at least genuine (perhaps weak,
    expired or from the future); ``revoked`` says when and why; ``faults`` say why newer signatures are not valid."""

    binding: Signature | None = None
    stated: Signature | None = None
    revoked: Reason | None = None
    faults: list[Reason] = field(default_factory=list)


class Judge:
    """Verifies the self-signatures of one certificate at one time, within a budget."""

    def __init__(self, primary: Key, now: datetime) -> None:
        self._primary = primary
        self._now = now.timestamp()
        self._verifications = 0
        self._comparisons = 0

    def standing(self, what: str, component: Component, kinds: tuple[int, ...], revocation: int) -> Standing:
        """The standing of ``component`` (``what`` in words).  Raises RefusedError if it takes too much work."""
        standing = Standing()
        own = [s for s in component.signatures if s.may_be_by(self._primary)]
        for signature in sorted((s for s in own if s.type in kinds), key=lambda s: s.created, reverse=True):
            verdict = self._verify(signature, component)
            if verdict in (Verdict.VALID, Verdict.WEAK) and standing.stated is None:
                standing.stated = signature
            fault = self._fault(what, signature, verdict, component)
            if fault is None:
                standing.binding = signature
                break
            standing.faults.append(fault)
        revoked = self._revocation(what, component, own, revocation, standing.binding)
        standing.revoked = revoked or component.unread_revocation
        return standing

    def revoked_elsewhere(self, what: str, component: Component, revocations: list[Signature]) -> Reason | None:
        """A genuine revocation of the subkey that does not follow it directly.  Raises RefusedError like
        ``standing``."""
        followed = {signature.packet.body for signature in component.signatures}
        strays = [s for s in revocations if s.packet.body not in followed and s.may_be_by(self._primary)]
        self._comparisons += len(strays)
        if self._comparisons > _MAX_COMPARISONS:
            raise RefusedError("too_complex", f"more than {_MAX_COMPARISONS} subkeys and revocations to compare")
        for signature in strays:
            if verify(signature, self._primary, component.octets) in (Verdict.VALID, Verdict.WEAK):
                return _revoked(what, signature, _revocation_words(signature))
        return None

    def _verify(self, signature: Signature, component: Component) -> Verdict:
        self._verifications += 1
        if self._verifications > _MAX_VERIFICATIONS:
            raise RefusedError("too_complex", f"more than {_MAX_VERIFICATIONS} self-signatures are too many for a key")
        return verify(signature, self._primary, component.octets)

    def _fault(self, what: str, signature: Signature, verdict: Verdict, component: Component) -> Reason | None:
        made = f"the self-signature of {day(signature.created)} on {what}"
        if verdict is Verdict.WEAK:
            return Reason("weak_signature", f"{made} uses MD5 or SHA-1, which no longer proves anything")
        if verdict is Verdict.UNVERIFIABLE:
            return Reason("unsupported_signature", f"{made} is of a kind, algorithm or size that is not known here")
        born = max(self._primary.created, component.key.created if component.key else 0)
        if verdict is Verdict.BAD or signature.created < born:
            return Reason("bad_signature", f"{made} is false")
        if signature.created > self._now:
            return Reason("not_yet_valid", f"{made} lies in the future")
        lifetime = signature.seconds(3)
        if lifetime and signature.created + lifetime <= self._now:
            return Reason("expired", f"{made} expired on {day(signature.created + lifetime)}")
        return None

    def _revocation(
        self, what: str, component: Component, own: list[Signature], kind: int, binding: Signature | None
    ) -> Reason | None:
        """A revocation of a key or subkey is final; that of a user ID lasts until it is certified again.

        Others: gpg does the same; Sequoia also lets a newer self-signature lift the revocation of a key that was only
        retired or superseded.  Here weak hashes count, and so do revocations that cannot be verified: refusing a good
        key is a nuisance, using a revoked one is a leak.  Only a revocation that is proven false does not count.
        """
        for signature in own:
            if signature.type != kind:
                continue
            verdict = self._verify(signature, component)
            if verdict is Verdict.BAD:
                continue
            if kind == CERTIFICATION_REVOCATION and binding and binding.created > signature.created:
                continue
            words = _revocation_words(signature) if verdict is not Verdict.UNVERIFIABLE else "cannot be verified here"
            return _revoked(what, signature, words)
        return None


def _revoked(what: str, signature: Signature, words: str) -> Reason:
    return Reason("revoked", f"{what} was revoked on {day(signature.created)} ({words})")


_REVOCATION_REASONS = {
    1: "superseded",
    2: "compromised",
    3: "retired",
    32: "no longer valid",
}  # RFC 9580 section 5.2.3.31


def _revocation_words(signature: Signature) -> str:
    body = signature.value(29)
    return _REVOCATION_REASONS.get(body[0], "no reason given") if body else "no reason given"


def day(seconds: int) -> str:
    """A date for people: 2026-01-03."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
