"""May this OpenPGP key be used for this address now?  The one gate, whichever engine follows.

Promises: any octets give an Assessment in bounded time, never an exception.  A key passes only by self-signatures that
we verify ourselves.  All reasons against it are collected.  A key that passes is cut down to its valid parts, so that
an engine that takes every encryption subkey takes the right one.

Where the RFCs leave a choice:

* Which subkey?  Sequoia and PGPainless encrypt to every subkey that can encrypt; gpg, RNP and OpenPGP.js to the newest
  one that they know.  So does this gate: the subkey that a person added last is one that they can read.  But a subkey
  that common programs open comes first (unless ``prefer`` is "strongest"): the owner of an X448 and a cv25519 subkey
  can read both in one program, but only the latter in all others.
* No key flags?  gpg then lets a key do whatever its algorithm can; Sequoia lets it do nothing; RFC 9580 is silent.
  Here a key without flags is unusable, because both engines must agree, and no program of this century omits them.
* Which self-signature says when the primary key expires?  gpg asks direct-key signatures first; Sequoia asks the
  primary user ID's.  Here the newest one decides, among the user IDs' and direct-key signatures with an expiry.
* When is a key for signing alone, so that its owner has published none for encryption?  Others: gpg and Sequoia only
  distinguish usable keys from the rest.  Here only if every subkey was read, and its algorithm or its genuine key flags
  give it another purpose; an unreadable subkey may have been for encryption.
* A key revoked by another key that it appointed (RFC 9580 section 5.2.3.23): we only note it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from smilla.errors import ParseError
from smilla.formats import key_file
from smilla.formats.openpgp_binding import bound_certificate
from smilla.keys.memory import Memory
from smilla.keys.validity import pgp_certificate as cert
from smilla.keys.validity.pgp_algorithms import (
    can_encrypt,
    can_sign,
    encryption_fault,
    is_common,
    primary_fault,
    strength,
)
from smilla.keys.validity.pgp_certificate import Certificate, Component, Judge, RefusedError, Standing, day
from smilla.keys.validity.pgp_user_ids import MAX_USER_ID, UserID, mailbox_in, mailboxes_in, names, shown
from smilla.model import Assessment, Candidate, PGPKey, Reason
from smilla.value import value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from smilla.address import EmailAddress
    from smilla.formats.openpgp_keys import Key, Signature

_FEATURES, _SEIPD_V2, _JUDGEMENT_LASTS_S = 30, 0x08, 60.0
_FOR_ENCRYPTION = 0x04 | 0x08  # communications or storage (RFC 9580 section 5.2.3.29): nobody distinguishes them
_FOR_ELSE = 0x01 | 0x02 | 0x20  # certification, signing, authentication


@value
class Terms:
    """How a candidate is judged.

    ``require_user_id``: a user ID must name the address (RFC 7929 section 5); False if the administrator vouches for
    it.  ``prefer`` is that of [keys].  ``family``: the octets of all records with the same primary key, if there are
    several; they are judged as one.
    """

    require_user_id: bool = True
    prefer: str = "compatible"
    family: tuple[bytes, ...] = ()


_judgements: Memory[tuple[Candidate, str, Terms], tuple[Assessment, datetime]] = Memory(entries=2000, octets=32 << 20)


def assess_all(
    candidates: Sequence[Candidate], address: EmailAddress, now: datetime, terms: Terms
) -> tuple[Assessment, ...]:
    """The gate for all candidates of one answer, in the same order.  Candidates with one primary key are judged as one
    certificate: no record can bring back what another one revokes."""
    families = cert.families(c.raw for c in candidates) if len(candidates) > 1 else {}
    shared: dict[tuple[bytes, ...], Assessment] = {}

    def judged(candidate: Candidate) -> Assessment:
        family = families.get(cert.primary_body(candidate), ()) if families else ()
        if len(family) < 2:
            return _assess(candidate, address, now, terms)
        if family not in shared:
            shared[family] = _assess(candidate, address, now, replace(terms, family=family))
        return replace(shared[family], candidate=candidate)

    return tuple(map(judged, candidates))


def assess(candidate: Candidate, address: EmailAddress, now: datetime) -> Assessment:
    """Whether the candidate, alone, may be encrypted to for ``address`` at ``now`` (aware, UTC), with every reason."""
    return _assess(candidate, address, now, Terms())


def _assess(candidate: Candidate, address: EmailAddress, now: datetime, terms: Terms) -> Assessment:
    """Verifying the signatures takes up to a millisecond, so a judgement is remembered for a minute, but never past the
    key's expiry."""
    question = (candidate, address.folded, terms)
    known = _judgements.recall(question)
    if known is not None and _still_holds(*known, now):
        return known[0]
    assessment = _judged(candidate, address, now, terms)
    weight = 4000 + 4 * (len(candidate.raw) + sum(map(len, terms.family)))
    _judgements.remember(question, (assessment, now), weight)
    return assessment


