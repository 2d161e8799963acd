"""Netstrings, whole and in pieces, good and bad."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.errors import ParseError
from smilla.formats import netstring
from smilla.formats.netstring import MOST, Reader, written


def _all(reader: Reader) -> list[bytes]:
    found = []
    while (one := reader.next()) is not None:
        found.append(one)
    return found


@given(st.lists(st.binary(max_size=300), max_size=5), st.lists(st.integers(1, 40), min_size=1, max_size=50))
def test_what_is_written_is_read_again_whatever_the_pieces(contents: list[bytes], sizes: list[int]) -> None:
    raw, reader, found, at = b"".join(map(written, contents)), Reader(), [], 0
    for size in [*sizes, len(raw)]:
        reader.feed(raw[at : at + size])
        at += size
        found += _all(reader)
    assert found == contents


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"3:abc,", b"0:,", b"1", b":", b","])), max_size=9))
def test_any_octets_give_strings_an_error_or_patience_and_nothing_else(pieces: list[bytes]) -> None:
    reader, found = Reader(), []
    try:
        for piece in pieces:
            reader.feed(piece)
            found += _all(reader)
    except ParseError:
        return
    assert b"".join(pieces).startswith(b"".join(map(written, found)))


@pytest.mark.parametrize(
    "raw", [b"x", b":", b"-1:a,", b"03:abc,", b"3:abcd", b"1 :a,", b"+1:a,", b"1000000", b"100001:", b"1\n:a,"]
)
def test_what_is_no_netstring_is_refused_as_soon_as_that_shows(raw: bytes) -> None:
    reader = Reader()
    reader.feed(raw)
    with pytest.raises(ParseError):
        reader.next()


@pytest.mark.parametrize("raw", [b"", b"1", b"10", b"5:", b"5:hell", b"5:hello"])
def test_a_part_is_waited_for(raw: bytes) -> None:
    reader = Reader()
    reader.feed(raw)
    assert reader.next() is None


def test_the_largest_one_that_postfix_takes_is_taken_and_no_larger_one_is_written() -> None:
    reader = Reader()
    reader.feed(written(b"x" * MOST))
    assert reader.next() == b"x" * MOST
    with pytest.raises(ParseError):
        netstring.written(b"x" * (MOST + 1))
