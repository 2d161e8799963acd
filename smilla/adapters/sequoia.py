"""The OpenPGP engine "sequoia": pysequoia, in process.  The only importer of pysequoia.

Promises: nothing touches a file; the plaintext is held once, the ciphertext once.  pysequoia needs the content whole
and holds the GIL while it works (0.2 ms for a letter, 0.1 s for 25 MB).

pysequoia writes SEIPDv2 (AES-256 with OCB) where every key announces it in its features (RFC 9580 section 5.2.3.32),
else SEIPDv1, to version 6 keys also, and gives no way to choose; so it is handed certificates that announce what they
shall (see formats/openpgp_binding.py).  It has no hidden recipients, and its wheels lack the Brainpool curves
and RSA above 4096 bits.
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

import pysequoia

from smilla.adapters.trials import Trials
from smilla.errors import EncryptionError, EngineMissing, KeyRefused, ParseError
from smilla.formats.openpgp import PUBLIC_KEY, PUBLIC_SUBKEY, packets
from smilla.formats.openpgp_keys import parse_key
from smilla.formats.openpgp_output import OutputReader
from smilla.model import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from smilla.model import PGPKey
    from smilla.model.style import Style

_PIECE = 128 * 1024
_REMEMBERED = 1000  # certificates that each worker keeps as pysequoia has read them, which takes it 50 µs


class SequoiaEngine:
    """smilla.ports.OpenPGPEngine by pysequoia.  Raises EngineMissing where it is too old."""

    name = "sequoia"

    def __init__(self) -> None:
        if "armor" not in inspect.signature(pysequoia.encrypt).parameters:
            raise EngineMissing("pysequoia is too old; pip install 'pysequoia>=0.1.35'")

    @staticmethod
    def supports(key: PGPKey, style: Style) -> bool:
        """Whether this engine can encrypt to such a key in such a way; it must also be able to verify it."""
        return not style.hidden_recipients and _knows_curves(key.raw_for_engine)

    @staticmethod
    def fault(key: PGPKey) -> Reason | None:
        """Why it cannot encrypt to this key: a version 6 certificate, which it gets as it came, it judges once more."""
        if not _knows_curves(key.raw_for_engine):
            return Reason("engine_refuses", f"Sequoia does not know {key.algorithm}")
        said = ""
        with suppress(EncryptionError):
            said = _trials.fault(key.raw_for_engine)
        return Reason("engine_refuses", said) if said else None

    def only_by(self, key: PGPKey) -> str:
        """There is no other engine."""
        return ""

    def encrypt(self, content: Iterable[bytes], size: int, keys: Sequence[PGPKey], style: Style) -> Iterator[bytes]:
        """One message for all ``keys``, binary, in blocks.  Raises EncryptionError."""
        if style.hidden_recipients:
            raise EncryptionError("Sequoia has no hidden recipients: openpgp.hidden_recipients needs gpg")
        announced = style.seipd2 == "announced"
        raw_keys = [key.raw_for_seipd2 if announced else key.raw_for_engine for key in keys]
        message = _encrypt(b"".join(content), raw_keys)
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


def _trial(raw: bytes) -> str:
    """What is wrong with the certificate, "" where a short message can be encrypted to it."""
    try:
        reader = OutputReader()
        reader.feed(_encrypt(b"trial", [raw]))
        reader.finish()
    except (KeyRefused, ParseError) as error:
        return str(error)
    return ""


_trials = Trials(_trial)


def _encrypt(plaintext: bytes, raw_keys: Sequence[bytes]) -> bytes:
    try:
        recipients = [_certificate(raw) for raw in raw_keys]
        return bytes(pysequoia.encrypt(plaintext, recipients, armor=False))
    except MemoryError as error:
        raise EncryptionError("Sequoia: out of memory") from error
    except Exception as error:
        # It is one of the keys: nothing else can fail.  The text goes on with a stack trace of Rust and Python, which
        # helps nobody.
        raise KeyRefused(f"Sequoia: {str(error).partition(chr(10))[0]}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what pyo3 makes of a panic in Rust is no Exception
            raise
        raise KeyRefused("Sequoia: an internal fault") from None
