"""What counts as enveloped data, and what only looks like it; one fault each."""

from __future__ import annotations

import base64
import math
import os
import tracemalloc
from dataclasses import dataclass, fields, replace
from hashlib import shake_256
from typing import TYPE_CHECKING

import pytest
from asn1crypto import cms as oracle
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import pkcs7
from hypothesis import example, given
from hypothesis import strategies as st

from smilla.formats import cms, der
from smilla.formats.ciphertext import Ciphertext
from smilla.formats.cms import (
    AUTH_ENVELOPED_DATA,
    ENVELOPED_DATA,
    EnvelopedCheck,
    is_enveloped,
)
from tests.certificates import make_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = b"This is the canary: plain text that anybody can read, and it goes on for quite a while here. " * 20
AES_CBC = "2.16.840.1.101.3.4.1.42"
AES_GCM = "2.16.840.1.101.3.4.1.46"
END = b"\0\0"

ISSUER_AND_SERIAL = der.sequence(der.sequence(), der.integer(7))
RSA = der.sequence(der.oid("1.2.840.113549.1.1.1"), der.null())
KEY_TRANSPORT = der.sequence(der.integer(0), ISSUER_AND_SERIAL, RSA, der.octet_string(shake_256(b"").digest(256)))
KEY_AGREEMENT = der.context(1, der.integer(3), der.context(0, der.sequence()), RSA, der.sequence(ISSUER_AND_SERIAL))
KEK = der.context(2, der.integer(4), der.sequence(), RSA, der.octet_string(b"k"))
PASSWORD = der.context(3, der.integer(0), der.context(0, RSA), RSA, der.octet_string(b"k"))
OTHER = der.context(4, der.oid("1.2.840.113549.1.9.16.13.3"), der.sequence())


def algorithm(oid: str = AES_CBC) -> bytes:
    return der.sequence(der.oid(oid), der.octet_string(bytes(16)))


def content_info(data: bytes, content_type: str = ENVELOPED_DATA) -> bytes:
    return der.sequence(der.oid(content_type), der.context(0, data))


def encrypted_content(ciphertext: bytes | None = None, cipher: str = AES_CBC) -> bytes:
    content = der.tlv(0x80, os.urandom(320) if ciphertext is None else ciphertext)
    return der.sequence(der.oid("1.2.840.113549.1.7.1"), algorithm(cipher), content)


def enveloped(*recipients: bytes, info: bytes | None = None, after: bytes = b"") -> bytes:
    infos = der.set_of(*(recipients or (KEY_TRANSPORT,)))
    return content_info(der.sequence(der.integer(0), infos, encrypted_content() if info is None else info, after))


def auth_enveloped(*after: bytes) -> bytes:
    info = encrypted_content(os.urandom(333), AES_GCM)
    data = der.sequence(der.integer(0), der.set_of(KEY_TRANSPORT), info, *after)
    return content_info(data, AUTH_ENVELOPED_DATA)


def in_ber(*segments: bytes) -> bytes:
    """As a client writes it in one pass: every outer element of indefinite length, the ciphertext in segments."""
    content = b"\xa0\x80" + b"".join(map(der.octet_string, segments)) + END
    info = b"\x30\x80" + der.oid("1.2.840.113549.1.7.1") + algorithm() + content + END
    data = b"\x30\x80" + der.integer(0) + b"\x31\x80" + KEY_TRANSPORT + END + info + END
    return b"\x30\x80" + der.oid(ENVELOPED_DATA) + b"\xa0\x80" + data + END + END


def check(raw: bytes) -> EnvelopedCheck:
    whole = is_enveloped([raw])
    assert whole == is_enveloped(raw[i : i + 1] for i in range(len(raw)))
    return whole


@pytest.mark.parametrize("recipient", [KEY_TRANSPORT, KEY_AGREEMENT, KEK, PASSWORD, OTHER])
def test_every_kind_of_recipient_info_is_enveloped_data(recipient: bytes) -> None:
    assert check(enveloped(recipient)) == EnvelopedCheck(True, "enveloped", "enveloped-data", ENVELOPED_DATA)


