"""Opens OpenPGP messages with the secret keys of a file, by pysequoia, in a process for each (``sequoia_child``).

Promises: nothing touches a file.  pysequoia hands over all or nothing, and nothing before the modification detection
code or every tag has been verified.  It would take a message that is not encrypted at all, so what it gets has been
judged before (decrypt.whole).  A message takes at most ``timeout_s``, and memory in proportion to ``most_octets``,
whatever its octets unfold to (a megabyte may be ten gigabytes); meanwhile other messages go on.

A message without our key IDs is not tried: no key but the named one can open it, and a session key that names nobody
(RFC 9580 section 5.1.8) is for gpg, which smilla does not write either.
"""

from __future__ import annotations

import subprocess
import sys
from signal import SIGABRT
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

from smilla.adapters import sequoia_child
from smilla.adapters.sequoia import Secret, place
from smilla.errors import NotDecrypted, ParseError
from smilla.formats import key_file
from smilla.formats.openpgp import PKESK, read_header
from smilla.model import Format

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BESIDE, _TIMES = 512 << 20, 5  # octets of address space: for Python and its libraries, and for each octet
_FINGERPRINT_AT = 3  # of a version 6 session key: its own version, a length, the version of the key


class SequoiaOpener:
    """smilla.ports.OpenPGPReader with the secret keys of a file, binary or armoured, and the passphrase of all of
    them.  Raises ParseError if a key cannot be used."""

    def __init__(
        self, raw_file: bytes, passphrase: str | None = None, *, most_octets: int = 256 << 20, timeout_s: float = 60.0
    ) -> None:
        found = key_file.contents(raw_file, Format.OPENPGP)
        self._keys = [Secret(raw, passphrase) for form, raw in found.keys if form is Format.OPENPGP]
        self._most_octets, self._timeout_s = most_octets, timeout_s
        if not self._keys or not found.has_private:
            raise ParseError("it holds no OpenPGP secret key")

    def opened(self, raw: bytes) -> bytes:
        """The content.  Raises NotDecrypted."""
        return self._opened(self._mine(raw), raw)

    def _opened(self, key: Secret, raw: bytes) -> bytes:
        memory = _BESIDE + _TIMES * (len(raw) + self._most_octets)
        command = [sys.executable, "-I", sequoia_child.__file__, str(memory), str(self._most_octets), place()]
        passphrase = None if key.passphrase is None else key.passphrase.encode("utf-8", "surrogateescape")
        said = sequoia_child.framed(key.raw, passphrase, raw)
        try:
            done = subprocess.run(
                command, input=said, stdout=PIPE, stderr=DEVNULL, timeout=self._timeout_s, check=False, cwd="/"
            )
        except subprocess.TimeoutExpired as error:
            text = f"Sequoia did not end within {self._timeout_s:g} s"
            raise NotDecrypted("engine", text, temporary=True) from error
        except OSError as error:
            raise NotDecrypted("engine", f"Sequoia: {error}", temporary=True) from error
        if done.returncode == sequoia_child.OPENED:
            return done.stdout
        if done.returncode in (sequoia_child.TOO_LARGE, -SIGABRT):  # Rust aborts where there is no memory
            raise NotDecrypted("too_large", f"what is inside has more than {self._most_octets} octets")
        if done.returncode == sequoia_child.UNDECRYPTABLE:
            raise NotDecrypted("undecryptable", "Sequoia does not decrypt it")
        raise NotDecrypted("engine", f"Sequoia's process ended with {done.returncode}", temporary=True)

    def signature(self, raw: bytes, raw_certificates: Sequence[bytes]) -> tuple[str, str]:
        """See ports.OpenPGPReader.  Raises NotDecrypted."""
        return self._mine(raw).signature(raw, raw_certificates)

    def _mine(self, raw: bytes) -> Secret:
        named = set(_named(raw))
        for key in self._keys:
            if named & key.names:
                return key
        raise NotDecrypted("not_for_this_key", "it is encrypted to other OpenPGP keys only")


def _named(raw: bytes) -> Iterator[str]:
    """The key IDs and fingerprints, in capitals, that the session keys before the data name (RFC 9580 section 5.1)."""
    at = 0
    while (header := read_header(raw[at : at + 6])) and header.tag == PKESK and header.length and not header.partial:
        body = raw[at + header.size : at + header.size + header.length]
        if body[0] == 3:
            yield body[1:9].hex().upper()
        else:
            yield body[_FINGERPRINT_AT : 2 + body[1]].hex().upper()
        at += header.size + header.length
