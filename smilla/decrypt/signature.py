"""Who signed what was inside?  One answer for the whole of it, in the words of RFC 8601 and RFC 7281.

S/MIME and OpenPGP (RFC 3156 section 5) alike; an OpenPGP signature may also stand in the ciphertext, beside the content
(RFC 9580 section 10.3), which ``openpgp`` answers.

    pass      signed by a key that may speak for the address in From
    policy    signed by a key that may not: another address, an unknown authority, an ended certificate
    fail      changed after it was signed
    neutral   a signature that cannot be checked here
    none      no signature

A signature counts only if it covers the whole: multipart/signed with its two parts and nothing around them (RFC 8551
section 3.5.3), or signed-data that holds the content itself.  That content takes the place of the structure around it,
octet for octet, whatever the answer is: no ticket system reads signed-data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smilla.classify import classify
from smilla.decrypt import entity, signed_data
from smilla.errors import NotDecrypted, ParseError
from smilla.formats import mime, notices
from smilla.keys.validity import signer
from smilla.model import MessageKind
from smilla.value import value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from smilla.address import EmailAddress
    from smilla.decrypt.entity import Entity
    from smilla.keys.validity.x509_paths import TrustStore
    from smilla.ports import OpenPGPReader

_PGP_PROTOCOL = "application/pgp-signature"
_PROTOCOLS = ("application/pkcs7-signature", "application/x-pkcs7-signature")
_OPAQUE = ("application/pkcs7-mime", "application/x-pkcs7-mime")
SMIME, OPENPGP = "smime", "x-openpgp"  # the first is the method of RFC 7281; there is none for OpenPGP
_DETAILS = {
    "no_certificate": "no key for the sender in the folder of keys has signed it",
    "changed": "the content or the signature was changed, or the signature is not valid",
    "revoked": "the signer's key is revoked",
    "expired": "the signer's key or signature has ended",
    "weak_digest": "its digest is too weak",
    "malformed": "the signature is malformed",
    "unsupported": "nothing here can check OpenPGP signatures beside the content; install pysequoia",
    "from": "there is not exactly one address in From",
}


@value
class Sender:
    """What a signature is held against: the only address in From, None if there is none or several; the certificates
    and OpenPGP keys in the folder of keys for it; and the authorities that are trusted.  ``detached`` checks an OpenPGP
    signature beside its content, against keys; it gives a result and a reason."""

    address: EmailAddress | None
    held: tuple[bytes, ...]
    trusted: TrustStore | None
    now: datetime
    openpgp_keys: tuple[bytes, ...] = ()
    detached: Callable[[bytes, bytes, Sequence[bytes]], tuple[str, str]] | None = None


@value
class Verdict:
    """``signer`` is the address if the result is pass; otherwise ``reason`` is a word and ``detail`` a sentence."""

    method: str = SMIME
    result: str = "none"
    signer: str = ""
    reason: str = ""
    detail: str = ""

    @property
    def passed(self) -> bool:
        """The whole is what the sender signed."""
        return self.result == "pass"

    @property
    def properties(self) -> tuple[tuple[str, str], ...]:
        """Those of a field of Authentication-Results."""
        name = "body.smime-identifier" if self.method == SMIME else "body.signer"
        return (name, self.signer), ("policy.reason", self.reason)


def openpgp(reader: OpenPGPReader, raw_sealed: bytes, sender: Sender) -> Verdict:
    """The verdict about a signature in the ciphertext.  Raises NotDecrypted."""
    return _of_openpgp(*reader.signature(raw_sealed, sender.openpgp_keys), sender)


def _of_openpgp(result: str, reason: str, sender: Sender) -> Verdict:
    """Which keys were taken depends on From."""
    if result == "none":
        return Verdict()
    if sender.address is None:
        result, reason = "neutral", "from"
    signer = str(sender.address) if result == "pass" else ""
    return Verdict(OPENPGP, result, signer, reason, _DETAILS.get(reason, ""))


def verified(inner: Entity, sender: Sender) -> tuple[Verdict, Entity]:
    """The verdict, and the entity without signed-data around it.  Raises NotDecrypted: ``no_entity``, ``nested``."""
    kind, encoding = entity.content(inner.headers)
    try:
        if kind.media_type == "multipart/signed":
            return _multipart(inner, kind, sender), inner
        if kind.media_type in _OPAQUE:
            return _opaque(inner, encoding, sender)
    except ParseError as error:
        return Verdict(result="neutral", reason="malformed", detail=str(error)), inner
    return Verdict(), inner


def signed_content(inner: Entity) -> tuple[signed_data.SignedData, bytes] | None:
    """The S/MIME signature of the whole, not yet checked, and the octets that it is to be of; None if there is none.
    Raises ParseError."""
    kind, encoding = entity.content(inner.headers)
    if kind.media_type == "multipart/signed" and kind.parameters.get("protocol", "").lower() in _PROTOCOLS:
        return _beside(inner)
    return _around(inner, encoding) if kind.media_type in _OPAQUE else None


def _multipart(inner: Entity, kind: mime.ContentType, sender: Sender) -> Verdict:
    protocol = kind.parameters.get("protocol", "").lower()
    if protocol == _PGP_PROTOCOL:
        try:
            raw_content, raw_signature = _two_parts(inner, (protocol,))
        except ParseError as error:
            return Verdict(OPENPGP, "neutral", "", "malformed", str(error))
        check = sender.detached
        found = check(raw_content, raw_signature, sender.openpgp_keys) if check else ("neutral", "unsupported")
        return _of_openpgp(*found, sender)
    return _judged(*_beside(inner), sender) if protocol in _PROTOCOLS else Verdict()


def _beside(inner: Entity) -> tuple[signed_data.SignedData, bytes]:
    """A detached S/MIME signature."""
    raw_content, raw_signature = _two_parts(inner, _PROTOCOLS)
    data = signed_data.read(raw_signature)
    if data.raw_content is not None:
        raise ParseError("the signature holds a content of its own")
    return data, raw_content


def _two_parts(inner: Entity, protocols: Sequence[str]) -> tuple[bytes, bytes]:
    """The content and the decoded signature of a multipart/signed that has nothing else.  Raises ParseError."""
    boundary = entity.boundary(inner.headers)
    around, parts = list[bytes](), list[bytes]()
    for section, octets in entity.pieces(inner.raw_body, boundary):
        if section > 2:
            raise ParseError("multipart/signed has more parts than two")
        if section != entity.DELIMITER:
            (parts if section > 0 else around).append(octets.removeprefix(b"\r\n") if section > 0 else octets)
    if len(parts) != 2 or not all(notices.are_notices(octets) for octets in around):
        raise ParseError("multipart/signed has other parts than two, or text around them")
    second = entity.read(parts[1])
    named, encoding = entity.content(second.headers)
    if named.media_type not in protocols:
        raise ParseError("the second part of multipart/signed is no signature")
    return parts[0], b"".join(mime.decoded([second.raw_body], encoding))


def _around(inner: Entity, encoding: str) -> tuple[signed_data.SignedData, bytes]:
    """Signed-data that holds the content."""
    data = signed_data.read(b"".join(mime.decoded([inner.raw_body], encoding)))
    if data.raw_content is None:
        raise ParseError("the signed-data holds no content")
    return data, data.raw_content


def _opaque(inner: Entity, encoding: str, sender: Sender) -> tuple[Verdict, Entity]:
    data, raw_content = _around(inner, encoding)
    verdict = _judged(data, raw_content, sender)
    try:
        found = entity.read(raw_content)
    except ParseError as error:
        raise NotDecrypted("no_entity", f"what was signed inside is no MIME entity: {error}") from error
    if classify(found.message).kind is MessageKind.ENCRYPTED:
        raise NotDecrypted("nested", "what was signed inside is encrypted again")
    return verdict, found


def _judged(data: signed_data.SignedData, raw_content: bytes, sender: Sender) -> Verdict:
    try:
        found = signed_data.signed_by(data, raw_content, sender.held)
    except signed_data.BadSignature as error:
        return Verdict(result=error.result, reason=error.reason, detail=str(error))
    if sender.address is None:
        return Verdict(result="neutral", reason="from", detail="there is not exactly one address in From")
    if found.raw in sender.held:
        reasons = signer.against_held(found, sender.now)
    else:
        reasons = signer.against(found, data.certificates, sender.address, sender.now, sender.trusted)
    if reasons:
        return Verdict(result="policy", reason=reasons[0].code, detail="; ".join(reason.text for reason in reasons))
    return Verdict(result="pass", signer=str(sender.address))