def test_a_thousand_recipients_are_enveloped_data() -> None:
    assert is_enveloped([enveloped(*[KEY_TRANSPORT] * 1000)]).encrypted


def test_originator_info_and_unprotected_attributes_are_enveloped_data() -> None:
    data = der.sequence(
        der.integer(2), der.context(0), der.set_of(KEY_TRANSPORT), encrypted_content(), der.context(1, der.sequence())
    )
    assert check(content_info(data)).encrypted


def test_authenveloped_data_is_encrypted() -> None:
    found = check(auth_enveloped(der.octet_string(bytes(16))))
    assert found == EnvelopedCheck(True, "enveloped", "authEnveloped-data", AUTH_ENVELOPED_DATA)
    assert check(auth_enveloped(der.context(1), der.octet_string(bytes(16)), der.context(2))).encrypted


def test_authenveloped_data_without_its_mac_is_not() -> None:
    assert check(auth_enveloped()).code == "malformed"


def test_ber_of_indefinite_length_is_enveloped_data() -> None:
    assert check(in_ber(os.urandom(160), os.urandom(160))).encrypted


@pytest.mark.parametrize("space", [b"\r\n", b"\n\n \t"])
def test_white_space_may_follow(space: bytes) -> None:
    assert check(enveloped() + space).encrypted
    assert check(in_ber(os.urandom(32)) + space).encrypted


@pytest.mark.parametrize("after", [TEXT, b"\r\n\r\nx", END, enveloped()])
def test_anything_else_may_not_follow(after: bytes) -> None:
    assert check(enveloped() + after).code == "malformed"


def test_an_object_identifier_before_readable_text_is_not_encrypted() -> None:
    assert check(der.sequence(der.oid(ENVELOPED_DATA)) + TEXT).code == "malformed"
    assert check(der.sequence(der.oid(ENVELOPED_DATA), TEXT)).code == "malformed"
    assert check(content_info(TEXT)).code == "malformed"
    assert check(content_info(der.octet_string(TEXT))).code == "malformed"


