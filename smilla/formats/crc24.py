"""CRC24, the checksum of armour (RFC 9580 section 6.1.1).

Uses libgcrypt, which is there wherever gpg is and does gigabytes in a second; otherwise Python, a tenth of a gigabyte
in a second.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import cache

_CRC24_RFC2440, _TEST_ALGO = 304, 8  # GCRY_MD_CRC24_RFC2440, GCRYCTL_TEST_ALGO
CRC24_INIT = 0xB704CE
_starting = threading.Lock()
_POLYNOMIAL = 0x1864CFB
# x^782 + x^195 + x^94 + 1 is a multiple of the CRC's polynomial, and so (squaring, over GF(2)) is each
# x^(782*k) + x^(195*k) + x^(94*k) + 1 with k a power of two.  So a long message is folded in half with three shifts
# of whole integers, again and again, which is fifty times as fast as a table and one octet at a time.
_FOLD, _TERM_B, _TERM_C = 782, 195, 94


def _table() -> tuple[int, ...]:
    table = []
    for octet in range(256):
        value = octet << 16
        for _ in range(8):
            value <<= 1
            if value >> 24:
                value ^= _POLYNOMIAL
        table.append(value)
    return tuple(table)


_TABLE = _table()


def crc24(data: bytes, crc: int = CRC24_INIT) -> int:
    """The CRC24 of ``data`` after octets whose CRC24 was ``crc``."""
    fast = _libgcrypt() if len(data) > _FOLD // 8 else None
    return _in_python(data, crc) if fast is None else fast(data, crc)


def _libgcrypt() -> Callable[[bytes, int], int] | None:
    """The same by libgcrypt, None if none with CRC24 is there (in FIPS mode it has none)."""
    with _starting:
        return _started()


@cache
def _started() -> Callable[[bytes, int], int] | None:
    """Only one thread may start libgcrypt: meanwhile the others would find it not ready, and give up on it."""
    try:
        library = ctypes.CDLL("libgcrypt.so.20")
        library.gcry_check_version.restype = ctypes.c_char_p
        library.gcry_md_hash_buffer.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)
        library.gcry_md_hash_buffer.restype = None
        usable = library.gcry_check_version(None) and not library.gcry_md_algo_info(
            _CRC24_RFC2440, _TEST_ALGO, None, None
        )
    except (OSError, AttributeError):
        return None

    def computed(data: bytes, crc: int) -> int:
        # It always starts at CRC24_INIT, so we prepend three octets that lead from there to ``crc``.
        before = CRC24_INIT ^ _times(crc, _BACK_24) if crc != CRC24_INIT else None
        octets = data if before is None else before.to_bytes(3, "big") + data
        digest = ctypes.create_string_buffer(3)
        library.gcry_md_hash_buffer(_CRC24_RFC2440, digest, octets, len(octets))
        return int.from_bytes(digest.raw, "big")

    return computed if usable else None


def _times(one: int, two: int) -> int:
    """The product of two polynomials modulo that of the CRC."""
    product = 0
    for bit in range(24):
        product <<= 1
        if product >> 24:
            product ^= _POLYNOMIAL
        if one << bit & 0x800000:
            product ^= two
    return product


def _power(exponent: int) -> int:
    """x to the ``exponent``, modulo the polynomial of the CRC."""
    result, square = 1, 2
    while exponent:
        if exponent & 1:
            result = _times(result, square)
        square, exponent = _times(square, square), exponent >> 1
    return result


_BACK_24 = _power((1 << 23) - 1 - 24)  # x to the -24, since the order of x is 2^23 - 1


def _in_python(data: bytes, crc: int) -> int:
    if len(data) > _FOLD // 8:
        start = int.from_bytes(data, "big") ^ (crc << (8 * len(data) - 24))
        folded = _fold(start)
        data, crc = folded.to_bytes(_FOLD // 8 + 1, "big"), 0
    for octet in data:
        crc = ((crc << 8) & 0xFFFFFF) ^ _TABLE[(crc >> 16) ^ octet]
    return crc


def _fold(value: int) -> int:
    """An integer of at most 782 bits that leaves the same remainder as ``value``."""
    power = 1 << max(0, (value.bit_length() // _FOLD).bit_length() - 1)
    while power:
        while (bits := value.bit_length()) > _FOLD * power:
            high = value >> (_FOLD * power)
            value ^= (high << (_FOLD * power)) ^ high ^ (high << (_TERM_B * power)) ^ (high << (_TERM_C * power))
            if bits <= value.bit_length():
                raise AssertionError("folding did not shorten")
        power >>= 1
    return value
