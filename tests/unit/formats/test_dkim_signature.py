"""The DKIM-Signature field: which domain signed which fields."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.errors import ParseError
from smilla.formats import dkim_signature
from smilla.formats.dkim_signature import Signature

WHOLE = (
    b" v=1; a=rsa-sha256; c=relaxed/relaxed; d=Example.ORG; s=S1;\r\n"
    b"\th=From:To:\r\n\t Date : Autocrypt; bh=x=;\r\n b=ab\r\n cd==;"
)


def test_tags_are_read_without_their_folding() -> None:
    assert dkim_signature.read(WHOLE) == Signature("example.org", "s1", "abcd==", ("from", "to", "date", "autocrypt"))


@pytest.mark.parametrize("tag", [b"d=Example.ORG", b"s=S1", b"b=ab\r\n cd==", b"h=From:To:\r\n\t Date : Autocrypt"])
def test_signature_without_a_tag_that_it_needs_is_none(tag: bytes) -> None:
    assert WHOLE.count(tag) == 1
    with pytest.raises(ParseError):
        dkim_signature.read(WHOLE.replace(tag, b"x=1"))
    with pytest.raises(ParseError):
        dkim_signature.read(WHOLE.replace(tag, tag[:2]))


@pytest.mark.parametrize(
    "raw", [WHOLE + b" d=other.test", WHOLE + b" nonsense", WHOLE + b" z=\xff", WHOLE + b"x" * 17000]
)
def test_field_that_two_programs_may_read_differently_is_none(raw: bytes) -> None:
    with pytest.raises(ParseError):
        dkim_signature.read(raw)


@given(st.binary(max_size=300) | st.text("dsbh=;: \t\r\n.x", max_size=200).map(str.encode))
def test_any_octets_are_a_signature_or_a_parse_error(raw: bytes) -> None:
    with contextlib.suppress(ParseError):
        assert dkim_signature.read(raw).domain
