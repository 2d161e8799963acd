"""Which names of certificates some program may take for the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.formats import der
from smilla.formats.issuer import comparable

COMMON_NAME, ORGANIZATION = "2.5.4.3", "2.5.4.10"


def named(*attributes: tuple[str, int, bytes], serial: bytes = b"\x05") -> bytes:
    rdns = [der.set_of(der.sequence(der.oid(kind), der.tlv(tag, text))) for kind, tag, text in attributes]
    return der.sequence(der.sequence(*rdns), der.tlv(der.INTEGER, serial))


CA = named((COMMON_NAME, 0x0C, "Müller CA".encode()))


@pytest.mark.parametrize(
    "other",
    [
        named((COMMON_NAME, 0x0C, "mÜLLER ca".encode())),
        named((COMMON_NAME, 0x0C, "  Müller \t CA ".encode())),
        named((COMMON_NAME, 0x1E, "Müller CA".encode("utf-16-be"))),
        named((COMMON_NAME, 0x1C, "Müller CA".encode("utf-32-be"))),
        named((COMMON_NAME, 0x14, "Müller CA".encode("latin-1"))),
        named((COMMON_NAME, 0x0C, "Müller CA".encode()), serial=b"\x00\x05"),
    ],
)
def test_name_in_another_spelling_is_the_same(other: bytes) -> None:
    assert comparable(other) == comparable(CA)


@pytest.mark.parametrize(
    "other",
    [
        named((COMMON_NAME, 0x0C, b"Mueller CA")),
        named((ORGANIZATION, 0x0C, "Müller CA".encode())),
        named((COMMON_NAME, 0x0C, "Müller CA".encode()), (ORGANIZATION, 0x0C, b"x")),
        named((COMMON_NAME, 0x0C, "Müller CA".encode()), serial=b"\x06"),
        named((COMMON_NAME, 0x0C, "Müller CA".encode()), serial=b"\xfb"),
        CA[:-1],
    ],
)
def test_another_name_or_number_is_another_one(other: bytes) -> None:
    assert comparable(other) != comparable(CA)


def test_parts_of_one_relative_name_have_no_order() -> None:
    parts = [der.sequence(der.oid(COMMON_NAME), der.tlv(0x0C, text)) for text in (b"b", b"A")]
    one, two = (der.sequence(der.sequence(der.tlv(der.SET, *p)), der.integer(1)) for p in (parts, parts[::-1]))
    assert comparable(one) == comparable(two)


@given(st.binary(max_size=80))
def test_any_octets_are_comparable(raw: bytes) -> None:
    assert comparable(raw) == comparable(bytes(raw))
    hash(comparable(der.sequence(raw)))


def test_long_name_of_a_stranger_is_compared_too() -> None:
    long, other = (named((COMMON_NAME, 0x0C, text * 3000)) for text in (b"ab", b"AB"))
    assert comparable(long) == comparable(other)
