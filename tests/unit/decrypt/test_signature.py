"""A signature counts if it covers the whole and its key may speak for the sender; and each other one says why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from smilla.address import parse
from smilla.decrypt import entity
from smilla.decrypt.signature import Sender, Verdict, openpgp, verified
from smilla.errors import NotDecrypted
from smilla.formats import der
from smilla.keys.validity.x509_paths import load_trust_store
from tests.certificates import NOW, make_certificate, make_crl, to_pem
from tests.unit.decrypt.material import TEXT, owner, smime, written
from tests.unit.decrypt.signing import DATA, attribute, both, detached, hashed, opaque, signed_data
from tests.unit.decrypt.test_message import Engine

SUE = "sue@example.org"
CA = make_certificate("p256", common_name="Our CA", ca=True, number=50)
OTHER_CA = make_certificate("p256", common_name="Another CA", ca=True, number=51)
MIDDLE = make_certificate("p256", common_name="Below", ca=True, number=52, issuer=CA)
TRUSTED = load_trust_store(to_pem(CA[1]))


def certified(kind: str = "rsa2048", issuer: Any = CA, **words: Any) -> tuple[Any, bytes]:
    words = {
        "email": SUE,
        "usages": ("digital_signature",),
        "extended": (ExtendedKeyUsageOID.EMAIL_PROTECTION,),
        **words,
    }
    return make_certificate(kind, issuer=issuer, number=60, common_name="Sue", **words)


def sender(address: str | None = SUE, held: tuple[bytes, ...] = (), trusted: Any = TRUSTED) -> Sender:
    return Sender(parse(address) if address else None, held, trusted, NOW)


def judged(raw: bytes, who: Sender | None = None) -> Verdict:
    inner = entity.read(raw)
    verdict, found = verified(inner, who or sender())
    if b"multipart/signed" in raw:
        assert found == inner
    elif verdict.reason not in ("malformed",):
        assert found.raw == TEXT
    return verdict


PASS = Verdict(result="pass", signer=SUE)


# --- pass --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rsa2048", "rsa4096", "p256", "p384", "p521", "ed25519"])
@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_signature_of_the_sender_passes_beside_the_content_and_around_it(kind: str, digest: str) -> None:
    for raw in both(TEXT, *certified(kind), digest=digest):
        assert judged(raw) == PASS


def test_path_may_lead_through_a_ca_that_came_with_the_message() -> None:
    for raw in both(TEXT, *certified(issuer=MIDDLE), beside=(MIDDLE[1],)):
        assert judged(raw) == PASS
    for raw in both(TEXT, *certified(issuer=MIDDLE)):
        assert (judged(raw).result, judged(raw).reason) == ("policy", "untrusted")


def test_signer_named_by_key_identifier_passes() -> None:
    identified = certified(extensions=[(x509.SubjectKeyIdentifier(b"sue"), False)])
    for raw in both(TEXT, *identified, sid=der.tlv(0x80, b"sue")):
        assert judged(raw) == PASS


def test_signature_over_the_content_alone_passes() -> None:
    for raw in both(TEXT, *certified(), with_attributes=False):
        assert judged(raw) == PASS


def test_certificate_in_the_folder_of_keys_needs_no_authority_and_no_copy_in_the_message() -> None:
    private, raw = make_certificate("p256", common_name="Sue", number=61)
    who = sender(held=(raw,), trusted=None)
    for comes in (True, False):
        for one in both(TEXT, private, raw, comes=comes):
            assert judged(one, who) == PASS


def test_addresses_are_compared_without_regard_to_case() -> None:
    for raw in both(TEXT, *certified(email="Sue@EXAMPLE.org")):
        assert judged(raw).result == "pass"


# --- policy ------------------------------------------------------------------------------------------------


POLICY: dict[str, tuple[dict[str, Any], str]] = {
    "another address": ({"email": "eve@example.org"}, "other_address"),
    "no address": ({"email": ()}, "other_address"),
    "an unknown authority": ({"issuer": OTHER_CA}, "untrusted"),
    "itself": ({"issuer": None}, "untrusted"),
    "ended": ({"not_after": NOW - timedelta(days=1)}, "expired"),
    "not yet valid": ({"not_before": NOW + timedelta(days=1)}, "not_yet_valid"),
    "for encryption only": ({"usages": ("key_encipherment",)}, "key_usage"),
    "for servers": ({"extended": (ExtendedKeyUsageOID.SERVER_AUTH,)}, "not_for_mail"),
    "a short key": ({"kind": "rsa1024"}, "weak_key"),
}


@pytest.mark.parametrize(("words", "reason"), POLICY.values(), ids=POLICY.keys())
def test_key_that_may_not_speak_for_the_sender_is_named_with_the_reason(words: dict[str, Any], reason: str) -> None:
    for raw in both(TEXT, *certified(**words)):
        verdict = judged(raw)
        assert (verdict.result, verdict.signer, verdict.reason) == ("policy", "", reason)
        assert verdict.detail


def test_revoked_certificate_and_one_without_any_authority_configured_do_not_pass() -> None:
    private, raw = certified()
    lists = make_crl(CA, {raw: None})
    for one in both(TEXT, private, raw):
        assert judged(one, sender(trusted=load_trust_store(to_pem(CA[1]), lists))).reason == "revoked"
        assert judged(one, sender(trusted=None)).reason == "no_trust_store"


def test_ended_certificate_in_the_folder_of_keys_does_not_pass() -> None:
    private, raw = make_certificate("p256", not_after=NOW - timedelta(days=1), number=62)
    for one in both(TEXT, private, raw):
        assert judged(one, sender(held=(raw,))).reason == "expired"


def test_without_one_sender_nobody_can_tell() -> None:
    for raw in both(TEXT, *certified()):
        verdict = judged(raw, sender(None))
        assert (verdict.result, verdict.reason) == ("neutral", "from")


# --- fail --------------------------------------------------------------------------------------------------


def test_changed_content_fails() -> None:
    private, raw = certified()
    signature = signed_data(TEXT, private, raw)
    assert (judged(detached(TEXT + b"x", signature)).result) == "fail"
    changed = signed_data(TEXT, private, raw, holds=True).replace(b"canary sings", b"canary sinks")
    found = verified(entity.read(opaque(changed)), sender())
    assert (found[0].result, b"sinks" in found[1].raw) == ("fail", True)


@pytest.mark.parametrize("with_attributes", [True, False])
def test_signature_by_another_key_fails(with_attributes: bool) -> None:
    _, raw = certified()
    stranger, _ = make_certificate("rsa2048", number=63)
    for one in both(TEXT, stranger, raw, with_attributes=with_attributes):
        assert (judged(one).result, judged(one).reason) == ("fail", "changed")


def attributes(*, kind: bytes | None = DATA, digest: bytes | None = None, twice: bool = False) -> list[bytes]:
    found = [attribute("1.2.840.113549.1.9.3", kind)] if kind else []
    stated = hashed(TEXT, "sha256") if digest is None else digest
    return found + [attribute("1.2.840.113549.1.9.4", der.octet_string(stated))] * (2 if twice else 1)


ATTRIBUTES = {
    "no type": (attributes(kind=None), "neutral"),
    "another type": (attributes(kind=der.oid("1.2.840.113549.1.7.2")), "neutral"),
    "digest of another content": (attributes(digest=hashed(b"other", "sha256")), "fail"),
    "empty digest": (attributes(digest=b""), "fail"),
    "two digests": (attributes(twice=True), "neutral"),
    "no digest": (attributes()[:1], "fail"),
    "no attributes": ([], "neutral"),
}


@pytest.mark.parametrize(("given", "result"), ATTRIBUTES.values(), ids=ATTRIBUTES.keys())
def test_signed_attributes_of_another_content_do_not_pass(given: list[bytes], result: str) -> None:
    for raw in both(TEXT, *certified(), attributes=given):
        assert judged(raw).result == result


# --- neutral -----------------------------------------------------------------------------------------------


def neutral(raw: bytes, reason: str) -> None:
    verdict = judged(raw)
    assert (verdict.result, verdict.reason, bool(verdict.detail)) == ("neutral", reason, True)


def test_weak_digests_several_signers_and_unknown_algorithms_are_not_checked() -> None:
    private, raw = certified()
    other = der.sequence(der.oid("1.2.840.113549.1.1.99"), der.null())
    mixed = der.sequence(der.oid("1.2.840.113549.1.1.13"), der.null())  # SHA-512 with RSA beside a digest of SHA-256
    for one in both(TEXT, private, raw, digest="sha1"):
        neutral(one, "weak_digest")
    for faults in ({"signers": 2}, {"signers": 0}, {"algorithm": other}, {"algorithm": mixed}):
        for one in both(TEXT, private, raw, **faults):
            neutral(one, "unsupported")
    for one in both(TEXT, private, raw, sid=der.sequence(der.sequence(), der.integer(1))):
        neutral(one, "no_certificate")


def test_signature_that_does_not_cover_the_whole_is_none() -> None:
    """Text around the parts, or a third part, would be shown beside what was signed."""
    signature = signed_data(TEXT, *certified())
    good = detached(TEXT, signature)
    assert judged(good) == PASS
    more = b"\r\n--sig\r\nContent-Type: text/html\r\n\r\n<p>more"
    for raw in (
        detached(TEXT, signature, before=b"Dear Hugh,"),
        detached(TEXT, signature, after=b"\r\nYours"),
        good.replace(b"\r\n--sig--", more + b"\r\n--sig--"),
        good.replace(b"pkcs7-signature; name", b"octet-stream; name"),
        good.replace(b'boundary="sig"', b"x=y"),
        detached(TEXT, signed_data(TEXT, *certified(), holds=True)),
        detached(TEXT, b"garbage"),
        detached(TEXT, signature[:-1]),
    ):
        neutral(raw, "malformed")


def test_other_structures_have_no_signature_of_ours() -> None:
    private, raw = certified()
    for one in (TEXT, detached(TEXT, b"").replace(b"pkcs7", b"other")):
        assert verified(entity.read(one), sender()) == (Verdict(), entity.read(one))
    for one in (opaque(b"0"), opaque(written(TEXT, owner())), opaque(signed_data(TEXT, private, raw))):
        verdict, found = verified(entity.read(one), sender())
        assert (verdict.result, found) == ("neutral", entity.read(one))
    for one in both(TEXT, private, raw, kind=der.oid("1.2.840.113549.1.9.16.1.4")):
        neutral(one, "malformed")


@pytest.mark.parametrize("content", [b"no entity", b""])
def test_signed_data_without_an_entity_is_not_handed_on(content: bytes) -> None:
    with pytest.raises(NotDecrypted) as caught:
        verified(entity.read(opaque(signed_data(content, *certified(), holds=True))), sender())
    assert caught.value.code == "no_entity"


def test_signed_data_around_ciphertext_are_not_handed_on() -> None:
    sealed = smime(written(TEXT, owner()), b"")
    raw = b"".join(h.raw for h in sealed.headers) + b"\r\n" + b"".join(sealed.body.blocks())
    with pytest.raises(NotDecrypted) as caught:
        verified(entity.read(opaque(signed_data(raw, *certified(), holds=True))), sender())
    assert caught.value.code == "nested"


# --- OpenPGP -----------------------------------------------------------------------------------------------


def pgp_signed(content: bytes, signature: bytes = b"armour", **words: bytes) -> bytes:
    raw = detached(content, b"", **words).replace(b"pkcs7-signature", b"pgp-signature")
    head, _, tail = raw.partition(b"Content-Transfer-Encoding: base64\r\n\r\n")
    return head + b"\r\n" + signature + tail


@pytest.mark.parametrize(
    ("said", "result"),
    [(("pass", ""), "pass"), (("fail", "changed"), "fail"), (("neutral", "no_certificate"), "neutral")],
)
def test_openpgp_signature_beside_the_content_is_checked_with_the_senders_keys(
    said: tuple[str, str], result: str
) -> None:
    asked: list[tuple[bytes, bytes, Sequence[bytes]]] = []

    def check(content: bytes, signature: bytes, keys: Sequence[bytes]) -> tuple[str, str]:
        asked.append((content, signature, keys))
        return said

    who = replace(sender(), openpgp_keys=(b"sue's",), detached=check)
    verdict, found = verified(entity.read(pgp_signed(TEXT)), who)
    assert asked == [(TEXT, b"armour", (b"sue's",))]
    assert (verdict.method, verdict.result, verdict.reason) == ("x-openpgp", result, said[1])
    assert (verdict.signer == SUE, bool(verdict.detail)) == (result == "pass", result != "pass")
    assert found.raw == pgp_signed(TEXT)
    nobody = replace(who, address=None)
    assert verified(entity.read(pgp_signed(TEXT)), nobody)[0].reason == "from"


def test_openpgp_signature_that_does_not_cover_the_whole_or_cannot_be_checked_is_neutral() -> None:
    for raw, reason in (
        (pgp_signed(TEXT, before=b"Dear Hugh,"), "malformed"),
        (pgp_signed(TEXT), "unsupported"),
    ):
        verdict, _ = verified(entity.read(raw), sender())
        assert (verdict.method, verdict.result, verdict.reason) == ("x-openpgp", "neutral", reason)


def test_signature_in_the_ciphertext_is_what_the_engine_says() -> None:
    engine = Engine(said=("pass", ""))
    engine.opened(b"sealed")
    verdict = openpgp(engine, b"sealed", replace(sender(), openpgp_keys=(b"sue's",)))
    assert (verdict, engine.certificates) == (Verdict("x-openpgp", "pass", SUE), [b"sue's"])
    assert verdict.properties == (("body.signer", SUE), ("policy.reason", ""))
    engine.said = ("none", "")
    assert openpgp(engine, b"sealed", sender()) == Verdict()


# --- what readers may read differently ----------------------------------------------------------------------


def with_unsigned(raw: bytes, octets: bytes) -> bytes:
    """The signed-data with an unsigned attribute of its signer, which nothing covers (RFC 5652 section 5.3)."""

    def rebuilt(one: der.TLV, path: tuple[int, ...]) -> bytes:
        if not path:
            unsigned = der.tlv(0xA1, attribute("1.2.3.4", der.octet_string(octets)))
            return der.tlv(one.tag, one.content + unsigned)
        parts = list(one.children())
        chosen = path[0] % len(parts)
        kept = (rebuilt(part, path[1:]) if n == chosen else part.whole for n, part in enumerate(parts))
        return der.tlv(one.tag, *kept)

    return rebuilt(der.read(raw), (1, 0, -1, 0))


@pytest.mark.parametrize(
    ("parameter", "ours", "theirs"),
    [
        (b'boundary="X "', b"X ", b"X"),
        (b"boundary=X(c)", b"X", b"X(c)"),
        (b"boundary=\"X\"; boundary*=us-ascii''Y", b"X", b"Y"),
        (b'boundary="X"', b"X", b"Xy"),
        (b'boundary="<X>"', b"<X>", b"X"),
    ],
)
def test_text_that_a_reader_finds_by_another_boundary_passes_for_nobody(
    parameter: bytes, ours: bytes, theirs: bytes
) -> None:
    """Whoever has a detached signature of Sue's puts words of their own into what it does not cover."""
    words = b"\r\n--%b\r\nContent-Type: text/plain\r\n\r\nPay them.\r\n--%b--\r\n" % (theirs, theirs)
    raw = with_unsigned(signed_data(TEXT, *certified()), words)
    before, found, after = raw.partition(words)

    def quoted(octets: bytes) -> bytes:
        lines = (octets[at : at + 24] for at in range(0, len(octets), 24))
        return b"=\r\n".join(b"".join(b"=%02X" % octet for octet in line) for line in lines)

    signature = b"Content-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    signature += quoted(before) + found + quoted(after)
    kind = b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; ' + parameter
    inner = b"\r\n--".join((kind + b"\r\n", ours + b"\r\n" + TEXT, ours + b"\r\n" + signature, ours + b"--\r\n"))
    try:
        assert judged(inner).result != "pass"
    except NotDecrypted as refused:
        assert refused.code == "undecryptable"


def test_unsigned_attribute_alone_takes_nothing_from_a_signature() -> None:
    key, certificate = certified()
    raw = with_unsigned(signed_data(TEXT, key, certificate), b"a time stamp")
    assert judged(detached(TEXT, raw)) == PASS
