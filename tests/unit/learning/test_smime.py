"""The certificate of a sender whose signature holds: which one is learned, and what keeps it from being learned."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from smilla.address import parse as mailbox
from smilla.config import Config
from smilla.config.options import KeysOptions
from smilla.formats import der, key_file
from smilla.keys import lookup
from smilla.learning import smime
from smilla.learning.authenticated import UnprovenError, sender_of
from smilla.message import parse
from smilla.model import Format, KeyLookup, KeyVerdict, LearnedKey, Message
from smilla.ports import Ports
from tests.certificates import NOW, make_certificate, make_crl, to_pem
from tests.unit.decrypt.signing import DATA, attribute, detached, hashed, opaque, signed_data
from tests.unit.learning.letters import DATE, DKIM, DMARC, OURS, PIA, RECEIVED, SIGNATURE
from tests.vectors.memory import MemoryLearned, make_ports

CA = make_certificate("p256", common_name="Our CA", ca=True, number=70)
OTHER_CA = make_certificate("p256", common_name="Another CA", ca=True, number=71)
MIDDLE = make_certificate("p256", common_name="Below", ca=True, number=72, issuer=CA)
TEXT = b"Content-Type: text/plain\r\n\r\nKanarienvogel\r\n"
PEM = to_pem(CA[1])


def certified(issuer: Any = CA, number: int = 73, **words: Any) -> tuple[Any, bytes]:
    words = {"email": PIA, "extended": (ExtendedKeyUsageOID.EMAIL_PROTECTION,), **words}
    return make_certificate("rsa2048", issuer=issuer, number=number, common_name="Pia", **words)


def attributes(signed_at: datetime | None = NOW, *, tag: int = 0x17) -> list[bytes]:
    found = [attribute("1.2.840.113549.1.9.3", DATA)]
    found.append(attribute("1.2.840.113549.1.9.4", der.octet_string(hashed(TEXT, "sha256"))))
    if signed_at is not None:
        text = signed_at.strftime("%y%m%d%H%M%SZ" if tag == 0x17 else "%Y%m%d%H%M%SZ")
        found.append(attribute("1.2.840.113549.1.9.5", der.tlv(tag, text.encode())))
    return found


def letter(entity: bytes, above: tuple[str, ...] = (DMARC,), date: str = DATE, more: tuple[str, ...] = ()) -> Message:
    head = [*above, RECEIVED, *more, f"From: Pia <{PIA}>", f"Date: {date}", "Subject: Hello", "MIME-Version: 1.0"]
    return parse("\r\n".join(head).encode() + b"\r\n" + entity).message


def signed(key: tuple[Any, bytes], **faults: Any) -> bytes:
    return detached(TEXT, signed_data(TEXT, *key, **{"attributes": attributes(), **faults}))


def ports(crls: bytes = b"", pem: bytes = PEM) -> Ports:
    return replace(make_ports(now=NOW), raw_trust_store=pem, raw_crls=crls)


def key_of(message: Message, at: Ports | None = None) -> LearnedKey | None:
    return smime.key_of(message, sender_of(message, OURS, NOW), at or ports())


def why(message: Message, at: Ports | None = None) -> str:
    with pytest.raises(UnprovenError) as caught:
        key_of(message, at)
    return str(caught.value)


def used(key: LearnedKey, at: Ports | None = None) -> KeyLookup:
    """What a look-up makes of it."""
    configuration = Config(keys=KeysOptions(sources=("smimea", "openpgpkey", "learned")))
    with_store = replace(at or ports(), learned=MemoryLearned([key]))
    pending = lookup.begin(mailbox(PIA), with_store, configuration)
    return lookup.finish(pending, 0.0, NOW, with_store)


@pytest.mark.parametrize("around", [False, True])
def test_certificate_of_a_signature_that_holds_is_learned_and_can_be_used(around: bool) -> None:
    key = certified()
    entity = opaque(signed_data(TEXT, *key, holds=True, attributes=attributes())) if around else signed(key)
    found = key_of(letter(entity))
    assert found is not None
    assert (str(found.address), found.format, found.way, found.raw) == (PIA, Format.SMIME, "smime", key[1])
    assert found.sent_at == NOW.timestamp() - 3600
    told = used(found)
    assert (told.verdict, told.source) == (KeyVerdict.USABLE, "learned")
    assert told.key is not None
    assert told.key.fingerprint == found.fingerprint


def test_authorities_between_are_kept_with_it_and_no_others() -> None:
    key = certified(MIDDLE)
    stranger = make_certificate("p256", common_name="Stranger", ca=True, number=74)
    found = key_of(letter(signed(key, beside=(stranger[1], CA[1], MIDDLE[1]))))
    assert found is not None
    assert [raw for _, raw in key_file.contents(found.raw, Format.SMIME).keys] == [key[1], MIDDLE[1]]
    told = used(found)
    assert told.key is not None
    assert told.key.fingerprint == found.fingerprint
    assert used(replace(found, raw=key[1])).verdict is KeyVerdict.UNUSABLE_KEY
    _, authority = told.findings[-1].assessments
    assert [reason.code for reason in authority.reasons] == ["ca_only"]


def test_message_without_a_signature_offers_nothing() -> None:
    assert key_of(letter(TEXT)) is None
    assert not smime.may_offer(letter(TEXT))
    assert smime.may_offer(letter(signed(certified())))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"email": "eve@example.org"}, "address"),
        ({"email": ()}, "names no address"),
        ({"issuer": OTHER_CA}, "trusted"),
        ({"issuer": None}, "trusted"),
        ({"not_after": NOW - timedelta(days=1)}, "expired"),
        ({"extended": (ExtendedKeyUsageOID.SERVER_AUTH,)}, "mail"),
        ({"usages": ("key_encipherment",)}, "signing"),
        ({"usages": ("digital_signature",)}, "encrypt"),
    ],
)
def test_certificate_that_may_not_sign_or_encrypt_for_the_sender_is_not_learned(
    words: dict[str, Any], told: str
) -> None:
    assert told in why(letter(signed(certified(**words))))


def test_changed_message_teaches_nothing() -> None:
    changed = signed(certified()).replace(b"Kanarienvogel", b"Nachtigall!!!")
    assert "changed" in why(letter(changed))


def test_signature_of_another_key_teaches_nothing() -> None:
    other, mine = certified(number=75), certified()
    assert why(letter(signed((other[0], mine[1]))))


def test_certificate_for_encryption_beside_the_one_that_signs_is_learned() -> None:
    signing = certified(usages=("digital_signature",))
    older = certified(usages=("key_encipherment",), number=76, not_before=NOW - timedelta(days=20))
    newer = certified(usages=("key_encipherment",), number=77, not_before=NOW - timedelta(days=10))
    found = key_of(letter(signed(signing, beside=(older[1], newer[1]))))
    assert found is not None
    assert found.raw == newer[1]


@pytest.mark.parametrize("words", [{"email": "eve@example.org"}, {"issuer": OTHER_CA}, {"email": ()}])
def test_certificate_for_encryption_must_meet_the_same_demands(words: dict[str, Any]) -> None:
    signing = certified(usages=("digital_signature",))
    beside = certified(usages=("key_encipherment",), number=76, **words)
    assert why(letter(signed(signing, beside=(beside[1],))))


def test_revoked_certificate_is_not_learned_and_one_that_is_revoked_later_not_used() -> None:
    authority = make_certificate("p256", common_name="Our CA", ca=True, number=70, usages=["key_cert_sign", "crl_sign"])
    key, pem = certified(authority), to_pem(authority[1])
    fine, revoked = make_crl(authority), make_crl(authority, {key[1]: None})
    assert "revoked" in why(letter(signed(key)), ports(revoked, pem))
    found = key_of(letter(signed(key)), ports(fine, pem))
    assert found is not None
    assert used(found, ports(fine, pem)).verdict is KeyVerdict.USABLE
    told = used(found, ports(revoked, pem))
    assert (told.verdict, told.reason.code) == (KeyVerdict.UNUSABLE_KEY, "revoked")


def test_authority_that_is_no_longer_trusted_vouches_for_nothing() -> None:
    found = key_of(letter(signed(certified())))
    assert found is not None
    assert used(found, ports(pem=to_pem(OTHER_CA[1]))).verdict is KeyVerdict.UNUSABLE_KEY
    assert "authority" in why(letter(signed(certified())), ports(pem=b""))


# --- when it was sent


def test_old_signature_in_a_message_of_today_is_no_news() -> None:
    for tag in (0x17, 0x18):
        old = signed(certified(), attributes=attributes(NOW - timedelta(days=31), tag=tag))
        assert "days ago" in why(letter(old))
        recent = signed(certified(), attributes=attributes(NOW - timedelta(days=3), tag=tag))
        found = key_of(letter(recent))
        assert found is not None
        assert found.sent_at == (NOW - timedelta(days=3)).timestamp()


def test_signature_without_a_time_needs_a_date_that_the_senders_domain_has_signed() -> None:
    timeless = signed(certified(), attributes=attributes(None))
    assert "no time" in why(letter(timeless))
    assert key_of(letter(timeless, (DKIM, DMARC), more=(SIGNATURE,)))
    undated = SIGNATURE.replace("Date:", "")
    assert "no time" in why(letter(timeless, (DKIM, DMARC), more=(undated,)))


@pytest.mark.parametrize("value", [der.tlv(0x17, b"yesterday"), der.integer(1), der.tlv(0x17, b"\xff"), b""])
def test_malformed_time_teaches_nothing(value: bytes) -> None:
    given = [*attributes(None), attribute("1.2.840.113549.1.9.5", *([value] if value else []))]
    assert "malformed" in why(letter(signed(certified(), attributes=given)))


def test_large_message_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smime, "_MOST_OCTETS", 100)
    assert "octets" in why(letter(signed(certified())))


@pytest.mark.parametrize("noise", [b"", b"Content-Type: multipart/signed; protocol=x\r\n", b"--sig--"])
def test_odd_structures_teach_nothing(noise: bytes) -> None:
    entity = b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; boundary=sig\r\n' + noise
    assert why(letter(entity + b"\r\n\r\n--sig\r\n\r\n--sig--\r\n"))


SIGNED = signed(certified(MIDDLE), beside=(MIDDLE[1],))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255), st.booleans())
def test_any_changed_octet_is_no_error_but_unproven(at: int, change: int, cut: bool) -> None:
    octets = SIGNED[:at] if cut else SIGNED[:at] + bytes([SIGNED[at] ^ change]) + SIGNED[at + 1 :]
    with contextlib.suppress(UnprovenError):
        found = key_of(letter(octets))
        assert found is None or found.fingerprint


SIGNER = certified(MIDDLE)
RAW = signed_data(TEXT, *SIGNER, attributes=attributes(), beside=(MIDDLE[1],))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
def test_any_changed_octet_of_the_signature_itself_is_no_error_but_unproven(at: int, change: int) -> None:
    changed = RAW[:at] + bytes([RAW[at] ^ change]) + RAW[at + 1 :]
    with contextlib.suppress(UnprovenError):
        found = key_of(letter(detached(TEXT, changed)))
        assert found is not None
        assert key_file.contents(found.raw, Format.SMIME).keys[0][1] == SIGNER[1]
