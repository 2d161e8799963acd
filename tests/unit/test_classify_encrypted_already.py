"""Encrypted mail as real programs write it and servers change it, and the same with something readable inside."""

from __future__ import annotations

import base64
import tracemalloc
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smilla.classify import classify
from smilla.message import MemoryBody, parse
from smilla.model import Message, MessageKind
from tests.unit.test_classify import (
    ARMOUR,
    CMS,
    PAYLOAD_HEAD,
    SECRET,
    SIGNED_DATA,
    classified,
    kind_of,
    lines,
    pgp_mime,
    pkcs7,
)

NOTICE = b"This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)\r\n"
CONTROL = b"Content-Type: application/pgp-encrypted\r\n"


def wrapped(octets: bytes) -> bytes:
    return base64.encodebytes(octets).replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    "raw",
    [
        pgp_mime(preamble=NOTICE),
        pgp_mime(preamble=b"This is a multi-part message\r\n in MIME format.\r\n\r\n" + NOTICE, epilogue=NOTICE),
        pgp_mime(preamble=NOTICE.replace(b" and ", b", ")),
        pgp_mime(
            preamble=b"This is a mimegpg-encrypted message.  If you see this text, it means\r\n"
            b"that your E-mail software does not support MIME formatted messages.\r\n"
        ),
        pgp_mime(
            content_type=b"multipart/encrypted; protocol=application/pgp-encrypted; boundary=b; "
            b'protocol="application/pgp-encrypted"'
        ),
        pgp_mime(control=CONTROL + b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: 7bit\r\n\r\nVersion: 1\r\n"),
        pgp_mime(control=CONTROL + b"Content-Transfer-Encoding: base64\r\n\r\nVmVyc2lvbjogMQ0K\r\n"),
        pgp_mime(control=CONTROL + b"Content-Transfer-Encoding: quoted-printable\r\n\r\nVersion:=201 =\r\n\r\n"),
        pgp_mime(control=CONTROL + b"\r\nVersion : 1  \r\n\r\n\r\n"),
        pgp_mime(payload=PAYLOAD_HEAD + b"MIME-Version: 1.0\r\nX-Mailer: Gateway 1\r\n\r\n" + ARMOUR),
    ],
)
def test_pgp_mime_of_any_program_is_encrypted_already(raw: bytes) -> None:
    found = classified(raw)
    assert found.kind is MessageKind.ENCRYPTED, found.reason.text


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (pgp_mime(preamble=NOTICE + SECRET), "with text before or after its parts"),
        (pgp_mime(epilogue=SECRET), "with text before or after its parts"),
        (
            pgp_mime(control=b"Content-Type: text/plain\r\n\r\nVersion: 1"),
            "first part is not application/pgp-encrypted",
        ),
        (pgp_mime(control=CONTROL + b"\r\nVersion: 2"), 'first part says more, or other, than "Version: 1"'),
        (pgp_mime(control=CONTROL + b"\r\n" + b" " * 5000), 'first part says more, or other, than "Version: 1"'),
        (pgp_mime(control=CONTROL + b"Content-Transfer-Encoding: x-a\r\n\r\nVersion: 1"), "unknown transfer encoding"),
        (pgp_mime(control=CONTROL + b"Subject: x\r\n\r\nVersion: 1"), "first part has a header field that belongs to"),
        (
            pgp_mime(payload=PAYLOAD_HEAD + b"Subject: x\r\n\r\n" + ARMOUR),
            "second part has a header field that belongs",
        ),
        (pgp_mime(payload=PAYLOAD_HEAD + b"x\r\n\r\n" + ARMOUR), "second part has a header with a malformed line"),
        (pgp_mime(payload=b"\r\n" + ARMOUR), "second part has no header"),
        (pgp_mime(payload=PAYLOAD_HEAD + b"\r\n" + SECRET), "is not one encrypted OpenPGP message"),
        (pgp_mime(third=SECRET), "with more than two parts"),
        (pgp_mime(end=b""), "no closing delimiter"),
    ],
)
def test_reason_for_plain_is_the_real_one(raw: bytes, reason: str) -> None:
    found = classified(raw)
    assert found.kind is MessageKind.PLAIN
    assert reason in found.reason.text
    assert SECRET.decode() not in found.reason.text


