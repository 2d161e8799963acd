"""The OpenPGP engine "sequoia": pysequoia, in process.  The only importer of pysequoia.

Promises: nothing touches a file; memory holds the plaintext once and the ciphertext once.  pysequoia needs the whole
content, and holds the GIL while it works (0.2 ms for a letter, 0.1 s for 25 MB).

pysequoia writes SEIPDv2 (AES-256 with OCB) if every key announces it in its features (RFC 9580 section 5.2.3.32),
otherwise SEIPDv1, even to version 6 keys.  It offers no choice, so we hand it certificates that announce what we want
(see formats/openpgp_binding.py).  It cannot hide recipients, and its wheels lack the Brainpool curves and RSA above
4096 bits.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
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

    from smilla.model import PGPKey, Style

_PIECE = 128 * 1024
_REMEMBERED = 1000  # parsed certificates that each worker keeps; parsing one takes 50 µs


class SequoiaEngine:
    """smilla.ports.OpenPGPEngine by pysequoia.  Raises EngineMissing if it is too old."""

    name = "sequoia"

    def __init__(self) -> None:
        if "armor" not in inspect.signature(pysequoia.encrypt).parameters:
            raise EngineMissing("pysequoia is too old; pip install 'pysequoia>=0.1.35' (the Debian package has it)")

    @staticmethod
    def supports(key: PGPKey, style: Style) -> bool:
        """Whether this engine can encrypt to such a key in this style; it must also be able to verify the key."""
        return not style.hidden_recipients and _knows_curves(key.raw_for_engine)

    @staticmethod
    def fault(key: PGPKey) -> Reason | None:
        """Why it cannot encrypt to this key.  It gets a version 6 certificate as published, and judges it again."""
        if not _knows_curves(key.raw_for_engine):
            return Reason("engine_refuses", f"Sequoia does not know {key.algorithm}")
        fault = ""
        with suppress(EncryptionError):
            fault = _trials.fault(key.raw_for_engine)
        return Reason("engine_refuses", fault) if fault else None

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


class Secret:
    """A transferable secret key, and the key IDs and fingerprints of all its keys, in capitals.  Raises ParseError if
    pysequoia cannot read it, or not decrypt with it, or the passphrase is wrong."""

    def __init__(self, raw: bytes, passphrase: str | None) -> None:
        try:
            self._key = pysequoia.Tsk.from_bytes(raw)
            public = bytes(self._key.extract_certificate())
        except Exception as error:
            raise ParseError("it holds an OpenPGP key that Sequoia cannot read") from error
        self.names = _names(public)
        self.raw, self.passphrase = raw, passphrase
        self._decryptor()

    def _decryptor(self) -> pysequoia.PyDecryptor:
        """Each is good for one message."""
        for passphrase in dict.fromkeys((None, self.passphrase)):
            with suppress(Exception):
                return self._key.decryptor(passphrase)
        raise ParseError("its OpenPGP key cannot decrypt: the passphrase is wrong or missing, or it has no such key")

    def signature(self, raw: bytes, raw_certificates: Sequence[bytes]) -> tuple[str, str]:
        """See ports.OpenPGPReader, for a message that this key has opened, so that its size is known to be bounded."""
        return _judged(lambda store: pysequoia.decrypt(raw, self._decryptor(), store=store), raw_certificates)


def place() -> str:
    """The folder from which pysequoia was imported."""
    return str(Path(pysequoia.__file__).parents[1])


def detached(content: bytes, raw_signature: bytes, raw_certificates: Sequence[bytes]) -> tuple[str, str]:
    """The result and reason, as in decrypt.signature: has one of these certificates signed the content?"""
    try:
        signature = pysequoia.Sig.from_bytes(raw_signature)
    except Exception:
        return "neutral", "malformed"
    return _judged(lambda store: pysequoia.verify(bytes=content, store=store, signature=signature), raw_certificates)


_Store = Callable[[list[str]], list[pysequoia.Cert]]


def _judged(check: Callable[[_Store], pysequoia.Decrypted], raw_certificates: Sequence[bytes]) -> tuple[str, str]:
    """pysequoia raises if no signature is valid, be it that there is none; it asks for the certificates of those that
    there are."""
    known: dict[str, pysequoia.Cert] = {}
    for raw in raw_certificates:
        with suppress(Exception):
            known |= dict.fromkeys(_names(raw), _certificate(raw))
    named: list[str] = []

    def store(names: list[str]) -> list[pysequoia.Cert]:
        named.extend(name.upper() for name in names)
        return list({one.fingerprint: one for one in known.values()}.values())

    try:
        valid = [signature.certificate.upper() for signature in check(store).valid_sigs]
    except Exception:
        valid = []
    signers = [known[name] for name in (valid or named) if name in known]
    if not signers:
        return ("neutral", "no_certificate") if valid or named else ("none", "")
    if any(one.is_revoked for one in signers):
        return "policy", "revoked"
    if any(one.expiration is not None and one.expiration < datetime.now(UTC) for one in signers):
        return "policy", "expired"
    return ("pass", "") if valid else ("fail", "changed")


@lru_cache(_REMEMBERED)
def _names(raw: bytes) -> frozenset[str]:
    """The key IDs and fingerprints of all keys of a certificate, in capitals."""
    found = [parse_key(packet) for packet in packets(raw) if packet.tag in (PUBLIC_KEY, PUBLIC_SUBKEY)]
    return frozenset(name.upper() for key in found for name in (key.key_id, key.fingerprint))


@lru_cache(_REMEMBERED)
def _certificate(raw: bytes) -> pysequoia.Cert:
    return pysequoia.Cert.from_bytes(raw)


def _trial(raw: bytes) -> str:
    """What is wrong with the certificate, "" if a short message can be encrypted to it."""
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
        # One of the keys is to blame: nothing else can fail.  Only the first line is kept; a stack trace of Rust and
        # Python follows, which helps nobody.
        raise KeyRefused(f"Sequoia: {str(error).partition(chr(10))[0]}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # pyo3 turns a Rust panic into this, which is no Exception
            raise
        raise KeyRefused("Sequoia: an internal fault") from None
