"""The programs that open what smilla writes, each a small class: see ``base.Reader``."""

from __future__ import annotations

from tests.interop.readers.base import Reader, Unopened
from tests.interop.readers.bridged import BouncyCastle, OpenPGPjs, PGPainless, PKIjs, ThunderbirdRNP
from tests.interop.readers.library import Cryptography, Sequoia
from tests.interop.readers.newer import (
    NSS13,
    RNP13,
    THIS_MACHINE_S,
    BouncyCastle13,
    GnuPG13,
    GoSOP13,
    GpgSM13,
    OpenSSL13,
    PGPainless13,
    Sq13,
    Sqop13,
)
from tests.interop.readers.pgp_programs import GnuPG, GoSOP, Sq, Sqop, TheRNP
from tests.interop.readers.smime_programs import NSS, GpgSM, OpenSSL, ThunderbirdNSS

ALL_SMIME: tuple[type[Reader], ...] = (
    OpenSSL,
    OpenSSL13,
    GpgSM,
    GpgSM13,
    NSS,
    NSS13,
    ThunderbirdNSS,
    BouncyCastle,
    BouncyCastle13,
    PKIjs,
    Cryptography,
)
ALL_OPENPGP: tuple[type[Reader], ...] = (
    GnuPG,
    GnuPG13,
    TheRNP,
    RNP13,
    ThunderbirdRNP,
    Sq,
    Sq13,
    Sqop,
    Sqop13,
    Sequoia,
    GoSOP,
    GoSOP13,
    PGPainless,
    PGPainless13,
    OpenPGPjs,
)


def _here(readers: tuple[type[Reader], ...]) -> tuple[type[Reader], ...]:
    """Without the older of each pair where this machine's own program is the newer one."""
    doubled = {base for reader in readers for base in reader.__bases__} if THIS_MACHINE_S else set()
    return tuple(reader for reader in readers if reader not in doubled)


SMIME, OPENPGP = _here(ALL_SMIME), _here(ALL_OPENPGP)

__all__ = ["ALL_OPENPGP", "ALL_SMIME", "OPENPGP", "SMIME", "Reader", "Unopened"]