def addresses(candidate: Candidate) -> tuple[EmailAddress, ...]:
    """The mailboxes that a key's user IDs name, valid or not."""
    try:
        mailboxes = (mailbox_in(component.packet.body) for component in cert.read(candidate).user_ids)
        return tuple(mailbox for mailbox in mailboxes if mailbox is not None)
    except ParseError:
        return mailboxes_in(candidate.raw)


def _still_holds(assessment: Assessment, judged_at: datetime, now: datetime) -> bool:
    age_s = (now - judged_at).total_seconds()
    expires_at = assessment.key.expires_at if assessment.key else None
    return 0 <= age_s < _JUDGEMENT_LASTS_S and (expires_at is None or now < expires_at)


def _judged(candidate: Candidate, address: EmailAddress, now: datetime, terms: Terms) -> Assessment:
    try:
        certificate = cert.read(candidate, terms.family)
        return _Case(candidate, certificate, now, terms).assessment(address)
    except RefusedError as error:
        return Assessment(candidate, None, (error.reason,))
    except ParseError as error:
        text = f"not a readable OpenPGP key: {key_file.problem(candidate.raw) or error}"
        return Assessment(candidate, None, (Reason("malformed", text),))


@dataclass(slots=True)
class _Encrypter:
    """A key or subkey that may be for encryption: its binding, its expiry, the reasons against it.

    ``flags`` are the first octets of all key flags in genuine signatures.  ``genuine`` is False if no signature is
    genuine, or one cannot be read or verified here.
    """

    component: Component
    key: Key
    binding: Signature | None
    flags: tuple[int, ...]
    genuine: bool
    expires: int | None
    against: list[Reason]

    @property
    def is_meant(self) -> bool:
        """False if genuine key flags, or the algorithm, give it another purpose and not this one."""
        if any(flags & _FOR_ENCRYPTION for flags in self.flags):
            return True
        is_for_else = bool(self.flags) and all(flags & _FOR_ELSE for flags in self.flags) and can_sign(self.key)
        return can_encrypt(self.key) and not (self.genuine and is_for_else)


