"""BER becomes DER; what is DER already stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.errors import ParseError
from smilla.formats import ber, der

END = b"\0\0"


@pytest.mark.parametrize(
    "raw",
    [
        der.sequence(der.integer(5), der.octet_string(b"x" * 300)),
        der.sequence(der.context(0, der.set_of(der.null())), der.tlv(0x80, b"abc")),
        der.sequence(),
    ],
)
def test_der_stays_as_it_is(raw: bytes) -> None:
    assert ber.to_der(raw) == raw
    assert ber.to_der(raw + b"\r\n \t") == raw


def test_indefinite_lengths_become_definite() -> None:
    inner = b"\xa0\x80" + der.integer(1) + END
    assert ber.to_der(b"\x30\x80" + inner + inner + END) == der.sequence(*[der.context(0, der.integer(1))] * 2)


def test_long_lengths_become_short() -> None:
    assert ber.to_der(b"\x30\x84\0\0\0\x03\x02\x01\x05") == der.sequence(der.integer(5))


def test_segments_of_an_octet_string_are_joined_however_deep() -> None:
    deep = b"\x24\x80" + der.octet_string(b"b") + der.octet_string(b"c") + END
    assert ber.to_der(b"\x24\x80" + der.octet_string(b"a") + deep + END) == der.octet_string(b"abc")
    tagged = der.read(ber.to_der(b"\xa0\x80" + der.octet_string(b"a") + deep + END))
    assert ber.joined(tagged) == b"abc"
    assert ber.joined(der.read(der.tlv(0x80, b"abc"))) == b"abc"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x30",
        b"\x30\x05\x02",
        b"\x30\x80\x02\x01\x05",  # no end
        b"\x30\x80" + END + b"x",
        b"\x04\x80ab" + END,  # a primitive without an end
        b"\x24\x80\x02\x01\x05" + END,  # a segment that is an integer
        b"\x3f\x1f\x00",
        b"\x30\x02" + b"\x30\x80" + END,  # the inner one goes past the outer one
        b"\x30\x80" * 40 + END * 40,
        b"\x30\x80" + der.null() * 50_000 + END,
    ],
)
def test_malformed_octets_are_a_parse_error(raw: bytes) -> None:
    with pytest.raises(ParseError):
        ber.to_der(raw)


def test_string_of_other_things_is_a_parse_error() -> None:
    with pytest.raises(ParseError):
        ber.joined(der.read(der.context(0, der.integer(1))))


@given(st.binary(max_size=60))
def test_any_octets_give_der_or_a_parse_error(raw: bytes) -> None:
    try:
        found = ber.to_der(raw)
    except ParseError:
        return
    assert der.read(found).end == len(found)
