"""From ciphertext to a message: what moves inside, what stays, and what the new body looks like."""

from __future__ import annotations

import base64
import email
import email.policy
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smilla.copies import rewrap
from smilla.errors import EncryptionError
from smilla.formats.base64_lines import base64_lines
from smilla.message import parse
from smilla.model import Message, Rewrite
from tests.unit.timing import idle_seconds

CIPHERTEXT = bytes(range(256)) * 10


class Recorder:
    """An encrypter that keeps what it is given."""

    def __init__(self, output: bytes = CIPHERTEXT) -> None:
        self.inside, self.size, self.output = b"", -1, output

    def __call__(self, content: Iterable[bytes], size: int) -> Iterator[bytes]:
        self.inside, self.size = b"".join(content), size
        return iter([self.output])


def message(header: str, body: str = "body\r\n") -> Message:
    return parse(header.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body.encode()).message


def body_of(rewrite: Rewrite) -> bytes:
    assert rewrite.body is not None
    return b"".join(rewrite.body())


def whole(found: Message, rewrite: Rewrite) -> email.message.EmailMessage:
    kept = [h.raw for index, h in enumerate(found.headers) if index not in rewrite.removed]
    added = [f"{name}: {value}\r\n".encode() for name, value in rewrite.added]
    raw = b"".join([*kept, *added, b"\r\n", body_of(rewrite)])
    return email.message_from_bytes(raw, policy=email.policy.default)


def test_what_comes_at_the_beginning_is_put_there_last_and_in_its_order() -> None:
    found = message("A: 1\nB: 2\nA: 3\nC: 4")
    edits = Rewrite((0, 2), (("B", "new"), ("D", "end")), inserted=(("A", "first"), ("E", "second")))
    made = list(rewrap.edits(found, edits))
    assert made == [
        ("A", 2, ""),
        ("A", 1, ""),
        ("B", 0, "new"),
        ("D", 0, "end"),
        ("E", -1, "second"),
        ("A", -1, "first"),
    ]
    assert b"".join(rewrap.applied(found, edits)).startswith(
        b"A: first\r\nE: second\r\nB: 2\r\nC: 4\r\nB: new\r\nD: end\r\n\r\nbody"
    )
    both = rewrap.combined(edits, Rewrite((1,), inserted=(("F", "before"),)))
    assert (both.removed, both.inserted[0]) == ((0, 1, 2), ("F", "before"))


HEADER = """Received: by x
MIME-Version: 1.0 (a comment)
Content-Type: multipart/mixed;
\tboundary="b"
Subject: hello
CONTENT-Language : en
X-Smilla: encrypted; format=openpgp
Content-Transfer-Encoding: 8bit
x-smilla: a
 lie
To: b@x.org"""
INSIDE = (
    b'Content-Type: multipart/mixed;\r\n\tboundary="b"\r\nCONTENT-Language : en\r\n'
    b"Content-Transfer-Encoding: 8bit\r\n\r\nbody\r\n"
)


@pytest.mark.parametrize("wrap", [rewrap.smime, rewrap.openpgp])
def test_mime_fields_move_inside_in_their_order_and_all_others_stay(wrap: type) -> None:
    found, encrypt = message(HEADER), Recorder()
    rewrite: Rewrite = wrap(found, encrypt)
    body_of(rewrite)
    assert encrypt.inside == INSIDE
    assert encrypt.size == len(INSIDE)
    kept = [h.name for index, h in enumerate(found.headers) if index not in rewrite.removed]
    assert kept == ["received", "mime-version", "subject", "to"]
    assert [name for name, _ in rewrite.added].count("MIME-Version") == 0
    assert [name for name, _ in rewrite.added].count("X-Smilla") == 1


@pytest.mark.parametrize("wrap", [rewrap.smime, rewrap.openpgp])
def test_message_without_mime_fields_goes_inside_as_text_plain(wrap: type) -> None:
    encrypt = Recorder()
    rewrite: Rewrite = wrap(message("Subject: x", ""), encrypt)
    body_of(rewrite)
    assert encrypt.inside == b"Content-Type: text/plain\r\n\r\n"
    assert rewrite.added[0] == ("MIME-Version", "1.0")