@pytest.mark.parametrize("text", [TEXT, ("Grüße aus Köln, schöne Straße. " * 99).encode("latin-1")])
def test_text_in_the_place_of_ciphertext_is_not_encrypted(text: bytes) -> None:
    text = text[: len(text) // 16 * 16]
    assert check(enveloped(info=encrypted_content(text))).code == "readable"
    assert check(in_ber(text)).code == "readable"


def test_text_in_a_script_beyond_ascii_is_not_encrypted() -> None:
    assert (
        check(enveloped(info=encrypted_content(("Добрый день, дорогие друзья " * 16).encode()[:320]))).code
        == "readable"
    )


@pytest.mark.parametrize(
    "oid", ["1.2.840.113549.1.9.16.3.8", "2.16.840.1.101.3.4.2.1", "1.2.840.113549.1.7.1", "2.5.8"]
)
def test_what_is_no_cipher_does_not_encrypt(oid: str) -> None:
    assert check(enveloped(info=encrypted_content(cipher=oid))).code == "unknown_cipher"


def test_a_set_of_no_recipients_is_not_encrypted() -> None:
    data = der.sequence(der.integer(0), der.set_of(), encrypted_content())
    assert "nobody" in check(content_info(data)).reason


@pytest.mark.parametrize(
    "recipient",
    [
        der.octet_string(TEXT),
        der.sequence(),
        der.sequence(der.octet_string(TEXT)),
        der.sequence(der.integer(0), ISSUER_AND_SERIAL, RSA, der.octet_string(b"k"), der.octet_string(TEXT)),
        der.context(5, der.integer(0)),
        der.sequence(*[der.null()] * 9),
    ],
)
def test_a_recipient_info_of_no_known_form_is_not_encrypted(recipient: bytes) -> None:
    assert check(enveloped(recipient)).code in {"malformed", "readable"}


def test_detached_ciphertext_is_not_encrypted() -> None:
    info = der.sequence(der.oid("1.2.840.113549.1.7.1"), algorithm())
    assert check(enveloped(info=info)).code == "no_content"


@pytest.mark.parametrize("size", [0, 1, 15, 17, 319])
def test_ciphertext_that_is_not_whole_blocks_is_not_encrypted(size: int) -> None:
    assert check(enveloped(info=encrypted_content(os.urandom(size)))).code == "malformed"


def test_a_field_too_many_is_not_encrypted() -> None:
    assert check(enveloped(after=der.octet_string(bytes(16)))).code == "malformed"
    assert check(der.sequence(der.oid(ENVELOPED_DATA), der.read(enveloped()).content)).code == "malformed"


@pytest.mark.parametrize(
    "whole", [enveloped(), in_ber(os.urandom(64), os.urandom(64)), auth_enveloped(der.octet_string(b"m"))]
)
def test_data_cut_off_anywhere_is_not_encrypted(whole: bytes) -> None:
    assert is_enveloped([whole]).encrypted
    assert not any(is_enveloped([whole[:end]]).encrypted for end in range(len(whole)))


@pytest.mark.parametrize(
    ("content_type", "word"),
    [("1.2.840.113549.1.7.2", "signed"), ("1.2.840.113549.1.9.16.1.9", "compressed"), ("1.2.3.4", "another type")],
)
def test_other_cms_content_is_not_encrypted_and_says_what_it_is(content_type: str, word: str) -> None:
    found = check(content_info(der.sequence(der.integer(1)), content_type))
    assert (found.code, found.content_type) == ("not_enveloped", content_type)
    assert word in found.reason


def test_signed_data_of_cryptography_is_not_encrypted() -> None:
    key, raw = make_certificate()
    assert isinstance(key, RSAPrivateKey)
    builder = pkcs7.PKCS7SignatureBuilder().set_data(TEXT)
    builder = builder.add_signer(x509.load_der_x509_certificate(raw), key, hashes.SHA256())
    assert check(builder.sign(serialization.Encoding.DER, [])).code == "not_enveloped"


def test_enveloped_data_of_cryptography_is_encrypted() -> None:
    _, raw = make_certificate()
    builder = pkcs7.PKCS7EnvelopeBuilder().set_data(TEXT).add_recipient(x509.load_der_x509_certificate(raw))
    written = builder.encrypt(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])
    assert check(written).encrypted
    assert oracle.ContentInfo.load(written)["content_type"].native == "enveloped_data"


@dataclass(frozen=True)
class Tags:
    """The identifier octets of enveloped data, one of them to be replaced."""

    content_info: int = 0x30
    content_type: int = 0x06
    explicit: int = 0xA0
    enveloped_data: int = 0x30
    version: int = 0x02
    recipients: int = 0x31
    content: int = 0x30
    data: int = 0x06
    algorithm: int = 0x30
    cipher: int = 0x06
    ciphertext: int = 0x80

    def written(self) -> bytes:
        algorithm = der.tlv(self.algorithm, der.tlv(self.cipher, der.oid(AES_CBC)[2:]), der.octet_string(bytes(16)))
        content = der.tlv(
            self.content,
            der.tlv(self.data, der.oid("1.2.840.113549.1.7.1")[2:]),
            algorithm,
            der.tlv(self.ciphertext, os.urandom(64)),
        )
        data = der.tlv(
            self.enveloped_data, der.tlv(self.version, b"\0"), der.tlv(self.recipients, KEY_TRANSPORT), content
        )
        content_type = der.tlv(self.content_type, der.oid(ENVELOPED_DATA)[2:])
        return der.tlv(self.content_info, content_type, der.tlv(self.explicit, data))


@pytest.mark.parametrize("name", [field.name for field in fields(Tags)])
@pytest.mark.parametrize("tag", [0x04, 0x24, 0xA7])
def test_any_other_tag_in_the_structure_is_not_encrypted(name: str, tag: int) -> None:
    assert check(Tags().written()).encrypted
    assert check(replace(Tags(), **{name: tag}).written()).code in {"not_cms", "malformed"}


