"""What counts as already encrypted, and every way to look like it with readable text inside."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator

import pysequoia
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smilla.classify import classify
from smilla.formats import der
from smilla.keys.validity import x509
from smilla.message import MemoryBody, parse
from smilla.model import Classification, Message, MessageKind, X509Key
from tests.openpgp_maker import armoured, packet
from tests.unit.timing import idle_seconds
from tests.vectors.memory import KEYS, NOW, raw_key

SECRET = b"attack at dawn"


def armour(content: bytes = b"Content-Type: text/plain\r\n\r\nhello\r\n") -> bytes:
    message: bytes = pysequoia.encrypt(content, [pysequoia.Cert.from_file(str(KEYS / "pia.pgp"))])
    return message.replace(b"\n", b"\r\n")


def cms_octets(cipher: str = "aes256-cbc") -> bytes:
    from smilla.address import parse as parse_address
    from smilla.encrypt import cms
    from smilla.model import Candidate, Format, Style

    candidate = Candidate("directory", "", Format.SMIME, raw_key("hugh.crt"))
    key = x509.assess(candidate, parse_address("hugh@example.org"), NOW, require_address=True).key
    assert isinstance(key, X509Key)
    return b"".join(cms.encrypt([b"hello"], 5, [key], Style(cipher)))


ARMOUR = armour()
CMS = cms_octets()
SIGNED_DATA = der.sequence(der.oid("1.2.840.113549.1.7.2"), der.context(0, der.sequence(der.octet_string(SECRET))))


def classified(raw: bytes, size: int = 1 << 24) -> Classification:
    """``raw`` has CRLF where it has lines; its body is left as it is, since DER may hold any octet."""
    head, _, octets = (b"", b"", raw[2:]) if raw.startswith(b"\r\n") else raw.partition(b"\r\n\r\n")
    blocks = [octets[start : start + size] for start in range(0, len(octets), size)]
    return classify(Message(parse(head).message.headers, MemoryBody(blocks)))


def kind_of(raw: bytes) -> MessageKind:
    return classified(raw).kind


def lines(*parts: bytes) -> bytes:
    return b"\r\n".join(parts)


def pgp_mime(
    *,
    content_type: bytes = b'multipart/encrypted; protocol="application/pgp-encrypted"; boundary="b"',
    fields: bytes = b"",
    preamble: bytes = b"",
    control: bytes = b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n",
    payload: bytes = b"Content-Type: application/octet-stream\r\n\r\n" + ARMOUR,
    third: bytes = b"",
    end: bytes = b"--b--\r\n",
    epilogue: bytes = b"",
) -> bytes:
    head = b"From: a@x.org\r\nMIME-Version: 1.0\r\nContent-Type: " + content_type + b"\r\n" + fields + b"\r\n"
    body = preamble + lines(b"--b", control, b"--b", payload)
    return head + body + (b"\r\n--b\r\n" + third if third else b"") + b"\r\n" + end + epilogue


def pkcs7(content_type: bytes, octets: bytes, encoding: bytes = b"base64") -> bytes:
    body = base64.encodebytes(octets).replace(b"\n", b"\r\n") if encoding.lower() == b"base64" else octets
    return b"Content-Type: " + content_type + b"\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body


# --- encrypted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        pgp_mime(),
        pgp_mime(content_type=b'MULTIPART/Encrypted; PROTOCOL="Application/PGP-Encrypted"; Boundary=b'),
        pgp_mime(content_type=b"multipart/encrypted;\r\n protocol=application/pgp-encrypted (c);\r\n boundary*0=b"),
        pgp_mime(control=b"CONTENT-TYPE: APPLICATION/PGP-ENCRYPTED\r\n\r\nversion: 1"),
        pgp_mime(
            control=b"Content-Type: application/pgp-encrypted\r\n"
            b"Content-Description: PGP/MIME version identification\r\n\r\nVersion: 1\r\n",
            payload=b'Content-Type: application/octet-stream; name="encrypted.asc"\r\n'
            b"Content-Description: OpenPGP encrypted message\r\n"
            b'Content-Disposition: inline; filename="encrypted.asc"\r\n\r\n' + ARMOUR,
        ),
        pgp_mime(preamble=b"\r\n", epilogue=b"\r\n \r\n"),
        pgp_mime(fields=b"Content-Transfer-Encoding: 7bit\r\n"),
        pgp_mime(
            payload=b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + base64.encodebytes(ARMOUR).replace(b"\n", b"\r\n")
        ),
        b"Subject: inline\r\n\r\n" + ARMOUR,
        b"Subject: inline\r\n\r\n\r\n \r\n" + ARMOUR + b"\r\n \t\r\n",
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + b" " * 70_000 + ARMOUR,
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(ARMOUR),
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + ARMOUR.replace(b"=", b"=3D"),
        pkcs7(b"application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m", CMS),
        pkcs7(b"application/x-pkcs7-mime; smime-type=enveloped-data", CMS),
        pkcs7(b"APPLICATION/PKCS7-MIME; SMIME-TYPE=ENVELOPED-DATA", CMS, b"BASE64"),
        pkcs7(b"application/pkcs7-mime", CMS),
        pkcs7(b"application/pkcs7-mime", CMS, b"binary"),
        pkcs7(b"application/pkcs7-mime; smime-type=signed-data", CMS),
        pkcs7(b"application/pkcs7-mime; smime-type=authEnveloped-data", cms_octets("aes256-gcm")),
        pkcs7(b"application/pkcs7-mime", cms_octets("aes256-gcm")),
    ],
)
def test_what_is_encrypted_by_structure_is_left_alone(raw: bytes) -> None:
    found = classified(raw)
    assert found.kind is MessageKind.ENCRYPTED, found.reason.text
    assert found.reason.code == "already_encrypted"


# --- impostors of multipart/encrypted ----------------------------------------------------------------------

PAYLOAD_HEAD = b"Content-Type: application/octet-stream\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        pgp_mime(preamble=SECRET + b"\r\n"),
        pgp_mime(preamble=b"\r\n" * 5000 + SECRET + b"\r\n"),
        pgp_mime(epilogue=SECRET),
        pgp_mime(epilogue=b"\r\n" * 5000 + SECRET),
        pgp_mime(third=b"Content-Type: text/plain\r\n\r\n" + SECRET),
        pgp_mime(third=PAYLOAD_HEAD + b"\r\n" + ARMOUR),
        pgp_mime(control=b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n" + SECRET),
        pgp_mime(control=b"Content-Type: application/pgp-encrypted\r\n\r\n" + SECRET),
        pgp_mime(control=b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1" + b" " * 5000 + SECRET),
        pgp_mime(control=b"Content-Type: text/plain\r\n\r\nVersion: 1\r\n"),
        pgp_mime(control=b"Content-Type: application/pgp-encrypted\r\nX-Text: " + SECRET + b"\r\n\r\nVersion: 1\r\n"),
        pgp_mime(control=b"Content-Type: application/pgp-encrypted; x=" + b"a" * 300 + b"\r\n\r\nVersion: 1\r\n"),
        pgp_mime(control=b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 2\r\n"),
        pgp_mime(control=b"\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"),
        pgp_mime(payload=PAYLOAD_HEAD + b"\r\n" + SECRET),
        pgp_mime(payload=PAYLOAD_HEAD + b"\r\n" + SECRET + b"\r\n" + ARMOUR),
        pgp_mime(payload=PAYLOAD_HEAD + b"\r\n" + ARMOUR + SECRET),
        pgp_mime(payload=PAYLOAD_HEAD + b"\r\n" + ARMOUR + ARMOUR),
        pgp_mime(payload=PAYLOAD_HEAD + b"X-Text: " + SECRET + b"\r\n\r\n" + ARMOUR),
        pgp_mime(payload=PAYLOAD_HEAD + b"Content-Description: " + SECRET * 50 + b"\r\n\r\n" + ARMOUR),
        pgp_mime(payload=PAYLOAD_HEAD + b"Content-Description: x\r\n " + SECRET * 50 + b"\r\n\r\n" + ARMOUR),
        pgp_mime(payload=PAYLOAD_HEAD + SECRET + b"\r\n\r\n" + ARMOUR),
        pgp_mime(payload=PAYLOAD_HEAD + b"Content-Type: text/plain\r\n\r\n" + ARMOUR),
        pgp_mime(payload=b"\r\n" + ARMOUR),
        pgp_mime(payload=b"\r\n" + PAYLOAD_HEAD + b"\r\n" + ARMOUR),
        pgp_mime(payload=ARMOUR),
        pgp_mime(payload=PAYLOAD_HEAD + b"Content-Transfer-Encoding: x-rot13\r\n\r\n" + ARMOUR),
        pgp_mime(payload=PAYLOAD_HEAD + b"Content-Transfer-Encoding: base64\r\n\r\n" + ARMOUR),
        pgp_mime(payload=PAYLOAD_HEAD + b"\r\n"),
        pgp_mime(end=b""),
        pgp_mime(end=b"--bb--\r\n"),
        pgp_mime(payload=PAYLOAD_HEAD + b"\r\n" + ARMOUR + b"--bb\r\n\r\n" + SECRET),
        pgp_mime(fields=b"Content-Transfer-Encoding: base64\r\n"),
        pgp_mime(fields=b"Content-Type: text/plain\r\n"),
        pgp_mime(fields=b"Content-Type : text/plain\r\n"),
        pgp_mime(content_type=b'multipart/encrypted; protocol="application/pgp-encrypted"'),
        pgp_mime(content_type=b'multipart/encrypted; protocol="application/pgp-encrypted"; boundary=""'),
        pgp_mime(content_type=b'multipart/encrypted; protocol="application/pgp-signature"; boundary=b'),
        pgp_mime(content_type=b"multipart/encrypted; boundary=b"),
        pgp_mime(content_type=b'multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b; boundary=c'),
        pgp_mime(content_type=b'multipart/encrypted; x="(; protocol="application/pgp-encrypted"; boundary=b'),
        pgp_mime(content_type=b'multipart/related; protocol="application/pgp-encrypted"; boundary=b'),
        pgp_mime(content_type=b'text/plain (multipart/encrypted); protocol="application/pgp-encrypted"; boundary=b'),
        b"Content-Type: multipart/encrypted; protocol=application/pgp-encrypted; boundary=b\r\n\r\n--b--\r\n",
        b"Content-Type: multipart/encrypted; protocol=application/pgp-encrypted; boundary=b\r\n\r\n",
        b"Content-Type: multipart/encrypted; protocol=application/pgp-encrypted; boundary=b\r\n\r\n" + ARMOUR,
    ],
)
def test_impostor_of_pgp_mime_counts_as_plain(raw: bytes) -> None:
    assert kind_of(raw) is MessageKind.PLAIN


# --- impostors of an armoured body -------------------------------------------------------------------------


def literal(content: bytes) -> bytes:
    return packet(11, b"b\0" + bytes(4) + content)


@pytest.mark.parametrize(
    "body",
    [
        b"Dear Bob, it begins with -----BEGIN PGP MESSAGE----- and then\r\n",
        b"-----BEGIN PGP MESSAGE-----\r\n" + SECRET + b"\r\n-----END PGP MESSAGE-----\r\n",
        SECRET + b"\r\n" + ARMOUR,
        ARMOUR + SECRET + b"\r\n",
        ARMOUR + b"\r\n" * 50_000 + SECRET,
        ARMOUR + ARMOUR,
        b"> " + ARMOUR,
        ARMOUR.replace(b"\r\n\r\n", b"\r\nComment: " + SECRET * 20 + b"\r\n\r\n", 1),
        ARMOUR.replace(b"\r\n\r\n", b"\r\nX-Text: " + SECRET + b"\r\n\r\n", 1),
        ARMOUR[:-200],
        armoured(literal(SECRET)),
        armoured(packet(8, b"\0" + literal(SECRET))),
        armoured(packet(4, bytes(13)) + literal(SECRET)),
        armoured(packet(18, b"\x01" + bytes(range(256)))),
        armoured(raw_key("pia.pgp"), "PGP PUBLIC KEY BLOCK"),
        ARMOUR.replace(b"PGP MESSAGE", b"PGP SIGNED MESSAGE"),
        b"\xef\xbb\xbf" + ARMOUR,
    ],
)
def test_impostor_of_an_encrypted_body_counts_as_plain(body: bytes) -> None:
    for head in (
        b"Subject: x\r\n\r\n",
        b"Content-Type: text/plain\r\n\r\n",
        b"Content-Type: application/octet-stream\r\n\r\n",
    ):
        assert kind_of(head + body) is MessageKind.PLAIN
    assert kind_of(pgp_mime(payload=PAYLOAD_HEAD + b"\r\n" + body)) is MessageKind.PLAIN


def test_text_hidden_in_quoted_printable_counts_as_plain() -> None:
    head = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    raw = head + ARMOUR.replace(b"=", b"=3D").replace(b"\r\n", b"\r\n=\r" + SECRET + b"\n", 1)
    assert kind_of(raw) is MessageKind.PLAIN


def test_armour_in_a_multipart_is_not_looked_for() -> None:
    assert kind_of(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + ARMOUR) is MessageKind.PLAIN


# --- S/MIME ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smime_type", [b"enveloped-data", b"authEnveloped-data", b"ENVELOPED-DATA"])
@pytest.mark.parametrize("octets", [SIGNED_DATA, SECRET, b"", CMS[:-1], CMS + SECRET, b"\x30\x80" + CMS, SECRET + CMS])
def test_smime_type_that_claims_encryption_proves_nothing(smime_type: bytes, octets: bytes) -> None:
    for encoding in (b"base64", b"binary"):
        raw = pkcs7(b"application/pkcs7-mime; smime-type=" + smime_type, octets, encoding)
        assert kind_of(raw) is MessageKind.PLAIN


@pytest.mark.parametrize(
    "raw",
    [
        pkcs7(b"application/pkcs7-mime; smime-type=enveloped-data", CMS) + SECRET,
        pkcs7(b"application/pkcs7-mime; smime-type=enveloped-data", CMS) + b"!" + base64.encodebytes(SECRET),
        pkcs7(b"application/pkcs7-mime; smime-type=enveloped-data", CMS) + base64.encodebytes(SECRET),
        pkcs7(b"application/pkcs7-mime", CMS, b"x-unknown"),
        pkcs7(b"application/pkcs7-signature", CMS),
        pkcs7(b"application/pkcs7-mime", CMS).replace(b"\r\n\r\n", b"\r\nContent-Type: text/html\r\n\r\n", 1),
        pkcs7(b"application/pkcs7-mime", CMS).replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n", 1),
        pkcs7(b"application/pkcs7-mime; smime-type=compressed-data", SIGNED_DATA),
    ],
)
def test_impostor_of_smime_counts_as_plain(raw: bytes) -> None:
    assert kind_of(raw) is MessageKind.PLAIN


@pytest.mark.parametrize(
    "raw",
    [
        pkcs7(b"application/pkcs7-mime; smime-type=signed-data", SIGNED_DATA),
        b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; boundary=b\r\n\r\n' + ARMOUR,
    ],
)
def test_signed_is_not_encrypted(raw: bytes) -> None:
    assert kind_of(raw) is MessageKind.SIGNED


# --- the rest ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "plain"),
        (b"\r\n", "plain"),
        (b"Subject: x\r\n\r\nhello\r\n", "plain"),
        (b"Content-Type: text/html\r\n\r\nhello\r\n", "plain"),
        (b"Content-Type: message/rfc822\r\n\r\nhello\r\n", "plain"),
        (b"Content-Type: text\r\n\r\nhello\r\n", "malformed_content_type"),
        (b"Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\nhello\r\n", "ambiguous"),
        (b"Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: 8bit\r\n\r\nhello\r\n", "ambiguous"),
        (b"Content-Transfer-Encoding: x-uue\r\n\r\nhello\r\n", "malformed"),
        (b"X-Smilla: encrypted; format=smime\r\n\r\nhello\r\n", "plain"),
    ],
)
def test_everything_else_is_plain_and_says_why(raw: bytes, code: str) -> None:
    found = classified(raw)
    assert (found.kind, found.reason.code) == (MessageKind.PLAIN, code)
    assert SECRET.decode() not in found.reason.text


SAMPLES = [
    pgp_mime(),
    pgp_mime(preamble=b"\r\n" * 300, epilogue=b" \r\n" * 900),
    pgp_mime(epilogue=SECRET),
    pgp_mime(control=b"Content-Type: application/pgp-encrypted" + b"\r\n" * 2 + b" \r\n" * 50 + b"Version: 1\r\n"),
    pgp_mime(payload=PAYLOAD_HEAD + b"Content-Description: x\r\n\r\n" + b"\r\n" * 300 + ARMOUR),
    pgp_mime(payload=PAYLOAD_HEAD + b"X: " + b"x" * 5000 + b"\r\n\r\n" + ARMOUR),
    pgp_mime(third=SECRET),
    b"\r\n" + b"\r\n" * 200 + ARMOUR,
    b"\r\n" + ARMOUR + b" \r\n" * 30,
    b"\r\n" + ARMOUR + SECRET,
    b"\r\n" + SECRET + ARMOUR,
    pkcs7(b"application/pkcs7-mime", CMS),
    pkcs7(b"application/pkcs7-mime", CMS + b"\0"),
    pkcs7(b"application/pkcs7-mime", CMS, b"binary"),
]


@settings(max_examples=80)
@given(st.sampled_from(SAMPLES), st.one_of(st.integers(1, 40), st.integers(40, 5000)))
def test_blocks_of_any_size_give_the_same_answer(raw: bytes, size: int) -> None:
    assert classified(raw, size) == classified(raw)


@given(
    st.lists(st.sampled_from([b"--b", b"--b--", b"", b"x", PAYLOAD_HEAD, ARMOUR, b"Version: 1", SECRET]), max_size=9)
)
@settings(max_examples=60)
def test_no_arrangement_with_a_secret_counts_as_encrypted(parts: list[bytes]) -> None:
    head = b"Content-Type: multipart/encrypted; protocol=application/pgp-encrypted; boundary=b\r\n\r\n"
    if SECRET in parts:
        assert kind_of(head + lines(*parts)) is MessageKind.PLAIN


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_octets_are_classified_without_an_exception(raw: bytes) -> None:
    classified(raw)
    classified(
        b"Content-Type: multipart/encrypted; protocol=application/pgp-encrypted; boundary=b\r\n\r\n--b\r\n" + raw
    )


def big(body: bytes, head: bytes = b"Content-Type: text/plain\r\n") -> Callable[[], bytes]:
    return lambda: head + b"\r\n" + (body * (25_000_000 // len(body)))


MULTIPART = b"Content-Type: multipart/encrypted; protocol=application/pgp-encrypted; boundary=b\r\n"


@pytest.mark.parametrize(
    "make",
    [
        big(b"hello world\r\n"),
        big(b"\r\n"),
        big(b"=\r\n", b"Content-Transfer-Encoding: quoted-printable\r\n"),
        big(b"AAAA\r\n", b"Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n"),
        big(b"--b\r\n", MULTIPART),
        big(b"--b", MULTIPART),
        big(b"\r\n", MULTIPART),
        lambda: pgp_mime(payload=PAYLOAD_HEAD + b"\r\n" + ARMOUR + b"\r\n--b" * 5_000_000),
        lambda: pgp_mime(payload=PAYLOAD_HEAD + b"\r\n" + armour(os.urandom(18_000_000))),
        lambda: b"\r\n" + armour(os.urandom(18_000_000)),
    ],
)
def test_25_megabytes_are_classified_in_linear_time(make: Callable[[], bytes]) -> None:
    raw = make()
    assert idle_seconds(lambda: classified(raw), 8) < 8


def test_reason_never_quotes_the_body() -> None:
    for raw in SAMPLES:
        assert SECRET.decode() not in classified(raw).reason.text


def blocks_of(message: Message) -> Iterator[bytes]:
    return message.body.blocks()


def test_classifying_leaves_the_body_readable() -> None:
    message = parse(pgp_mime()).message
    before = b"".join(blocks_of(message))
    classify(message)
    assert b"".join(blocks_of(message)) == before