class _Case:
    """One certificate at one time."""

    def __init__(self, candidate: Candidate, certificate: Certificate, now: datetime, terms: Terms) -> None:
        self._candidate = candidate
        self._certificate = certificate
        self._terms = terms
        self._primary = certificate.primary
        self._now = now.timestamp()
        self._judge = Judge(certificate.primary, now)
        self._facts = {"version": str(self._primary.version)}

    def assessment(self, address: EmailAddress) -> Assessment:
        """The gate's verdict.  Raises RefusedError if the certificate is too much work."""
        primary = self._primary
        if primary.version not in (4, 6):
            return self._unusable([_version_fault(primary.version)])
        self._describe_primary()
        fault = primary_fault(primary)
        if fault and fault.code == "unsupported_algorithm":
            return self._unusable([fault])
        self._direct = self._judge.standing("the key", self._certificate.direct, cert.DIRECT_KEY, cert.KEY_REVOCATION)
        self._user_ids = [self._user_id(component) for component in self._certificate.user_ids]
        self._self_signature = self._newest_self_signature()
        self._describe_user_ids()
        reasons = [fault] if fault else []
        reasons += self._against_primary()
        if self._terms.require_user_id:
            reasons += self._against_user_ids(address)
        encrypters, unread = [e for e in self._encrypters() if e.is_meant], self._unread()
        if not encrypters and not unread:
            # A key with no signed statement, not even its purpose, may have lost the rest on the way.
            return self._sign_only(reasons) if self._self_signature else self._unusable(reasons)
        chosen = self._choice(encrypters)
        if chosen is None:
            reasons += [*(reason for e in encrypters for reason in e.against), *unread]
        return self._unusable(reasons) if reasons or chosen is None else self._usable(chosen)

    # --- facts

    def _describe_primary(self) -> None:
        key = self._primary
        self._facts |= {"fingerprint": key.fingerprint, "algorithm": key.algorithm_name, "created": day(key.created)}

    def _describe_user_ids(self) -> None:
        self._facts["user_ids"] = ", ".join(user_id.text for user_id in self._user_ids[:20])
        signatures = [self._direct.binding, *(u.standing.binding for u in self._user_ids)]
        if any(s.value(12) for s in signatures if s):
            self._facts["designated_revoker"] = "named, not resolved"

    # --- the primary key

    def _user_id(self, component: Component) -> UserID:
        text = shown(component.packet.body)
        what = f"the user ID {text}"
        standing = self._judge.standing(what, component, cert.CERTIFICATIONS, cert.CERTIFICATION_REVOCATION)
        mailbox = mailbox_in(component.packet.body)
        if len(component.packet.body) > MAX_USER_ID:
            standing.binding, standing.faults = None, [Reason("malformed", f"{what} is too long")]
        return UserID(component, text, mailbox, standing)

    def _newest_self_signature(self) -> Signature | None:
        """It states the primary key's expiry and purpose; of two from the same second, the one that expires first."""
        found = [user_id.standing.binding for user_id in self._user_ids if user_id.holds]
        direct = self._direct.binding
        if direct and (direct.seconds(9) or not any(found)):
            found.append(direct)
        present = [s for s in found if s]
        return max(present, key=lambda s: (s.created, -(s.seconds(9) or 1 << 32)), default=None)

    def _against_primary(self) -> Iterable[Reason]:
        primary = self._primary
        if primary.created > self._now:
            yield Reason("not_yet_valid", f"the key was created on {day(primary.created)}, in the future")
        if self._direct.revoked:
            yield self._direct.revoked
        if self._self_signature is None:
            faults = self._direct.faults + [reason for user_id in self._user_ids for reason in user_id.against]
            yield from faults or [Reason("no_self_signature", "the key has no self-signature")]
        expires = _expiry(primary, self._self_signature)
        if expires and expires <= self._now:
            self._facts["expires"] = day(expires)
            yield Reason("expired", f"the key expired on {day(expires)}")

    # --- the user IDs

    def _against_user_ids(self, address: EmailAddress) -> Iterable[Reason]:
        matching = [u for u in self._user_ids if u.mailbox and names(u.mailbox, address)]
        if any(user_id.holds for user_id in matching):
            return
        for user_id in matching:
            yield from user_id.against or [Reason("no_self_signature", f"the user ID {user_id.text} is not signed")]
        if not matching:
            named = self._facts["user_ids"] or "nobody"
            yield Reason("other_address", f"the key is for {named}, not for {shown(address.raw.encode())}")

    # --- the subkeys

    def _unread(self) -> list[Reason]:
        """Parts that may be for encryption and were not understood."""
        faults = [component.fault for component in self._certificate.subkeys if component.key is None]
        faults += [f"a packet with the unknown tag {tag}" for tag in sorted(self._certificate.unknown)]
        return [Reason("unreadable_subkey", f"there is {fault}, which may be for encryption") for fault in faults]

    def _encrypters(self) -> Iterable[_Encrypter]:
        for component in self._certificate.subkeys:
            if component.key:
                yield self._subkey(component, component.key)
        if can_encrypt(self._primary):
            standings = [self._direct, *(user_id.standing for user_id in self._user_ids)]
            direct = self._certificate.direct
            direct.has_unread |= any(user_id.component.has_unread for user_id in self._user_ids)
            yield self._encrypter(direct, self._primary, self._self_signature, standings, [])

    def _subkey(self, component: Component, key: Key) -> _Encrypter:
        what = f"the subkey {key.key_id}"
        standing = self._judge.standing(what, component, cert.SUBKEY_BINDING, cert.SUBKEY_REVOCATION)
        if standing.revoked is None:
            revocations = self._certificate.subkey_revocations
            standing.revoked = self._judge.revoked_elsewhere(what, component, revocations)
        against = [standing.revoked] if standing.revoked else []
        if standing.binding is None:
            against += standing.faults or [Reason("no_self_signature", f"{what} is not bound to the key")]
        return self._encrypter(component, key, standing.binding, [standing], against)

    def _encrypter(
        self,
        component: Component,
        key: Key,
        binding: Signature | None,
        standings: list[Standing],
        against: list[Reason],
    ) -> _Encrypter:
        what = f"the encryption {'subkey' if key.is_subkey else 'key'} {key.key_id}"
        expires = _expiry(key, binding)
        if key.created > self._now:
            against.append(Reason("not_yet_valid", f"{what} was created on {day(key.created)}, in the future"))
        if expires and expires <= self._now and key.is_subkey:
            against.append(Reason("expired", f"{what} expired on {day(expires)}"))
            self._facts["expires"] = max(self._facts.get("expires", ""), day(expires))
        if binding and binding.key_flags is None:
            against.append(Reason("no_key_flags", f"{what} does not say what it is for"))
        elif binding and not all(flags & _FOR_ENCRYPTION for flags in binding.all_key_flags):
            against.append(Reason("no_key_flags", f"{what} does not say clearly that it is for encryption"))
        if fault := encryption_fault(key, what):
            against.append(fault)
        statements = [signature for standing in standings if (signature := standing.binding or standing.stated)]
        flags = tuple(octet for signature in statements for octet in signature.all_key_flags)
        doubtful = any(fault.code == "unsupported_signature" for standing in standings for fault in standing.faults)
        genuine = bool(statements) and not doubtful and not component.has_unread
        return _Encrypter(component, key, binding, flags, genuine, expires, against)

    def _choice(self, encrypters: list[_Encrypter]) -> _Encrypter | None:
        """The newest valid subkey that common programs know; of two from the same second, the stronger one; the primary
        key only if there is no such subkey."""
        compatible = self._terms.prefer == "compatible"

        def preference(e: _Encrypter) -> tuple[bool, bool, int, int]:
            return (compatible and is_common(e.key), e.key.is_subkey, e.key.created, strength(e.key))

        return max((e for e in encrypters if not e.against and e.binding), key=preference, default=None)

    # --- the word

    def _unusable(self, reasons: list[Reason]) -> Assessment:
        return Assessment(self._candidate, None, tuple(dict.fromkeys(reasons)), facts=self._facts)

    def _sign_only(self, reasons: list[Reason]) -> Assessment:
        reasons.append(Reason("sign_only", "the key is for signing only"))
        return Assessment(self._candidate, None, tuple(dict.fromkeys(reasons)), False, self._facts)

    def _usable(self, chosen: _Encrypter) -> Assessment:
        ends = [e for e in (_expiry(self._primary, self._self_signature), chosen.expires) if e]
        expires = min(ends, default=None)
        until = f"until {day(expires)}" if expires else "without an expiry date"
        self._facts |= {"subkey": chosen.key.fingerprint, "expires": day(expires) if expires else "never"}
        self._facts["encryption_algorithm"] = chosen.key.algorithm_name
        announces_seipd2 = self._announces_seipd2()
        self._facts |= {"announces": "SEIPDv2"} if announces_seipd2 else {}
        key = PGPKey(
            raw=self._cut_down(chosen),
            fingerprint=self._primary.fingerprint,
            algorithm=chosen.key.algorithm_name,
            strength=strength(chosen.key),
            expires_at=datetime.fromtimestamp(expires, UTC) if expires else None,
            version=self._primary.version,
            raw_bound=bound_certificate(chosen.key) if self._primary.version == 4 else b"",
            raw_bound_seipd2=bound_certificate(chosen.key, seipd2=True) if announces_seipd2 else b"",
            encrypts_to=chosen.key.fingerprint,
            is_common=is_common(chosen.key),
        )
        what = f"{key.algorithm} key {chosen.key.key_id}"
        reason = Reason("usable", f"the {what} is signed by {key.fingerprint} for encryption and is valid {until}")
        return Assessment(self._candidate, key, (reason,), facts=self._facts)

    def _announces_seipd2(self) -> bool:
        """What a version 4 key announces (RFC 9580 section 5.2.3.32): in its newest self-signature, else in the
        direct-key one.  A version 6 key announces it in its own certificate, which the engine reads."""
        signatures = (self._self_signature, self._direct.binding)
        features = next((f for s in signatures if s and (f := s.value(_FEATURES)) is not None), b"")
        return self._primary.version == 4 and bool(features) and bool(features[0] & _SEIPD_V2)

    def _cut_down(self, chosen: _Encrypter) -> bytes:
        """The packets that are valid, octet for octet as they came.

        A self-signature that would have expired the key, but is overruled by a newer one, is left out with its user ID:
        gpg would believe it.
        """
        parts = [self._primary.packet.raw]
        direct = self._direct.binding
        if direct and not _outlived(self._primary, direct, self._now):
            parts.append(direct.packet.raw)
        for user_id in self._user_ids:
            binding = user_id.standing.binding
            if user_id.holds and binding and not _outlived(self._primary, binding, self._now):
                parts += [user_id.component.packet.raw, binding.packet.raw]
        if chosen.key.is_subkey and chosen.binding:
            parts += [chosen.component.packet.raw, chosen.binding.packet.raw]
        return b"".join(parts)


def _version_fault(version: int) -> Reason:
    if version in (2, 3):
        return Reason("old_version", f"a version {version} key: its fingerprint can be forged (RFC 9580 section 5.5.2)")
    if version == 5:
        return Reason("unsupported_version", "a version 5 (LibrePGP) key, which no other program can read")
    return Reason("unsupported_version", f"a key of the unknown version {version}")


def _expiry(key: Key, signature: Signature | None) -> int | None:
    """Key expiration counts from the key's creation; zero means never (RFC 9580 section 5.2.3.13)."""
    lifetime = signature.seconds(9) if signature else None
    return key.created + lifetime if lifetime else None


def _outlived(key: Key, signature: Signature, now: float) -> bool:
    expires = _expiry(key, signature)
    return expires is not None and expires <= now
