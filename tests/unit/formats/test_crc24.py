"""CRC24: libgcrypt and Python agree, and the pieces with the whole."""

from __future__ import annotations

import ctypes
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smilla.formats import crc24 as module
from smilla.formats.crc24 import CRC24_INIT, crc24


def by_the_octet(data: bytes) -> int:
    crc = CRC24_INIT
    for octet in data:
        crc = crc24(bytes([octet]), crc)
    return crc


def test_crc24_has_the_known_check_value() -> None:
    assert crc24(b"123456789") == 0x21CF02  # the catalogue's CRC-24/OPENPGP
    assert crc24(b"") == 0xB704CE


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600), st.binary(max_size=300))
def test_crc24_of_a_long_message_is_that_of_its_pieces(one: bytes, two: bytes) -> None:
    assert crc24(two, crc24(one)) == crc24(one + two) == by_the_octet(one + two)


@pytest.mark.parametrize("size", [97, 98, 1000, 65_536])
def test_crc24_is_the_same_without_libgcrypt(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module._libgcrypt() is not None  # every Debian has it
    data = os.urandom(size)
    found = crc24(data), crc24(data, 0), crc24(data, 0xFFFFFF), crc24(data, 0x123456)
    monkeypatch.setattr(module, "_libgcrypt", lambda: None)
    assert found == (crc24(data), crc24(data, 0), crc24(data, 0xFFFFFF), crc24(data, 0x123456))
    assert found[0] == by_the_octet(data)


def test_libgcrypt_is_started_by_one_thread_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one, while it starts, would find it not ready, and use Python's until the process ends."""
    starts: list[int] = []
    real = ctypes.CDLL

    def slow(name: str) -> ctypes.CDLL:
        starts.append(threading.get_ident())
        together.wait(0.2)
        library: ctypes.CDLL = real(name)
        return library

    together = threading.Event()
    monkeypatch.setattr(ctypes, "CDLL", slow)
    module._started.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: module._libgcrypt(), range(8)))
    assert len(starts) == 1
    assert len(set(found)) == 1
