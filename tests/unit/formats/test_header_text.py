"""Comments, quoted strings and encoded words, as each kind of reader has them."""

from __future__ import annotations

from email.header import decode_header

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smilla.formats import header_text


@pytest.mark.parametrize(
    ("raw", "quoted", "plain"),
    [
        (b"a (b) c", b"a  c", b"a  c"),
        (b"a (b (c) d) e", b"a  e", b"a  e"),
        (rb"a (\) b) c", b"a  c", b"a  c"),
        (b"a (b", b"a ", b"a "),
        (b"a (b (c) d", b"a ", b"a "),
        (rb"a\(b) c", rb"a\(b) c", rb"a\(b c"),
        (b"a) b", b"a) b", b"a b"),
        (b'"(a)" (b)', b'"(a)" ', b'"" '),
        (rb'"\"(a)" (b)', rb'"\"(a)" ', rb'"\"" '),
        (b'(") a"', b' a"', b' a"'),
        (b"a (b) \\", b"a  \\", b"a  \\"),
    ],
)
def test_comments_are_taken_out_in_a_field_with_quoted_strings_and_in_one_without(
    raw: bytes, quoted: bytes, plain: bytes
) -> None:
    assert header_text.without_comments(raw, quoted=True) == quoted
    assert header_text.without_comments(raw, quoted=False) == plain


def test_word_that_cannot_be_decoded_is_text_and_what_others_may_show_of_it_is_a_reading() -> None:
    raw = b"=?no-such?Q?a=41?="
    assert header_text.decoded(raw.decode()) == raw.decode()
    assert "aA" in header_text.readings(raw)


def test_word_within_another_text_is_read_where_all_is_looked_at_only() -> None:
    assert header_text.decoded_anywhere(b"x=?utf-8?q?=41_B?=y") == b"xA By"
    assert header_text.decoded_anywhere(b"=?utf-8?b?w6Q?= =?UTF-8?B?w7Y=?=") == "äö".encode()


@given(st.binary(min_size=1, max_size=300))
@example("äöü".encode() * 60)
@example(b"\x80" * 200)
def test_encoded_words_are_lossless_and_short(raw: bytes) -> None:
    text = header_text.encoded(raw)
    assert text.isascii()
    assert max(map(len, text.split(b"\r\n"))) <= 76
    assert b"".join(part for part, _ in decode_header(text.decode().replace("\r\n", ""))) == raw
    for word in text.split(b"\r\n "):
        if word.startswith(b"=?utf-8"):
            ((part, _),) = decode_header(word.decode())
            part.decode("utf-8")
