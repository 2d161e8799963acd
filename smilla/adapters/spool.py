"""Bodies that are too large for memory: kept in a file that has no name, encrypted with a key that is nowhere else.

Promises: no plaintext reaches the disk, not even where power fails, since only ciphertext is written; nothing is left
behind when the process ends, however it ends, since the file is unlinked before anything is written; what is read is
what was written, or SpoolError (AES-256-GCM, a block at a time, each under its own number).  One body costs a block of
memory, whatever its size, and may be read by several readers at once.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from smilla.errors import SpoolError

_BLOCK = 256 * 1024
_TAG = 16
_in_files: dict[int, int] = {}  # octets by descriptor; changed by single steps, since __del__ may come at any time


class SpooledBody:
    """smilla.model.Body, in memory up to ``threshold`` octets and from then on in a file in ``folder``, save what does
    not fill a block yet.

    Every method raises SpoolError where the file cannot be made, written or read; the mail is deferred then.  A body
    that could not be written is given up: nothing of it is kept, and no block is encrypted twice.
    """

    __slots__ = ("_blocks", "_cipher", "_failed", "_file", "_folder", "_held", "_lengths", "_threshold", "size")

    def __init__(self, folder: str, threshold: int) -> None:
        self._folder, self._threshold = folder, threshold
        self._blocks: list[bytes] = []
        self._held = 0
        self._lengths: list[int] = []
        self._file = -1
        self._cipher: AESGCM | None = None
        self._failed = ""  # why the body was given up
        self.size = 0

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Gives the file back."""
        if self._file >= 0:
            _in_files.pop(self._file, None)
            os.close(self._file)
            self._file = -1

    def append(self, block: bytes) -> None:
        """Adds octets at the end."""
        self._check()
        self._blocks.append(block)
        self._held += len(block)
        self.size += len(block)
        if self._held >= _BLOCK and self.size > self._threshold:
            try:
                self._write()
            except SpoolError as error:
                self._failed = str(error)
                self._blocks.clear()
                self.close()
                raise

    def blocks(self) -> Iterator[bytes]:
        """The octets from the beginning."""
        self._check()
        if self._cipher is not None:
            yield from self._spooled(self._cipher)
        yield from self._blocks

    def _check(self) -> None:
        if self._failed:
            raise SpoolError(self._failed)

    def _spooled(self, cipher: AESGCM) -> Iterator[bytes]:
        offset = 0
        for number, length in enumerate(self._lengths):
            try:
                raw = os.pread(self._file, length, offset)
                plain = cipher.decrypt(_nonce(number), raw, None)
            except (OSError, InvalidTag) as error:
                raise SpoolError(
                    f"{self._folder}: a body that was put there cannot be read back ({error!r})"
                ) from error
            offset += length
            yield plain

    def _write(self) -> None:
        if self._cipher is None:
            self._cipher, self._file = AESGCM(os.urandom(32)), _nameless(self._folder)
        raw = self._cipher.encrypt(_nonce(len(self._lengths)), b"".join(self._blocks), None)
        try:
            written = os.write(self._file, raw)
        except OSError as error:
            raise SpoolError(f"{self._folder}: a body cannot be written there: {error.strerror}") from error
        if written != len(raw):
            raise SpoolError(f"{self._folder}: a body cannot be written there: the disk is full")
        self._lengths.append(len(raw))
        _in_files[self._file] = _in_files.get(self._file, 0) + len(raw)
        self._blocks.clear()
        self._held = 0


def octets_in_files() -> int:
    """How much of this process's bodies lies in files now."""
    return sum(list(_in_files.values()))


def try_out(folder: str) -> None:
    """Puts a block there and reads it back.  Raises SpoolError."""
    body = SpooledBody(folder, 0)
    body.append(bytes(_BLOCK))
    for _ in body.blocks():
        pass


def _nonce(number: int) -> bytes:
    """The key is used for one body only, so that a block's number is used once."""
    return number.to_bytes(12, "big")


def _nameless(folder: str) -> int:
    """An open file without a name; where the file system knows none (O_TMPFILE), one that is unlinked at once."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        try:
            return os.open(folder, flags | os.O_TMPFILE, 0o600)
        except (OSError, AttributeError):
            descriptor, name = tempfile.mkstemp(prefix=".smilla-", dir=folder)
            Path(name).unlink()
            return descriptor
    except OSError as error:
        raise SpoolError(f"{folder}: no body can be put there: {error.strerror}") from error
