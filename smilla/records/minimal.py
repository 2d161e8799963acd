"""A minimal OpenPGP key: what a sender needs to encrypt to one address, and nothing else (RFC 7929 section 2.1).

It has the primary key, the user IDs that name the address with their newest valid self-signature, the current subkeys
with their newest valid binding, and direct-key signatures.  It has no photo, no other person's signature, no other user
ID, no subkey that is revoked or has expired.  The packets that stay are copied octet for octet.

A revocation of the key itself always stays, and so does one of a user ID that stays, unless it is proven false: a
revoked key must not look like a good one because it was made smaller.  What others do: gpg's export-minimal keeps the
newest self-signature of every user ID and every subkey, expired ones too.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from smilla.address import EmailAddress
from smilla.errors import ParseError
from smilla.formats.openpgp_keys import Signature
from smilla.keys.validity import pgp_certificate as cert
from smilla.keys.validity.pgp_signatures import Verdict, verify
from smilla.keys.validity.pgp_user_ids import mailbox_in, names, shown
from smilla.model import Candidate, Format

_REVOKER = 12


def minimal_key(raw: bytes, address: EmailAddress, now: datetime) -> bytes:
    """The minimal key of a binary key, for ``address`` at ``now`` (aware, UTC).  Raises ParseError."""
    certificate = cert.read(Candidate("openpgpkey", str(address), Format.OPENPGP, raw))
    if certificate.primary.version not in (4, 6):
        raise ParseError(f"a key of version {certificate.primary.version} cannot be made smaller")
    if certificate.direct.unread_revocation:
        raise ParseError(f"{certificate.direct.unread_revocation.text}; the key cannot be made smaller")
    parts = [certificate.primary.packet.raw, *_about_the_key(certificate, now)]
    user_ids = list(_user_ids(certificate, address, now))
    if not user_ids:
        named = ", ".join(shown(component.packet.body) for component in certificate.user_ids) or "nobody"
        raise ParseError(f"no user ID that holds names {address}; the key is for {named}")
    return b"".join((*parts, *user_ids, *_subkeys(certificate, now)))


def left_out(raw: bytes, address: EmailAddress) -> str:
    """What may be missed: parts that nobody could judge here, "" if there are none."""
    certificate = cert.read(Candidate("openpgpkey", str(address), Format.OPENPGP, raw))
    faults = [component.fault for component in certificate.subkeys if component.key is None]
    faults += [f"a packet with the unknown tag {tag}" for tag in sorted(certificate.unknown)]
    return f"left out: {', '.join(faults)}" if faults else ""


def _about_the_key(certificate: cert.Certificate, now: datetime) -> Iterator[bytes]:
    """Revocations of the key, then its newest valid direct-key signature, and each that names another key which may
    revoke this one: without it, nobody could tell that such a revocation counts."""
    direct = certificate.direct
    yield from _revocations(certificate, direct, cert.KEY_REVOCATION)
    judge = cert.Judge(certificate.primary, now)
    standing = judge.standing("the key", direct, cert.DIRECT_KEY, cert.KEY_REVOCATION)
    for signature in direct.signatures:
        if signature is standing.binding or _names_revoker(signature, certificate):
            yield signature.packet.raw


def _names_revoker(signature: Signature, certificate: cert.Certificate) -> bool:
    """RFC 4880 section 5.2.3.15.  Age and hash do not matter: gpg heeds it all the same."""
    is_own = signature.type in cert.DIRECT_KEY and signature.may_be_by(certificate.primary)
    if not is_own or not any(part.type == _REVOKER for part in signature.hashed):
        return False
    return verify(signature, certificate.primary, certificate.direct.octets) is not Verdict.BAD


def _user_ids(certificate: cert.Certificate, address: EmailAddress, now: datetime) -> Iterator[bytes]:
    """Each user ID that names the address and holds, with its signatures."""
    judge = cert.Judge(certificate.primary, now)
    for component in certificate.user_ids:
        mailbox = mailbox_in(component.packet.body)
        if mailbox is None or not names(mailbox, address):
            continue
        what = f"the user ID {shown(component.packet.body)}"
        standing = judge.standing(what, component, cert.CERTIFICATIONS, cert.CERTIFICATION_REVOCATION)
        if standing.binding and not standing.revoked:
            yield component.packet.raw
            yield from _revocations(certificate, component, cert.CERTIFICATION_REVOCATION)
            yield standing.binding.packet.raw


def _subkeys(certificate: cert.Certificate, now: datetime) -> Iterator[bytes]:
    """Each subkey that is bound, not revoked and not expired, with its binding."""
    judge = cert.Judge(certificate.primary, now)
    for component in certificate.subkeys:
        if component.key is None:
            continue
        what = f"the subkey {component.key.key_id}"
        standing = judge.standing(what, component, cert.SUBKEY_BINDING, cert.SUBKEY_REVOCATION)
        revoked = standing.revoked or judge.revoked_elsewhere(what, component, certificate.subkey_revocations)
        binding = standing.binding
        if binding and not revoked and not _has_expired(component.key.created, binding, now):
            yield component.packet.raw
            yield binding.packet.raw


def _has_expired(created: int, binding: Signature, now: datetime) -> bool:
    """Key expiration counts from the key's creation; zero means never (RFC 9580 section 5.2.3.13)."""
    lifetime = binding.seconds(9)
    return bool(lifetime) and created + (lifetime or 0) <= now.timestamp()


def _revocations(certificate: cert.Certificate, component: cert.Component, kind: int) -> Iterator[bytes]:
    """Those that may be genuine; the key's may also be by another key that it appointed."""
    for signature in component.signatures:
        if signature.type != kind:
            continue
        own = signature.may_be_by(certificate.primary)
        is_false = own and verify(signature, certificate.primary, component.octets) is Verdict.BAD
        if not is_false and (own or kind == cert.KEY_REVOCATION):
            yield signature.packet.raw
