"""What our own verifiers say: read by the grammar, and nothing that breaks it counts."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.errors import ParseError
from smilla.formats import authentication_results
from smilla.formats.authentication_results import Result

OURS = "mx.home.test"


def read(text: str) -> tuple[Result, ...]:
    return authentication_results.results_of(text.encode(), OURS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" mx.home.test; none", ()),
        (" mx.home.test", ()),
        (" mx.other.test; dmarc=pass header.from=a.test", ()),
        (" MX.home.test 1; dmarc=pass", (Result("dmarc", "pass"),)),
        (
            " mx.home.test; dmarc=pass (p=none dis=none) header.from=a.test",
            (Result("dmarc", "pass", (("header.from", "a.test"),)),),
        ),
        (
            ' mx.home.test;\r\n\tdkim=pass (2048-bit key) header.d=a.test header.i=@a.test header.b="x/y+z="',
            (Result("dkim", "pass", (("header.d", "a.test"), ("header.i", "@a.test"), ("header.b", "x/y+z="))),),
        ),
        (
            ' mx.home.test; spf = fail smtp.mailfrom = "a;b"@c.test; DKIM/1=Pass reason="x; y"',
            (Result("spf", "fail", (("smtp.mailfrom", "a;b@c.test"),)), Result("dkim", "pass", (("reason", "x; y"),))),
        ),
    ],
)
def test_results_of_our_server_are_read(text: str, expected: tuple[Result, ...]) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "; dmarc=pass",
        "two words; dmarc=pass",
        ' "mx.home.test"; dmarc=pass',
        "mx.home.test.; dmarc=pass",
        "mx.home.test; dmarc",
        "mx.home.test; dmarc=pass header.from",
        "mx.home.test; dmarc=pass =a.test",
        "mx.home.test; =pass",
        'mx.home.test; "dmarc"=pass',
        "mx.home.test; dmarc=pass header.from=a.test (unclosed",
        'mx.home.test; dmarc=pass "unclosed',
        "mx.home.test; dmarc=pass header.from=a\u00e9.test",
        "mx.home.test; dmarc=pa.ss",
        "mx.home.test; dmarc=pass\0",
        "mx.home.test; dmarc=pass " + "x" * 60_001,
    ],
)
def test_field_of_ours_that_breaks_the_grammar_says_nothing(text: str) -> None:
    with pytest.raises(ParseError):
        read(text)


def test_comment_or_quoted_string_is_no_result() -> None:
    assert read("mx.home.test; dmarc=fail (dmarc=pass) header.from=a.test")[0].result == "fail"
    assert read('mx.home.test; dmarc=fail reason="; dmarc=pass"')[0].result == "fail"
    assert len(read('mx.home.test; dmarc=fail reason="; dmarc=pass"')) == 1


@given(st.text('mx.hoetd=acrkps;:()"\\ \t\r\n/', max_size=120))
def test_any_text_is_results_or_a_parse_error(text: str) -> None:
    with contextlib.suppress(ParseError):
        for result in read(f"mx.home.test; {text}"):
            assert result.method
