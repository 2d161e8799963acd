"""Content and OpenPGP keys in, one armoured OpenPGP message out (RFC 9580 section 10.3), or EncryptionError.

Promises: no engine gets a key that ``smilla.keys.validity`` did not pass.  No block leaves before we have seen the
engine's output begin with encrypted session keys, one for each key, and encrypted data.  So an engine that fails
silently cannot let plaintext through.  The last block leaves only if the encrypted data is complete and nothing follows
it.

We make the armour here, for both engines alike: no header lines, lines of 76 with CRLF, and a CRC24 only with version 1
of the encrypted data.  RFC 9580 section 6.1 makes it optional there, but gpg 2.2 cannot open armour without it if the
octets are a multiple of three; with version 2 it is forbidden.  gpg's own armour takes longer than its encryption.
"""

from __future__ import annotations

from base64 import b64encode
from itertools import chain
from typing import TYPE_CHECKING

from smilla.errors import EncryptionError, ParseError
from smilla.formats.armour import MESSAGE
from smilla.formats.base64_lines import base64_lines
from smilla.formats.crc24 import CRC24_INIT, crc24
from smilla.formats.openpgp_output import OutputReader
from smilla.model import PGPKey, Style

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from smilla.ports import OpenPGPEngine

_BEGIN = f"-----BEGIN {MESSAGE}-----\r\n\r\n".encode()
_PLAIN_STYLE = Style()
_END = f"-----END {MESSAGE}-----\r\n".encode()


def encrypt(
    content: Iterable[bytes], size: int, keys: Sequence[PGPKey], engine: OpenPGPEngine, style: Style = _PLAIN_STYLE
) -> Iterator[bytes]:
    """The blocks of one message for all ``keys``; ``size`` is the content's length in octets.

    Raises TypeError for anything but a PGPKey.  Raises EncryptionError if there is no key, and, once the blocks are
    read, for an engine that fails, content of another size, and output that is not an encrypted message.
    """
    for key in keys:
        if not isinstance(key, PGPKey):
            raise TypeError(f"{type(key).__name__} is not a key that passed the gate for OpenPGP")
    if not keys:
        raise EncryptionError("there is no key to encrypt to")
    return _armoured(engine, _Content(content, size), _each_once(keys), style)


def _each_once(keys: Iterable[PGPKey]) -> tuple[PGPKey, ...]:
    """The keys, minus any that is another one's encryption subkey: gpg uses only one of the two.  Nobody has to prove
    that such a subkey is theirs, and a stranger who publishes Alice's as his own must not be able to block messages to
    both.  Of two such keys, we keep the one that announces less."""
    once: dict[str, PGPKey] = {}
    for key in keys:
        subkey = key.encrypts_to or key.raw_for_engine.hex()
        if subkey not in once or not key.raw_bound_seipd2:
            once[subkey] = key
    return tuple(once.values())


class _Content:
    """Content in blocks.  It must have the stated length and be read to its end; otherwise the message would be cut
    short."""

    def __init__(self, blocks: Iterable[bytes], size: int) -> None:
        self._blocks, self.size = blocks, size
        self.is_whole = False

    def __iter__(self) -> Iterator[bytes]:
        left = self.size
        for block in self._blocks:
            left -= len(block)
            yield block
        if left:
            raise EncryptionError(f"content of {self.size - left} octets instead of {self.size}")
        self.is_whole = True


def _armoured(engine: OpenPGPEngine, content: _Content, keys: tuple[PGPKey, ...], style: Style) -> Iterator[bytes]:
    blocks = engine.encrypt(content, content.size, keys, style)
    reader = OutputReader()
    head = _proven_head(engine.name, reader, blocks)
    _check_readers(engine.name, reader, keys, style)
    crc = CRC24_INIT

    def checked() -> Iterator[bytes]:
        nonlocal crc
        for block in chain([head], _checked(engine.name, reader, blocks, content)):
            crc = crc24(block, crc) if reader.version == 1 else crc
            yield block

    lines = base64_lines(checked())
    held = _BEGIN + next(lines, b"")
    for block in lines:
        yield held
        held = block
    footer = b"=" + b64encode(crc.to_bytes(3, "big")) + b"\r\n" if reader.version == 1 else b""
    yield held + footer + _END


def _proven_head(name: str, reader: OutputReader, blocks: Iterator[bytes]) -> bytes:
    """Everything up to the block in which the encrypted data begins."""
    held = []
    try:
        for block in blocks:
            held.append(block)
            reader.feed(block)
            if reader.begun:
                break
    except ParseError as error:
        raise EncryptionError(f"the engine {name} did not write an encrypted message: {error}") from error
    if not reader.begun:
        raise EncryptionError(f"the engine {name} did not write an encrypted message")
    return b"".join(held)


def _check_readers(name: str, reader: OutputReader, keys: tuple[PGPKey, ...], style: Style) -> None:
    """Can all recipients read it, and nobody else, and is every hidden recipient unnamed?"""
    # The engine gets a version 6 certificate as it is, and its primary key may be for encryption too.
    most = len(keys) + sum(key.version == 6 for key in keys)
    if not len(keys) <= reader.recipients <= most:
        raise EncryptionError(f"the engine {name} encrypted to {reader.recipients} keys instead of {len(keys)}")
    if reader.anonymous != (reader.recipients if style.hidden_recipients else 0):
        raise EncryptionError(f"the engine {name} hid {reader.anonymous} of {reader.recipients} recipients")
    announced = style.seipd2 == "announced"
    fit = (key.version == 6 or (announced and key.raw_bound_seipd2) for key in keys)
    if reader.version == 2 and not all(fit):
        raise EncryptionError(f"the engine {name} wrote SEIPDv2, which not every recipient reads")


def _checked(name: str, reader: OutputReader, blocks: Iterator[bytes], content: _Content) -> Iterator[bytes]:
    """The remaining blocks, checked as they pass."""
    try:
        for block in blocks:
            reader.feed(block)
            yield block
        reader.finish()
    except ParseError as error:
        raise EncryptionError(f"the engine {name} did not write a whole message: {error}") from error
    if not content.is_whole:
        raise EncryptionError(f"the engine {name} did not read all of the content")
