"""The DER writer against asn1crypto, the reader against whatever octets come."""

from __future__ import annotations

import pytest
from asn1crypto import core
from hypothesis import given
from hypothesis import strategies as st

from smilla.errors import ParseError
from smilla.formats import der
from tests.certificates import make_certificate


@given(st.integers(-(1 << 200), 1 << 200))
def test_integer_is_written_as_asn1crypto_writes_it(value: int) -> None:
    assert der.integer(value) == core.Integer(value).dump()


@given(st.lists(st.integers(0, 1 << 80), max_size=8), st.integers(0, 2), st.integers(0, 39))
def test_object_identifier_is_written_as_asn1crypto_writes_it_and_reads_back(
    arcs: list[int], first: int, second: int
) -> None:
    dotted = ".".join(map(str, (first, second, *arcs)))
    written = der.oid(dotted)
    assert written == core.ObjectIdentifier(dotted).dump()
    if len(written) <= 66:
        assert der.dotted(der.read(written).content) == dotted


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_length_is_minimal_and_reads_back(size: int) -> None:
    written = der.octet_string(bytes(size))
    assert written == core.OctetString(bytes(size)).dump()
    element = der.read(written)
    assert (element.tag, element.content, element.whole) == (der.OCTET_STRING, bytes(size), written)


def test_header_alone_is_that_of_the_whole_element() -> None:
    assert der.header(der.OCTET_STRING, 300) + bytes(300) == der.octet_string(bytes(300))


def test_set_of_is_in_ascending_order_of_encodings() -> None:
    items = [der.integer(300), der.octet_string(b"b"), der.integer(2), der.octet_string(b"a")]
    written = list(der.read(der.set_of(*items)).children())
    assert [child.whole for child in written] == sorted(items)


def test_context_tags_are_constructed_or_primitive() -> None:
    assert der.context(2, der.null()) == b"\xa2\x02\x05\x00"
    assert der.tlv(0x80, b"ab") == b"\x80\x02ab"
    assert der.bit_string(b"ab") == b"\x03\x03\x00ab"


def test_children_are_read_in_order_and_at_an_offset() -> None:
    raw = b"??" + der.sequence(der.integer(1), der.sequence(der.null()), der.integer(2))
    assert [child.tag for child in der.read(raw, 2).children()] == [der.INTEGER, der.SEQUENCE, der.INTEGER]


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", "nothing"),
        (b"\x30", "no length"),
        (b"\x30\x01", "content cut off"),
        (b"\x30\x80\x00\x00", "indefinite length"),
        (b"\x30\x81\x01\x00", "long form of a short length"),
        (b"\x30\x82\x00\x80" + bytes(128), "leading zero in the length"),
        (b"\x30\x82\x01", "length cut off"),
        (b"\x30\x89" + b"\x01" * 9, "length of nine octets"),
        (b"\x30\xff", "reserved length"),
        (b"\x1f\x01\x00", "high tag number"),
    ],
)
def test_what_is_not_der_is_a_parse_error(raw: bytes, fault: str) -> None:
    with pytest.raises(ParseError):
        der.read(raw)


@pytest.mark.parametrize("offset", [-1, 3, 4, 1 << 40])
def test_an_offset_outside_is_a_parse_error(offset: int) -> None:
    with pytest.raises(ParseError):
        der.read(b"\x02\x01\x05\x00", offset)


def test_a_child_longer_than_its_parent_is_a_parse_error() -> None:
    raw = b"\x30\x03\x04\x05ab" + b"cdefgh"
    with pytest.raises(ParseError):
        list(der.read(raw).children())


@pytest.mark.parametrize("content", [b"", b"\x81", b"\x2a\x86", b"\x01" * 65])
def test_a_malformed_object_identifier_is_a_parse_error(content: bytes) -> None:
    with pytest.raises(ParseError):
        der.dotted(content)


@given(st.binary(max_size=200), st.integers(-2, 201))
def test_any_octets_give_an_element_or_a_parse_error(raw: bytes, offset: int) -> None:
    try:
        element = der.read(raw, offset)
        children = list(element.children())
    except ParseError:
        return
    assert 0 <= element.start < element.content_start <= element.end <= len(raw)
    assert b"".join(child.whole for child in children) == element.content


def test_a_certificate_is_read_to_the_last_octet() -> None:
    _, raw = make_certificate("p256")
    whole = der.read(raw)
    assert whole.end == len(raw)
    assert [child.tag for child in whole.children()] == [der.SEQUENCE, der.SEQUENCE, 0x03]
