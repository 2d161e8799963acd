"""Where messages begin and end in an mbox; and where nobody can know."""

from __future__ import annotations

import io

import pytest

from smilla.errors import ParseError
from smilla.formats import mbox
from smilla.formats.mbox import Span

FROM = b"From sam@sender.example Mon Jan  1 08:00:00 2024\n"
ONE, TWO = b"Subject: one\n\nfirst\n\n", b"Subject: two\n\nsecond\n"


def pieces(raw: bytes) -> list[tuple[bytes, bytes, bool, bool]]:
    found = list(mbox.spans(io.BytesIO(raw)))
    assert [span.begin for span in found] == [0, *[span.end for span in found[:-1]]][: len(found)]
    assert not found or found[-1].end == len(raw)
    return [(raw[s.begin : s.content], raw[s.content : s.end], s.unclear, s.is_quoted) for s in found]


def test_messages_follow_each_other_without_a_gap() -> None:
    assert pieces(FROM + ONE + FROM + TWO) == [(FROM, ONE, False, False), (FROM, TWO, False, False)]
    crlf = (FROM + ONE + FROM + TWO).replace(b"\n", b"\r\n")
    assert [piece[1] for piece in pieces(crlf)] == [ONE.replace(b"\n", b"\r\n"), TWO.replace(b"\n", b"\r\n")]
    assert pieces(b"") == []
    assert list(mbox.spans(io.BytesIO(FROM))) == [Span(0, len(FROM), len(FROM), False, False)]


@pytest.mark.parametrize(
    "line",
    [
        b"From sam@sender.example Mon Jan  1 08:00:00 2024\n",
        b"From sam@sender.example Mon Jan 01 08:00 2024\n",
        b"From sam@sender.example  Sun Nov 29 23:59:59 2026 +0100\n",
        b"From MAILER-DAEMON Fri Jul  8 12:08:34 CEST 2011\n",
        b"From - Sat Nov 28 06:00:00 2026\r\n",
        b'From "a b"@example.org Tue Feb  3 04:05:06 2015\n',
        b"From \n",
        b"From \r\n",
        b"From\x20sam Wed Mar 11 1:02:03 MET DST 2009\n",
    ],
)
def test_line_with_a_date_or_nothing_else_begins_a_message(line: bytes) -> None:
    assert [piece[0] for piece in pieces(FROM + ONE + line + TWO)] == [FROM, line]


@pytest.mark.parametrize(
    "line",
    [
        b"From now on, we meet on Mon Jan  1 at 08:00:00 in 2024.\n",
        b"From Monday to Friday\n",
        b"From: sam\n",
        b"from sam@sender.example Mon Jan  1 08:00:00 2024\n",
        b"Frombuch Mon Jan  1 08:00:00 2024\n",
        b" From sam@sender.example Mon Jan  1 08:00:00 2024\n",
    ],
)
def test_any_other_line_begins_none_and_is_unclear_if_a_reader_may_take_it_for_one(line: bytes) -> None:
    (_, content, unclear, _), _ = pieces(FROM + ONE + line + b"more\n\n" + FROM + TWO)
    assert content == ONE + line + b"more\n\n"
    assert unclear is line.startswith(b"From ")


def test_line_that_no_empty_one_precedes_begins_nothing() -> None:
    raw = FROM + b"Subject: x\n\nwrote:\n" + FROM + b"y\n"
    assert pieces(raw) == [(FROM, raw[len(FROM) :], False, False)]


@pytest.mark.parametrize("line", [b">From here\n", b">>From here\n"])
def test_quoted_line_is_told(line: bytes) -> None:
    assert pieces(FROM + ONE + line)[0][2:] == (False, True)
    assert pieces(FROM + b"Subject: x\n" + line + b"\nbody\n")[0][2:] == (False, False)
    assert pieces(FROM + ONE + b" " + line)[0][2:] == (False, False)


@pytest.mark.parametrize("end", [b"", b"\n", b"\n" + FROM + TWO])
def test_length_that_goes_past_the_next_line_makes_it_unclear(end: bytes) -> None:
    inner = b"see:\n\n" + FROM + b"Subject: inside\n\nbody\n"
    raw = FROM + b"Content-Length: %d\n\n" % len(inner) + inner + end
    found = pieces(raw)
    assert found[0][1] == raw[len(FROM) : len(raw) - len(end) + (1 if end else 0)]
    assert found[0][2]
    assert [piece[2] for piece in found[1:]] == ([False] if len(end) > 1 else [])


@pytest.mark.parametrize("length", [0, 3, 5, 6, 7, 10, 10_000, 99999999999])
def test_length_that_ends_nowhere_says_nothing(length: int) -> None:
    raw = FROM + b"content-length : %d\nSubject: one\n\nfirst\n\n" % length + FROM + TWO
    assert [piece[2] for piece in pieces(raw)] == [False, False]


def test_long_lines_are_read_in_pieces_and_no_piece_begins_a_message() -> None:
    long = b"x" * ((1 << 20) - 1) + b"\n" + b"y" * (1 << 20) + FROM
    raw = FROM + b"Subject: x\n\n" + long + b"\n" + FROM + TWO
    assert [piece[1] for piece in pieces(raw)] == [b"Subject: x\n\n" + long + b"\n", TWO]


@pytest.mark.parametrize("raw", [b"Subject: x\n\n", b"\n" + FROM + ONE, b"\xef\xbb\xbf" + FROM])
def test_what_begins_otherwise_is_no_mbox(raw: bytes) -> None:
    with pytest.raises(ParseError):
        list(mbox.spans(io.BytesIO(raw)))


def test_quotes_come_and_go() -> None:
    raw = b"a\nFrom b\n>From c\n>>From d\n> From\nFrom\n"
    quoted = b"a\n>From b\n>>From c\n>>>From d\n> From\nFrom\n"
    assert mbox.with_quotes(raw) == quoted
    assert mbox.without_quotes(quoted) == raw
    assert mbox.would_split(raw)
    assert not mbox.would_split(quoted)
    assert mbox.would_be_quoted(quoted)
    assert not mbox.would_be_quoted(b"From\n> From x\n")
