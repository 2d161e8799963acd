"""Content-Type, transfer encodings and boundaries, as a hostile sender writes them."""

from __future__ import annotations

import base64
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.errors import ParseError
from smilla.formats.mime import content_type, decoded, multipart_sections, part_headers, transfer_encoding
from tests.unit.timing import idle_seconds


def cut(raw: bytes, size: int) -> Iterator[bytes]:
    return (raw[start : start + size] for start in range(0, len(raw), size))


@pytest.mark.parametrize(
    ("value", "media_type", "parameters"),
    [
        (b"text/plain", "text/plain", {}),
        (b" TEXT/Plain ; Charset = UTF-8", "text/plain", {"charset": "UTF-8"}),
        (b"text/plain;", "text/plain", {}),
        (b"text/plain; ;", "text/plain", {}),
        (b'a/b; x="1; y=2"', "a/b", {"x": "1; y=2"}),
        (b'a/b; x="\\"q\\\\"', "a/b", {"x": '"q\\'}),
        (b"(c) a/(c)b (c); (c) x (c) = (c) 1 (c)", "a/b", {"x": "1"}),
        (b"a/b (one (two) ; y=2); x=1", "a/b", {"x": "1"}),
        (b"a/b (\\); y=2); x=1", "a/b", {"x": "1"}),
        (b'a/b; x="(no comment)"', "a/b", {"x": "(no comment)"}),
        (b"a/b;\r\n x=1;\r\n\ty=2", "a/b", {"x": "1", "y": "2"}),
        (b"a/b; x*0=on; x*1=e", "a/b", {"x": "one"}),
        (b"a/b; x*1=e; x*0=on", "a/b", {"x": "one"}),
        (b"a/b; x*=utf-8''%C3%A4", "a/b", {"x": "ä"}),
        (b"a/b; x*0*=utf-8'en'%C3%A4; x*1=b; x*2*=%20c", "a/b", {"x": "äb c"}),
        (b"a/b; x=plain; x*0=other", "a/b", {"x": "plain"}),
    ],
)
def test_content_type_is_read(value: bytes, media_type: str, parameters: dict[str, str]) -> None:
    kind = content_type(value)
    assert kind is not None
    assert (kind.media_type, dict(kind.parameters)) == (media_type, parameters)


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"",
            b"text",
            b"text/",
            b"/plain",
            b"text plain",
            b"text/plain charset=x",
            b"text/plain; charset",
            b"a/b; =1",
        ),
        *(b"a/b; x=1; X=2", b'a/b; x="unclosed', b"a/b; x=1 2", b"a/b, c/d", b"a/b/c", b"a/b; x=", b"\xff/b", b"a/b\0"),
        *(b'a/b; x="1"2', b"(unclosed a/b", b'"a"/b', b"a/b;; x=1"),
    ],
)
def test_malformed_content_type_is_none(value: bytes) -> None:
    assert content_type(value) is None


@given(st.binary(max_size=120))
def test_any_content_type_is_read_without_an_exception(value: bytes) -> None:
    content_type(value)


@pytest.mark.parametrize(
    "piece", ["; a{}=1", ";", " ", "(", '"', "\\", "(\\", ';x="', "a/", "=", "; a*{}=1", '; a{}=""']
)
def test_time_of_a_content_type_is_linear(piece: str) -> None:
    value = ("a/b" + "".join(piece.format(number) for number in range(200_000 // len(piece)))).encode()
    assert idle_seconds(lambda: content_type(value), 2.5) < 2.5


def test_transfer_encoding_loses_comments_and_case() -> None:
    assert transfer_encoding(b" (x) Base64 (y)\r\n ") == "base64"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 76, 1000])
def test_base64_is_decoded_whatever_the_blocks(size: int) -> None:
    content = bytes(range(256)) * 3
    for count in (0, 1, 2, 3, len(content)):
        raw = base64.encodebytes(content[:count]).replace(b"\n", b"\r\n") + b"\r\n \t\r\n"
        assert b"".join(decoded(cut(raw, size), "base64")) == content[:count]


@pytest.mark.parametrize(
    "raw", [b"AAA", b"AA==AAAA", b"AA==\r\nAAAA", b"AA=A", b"AA!AA", b"=AAA", b"A", b"AAAA text!", b"AA==="]
)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
def test_base64_with_anything_beside_it_is_malformed(raw: bytes, size: int) -> None:
    with pytest.raises(ParseError):
        b"".join(decoded(cut(raw, size), "base64"))


def test_quoted_printable_is_decoded() -> None:
    assert b"".join(decoded([b"a=3D=\r", b"\nb=\nc\r\n"], "quoted-printable")) == b"a=bc\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100])
def test_quoted_printable_is_decoded_however_it_is_cut(size: int) -> None:
    raw = b"a=3D=\r\nb=\nc\r\n=41=42=\r\n=\n=C3=a4 \r\n\r\nend"
    assert b"".join(decoded(cut(raw, size), "quoted-printable")) == b"a=bc\r\nAB\xc3\xa4 \r\n\r\nend"


@pytest.mark.parametrize(
    "raw", [b"a=\rhidden text\nb", b"a=hidden\r\n", b"a= \r\nb", b"a=", b"a=4", b"a\rb", b"====", b"a=\r", b"a\r"]
)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
def test_quoted_printable_in_which_text_could_hide_is_malformed(raw: bytes, size: int) -> None:
    with pytest.raises(ParseError):
        b"".join(decoded(cut(raw, size), "quoted-printable"))


@pytest.mark.parametrize("unit", [b"=\n", b"=41", b"one long line", b"a line\r\n"])
def test_quoted_printable_is_decoded_piece_by_piece(unit: bytes) -> None:
    one_block = [unit * 1_000_000]
    tracemalloc.start()
    try:
        for _ in decoded(one_block, "quoted-printable"):
            pass
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["", "7bit", "8bit", "binary"])
def test_identity_encodings_change_nothing(encoding: str) -> None:
    assert b"".join(decoded([b"\0a\xff", b"b"], encoding)) == b"\0a\xffb"