@pytest.mark.parametrize(
    "fields",
    [
        b"".join(b"X-%c: %c%c word\r\n" % (letter, letter, letter) for letter in b"abcdefgh"),
        b"Content-Description: s w o r d f i s h\r\n",
    ],
)
def test_letter_spread_over_the_header_of_a_part_makes_it_plain(fields: bytes) -> None:
    for raw in (
        pgp_mime(control=CONTROL + fields + b"\r\nVersion: 1"),
        pgp_mime(payload=PAYLOAD_HEAD + fields + b"\r\n" + ARMOUR),
    ):
        assert classified(raw).kind is MessageKind.PLAIN
        assert "could hold words of a person" in classified(raw).reason.text


@pytest.mark.parametrize(
    ("charset", "kind"),
    [
        *[(name, MessageKind.ENCRYPTED) for name in ("utf-8", "US-ASCII", "iso-8859-15", "iso-2022-jp", "koi8-r")],
        *[(name, MessageKind.PLAIN) for name in ("utf-7", "UTF7", "unicode-1-1-utf-7", "hz-gb-2312", "utf-16", "x")],
    ],
)
def test_armour_in_a_charset_that_makes_words_of_it_is_plain(charset: str, kind: MessageKind) -> None:
    raw = f"Content-Type: text/plain; charset={charset}\r\n\r\n".encode() + ARMOUR
    assert classified(raw).kind is kind


# --- PGP/MIME that a server changed ------------------------------------------------------------------------

EMPTY = b'Content-Type: text/plain; charset="us-ascii"\r\n\r\n\r\n'
EMPTY_HTML = b"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrapped(b"<html></html>")
VERSION = (
    b'Content-Type: application/pgp-encrypted; name="PGPMIME version identification"\r\n'
    b"Content-Description: PGP/MIME version identification\r\nContent-Transfer-Encoding: base64\r\n\r\nVmVyc2lvbjogMQ0K"
)
ENCRYPTED = (
    b'Content-Type: application/octet-stream; name="encrypted.asc"\r\n'
    b'Content-Disposition: attachment; filename="encrypted.asc"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
) + wrapped(ARMOUR)


def mixed(*parts: bytes, preamble: bytes = b"", epilogue: bytes = b"", fields: bytes = b"") -> bytes:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n" + fields + b"\r\n" + preamble
    return head + b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n" + epilogue


EXCHANGE_BOUNDARY = b"_000_AM0PR04MB1234ABCDEF0123456789AM0PR04MB1234eurprd04prod_"
IN_CONTROL = b'Content-Type: application/pgp-encrypted; name="encrypted.asc"\r\n\r\n' + ARMOUR


def alternative(*parts: bytes, around: bytes = b"") -> bytes:
    head = b'Content-Type: multipart/alternative;\r\n\tboundary="' + EXCHANGE_BOUNDARY + b'"\r\n\r\n' + around
    inner = b"".join(b"\r\n--" + EXCHANGE_BOUNDARY + b"\r\n" + part for part in parts)
    return head + inner + b"\r\n--" + EXCHANGE_BOUNDARY + b"--\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        mixed(EMPTY, VERSION, ENCRYPTED),
        mixed(EMPTY_HTML, VERSION, ENCRYPTED),
        mixed(VERSION, ENCRYPTED, EMPTY),
        mixed(ENCRYPTED, VERSION),
        mixed(VERSION, ENCRYPTED),
        mixed(EMPTY, VERSION, PAYLOAD_HEAD + b"\r\n" + ARMOUR, preamble=NOTICE),
        mixed(alternative(EMPTY, EMPTY_HTML), VERSION, ENCRYPTED),
        mixed(EMPTY.rstrip() + b"\r\n\r\nEmpty Message\r\n", VERSION, ENCRYPTED),
        mixed(EMPTY, IN_CONTROL, EMPTY),
        mixed(IN_CONTROL),
    ],
)
def test_pgp_mime_that_a_server_changed_is_encrypted_already(raw: bytes) -> None:
    found = classified(raw)
    assert found.kind is MessageKind.ENCRYPTED, found.reason.text


