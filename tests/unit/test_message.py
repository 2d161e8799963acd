"""Splitting a message: nothing is lost, nothing is reserialised."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.message import MemoryBody, parse, with_crlf


def names_and_body(raw: bytes) -> tuple[list[str], bytes]:
    message = parse(raw).message
    return [header.name for header in message.headers], b"".join(message.body.blocks())


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_both_kinds_of_line_end_give_the_same_message(end: bytes) -> None:
    raw = end.join([b"Subject: a", b" folded", b"To: b@x.org", b"", b"one", b"", b"two", b""])
    parsed = parse(raw)
    assert [header.raw for header in parsed.message.headers] == [b"Subject: a\r\n folded\r\n", b"To: b@x.org\r\n"]
    assert b"".join(parsed.message.body.blocks()) == b"one\r\n\r\ntwo\r\n"


def test_mixed_line_ends_become_crlf() -> None:
    assert names_and_body(b"A: 1\r\nB: 2\nC: 3\r\n\none\r\ntwo\n") == (["a", "b", "c"], b"one\r\ntwo\r\n")


def test_bare_cr_ends_no_line() -> None:
    parsed = parse(b"A: 1\rB: 2\r\n\r\none\rtwo\r\r\n")
    assert parsed.message.headers[0].raw_value == b" 1\rB: 2"
    assert b"".join(parsed.message.body.blocks()) == b"one\rtwo\r\r\n"


@pytest.mark.parametrize(
    "line", [b"no colon here", b": no name", b"spaced name: x", b"n\xc3\xa4me: x", b"\x01: x", b"\x00"]
)
def test_malformed_header_line_opens_the_body(line: bytes) -> None:
    assert names_and_body(b"A: 1\r\n" + line + b"\r\nB: 2\r\n\r\nbody\r\n") == (
        ["a"],
        line + b"\r\nB: 2\r\n\r\nbody\r\n",
    )


def test_header_alone_has_an_empty_body() -> None:
    assert names_and_body(b"A: 1\r\nB: 2\r\n") == (["a", "b"], b"")
    assert names_and_body(b"A: 1") == (["a"], b"")
    assert names_and_body(b"A: 1\r\n\r\n") == (["a"], b"")


def test_body_alone_has_no_header() -> None:
    assert names_and_body(b"\r\nbody\r\n") == ([], b"body\r\n")
    assert names_and_body(b"just text\r\n") == ([], b"just text\r\n")
    assert names_and_body(b" starts with a space\r\nA: 1\r\n") == ([], b" starts with a space\r\nA: 1\r\n")
    assert names_and_body(b"") == ([], b"")


def test_nul_stays_where_it_is() -> None:
    parsed = parse(b"A: 1\x002\r\n\r\n\x00\r\n")
    assert parsed.message.headers[0].raw_value == b" 1\x002"
    assert b"".join(parsed.message.body.blocks()) == b"\x00\r\n"


def test_field_names_may_have_blanks_before_the_colon_and_any_case() -> None:
    assert names_and_body(b"SUBJECT \t: x\r\n\r\n")[0] == ["subject"]


def test_value_without_a_space_is_kept_so() -> None:
    header = parse(b"A:1\r\nB:\r\nC: \t \r\n\r\n").message.headers
    assert [h.raw for h in header] == [b"A:1\r\n", b"B:\r\n", b"C: \t \r\n"]


PIECES = st.sampled_from(
    [b"A: 1", b" b", b"\t", b" ", b"\r", b"\n", b"\r\n", b"\n\n", b":", b"\0", b"\xff", b"x", b"From y"]
)


@given(st.one_of(st.binary(), st.lists(PIECES).map(b"".join)))
def test_message_without_removed_fields_is_the_same_octets(raw: bytes) -> None:
    assert parse(raw).raw_unchanged(()) == raw


@given(st.lists(PIECES).map(b"".join))
def test_message_in_crlf_splits_into_what_it_is(raw: bytes) -> None:
    parsed = parse(raw)
    body = b"".join(parsed.message.body.blocks())
    fields = b"".join(header.raw for header in parsed.message.headers)
    assert with_crlf(raw) in {fields + body, fields + b"\r\n" + body, fields.removesuffix(b"\r\n") + body}


def test_only_the_named_field_is_removed() -> None:
    parsed = parse(b"A: 1\nX: 2\n folded\nA: 3\n\nbody\n")
    assert parsed.raw_unchanged((1,)) == b"A: 1\nA: 3\n\nbody\n"


def test_memory_body_gives_its_octets_as_often_as_asked() -> None:
    body = MemoryBody()
    body.append(b"one")
    body.append(b"two")
    assert (body.size, b"".join(body.blocks()), b"".join(body.blocks())) == (6, b"onetwo", b"onetwo")


@pytest.mark.parametrize("piece", [b" a\n", b"A: 1\n", b"a", b"\r", b"\n"])
def test_time_to_split_a_message_is_linear(piece: bytes) -> None:
    raw = b"A: 1\n" + piece * (3_000_000 // len(piece))
    started = time.process_time()
    assert parse(raw).raw_unchanged(()) == raw
    assert time.process_time() - started < 5