@pytest.mark.parametrize(
    "parameters",
    [
        b"\x1f\x01\x00",  # a tag number above 30
        der.null() * 2,  # more than one parameter
        der.null() * 9,
    ],
)
def test_malformed_algorithm_parameters_are_not_encrypted(parameters: bytes) -> None:
    algorithm_ = der.sequence(der.oid(AES_CBC), parameters)
    info = der.sequence(der.oid("1.2.840.113549.1.7.1"), algorithm_, der.tlv(0x80, os.urandom(64)))
    assert check(enveloped(info=info)).code == "malformed"


@pytest.mark.parametrize(
    "beyond",
    [
        b"\x04\x04" + bytes(4),  # an octet string that is longer than the algorithm it stands in
        b"\x30\x80" + END,  # a sequence whose end-of-contents octets follow the end of the algorithm
    ],
)
def test_an_element_that_reaches_out_of_its_parent_is_not_encrypted(beyond: bytes) -> None:
    oid = der.oid(AES_CBC)
    algorithm_ = der.header(der.SEQUENCE, len(oid) + 2) + oid + beyond
    info = der.sequence(der.oid("1.2.840.113549.1.7.1"), algorithm_, der.tlv(0x80, os.urandom(64)))
    assert check(enveloped(info=info)).code == "malformed"


def test_a_primitive_element_of_indefinite_length_is_not_encrypted() -> None:
    info = der.sequence(der.oid("1.2.840.113549.1.7.1"), algorithm(), b"\x80\x80" + os.urandom(64))
    assert check(enveloped(info=info)).code == "malformed"


def test_a_recipient_info_of_many_fields_is_left_at_the_ninth() -> None:
    assert "a field too many" in check(enveloped(der.sequence(*[der.null()] * 9))).reason


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x30",
        TEXT,
        b"\x30\x80" * 5000,
        b"\x24\x80" * 5000,
        b"\x30\x88" + b"\xff" * 8,
        b"\x30\xff",
        b"\x06\x80\x00\x00",
        in_ber().replace(b"\xa0\x80" + END, b"\xa0\x80" + b"\x24\x80" * 5000),
        in_ber().replace(b"\xa0\x80" + END, b"\xa0\x80" + der.tlv(der.INTEGER, bytes(range(0, 256, 16))) + END),
        b"\x30\x80" + der.oid(ENVELOPED_DATA) + b"\xa0\x80\x30\x80" + der.integer(0) + b"\xa0\x80" * 5000,
    ],
)
def test_garbage_is_not_encrypted(raw: bytes) -> None:
    assert check(raw).code in {"not_cms", "malformed"}


@given(st.binary(max_size=100), st.integers(0, 500), st.integers(0, 40))
@example(b"\x00", 0, 0)
def test_damage_to_the_octets_never_raises(damage: bytes, at: int, gone: int) -> None:
    for raw in (_whole_der, _whole_ber):
        is_enveloped([raw[:at] + damage + raw[at + gone :]])


_whole_der, _whole_ber = enveloped(KEY_TRANSPORT, KEY_AGREEMENT), in_ber(os.urandom(64), os.urandom(64))


def test_a_huge_body_is_judged_in_little_memory() -> None:
    block, count = os.urandom(65536), 800

    def blocks() -> Iterator[bytes]:
        yield b"\x30\x80" + der.oid(ENVELOPED_DATA) + b"\xa0\x80\x30\x80" + der.integer(0) + der.set_of(KEY_TRANSPORT)
        yield b"\x30\x80" + der.oid("1.2.840.113549.1.7.1") + algorithm() + der.header(0x80, count * len(block))
        for _ in range(count):
            yield block
        yield END * 4

    tracemalloc.start()
    found = is_enveloped(blocks())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.encrypted
    assert peak < 1_000_000


# --- work


