"""Splitting a message: nothing is lost, nothing is reserialised."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.message import MemoryBody, parse, with_crlf, without_beginning


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


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("blank", [b" ", b"\t", b" \t "])
def test_line_of_white_space_goes_on_with_its_field(blank: bytes, end: bytes) -> None:
    raw = end.join([b"A: 1", blank, b" 2", b"B: 3", blank, b"", b"body", b""])
    parsed = parse(raw)
    assert [header.raw for header in parsed.message.headers] == [
        b"A: 1\r\n" + blank + b"\r\n 2\r\n",
        b"B: 3\r\n" + blank + b"\r\n",
    ]
    assert b"".join(parsed.message.body.blocks()) == b"body\r\n"
    assert parsed.raw_unchanged(()) == raw


def test_line_of_white_space_before_any_field_opens_the_body() -> None:
    assert names_and_body(b" \r\nA: 1\r\n") == ([], b" \r\nA: 1\r\n")


HEADER = b"From: a@x.org\nTo: b@x.org\n\nbody\n"


@pytest.mark.parametrize(
    "line",
    [
        b"From a@x.test Mon Jan  1 00:00:00 2024",
        b">From MAILER-DAEMON Thu Nov 26 09:10:11 2026\r",
        b"From 1780@xxx  Sat Mar 21 09:10:11 +0000 2026",
    ],
)
def test_one_usual_field_after_a_dated_mbox_line_is_a_header(line: bytes) -> None:
    header = b"Subject: x\n\nhello\n"
    assert without_beginning(line + b"\n" + header) == (header, (MBOX,))
    assert without_beginning(line + b"\nhello\n") == (line + b"\nhello\n", ())


MARK, MBOX, EMPTY = "a byte order mark", "an mbox line", "an empty line"


@pytest.mark.parametrize(
    ("before", "skipped"),
    [
        (b"", ()),
        (b"\xef\xbb\xbf", (MARK,)),
        (b"From a@x.org Mon Jan  1 08:00:00 2024\n", (MBOX,)),
        (b">From - Mon Jan  1 08:00:00 2024\r\n", (MBOX,)),
        (b"\n", (EMPTY,)),
        (b"\r\n\n\r\n", (EMPTY,)),
        (b"\xef\xbb\xbfFrom a@x.org Mon\n>From b@x.org Tue\n\n", (MARK, MBOX, EMPTY)),
        (b"\n\nFrom a@x.org Mon\n", (EMPTY, MBOX)),
    ],
)
def test_what_stands_before_the_header_is_skipped_and_named(before: bytes, skipped: tuple[str, ...]) -> None:
    for header in (HEADER, with_crlf(HEADER)):
        assert without_beginning(before + header) == (header, skipped)


@pytest.mark.parametrize(
    "raw",
    [
        b"\nDear Bob,\n\nthe password is swordfish\n",
        b"\nPassword: swordfish\nTo: the bank\n",
        b"From here on all is well.\n\nYours\n",
        b"\xef\xbb\xbfDear Bob\n",
        b"\n" * 9,
        b"From a@x.org Mon",
        b"From : a@x.org\nTo: b@x.org\nSubject: x\n\nbody\n",
        b"From \t: a@x.org\nTo: b@x.org\nSubject: x\n\nbody\n",
        b" \n" + HEADER,
        b"From: a@x.org\n\nFrom b@x.org Mon\nTo: x\nSubject: y\n",
        b"",
    ],
)
def test_where_no_header_follows_nothing_is_skipped(raw: bytes) -> None:
    assert without_beginning(raw) == (raw, ())


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


def _is_linear(work: Callable[[bytes], object], raw: bytes) -> bool:
    """32 times as much takes about 32 times as long, and not 1,024 times; a busy machine does not hide that."""

    def seconds(octets: bytes) -> float:
        began = time.process_time()
        work(octets)
        return time.process_time() - began

    for _ in range(5):
        small, large = (min(seconds(raw * times) for _ in range(3)) for times in (1, 32))
        if large < 180 * small + 0.005:
            return True
    return False


def test_what_takes_the_square_of_the_time_is_noticed() -> None:
    def work(raw: bytes) -> int:
        return sum(1 for _ in range(len(raw) ** 2 // 300))

    assert not _is_linear(work, b"a" * 1000)


@pytest.mark.parametrize("piece", [b"\n", b"From \n", b"\xef\xbb\xbf", b">From x"])
def test_time_to_skip_is_linear(piece: bytes) -> None:
    assert _is_linear(lambda raw: without_beginning(raw + HEADER), piece * (30_000 // len(piece)))


@pytest.mark.parametrize("piece", [b" a\n", b" \n", b"A: 1\n", b"a", b"\r", b"\n"])
def test_time_to_split_a_message_is_linear(piece: bytes) -> None:
    def work(raw: bytes) -> None:
        assert parse(b"A: 1\n" + raw).raw_unchanged(()) == b"A: 1\n" + raw

    assert _is_linear(work, piece * (30_000 // len(piece)))
