"""The programs that open what smilla writes, each a small class: see ``base.Reader``."""

from __future__ import annotations

from tests.interop.readers.base import Reader, Unopened
from tests.interop.readers.bridged import BouncyCastle, OpenPGPjs, PGPainless, PKIjs, ThunderbirdRNP
from tests.interop.readers.library import Cryptography, Sequoia
from tests.interop.readers.newer import (
    NSS13,
    RNP13,
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

SMIME: tuple[type[Reader], ...] = (
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
OPENPGP: tuple[type[Reader], ...] = (
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

__all__ = ["OPENPGP", "SMIME", "Reader", "Unopened"]
