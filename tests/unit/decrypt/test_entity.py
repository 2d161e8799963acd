"""One well-formed MIME entity is told from what a changed ciphertext decrypts to."""

from __future__ import annotations

import base64
import random

import pytest

from smilla.decrypt import entity
from smilla.errors import ParseError

PLAIN = b"Content-Type: text/plain; charset=utf-8\r\n\r\ngr\xc3\xbcn\r\n"
BOUNDARY = b'Content-Type: multipart/mixed; boundary="b"\r\n'


def multipart(*parts: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    return BOUNDARY + b"\r\n" + before + b"".join(b"\r\n--b\r\n" + part for part in parts) + b"\r\n--b--" + after


def checked(raw: bytes) -> entity.Entity:
    found = entity.read(raw)
    entity.check(found)
    return found


def part(kind: bytes, content: bytes, encoding: bytes = b"") -> bytes:
    field = b"Content-Transfer-Encoding: " + encoding + b"\r\n" if encoding else b""
    return b"Content-Type: " + kind + b"\r\n" + field + b"\r\n" + content


WELL_FORMED = {
    "text": PLAIN,
    "text without a body": b"Content-Type: text/plain\r\n\r\n",
    "as smilla writes what came without MIME": part(b"text/plain", b"gr\xfcn\r\n"),
    "latin": part(b"text/plain; charset=iso-8859-1", b"gr\xfcn\x0c\r\n", b"8bit"),
    "Japanese": part(b"text/plain; charset=iso-2022-jp", b"\x1b$B4A;z\x1b(B\r\n", b"7bit"),
    "html": part(b"text/html", b"<p>gr=C3=BCn=\r\n</p>", b"quoted-printable"),
    "base64": part(b"application/pdf", base64.encodebytes(bytes(range(256))), b"base64"),
    "binary": part(b"application/pdf", b"\x01\x02\x03\xff", b"binary"),
    "multipart": multipart(PLAIN, part(b"text/html", b"<b>")),
    "multipart with a notice": multipart(PLAIN, before=b"This is a multi-part message in MIME format.", after=b"\r\n"),
    "part without a header": multipart(b"\r\nwords"),
    "empty part": multipart(b""),
    "multipart in a multipart": multipart(multipart(PLAIN).replace(b'"b"', b'"c"').replace(b"--b", b"--c"), PLAIN),
    "boundary in quotes": part(b'multipart/mixed; boundary="B_(ID_g)"', b"--B_(ID_g)\r\n\r\nhi\r\n--B_(ID_g)--"),
    "forwarded": multipart(part(b"message/rfc822", b"Subject: gr\xc3\xbcn\r\n\r\nwords")),
    "lines end in LF": PLAIN.replace(b"\r\n", b"\n"),
    "more fields": b"Subject: a\r\n folded\r\n" + PLAIN,
}
MALFORMED_HEADER = {
    "nothing": b"",
    "text": b"Dear Hugh,\r\n\r\nhello\r\n",
    "no Content-Type": b"Subject: a\r\n\r\nb",
    "two of them": b"Content-Type: text/plain\r\n" + PLAIN,
    "no empty line": b"Content-Type: text/plain\r\n",
    "a line that is no field": b"Content-Type: text/plain\r\nhello\r\n\r\n",
    "a type that cannot be read": part(b"text", b""),
    "an unknown encoding": part(b"text/plain", b"", b"rot13"),
    "an encoding twice": b"Content-Transfer-Encoding: 7bit\r\n" + part(b"text/plain", b"", b"8bit"),
    "control characters": b"X: \x01\r\n" + PLAIN,
    "octets that are not UTF-8": b"X: \xff\r\n" + PLAIN,
    "8 bits in a Content field": part(b"text/plain; name=gr\xc3\xbcn", b""),
    "a NUL": PLAIN + b"\0",
    "a bare CR": PLAIN + b"a\rb",
    "too many fields": b"X: 1\r\n" * 600 + PLAIN,
    "a field that is too long": b"X: " + b"1" * 70_000 + b"\r\n" + PLAIN,
}
MALFORMED_BODY = {
    "not UTF-8": part(b"text/plain; charset=UTF-8", b"\xff"),
    "control characters": part(b"text/plain; charset=iso-8859-1", b"a\x02b"),
    "control characters in html": part(b"text/html", b"a\x02b", b"8bit"),
    "8 bits in 7bit": part(b"text/plain", b"\xff", b"7bit"),
    "8 bits in 7bit, not text": part(b"application/pdf", b"\xff", b"7bit"),
    "octets that base64 does not have": part(b"text/html", b"PGI+\xff", b"base64"),
    "letters that base64 does not have": part(b"text/html", b"PG!+", b"base64"),
    "base64 with text after it": part(b"text/html", b"PGI=\r\n<img>", b"base64"),
    "not quoted-printable": part(b"text/html", b"a=zz", b"quoted-printable"),
    "8 bits in quoted-printable": part(b"text/html", b"a\xff", b"quoted-printable"),
    "no boundary": part(b"multipart/mixed", b"--b\r\n\r\n--b--"),
    "encoded multipart": part(b"multipart/mixed; boundary=b", b"", b"base64"),
    "no closing delimiter": BOUNDARY + b"\r\n--b\r\n\r\nwords",
    "no part": BOUNDARY + b"\r\nThis is a multi-part message in MIME format.\r\n--b--",
    "words before": multipart(PLAIN, before=b"words"),
    "words after": multipart(PLAIN, after=b"\r\nwords"),
    "a part with a malformed header": multipart(b"words\r\n"),
    "a malformed part in a part": multipart(multipart(part(b"text/plain", b"\x01"))),
    "a malformed forwarded message": multipart(part(b"message/rfc822", b"words")),
    "boundary with a blank at its end": part(b'multipart/mixed; boundary="b "', b"--b \r\n\r\n--b --"),
    "boundary with a comment": part(b"multipart/mixed; boundary=b(c)", b"--b\r\n\r\n--b--"),
    "boundary in angle brackets": part(b'multipart/mixed; boundary="<b>"', b"--<b>\r\n\r\n--<b>--"),
    "boundary and another one": part(b"multipart/mixed; boundary=b; boundary*=us-ascii''c", b"--b\r\n\r\n--b--"),
    "a line that only begins like a delimiter": multipart(PLAIN + b"\r\n--bc\r\n\r\nwords"),
    "such a line at the end": multipart(PLAIN, after=b"\r\n--bc\r\n"),
    "malformed news": multipart(part(b"message/news", b"words")),
    "too many parts": multipart(*[b"\r\nx"] * 3000),
}


@pytest.mark.parametrize("raw", WELL_FORMED.values(), ids=WELL_FORMED.keys())
def test_well_formed_entity_passes_and_keeps_its_octets(raw: bytes) -> None:
    assert checked(raw).raw == raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@pytest.mark.parametrize("raw", MALFORMED_HEADER.values(), ids=MALFORMED_HEADER.keys())
def test_header_in_doubt_is_refused_whether_authenticated_or_not(raw: bytes) -> None:
    with pytest.raises(ParseError):
        entity.read(raw)


@pytest.mark.parametrize("raw", MALFORMED_BODY.values(), ids=MALFORMED_BODY.keys())
def test_body_that_no_program_writes_is_refused_where_nothing_authenticates_it(raw: bytes) -> None:
    found = entity.read(raw)
    with pytest.raises(ParseError):
        entity.check(found)


def test_nesting_is_bounded() -> None:
    def nested(depth: int) -> bytes:
        raw = PLAIN
        for _ in range(depth):
            raw = part(b"message/rfc822", raw)
        return raw

    checked(nested(20))
    with pytest.raises(ParseError):
        checked(nested(21))


@pytest.mark.parametrize("name", ["text", "html", "base64", "multipart", "multipart with a notice", "forwarded"])
def test_a_block_of_random_octets_anywhere_is_refused(name: str) -> None:
    """What a change to CBC ciphertext leaves behind; the octets are random, and the same in every run."""
    dice, raw = random.Random(7), WELL_FORMED[name]
    for at in range(0, len(raw) + 1, 4):
        changed = raw[:at] + dice.randbytes(16) + raw[at + 16 :]
        with pytest.raises(ParseError):
            checked(changed)
