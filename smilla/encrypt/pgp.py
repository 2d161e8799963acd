"""Content and OpenPGP keys in, one armoured OpenPGP message out (RFC 9580 section 10.3), or EncryptionError.

Promises: nothing but keys that ``smilla.validity`` passed reaches an engine, and no block leaves before the engine's
output has been seen to begin as encrypted session keys, one a key, and encrypted data.  So an engine that fails without
saying so cannot hand plaintext through.  The last block leaves only where the encrypted data is complete and nothing
follows it.

The armour is made here, for both engines alike: no header lines, lines of 76 with CRLF, and a CRC24 before version 1 of
the encrypted data only.  RFC 9580 section 6.1 makes it optional there, but gpg 2.2 opens no armour without it whose
octets are a multiple of three; before version 2 it must not stand.  gpg's own armour takes longer than its encryption.
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
from smilla.model import PGPKey
from smilla.model.style import Style

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

    Raises TypeError for what is not a PGPKey, EncryptionError for no key at all, for an engine that fails, for content
    of another size, and for output that is not an encrypted message; the latter three only when the blocks are asked
    for.
    """
    for key in keys:
        if not isinstance(key, PGPKey):
            raise TypeError(f"{type(key).__name__} is not a key that passed the gate for OpenPGP")
    if not keys:
        raise EncryptionError("there is no key to encrypt to")
    return _armoured(engine, _Content(content, size), _each_once(keys), style)


def _each_once(keys: Iterable[PGPKey]) -> tuple[PGPKey, ...]:
    """The keys without those that are another one's encryption subkey, of which gpg takes one.  Nobody has to prove
    that such a subkey is theirs: a stranger who publishes Alice's as his own must not be able to hold up what goes to
    both.  Of two, the one that announces less."""
    once: dict[str, PGPKey] = {}
    for key in keys:
        subkey = key.encrypts_to or key.raw_for_engine.hex()
        if subkey not in once or not key.raw_bound_seipd2:
            once[subkey] = key
    return tuple(once.values())


class _Content:
    """Content in blocks, which must be as long as was said, and read to its end: less would be a message cut short."""

    def __init__(self, blocks: Iterable[bytes], size: int) -> None:
        self._blocks, self.size = blocks, size
        self.is_whole = False

    def __iter__(self) -> Iterator[bytes]:
        left = self.size
        for block in self._blocks:
            left -= len(block)
            yield block
        if left:
            raise EncryptionError(f"content of {self.size - left} octets, where {self.size} were to come")
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
    """All up to the block in which the encrypted data begins."""
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
    """Can everybody read it, and nobody else, and is nobody named who is to be hidden?"""
    # A version 6 certificate comes as it is, and its primary key may be for encryption, too.
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
    """The other blocks, as they pass."""
    try:
        for block in blocks:
            reader.feed(block)
            yield block
        reader.finish()
    except ParseError as error:
        raise EncryptionError(f"the engine {name} wrote no whole message: {error}") from error
    if not content.is_whole:
        raise EncryptionError(f"the engine {name} did not read all of the content")
