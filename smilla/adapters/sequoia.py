"""The OpenPGP engine "sequoia": pysequoia, in process.  The only importer of pysequoia.

Promises: nothing touches a file; the plaintext is held once, the ciphertext once.  pysequoia needs the content whole
and holds the GIL while it works (0.2 ms for a letter, 0.1 s for 25 MB).

pysequoia writes SEIPDv1 unless every key announces SEIPDv2 in its features (RFC 9580 section 5.2.3.32), and gives no
way to choose; version 4 keys come bound so that they announce SEIPDv1 only, and only version 6 keys get SEIPDv2.  Its
wheels lack the Brainpool curves.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import pysequoia

from smilla.errors import EncryptionError
from smilla.formats.openpgp import PUBLIC_KEY, PUBLIC_SUBKEY, packets
from smilla.formats.openpgp_keys import parse_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from smilla.model import PGPKey

_PIECE = 128 * 1024
_REMEMBERED = 1000  # certificates that each worker keeps as pysequoia has read them, which takes it 50 µs


class SequoiaEngine:
    """smilla.ports.OpenPGPEngine by pysequoia."""

    name = "sequoia"

    @staticmethod
    def supports(key: PGPKey) -> bool:
        """Whether this engine can encrypt to such a key; it must also be able to verify it."""
        return _knows_curves(key.raw_for_engine)

    def encrypt(self, content: Iterable[bytes], size: int, keys: Sequence[PGPKey]) -> Iterator[bytes]:
        """One message for all ``keys``, binary, in blocks.  Raises EncryptionError."""
        message = _encrypt(b"".join(content), keys)
        if len(message) <= _PIECE:
            return iter((message,))
        return (message[at : at + _PIECE] for at in range(0, len(message), _PIECE))


@lru_cache(_REMEMBERED)
def _knows_curves(raw: bytes) -> bool:
    keys = [parse_key(packet) for packet in packets(raw) if packet.tag in (PUBLIC_KEY, PUBLIC_SUBKEY)]
    return not any(found.curve.startswith("brainpool") for found in keys)


@lru_cache(_REMEMBERED)
def _certificate(raw: bytes) -> pysequoia.Cert:
    return pysequoia.Cert.from_bytes(raw)


def _encrypt(plaintext: bytes, keys: Sequence[PGPKey]) -> bytes:
    try:
        recipients = [_certificate(key.raw_for_engine) for key in keys]
        return bytes(pysequoia.encrypt(plaintext, recipients, armor=False))
    except Exception as error:
        # The text goes on with a stack trace of Rust and Python, which helps nobody.
        raise EncryptionError(f"Sequoia: {str(error).partition(chr(10))[0]}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what pyo3 makes of a panic in Rust is no Exception
            raise
        raise EncryptionError("Sequoia: an internal fault") from None
