"""The OpenPGP engine "sequoia": pysequoia, in process.  The only importer of pysequoia.

Promises: nothing touches a file; the plaintext is held once, the ciphertext once.  pysequoia needs the content whole
and holds the GIL while it works (0.2 ms for a letter, 0.1 s for 25 MB).

pysequoia writes SEIPDv1 unless every key announces SEIPDv2 in its features (RFC 9580 section 5.2.3.32), and gives no
way to choose; version 4 keys come bound so that they announce SEIPDv1 only, and only version 6 keys get SEIPDv2.  It
leaves out the CRC24 of the armour, which every reader tried so far does without.  Its wheels lack the Brainpool
curves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pysequoia

from smilla.errors import EncryptionError
from smilla.formats.openpgp import PUBLIC_KEY, PUBLIC_SUBKEY, packets
from smilla.formats.openpgp_keys import parse_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from smilla.model import PGPKey

_PIECE = 64 * 1024


class SequoiaEngine:
    """smilla.ports.OpenPGPEngine by pysequoia."""

    name = "sequoia"

    @staticmethod
    def supports(key: PGPKey) -> bool:
        """Whether this engine can encrypt to such a key; it must also be able to verify it."""
        keys = [parse_key(p) for p in packets(key.raw_for_engine) if p.tag in (PUBLIC_KEY, PUBLIC_SUBKEY)]
        return not any(found.curve.startswith("brainpool") for found in keys)

    def encrypt(self, content: Iterable[bytes], keys: Sequence[PGPKey]) -> Iterator[bytes]:
        """One armoured message for all ``keys``, CRLF, in blocks.  Raises EncryptionError."""
        message = _encrypt(b"".join(content), keys)
        return (message[at : at + _PIECE].replace(b"\n", b"\r\n") for at in range(0, len(message), _PIECE))


def _encrypt(plaintext: bytes, keys: Sequence[PGPKey]) -> bytes:
    try:
        recipients = [pysequoia.Cert.from_bytes(key.raw_for_engine) for key in keys]
        return bytes(pysequoia.encrypt(plaintext, recipients))
    except Exception as error:
        # The text goes on with a stack trace of Rust and Python, which helps nobody.
        raise EncryptionError(f"Sequoia: {str(error).partition(chr(10))[0]}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what pyo3 makes of a panic in Rust is no Exception
            raise
        raise EncryptionError("Sequoia: an internal fault") from None
