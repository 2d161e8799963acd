"""Packets and armour that smilla writes are read back by its own strict readers."""

from __future__ import annotations

import pytest

from smilla.formats.armour import dearmour
from smilla.formats.openpgp import packets
from smilla.formats.openpgp_write import armoured, mpi, packet


@pytest.mark.parametrize("octets", [0, 1, 191, 192, 8383, 8384, 70000])
def test_packet_of_any_length_is_read_back(octets: int) -> None:
    (found,) = packets(packet(13, b"x" * octets))
    assert (found.tag, found.body) == (13, b"x" * octets)


@pytest.mark.parametrize("octets", [1, 47, 48, 49, 5000])
@pytest.mark.parametrize("comment", ["", "about it"])
def test_armour_is_read_back_with_its_comment(octets: int, comment: str) -> None:
    data = bytes(number % 256 for number in range(octets))
    found = dearmour(armoured("PGP PUBLIC KEY BLOCK", data, comment))
    assert (found.label, found.data) == ("PGP PUBLIC KEY BLOCK", data)
    assert found.headers == ((("Comment", comment),) if comment else ())


def test_number_begins_with_its_highest_bit() -> None:
    assert mpi(b"\0\0\1\xff") == b"\0\x09\1\xff"
    assert mpi(b"") == b"\0\0"
