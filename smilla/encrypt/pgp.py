"""Content and OpenPGP keys in, one armoured OpenPGP message out (RFC 9580 section 10.3), or EncryptionError.

Promises: nothing but keys that ``smilla.validity`` passed reaches an engine, and no block leaves before the engine's
output has been seen to begin as encrypted session keys, one a key, and encrypted data.  So an engine that fails without
saying so cannot hand plaintext through.  Lines end in CRLF and hold ASCII only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smilla.errors import EncryptionError, ParseError
from smilla.formats.armour import MESSAGE, ArmourReader
from smilla.formats.openpgp import SEIPD, EncryptedMessageReader, check_message_headers
from smilla.model import PGPKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from smilla.ports import OpenPGPEngine

_END = f"-----END {MESSAGE}-----\r\n".encode()
_MAX_HEAD = 4 * 1024 * 1024  # some two thousand recipients


def encrypt(content: Iterable[bytes], keys: Sequence[PGPKey], engine: OpenPGPEngine) -> Iterator[bytes]:
    """The blocks of one message for all ``keys``.

    Raises TypeError for what is not a PGPKey, EncryptionError for no key at all, for an engine that fails, and for
    output that is not an encrypted message; the latter two only when the blocks are asked for.
    """
    for key in keys:
        if not isinstance(key, PGPKey):
            raise TypeError(f"{type(key).__name__} is not a key that passed the gate for OpenPGP")
    if not keys:
        raise EncryptionError("there is no key to encrypt to")
    return _checked(engine, content, tuple(keys))


def _checked(engine: OpenPGPEngine, content: Iterable[bytes], keys: tuple[PGPKey, ...]) -> Iterator[bytes]:
    blocks = iter(engine.encrypt(content, keys))
    held = _proven_head(engine.name, blocks, len(keys))
    lines = _LineCheck(engine.name)
    while held:
        yield lines.passed(held.pop(0))
    for block in blocks:
        yield lines.passed(block)
    lines.finish()


def _proven_head(name: str, blocks: Iterator[bytes], recipients: int) -> list[bytes]:
    """The blocks up to the one with the beginning of the encrypted data."""
    armour, message = ArmourReader(check_message_headers), EncryptedMessageReader()
    held: list[bytes] = []
    size = 0
    try:
        for block in blocks:
            held.append(block)
            size += len(block)
            for octets in armour.feed(block):
                message.feed(octets)
            if message.container or size > _MAX_HEAD:
                break
    except ParseError as error:
        raise EncryptionError(f"the engine {name} did not write an encrypted message: {error}") from error
    if armour.label != MESSAGE or message.container != SEIPD:
        raise EncryptionError(f"the engine {name} did not write an encrypted message that others can read")
    if message.recipients < recipients:
        raise EncryptionError(f"the engine {name} encrypted to {message.recipients} of {recipients} keys")
    return held


class _LineCheck:
    """Holds the output to ASCII and CRLF, block by block, and to a proper end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tail = b""

    def passed(self, block: bytes) -> bytes:
        """The block itself, where it may leave."""
        seam = (b"\r" if self._tail.endswith(b"\r") else b"") + block
        whole = seam.count(b"\r\n")
        cut = seam.endswith(b"\r")
        if not block.isascii() or seam.count(b"\n") != whole or seam.count(b"\r") != whole + cut:
            raise EncryptionError(f"the engine {self._name} wrote lines that mail cannot carry")
        self._tail = (self._tail + block)[-len(_END) :]
        return block

    def finish(self) -> None:
        """Raises EncryptionError where the last line is not the end of the armour."""
        if self._tail != _END:
            raise EncryptionError(f"the engine {self._name} stopped before the end of the message")