def test_unknown_transfer_encoding_is_malformed() -> None:
    with pytest.raises(ParseError):
        decoded([b"a"], "x-uuencode")


def sections(raw: bytes, boundary: bytes = b"b", size: int = 1 << 20) -> list[tuple[int, bytes]]:
    joined: dict[int, bytes] = {}
    for number, octets in multipart_sections(cut(raw, size), boundary):
        joined[number] = joined.get(number, b"") + octets
    return list(joined.items())


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_multipart_is_cut_at_its_delimiters(end: bytes) -> None:
    raw = end.join([b"pre", b"--b", b"A: 1", b"", b"one", b"--b  ", b"", b"two", b"--b--", b"post", b""])
    assert sections(raw) == [
        (0, b"\r\npre"),
        (1, end.join([b"", b"A: 1", b"", b"one"])),
        (2, end.join([b"", b"", b"two"])),
        (-1, end.join([b"", b"post", b""])),
    ]


@pytest.mark.parametrize("line", [b"--bb", b"--b-", b"--b--x", b"-- b", b" --b", b"--B", b"--", b"--b x"])
def test_line_that_only_begins_like_a_delimiter_is_text(line: bytes) -> None:
    raw = b"--b\r\n\r\n" + line + b"\r\n--b--\r\n"
    assert sections(raw)[1] == (1, b"\r\n\r\n" + line)


def test_closing_delimiter_may_end_the_octets() -> None:
    assert sections(b"--b\r\n\r\nx\r\n--b--") == [(0, b""), (1, b"\r\n\r\nx")]


@pytest.mark.parametrize("raw", [b"", b"text", b"--b\r\n\r\nx", b"--b\r\n\r\nx\r\n--b\r\n"])
def test_multipart_without_its_end_is_malformed(raw: bytes) -> None:
    with pytest.raises(ParseError):
        sections(raw)


def test_boundary_that_is_longer_than_any_is_malformed() -> None:
    with pytest.raises(ParseError):
        sections(b"--" + b"b" * 201 + b"--", b"b" * 201)


LINES = st.sampled_from([b"--b", b"--b--", b"--bb", b"", b"x", b"A: 1", b"--b \t", b"y" * 3000, b"--b-", b"\r"])


@given(st.lists(LINES, max_size=12), st.integers(1, 4000), st.sampled_from([b"\r\n", b"\n"]))
def test_blocks_of_any_size_give_the_same_sections(lines: list[bytes], size: int, end: bytes) -> None:
    raw = end.join(lines)
    try:
        whole = sections(raw)
    except ParseError:
        with pytest.raises(ParseError):
            sections(raw, size=size)
        return
    assert sections(raw, size=size) == whole


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (b"Content-Type: a/b", {"content-type": b" a/b"}),
        (b"CONTENT-TYPE : a/b;\r\n x=1\r\nA:", {"content-type": b" a/b;\r\n x=1", "a": b""}),
        (b"A: 1\nB: 2", {"a": b" 1", "b": b" 2"}),
        (b"A: 1\r\na: 2", None),
        (b"A: 1\r\ntext", None),
        (b" A: 1", {" a": b" 1"}),
        (b"", None),
    ],
)
def test_part_headers_are_read_or_malformed(raw: bytes, fields: dict[str, bytes] | None) -> None:
    assert part_headers(raw) == fields