@pytest.mark.parametrize(
    "raw",
    [
        mixed(EMPTY.rstrip() + b"\r\n\r\n" + SECRET, VERSION, ENCRYPTED),
        mixed(EMPTY_HTML.replace(b"base64", b"7bit"), VERSION, ENCRYPTED),
        mixed(VERSION, ENCRYPTED, b"Content-Type: text/plain\r\n\r\n" + SECRET),
        mixed(EMPTY, VERSION, ENCRYPTED, EMPTY),
        mixed(EMPTY, EMPTY, VERSION, ENCRYPTED),
        mixed(VERSION, VERSION, ENCRYPTED),
        mixed(VERSION, ENCRYPTED, ENCRYPTED),
        mixed(EMPTY, ENCRYPTED),
        mixed(EMPTY, VERSION),
        mixed(EMPTY, VERSION, PAYLOAD_HEAD + b"\r\n" + SECRET),
        mixed(EMPTY, VERSION, PAYLOAD_HEAD + b"\r\n" + ARMOUR + SECRET),
        mixed(EMPTY, VERSION, ENCRYPTED, preamble=SECRET + b"\r\n"),
        mixed(EMPTY, VERSION, ENCRYPTED, epilogue=SECRET),
        mixed(EMPTY, VERSION, b"Content-Type: application/pdf\r\n\r\n" + ARMOUR),
        mixed(EMPTY, VERSION, ENCRYPTED, fields=b"Content-Transfer-Encoding: base64\r\n"),
        mixed(EMPTY, VERSION, ENCRYPTED).replace(b"--b--\r\n", b""),
        mixed(EMPTY, VERSION, ENCRYPTED).replace(b"; boundary=b", b""),
        mixed(alternative(EMPTY, EMPTY_HTML, EMPTY + SECRET), VERSION, ENCRYPTED),
        mixed(alternative(EMPTY, EMPTY, around=SECRET), VERSION, ENCRYPTED),
        mixed(alternative(EMPTY, b"Content-Type: text/calendar\r\n\r\n"), VERSION, ENCRYPTED),
        mixed(alternative(EMPTY, *[EMPTY] * 9), VERSION, ENCRYPTED),
        mixed(alternative(alternative(EMPTY)), VERSION, ENCRYPTED),
        mixed(EMPTY, IN_CONTROL, EMPTY + SECRET),
        mixed(EMPTY, IN_CONTROL + SECRET, EMPTY),
        mixed(EMPTY, IN_CONTROL, IN_CONTROL),
        mixed(EMPTY, VERSION, IN_CONTROL),
    ],
)
def test_changed_pgp_mime_with_anything_else_inside_is_plain(raw: bytes) -> None:
    assert (classified(raw).kind, classified(raw).reason.code) == (MessageKind.PLAIN, "plain")


def test_ciphertext_in_the_control_part_is_not_kept_in_memory() -> None:
    chance = Random(1)
    session_key = b"\x03" + chance.randbytes(8) + b"\x01\x08\0\xff" + chance.randbytes(255)
    octets = b"\xc1\xff" + len(session_key).to_bytes(4, "big") + session_key
    octets += b"\xd2\xff" + ((8 << 20) + 1).to_bytes(4, "big") + b"\x01" + chance.randbytes(8 << 20)
    armour = b"-----BEGIN PGP MESSAGE-----\r\n\r\n" + wrapped(octets) + b"-----END PGP MESSAGE-----\r\n"
    raw = mixed(b"Content-Type: application/pgp-encrypted\r\n\r\n" + armour)
    message = parse(raw).message
    body = b"".join(message.body.blocks())
    blocks = MemoryBody([body[at : at + 65536] for at in range(0, len(body), 65536)])
    tracemalloc.start()
    try:
        found = classify(Message(message.headers, blocks))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.kind is MessageKind.ENCRYPTED, found.reason.text
    assert peak < 4 << 20


# --- S/MIME whose parameters cannot be read ----------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [b";; name=smime.p7m", b"; smime-type=enveloped-data; smime-type=x", b"; name=my mail.p7m", b"; a=1; A=2"],
)
@pytest.mark.parametrize("media_type", [b"application/pkcs7-mime", b"Application/X-PKCS7-MIME"])
def test_der_decides_where_parameters_are_malformed(media_type: bytes, parameters: bytes) -> None:
    found = classified(pkcs7(media_type + parameters, CMS))
    assert (found.kind, found.reason.code) == (MessageKind.ENCRYPTED, "already_encrypted")
    for octets in (SIGNED_DATA, CMS + SECRET, SECRET):
        assert classified(pkcs7(media_type + parameters, octets)).reason.code == "malformed_content_type"
    assert classified(pkcs7(b"text/plain" + parameters, CMS)).reason.code == "malformed_content_type"


# --- S/MIME by its name ------------------------------------------------------------------------------------