class Read:
    """Octets in blocks of 4 KB that counts how many were asked for."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.octets = 0

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._raw), 4096):
            self.octets += 4096
            yield self._raw[start : start + 4096]


def in_segments(segments: bytes) -> bytes:
    """Enveloped data in DER, its ciphertext constructed."""
    oid = der.oid("1.2.840.113549.1.7.1")
    return enveloped(info=der.sequence(oid, algorithm(AES_GCM), der.tlv(0xA0, segments)))


def many(count: int, element: bytes) -> bytes:
    """A message with that many recipient infos."""
    return content_info(der.sequence(der.integer(0), der.tlv(der.SET, element * count), encrypted_content()))


MINIMAL = der.sequence(der.integer(0), der.sequence(), der.sequence(), der.octet_string(b""))


@pytest.mark.parametrize(
    "raw",
    [
        in_segments(b"\x04\x00" * 1_000_000),
        in_segments(b"".join(b"\x04\x01" + bytes([b]) for b in os.urandom(300_000))),
        in_segments(b"".join(der.octet_string(os.urandom(40)) for _ in range(200_000))),
        in_segments(b"\x24\x00" * 1_000_000),
        in_segments(b"\x24\x80" + END + b"\x24\x80" * 15 + b"\x04\x00" * 1_000_000 + END * 15),
        many(100_000, MINIMAL),
        many(1, der.tlv(0xA4, der.oid("1.2.3") + b"\x30\x80" + b"\x05\x00" * 1_000_000 + END)),
        many(100_000, der.tlv(0xA4, der.oid("1.2.3"))),
    ],
)
def test_a_message_of_many_small_elements_is_too_complex_and_left_early(raw: bytes) -> None:
    blocks = Read(raw)
    found = is_enveloped(blocks)
    assert (found.encrypted, found.code) == (False, "too_complex")
    assert "too complex" in found.reason
    assert blocks.octets < len(raw) / 3


@pytest.mark.parametrize("size", [70, 1000])
def test_a_large_ciphertext_in_segments_as_people_write_them_is_enveloped_data(size: int) -> None:
    segments = b"".join(der.octet_string(os.urandom(size)) for _ in range(4_000_000 // size))
    assert is_enveloped(Read(in_segments(segments))).encrypted


def test_white_space_after_the_end_is_read_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    pieces = cms._Stream.pieces

    def counted(stream: cms._Stream, length: int) -> Iterator[bytes]:
        nonlocal calls
        calls += 1
        return pieces(stream, length)

    monkeypatch.setattr(cms._Stream, "pieces", counted)
    raw = enveloped() + b" " * 100_000
    assert is_enveloped(Read(raw)).encrypted
    assert calls < 200
    assert is_enveloped(Read(raw + b"x")).reason.endswith(f" {len(raw)}")


# --- readable text


RUSSIAN = ("Добрый день, дорогие друзья, встретимся в полдень. " * 40).encode()


def with_ciphertext(ciphertext: bytes) -> EnvelopedCheck:
    return check(enveloped(info=encrypted_content(ciphertext, AES_GCM)))


@pytest.mark.parametrize("before", [0, 1024, 3000, 4096, 10_000])
@pytest.mark.parametrize("after", [0, 1024, 8192])
@pytest.mark.parametrize("text", [TEXT, RUSSIAN, TEXT.decode().encode("utf-16-le"), base64.b64encode(TEXT), TEXT[:110]])
def test_text_anywhere_among_the_ciphertext_is_not_encrypted(before: int, after: int, text: bytes) -> None:
    assert with_ciphertext(os.urandom(before + after)).encrypted
    assert with_ciphertext(os.urandom(before) + text + os.urandom(after)).code == "readable"


@pytest.mark.parametrize("every", [2, 3, 7, 50])
def test_text_with_other_octets_strewn_in_is_not_encrypted(every: int) -> None:
    step = every - 1
    strewn = b"".join(b"\xc8" + TEXT[at : at + step] for at in range(0, len(TEXT), step))
    assert with_ciphertext(strewn).code == "readable"


def test_text_as_the_encrypted_key_of_a_recipient_is_not_encrypted() -> None:
    for tag in (0x04, 0x24):
        key = der.tlv(tag, TEXT if tag == 0x04 else der.octet_string(TEXT))
        for form in (
            der.sequence(der.integer(0), ISSUER_AND_SERIAL, RSA, key),
            der.context(2, der.integer(4), der.sequence(), RSA, key),
            der.context(3, der.integer(0), RSA, key),
        ):
            assert check(enveloped(form)).code == "readable"
            assert check(enveloped(KEY_TRANSPORT, form)).code == "readable"
    strewn = b"".join(b"\xc8\xc9" + TEXT[at : at + 3] for at in range(0, 600, 3))
    assert check(enveloped(der.sequence(der.integer(0), ISSUER_AND_SERIAL, RSA, der.octet_string(strewn)))).code == (
        "readable"
    )


KEY_FIELD = der.octet_string(os.urandom(256))


@pytest.mark.parametrize(
    "recipient",
    [
        der.sequence(der.integer(0), der.sequence(der.octet_string(TEXT)), RSA, KEY_FIELD),
        der.sequence(der.integer(2), der.tlv(0x80, TEXT), RSA, KEY_FIELD),
        der.sequence(der.integer(0), ISSUER_AND_SERIAL, der.sequence(der.octet_string(TEXT)), KEY_FIELD),
        der.sequence(
            der.integer(0), b"\x30\x80" + der.octet_string(TEXT[:70]) + b"\x30\x80" + TEXT + END + END, RSA, KEY_FIELD
        ),
        der.context(1, der.integer(3), der.context(0, der.sequence()), RSA, der.sequence(der.octet_string(TEXT))),
        der.context(4, der.oid("1.2.3"), der.octet_string(TEXT)),
        der.sequence(der.tlv(der.INTEGER, TEXT), ISSUER_AND_SERIAL, RSA, KEY_FIELD),
        der.sequence(der.integer(0), ISSUER_AND_SERIAL, RSA, der.octet_string(os.urandom(16385))),
        der.sequence(der.integer(0), der.sequence(os.urandom(16385)), RSA, KEY_FIELD),
    ],
)
def test_a_recipient_info_that_holds_a_letter_is_not_encrypted(recipient: bytes) -> None:
    assert not check(enveloped(recipient)).encrypted
    assert check(enveloped(KEY_TRANSPORT)).encrypted


SENTENCE = b"Dear John, meet me at nine."
WRAPPED = der.octet_string(shake_256(b"").digest(40))
NAME = der.sequence(der.tlv(der.SET, der.sequence(der.oid("2.5.4.3"), der.tlv(0x0C, b"Example Root CA of the West"))))
WITH_NAME = der.sequence(NAME, der.integer(7))


def kem(oid: str, rid: bytes, ciphertext: bytes) -> bytes:
    fields = (rid, RSA, der.octet_string(ciphertext), RSA, der.integer(32), RSA, WRAPPED)
    return der.context(4, der.oid(oid), der.sequence(der.integer(0), *fields))


ORI_KEM = "1.2.840.113549.1.9.16.13.3"


@pytest.mark.parametrize(
    "recipient",
    [
        der.sequence(der.integer(0), WITH_NAME, RSA, KEY_FIELD),
        der.sequence(der.integer(2), der.tlv(0x80, os.urandom(20)), RSA, KEY_FIELD),
        der.context(
            1,
            der.integer(3),
            der.context(0, der.context(1, RSA, der.bit_string(os.urandom(32)))),
            der.context(1, der.octet_string(os.urandom(64))),
            RSA,
            der.sequence(der.sequence(WITH_NAME, WRAPPED)),
        ),
        der.context(2, der.integer(4), der.sequence(der.octet_string(b"key 7")), RSA, WRAPPED),
        kem(ORI_KEM, WITH_NAME, shake_256(b"").digest(1088)),
        kem(ORI_KEM, der.tlv(0x80, os.urandom(20)), shake_256(b"").digest(1568)),
    ],
)
def test_recipient_infos_as_programs_write_them_are_enveloped_data(recipient: bytes) -> None:
    assert check(enveloped(recipient)).encrypted


@pytest.mark.parametrize(
    "recipient",
    [
        der.context(2, der.integer(4), der.sequence(der.octet_string(SENTENCE)), RSA, WRAPPED),
        der.context(2, der.integer(4), der.sequence(der.octet_string(b"k")), RSA, der.octet_string(SENTENCE)),
        der.context(3, der.integer(0), der.context(0, der.oid(AES_CBC), der.octet_string(SENTENCE)), RSA, WRAPPED),
        der.context(4, der.oid("1.2.840.113549.1.7.1"), der.tlv(0x0C, SENTENCE)),
        der.context(4, der.oid(ORI_KEM), der.tlv(0x0C, SENTENCE)),
        der.context(4, der.oid(ORI_KEM), der.sequence(der.tlv(0x0C, SENTENCE))),
        kem("1.2.3", WITH_NAME, b"c"),
        kem(ORI_KEM, der.sequence(der.tlv(0x0C, SENTENCE), der.integer(7)), b"c"),
        kem(ORI_KEM, WITH_NAME, SENTENCE),
        der.sequence(der.integer(0), der.sequence(der.tlv(0x0C, SENTENCE), der.integer(7)), RSA, KEY_FIELD),
        der.sequence(
            der.integer(0), der.sequence(der.sequence(der.tlv(0x0C, SENTENCE)), der.integer(7)), RSA, KEY_FIELD
        ),
        der.sequence(
            der.integer(0),
            der.sequence(der.sequence(der.set_of(der.tlv(0x0C, SENTENCE))), der.integer(7)),
            RSA,
            KEY_FIELD,
        ),
        der.sequence(der.integer(0), der.sequence(NAME, der.tlv(der.INTEGER, SENTENCE)), RSA, KEY_FIELD),
        der.sequence(der.integer(2), der.tlv(0x80, SENTENCE), RSA, KEY_FIELD),
        der.sequence(
            der.integer(0),
            WITH_NAME,
            der.sequence(der.oid("1.2.840.113549.1.1.1"), der.octet_string(SENTENCE)),
            KEY_FIELD,
        ),
        der.context(1, der.integer(3), der.context(0, der.tlv(0x80, SENTENCE)), RSA, der.sequence(ISSUER_AND_SERIAL)),
        der.context(
            1,
            der.integer(3),
            der.context(0, ISSUER_AND_SERIAL),
            der.context(1, der.octet_string(SENTENCE)),
            RSA,
            der.sequence(der.sequence(ISSUER_AND_SERIAL, WRAPPED)),
        ),
        der.context(
            1,
            der.integer(3),
            der.context(0, ISSUER_AND_SERIAL),
            RSA,
            der.sequence(der.sequence(der.context(0, der.octet_string(SENTENCE)), WRAPPED)),
        ),
    ],
)
def test_a_recipient_info_that_holds_a_sentence_is_not_encrypted(recipient: bytes) -> None:
    assert not check(enveloped(KEY_TRANSPORT, recipient)).encrypted


@pytest.mark.parametrize(
    "originator",
    [
        der.octet_string(TEXT),
        der.context(0, TEXT),
        der.context(0, der.octet_string(TEXT)),
        der.context(0, RUSSIAN),
        der.context(0, der.sequence(SENTENCE)),
        der.context(0, der.sequence(der.tlv(0x0C, SENTENCE))),
        der.context(0, der.context(3, der.oid("1.2.3"), der.tlv(0x0C, SENTENCE))),
        der.context(1, der.tlv(0x0C, SENTENCE)),
        der.context(0, os.urandom(16385)),
        der.octet_string(b""),
        der.context(1) + der.context(0),
    ],
)
def test_originator_info_that_is_not_certificates_is_not_encrypted(originator: bytes) -> None:
    def data(info: bytes) -> bytes:
        info = der.context(0, info)
        return content_info(der.sequence(der.integer(2), info, der.set_of(KEY_TRANSPORT), encrypted_content()))

    _, certificate = make_certificate("rsa2048", email="hugh@example.org")
    assert check(data(der.context(0, certificate * 4))).encrypted
    assert not check(data(originator)).encrypted


@pytest.mark.parametrize(
    "attributes",
    [
        der.octet_string(TEXT),
        der.octet_string(TEXT[:40]),
        der.octet_string(SENTENCE),
        der.tlv(0x1E, SENTENCE.decode().encode("utf-16-be")),
        der.tlv(0x1E, b"PIN 4711, IBAN 89370400440532".decode().encode("utf-16-be")),
        der.octet_string(RUSSIAN),
        der.octet_string(TEXT.decode().encode("utf-16-be")),
        os.urandom(4097),
    ],
)
def test_attributes_that_hold_a_letter_are_not_encrypted(attributes: bytes) -> None:
    harmless = der.sequence(der.oid("1.2.840.113549.1.9.15"), der.set_of(der.sequence(der.oid(AES_CBC))))
    mac = der.octet_string(bytes(16))
    assert check(enveloped(after=der.context(1, harmless))).encrypted
    assert not check(enveloped(after=der.context(1, attributes))).encrypted
    for after in (
        (der.context(1, attributes), mac),
        (mac, der.context(2, attributes)),
        (der.octet_string(attributes),),
    ):
        assert not check(auth_enveloped(*after)).encrypted


@pytest.mark.parametrize("parameters", [der.octet_string(TEXT[:100]), der.octet_string(os.urandom(300))])
def test_parameters_of_a_cipher_that_hold_a_letter_are_not_encrypted(parameters: bytes) -> None:
    info = der.sequence(der.oid("1.2.3"), der.sequence(der.oid(AES_CBC), parameters), der.tlv(0x80, os.urandom(64)))
    assert not check(enveloped(info=info)).encrypted


def test_a_version_that_holds_a_letter_is_not_encrypted() -> None:
    data = der.sequence(der.tlv(der.INTEGER, b"noon!"), der.set_of(KEY_TRANSPORT), encrypted_content())
    assert not check(content_info(data)).encrypted


def binomial(size: int, count: int, share: float) -> float:
    """The chance of exactly ``count`` hits in ``size``."""
    ways = math.lgamma(size + 1) - math.lgamma(count + 1) - math.lgamma(size - count + 1)
    return math.exp(ways + count * math.log(share) + (size - count) * math.log1p(-share))


def test_ciphertext_is_hardly_ever_taken_for_text() -> None:
    """The exact chance, for windows of every size, that a kind of octet strays as far as the limit: under 10**-12."""
    for values in (27, 98, 128):
        share = values / 256
        for size in (*range(20, 300), 1000, 4096):
            for tail in (share, 1 - share):
                least = math.floor(size * tail + 4 * math.sqrt(size)) + 1
                chance = sum(binomial(size, n, tail) for n in range(least, size + 1))
                assert chance < 1e-12
    assert (98 / 256) ** 100 * 4096 < 1e-12


def test_the_limit_of_a_kind_of_octet_is_four_square_roots_of_the_window() -> None:
    even = bytes(range(256)) * 16
    at_the_limit = even.translate(bytes([255] * 9 + [9, 10] + [255] * 2 + [13] + [255] * 5 + list(range(19, 256))))
    assert at_the_limit.count(b"\xff") == 16 + 256
    beyond = at_the_limit.replace(b"\x7f", b"\xff", 1)
    assert with_ciphertext(at_the_limit).encrypted
    assert with_ciphertext(beyond).code == "readable"


def test_random_octets_are_ciphertext_however_they_come() -> None:
    for size in (1, 100, 4095, 4096, 4097, 65536):
        ciphertext = Ciphertext()
        for _ in range(max(3, 2_000_000 // size) if size > 1 else 9000):
            ciphertext.feed(os.urandom(size))
        ciphertext.finish()