def test_smime_is_base64_in_lines_of_76_at_most() -> None:
    found = message(HEADER)
    rewrite = rewrap.smime(found, Recorder())
    text = body_of(rewrite)
    assert base64.b64decode(text, validate=False) == CIPHERTEXT
    lines = text.split(b"\r\n")
    assert b"".join(lines) == base64.b64encode(CIPHERTEXT)
    assert max(map(len, lines)) <= 76
    read = whole(found, rewrite)
    assert read.get_content_type() == "application/pkcs7-mime"
    assert read["Content-Type"].params == {"smime-type": "enveloped-data", "name": "smime.p7m"}
    assert read.get_filename() == "smime.p7m"
    assert read.get_content_disposition() == "attachment"
    assert read.get_all("X-Smilla") == ["encrypted; format=smime"]
    assert read.get_payload(decode=True) == CIPHERTEXT


def test_authenticated_smime_says_so() -> None:
    added = dict(rewrap.smime(message(""), Recorder(), authenticated=True).added)
    assert "smime-type=authEnveloped-data;" in added["Content-Type"]


def test_openpgp_is_rfc_3156() -> None:
    found = message(HEADER)
    rewrite = rewrap.openpgp(
        found, Recorder(b"-----BEGIN PGP MESSAGE-----\r\n\r\nAA==\r\n-----END PGP MESSAGE-----\r\n")
    )
    read = whole(found, rewrite)
    assert read.get_content_type() == "multipart/encrypted"
    assert read["Content-Type"].params["protocol"] == "application/pgp-encrypted"
    control, payload = read.iter_parts()
    assert control.get_content_type() == "application/pgp-encrypted"
    assert control.get_payload(decode=True) == b"Version: 1\r\n"
    assert payload.get_content_type() == "application/octet-stream"
    assert str(payload.get_payload()).startswith("-----BEGIN PGP MESSAGE-----")
    assert read.get_all("X-Smilla") == ["encrypted; format=openpgp"]


def test_each_boundary_is_another() -> None:
    first, second = (dict(rewrap.openpgp(message(""), Recorder()).added)["Content-Type"] for _ in range(2))
    assert first != second


def test_unchanged_removes_a_foreign_mark_and_nothing_else() -> None:
    assert rewrap.unchanged(message(HEADER)) == Rewrite(removed=(5, 7))
    assert rewrap.unchanged(message("Subject: x")) == Rewrite()


def test_encrypter_that_raises_is_not_caught() -> None:
    def broken(content: Iterable[bytes], size: int) -> Iterator[bytes]:
        raise EncryptionError("broken")

    for wrap in (rewrap.smime, rewrap.openpgp):
        with pytest.raises(EncryptionError):
            body_of(wrap(message(HEADER), broken))


def test_body_can_be_made_twice() -> None:
    rewrite = rewrap.smime(message(HEADER), Recorder())
    assert body_of(rewrite) == body_of(rewrite)


@settings(max_examples=60)
@given(st.binary(max_size=200), st.integers(0, 3), st.lists(st.integers(0, 150_000), max_size=6))
def test_base64_is_the_same_whatever_the_blocks(head: bytes, repeat: int, cuts: list[int]) -> None:
    content = head + bytes(range(256)) * (200 * repeat)
    places = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    blocks = [content[start:end] for start, end in pairwise(places)] or [content]
    assert b"".join(base64_lines(blocks)) == base64.encodebytes(content).replace(b"\n", b"\r\n")


@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 57 * 840 - 1, 57 * 840, 57 * 840 + 1])
def test_base64_at_the_edges_of_lines_and_blocks(size: int) -> None:
    content = b"x" * size
    assert b"".join(base64_lines([content])) == base64.encodebytes(content).replace(b"\n", b"\r\n")


def test_base64_takes_linear_time() -> None:
    def write() -> None:
        for block in base64_lines([bytes(25_000_000)]):
            assert re.fullmatch(rb"[A-Za-z0-9+/=\r\n]*", block[:200])

    assert idle_seconds(write, 3) < 3
