"""Opens one OpenPGP message in a process of its own, which ``sequoia_open`` starts: what is inside may be compressed,
and pysequoia gives all of it or nothing, so only the limit of a process bounds what a few octets unfold to.

Arguments: the octets of memory that it may take, those of the content, and the folder where pysequoia is.  Standard
input: the secret key, the passphrase and the message, each after its length in eight octets; a passphrase that is not
there has the length of all ones.  Standard output: the content.  Exit: one of those below; whatever else it ends with
is a failure of its own.  It imports nothing of smilla, since its start is part of every message's time.
"""

from __future__ import annotations

import resource
import struct
import sys
from contextlib import suppress
from typing import BinaryIO

OPENED, UNDECRYPTABLE, TOO_LARGE = 0, 3, 4
_NONE = (1 << 64) - 1


def framed(*parts: bytes | None) -> bytes:
    """What goes to standard input."""
    return b"".join(struct.pack(">Q", _NONE if part is None else len(part)) + (part or b"") for part in parts)


def _part(stream: BinaryIO) -> bytes | None:
    (size,) = struct.unpack(">Q", stream.read(8))
    return None if size == _NONE else stream.read(size)


def _main() -> int:
    memory, most = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.path.insert(0, sys.argv[3])
    import pysequoia  # noqa: PLC0415 - the limit comes first

    raw_key, passphrase, raw = (_part(sys.stdin.buffer) for _ in range(3))
    key = pysequoia.Tsk.from_bytes(raw_key or b"")
    text = None if passphrase is None else passphrase.decode("utf-8", "surrogateescape")
    decryptor = None
    for each in dict.fromkeys((None, text)):
        with suppress(Exception):
            decryptor = decryptor or key.decryptor(each)
    try:
        content = pysequoia.decrypt(raw or b"", decryptor).bytes or b""
    except MemoryError:
        return TOO_LARGE
    except BaseException:  # a panic of Rust is no Exception
        return UNDECRYPTABLE
    if len(content) > most:
        return TOO_LARGE
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    return OPENED


if __name__ == "__main__":
    sys.exit(_main())