DISPOSITION = b"Content-Disposition: attachment; filename=smime.p7m\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        pkcs7(b"application/octet-stream; name=smime.p7m", CMS),
        pkcs7(b'application/octet-stream; name="MAIL.P7M"', CMS),
        pkcs7(b"application/octet-stream; name*=us-ascii''smime%2Ep7m", CMS),
        DISPOSITION + pkcs7(b"application/octet-stream", CMS),
        b"Content-Disposition: attachment;\r\n filename*0=smime;\r\n filename*1=.p7m\r\n"
        + pkcs7(b"application/octet-stream", CMS),
        DISPOSITION + b"Content-Transfer-Encoding: base64\r\n\r\n" + wrapped(CMS),
        DISPOSITION + pkcs7(b"application/x-unknown", CMS, b"binary"),
    ],
)
def test_enveloped_data_named_p7m_is_encrypted_already_whatever_its_type(raw: bytes) -> None:
    found = classified(raw)
    assert found.kind is MessageKind.ENCRYPTED, found.reason.text


@pytest.mark.parametrize(
    "raw",
    [
        pkcs7(b"application/octet-stream", CMS),
        pkcs7(b"application/octet-stream; name=smime.p7m.txt", CMS),
        pkcs7(b"application/octet-stream; name=smime.p7m", SIGNED_DATA),
        pkcs7(b"application/octet-stream; name=smime.p7m", CMS + SECRET),
        pkcs7(b"application/octet-stream; name=smime.p7m", CMS) + b"!" + SECRET,
        pkcs7(b"application/octet-stream; name=smime.p7m", CMS, b"x-unknown"),
        DISPOSITION.replace(b";", b";;=") + pkcs7(b"application/octet-stream", CMS),
        DISPOSITION + pkcs7(b"message/rfc822", CMS),
        DISPOSITION + b"\r\n" + SECRET,
    ],
)
def test_name_alone_proves_nothing(raw: bytes) -> None:
    assert kind_of(raw) is MessageKind.PLAIN


# --- the whole kind ----------------------------------------------------------------------------------------

WHOLE = [
    pgp_mime(preamble=NOTICE, epilogue=b"\r\n"),
    mixed(EMPTY, VERSION, ENCRYPTED, preamble=NOTICE),
    b"Content-Type: text/plain\r\n\r\n" + ARMOUR,
    pkcs7(b"application/pkcs7-mime; name=smime.p7m", CMS),
    pkcs7(b"application/octet-stream; name=smime.p7m", CMS),
]


def places(raw: bytes) -> list[int]:
    """Where a line may begin in the body, the inside of a header of a part included."""
    start = raw.index(b"\r\n\r\n") + 4
    return [start] + [at + 2 for at in range(start, len(raw)) if raw[at : at + 2] == b"\r\n"]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(WHOLE), st.integers(0, 10_000), st.sampled_from([b"The password is swordfish.", SECRET, b"x y"]))
def test_line_of_words_at_any_place_makes_it_plain(raw: bytes, where: int, canary: bytes) -> None:
    spots = places(raw)
    at = spots[where % len(spots)]
    found = classified(raw[:at] + canary + b"\r\n" + raw[at:])
    assert found.kind is MessageKind.PLAIN, at
    assert canary.decode() not in found.reason.text


PIECES = [b"--b", b"--b--", b"", b" ", EMPTY, VERSION, ENCRYPTED, NOTICE, CONTROL, PAYLOAD_HEAD, ARMOUR, b"Version: 1"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*PIECES, SECRET]), max_size=12), st.sampled_from(["mixed", "encrypted"]))
def test_no_arrangement_with_a_secret_counts_as_encrypted(pieces: list[bytes], subtype: str) -> None:
    head = f"Content-Type: multipart/{subtype}; protocol=application/pgp-encrypted; boundary=b\r\n\r\n".encode()
    found = classified(head + lines(*pieces))
    assert SECRET not in pieces or found.kind is MessageKind.PLAIN


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"multipart/mixed; boundary=b", b"text/plain; name=a.p7m", b""]))
def test_any_octets_are_classified_without_an_exception(raw: bytes, kind: bytes) -> None:
    classified(b"Content-Type: " + kind + b"\r\n\r\n--b\r\n" + raw)
    classified(b"Content-Type: " + kind + b"\r\nContent-Disposition: " + raw + b"\r\n\r\n--b\r\n")


# --- what a mutation run (make mutants) left alive ---------------------------------------------------------


@pytest.mark.parametrize("around", ["preamble", "epilogue"])
@pytest.mark.parametrize("head", [b"Secret: ", b"Content-Type: text/plain\r\nSubject: "])
def test_text_around_the_parts_is_read_as_text_and_never_as_a_part(around: str, head: bytes) -> None:
    text = head + SECRET.strip() + b"\r\n\r\n"
    parts = (VERSION, ENCRYPTED)
    raw = mixed(*parts, preamble=text) if around == "preamble" else mixed(*parts, epilogue=text)
    assert classified(raw).kind is MessageKind.PLAIN
