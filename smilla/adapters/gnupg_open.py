"""Opens OpenPGP messages with gpg and its agent, which holds the private keys; one process a message.

Promises: the plaintext goes to memory (memfd_create(2)), never to a disk, and is read only after gpg has ended with
success and its status lines say that one encrypted packet was decrypted and its modification detection code or tag was
right (DECRYPTION_OKAY and GOODMDC, doc/DETAILS of GnuPG).  gpg writes as it reads, so what stands in that memory before
is nobody's to see.  No key is fetched, no pinentry is asked, no passphrase passes through smilla: the agent has it, or
the message stays encrypted.  A run takes at most ``timeout_s``; what it makes has at most ``most_octets``, or a
compressed message could fill the memory.
"""

from __future__ import annotations

import copy
import os
from typing import IO, TYPE_CHECKING

from smilla.adapters.gnupg import Watch, in_memory, started
from smilla.errors import NotDecrypted, ParseError
from smilla.formats.openpgp import packets
from smilla.formats.openpgp_keys import parse_key

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_BLOCK = 128 * 1024
_OPTIONS = (
    *("--no-auto-check-trustdb", "--no-random-seed-file", "--lock-never"),
    *("--disable-dirmngr", "--no-auto-key-locate", "--no-auto-key-retrieve"),
    *("--pinentry-mode", "error"),
)
# doc/DETAILS of GnuPG: signatures that were good once; and the words of VALIDSIG.
_NO_LONGER = (
    ("REVKEYSIG", ("policy", "revoked")),
    ("EXPKEYSIG", ("policy", "expired")),
    ("EXPSIG", ("policy", "expired")),
)
_HASH, _PRIMARY = 7, 9
_WEAK = ("1", "2", "3")  # MD5, SHA-1, RIPEMD-160
# gpg-error(1): the agent, or its passphrase, is missing; nothing is wrong with the message.
_OF_THE_AGENT = frozenset({11, 31, 62, 77, 78, 85, 86, 87, 99, 177, 198})


class GnuPGOpener:
    """smilla.ports.OpenPGPReader by gpg with the keys below ``home``.  Raises EngineMissing if no suitable gpg is
    installed.

    ``fingerprints`` of primary keys, in capitals: with any other key nothing is opened.  Empty: with every key there.
    """

    def __init__(
        self,
        home: str,
        fingerprints: Collection[str] = (),
        *,
        program: str = "gpg",
        timeout_s: float = 60.0,
        most_octets: int = 256 << 20,
    ) -> None:
        self._gpg = started(program)
        self._gpg.gnupghome = home
        self._fingerprints = frozenset(fingerprints)
        self._timeout_s = timeout_s
        self._limit = ["--max-output", str(most_octets)]

    def opened(self, raw: bytes) -> bytes:
        """The content.  Raises NotDecrypted."""
        with in_memory(b"") as output:
            # A key that is missing for a signature must not make gpg fail.
            self._run(raw, ["--skip-verify"], output)
            return _whole(output.fileno())

    def signature(self, raw: bytes, raw_certificates: Sequence[bytes]) -> tuple[str, str]:
        """See ports.OpenPGPReader.  The certificates are a keyring in memory, beside the keyring of ``home``."""
        known = {name: each for each in raw_certificates if (name := _fingerprint(each))}
        with in_memory(b"") as output, in_memory(b"".join(known.values())) as keyring:
            options = ["--trust-model", "always", "--keyring", f"/dev/fd/{keyring.fileno()}"]
            return self._run(raw, options if known else [], output, keyring).signature(known)

    def _run(self, raw: bytes, options: Sequence[str], output: IO[bytes], *inherited: IO[bytes]) -> _Statuses:
        """Raises NotDecrypted unless the message was decrypted and verified."""
        watch, said = Watch(self._timeout_s), _Statuses()
        gpg = copy.copy(self._gpg)
        gpg.output, gpg.inherited = output, [file.fileno() for file in inherited]
        blocks = (raw[at : at + _BLOCK] for at in range(0, len(raw), _BLOCK))
        try:
            gpg.run([*_OPTIONS, *self._limit, *options, "--decrypt"], blocks, said, watch)
        except OSError as error:
            raise NotDecrypted("engine", f"gpg: {error}", temporary=True) from error
        if watch.has_fired:
            raise NotDecrypted("engine", f"gpg did not end within {self._timeout_s:g} s", temporary=True)
        said.check(self._fingerprints, may_fail="--skip-verify" not in options)
        return said


def _fingerprint(raw_certificate: bytes) -> str:
    """Of the primary key; "" if it cannot be read."""
    try:
        return parse_key(next(packets(raw_certificate))).fingerprint
    except (ParseError, StopIteration):
        return ""


def _whole(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(os.dup(descriptor), "rb") as file:
        return file.read()


class _Statuses:
    """What gpg says on its status descriptor, and how it ended; python-gnupg fills it in."""

    def __init__(self) -> None:
        self.returncode: int | None = None
        self.stderr = ""
        self._lines: list[tuple[str, str]] = []

    def handle_status(self, key: str, value: str) -> None:
        """One status line: its keyword and the rest."""
        self._lines.append((key, value))

    def check(self, fingerprints: Collection[str], *, may_fail: bool) -> None:
        """Raises NotDecrypted unless one packet was decrypted and verified, by one of these keys.  ``may_fail``: gpg
        looked at signatures too, and says by its exit code what it thinks of them."""
        if self._is_verified(may_fail=may_fail):
            used = [value.split()[1:2] for value in self._values("DECRYPTION_KEY")]
            if fingerprints and (not used or any(one and one[0] not in fingerprints for one in used)):
                raise NotDecrypted("not_for_this_key", "it is encrypted to another key of this gpg only")
            return
        codes = [value.split()[-1] for value in self._values("ERROR") if value.startswith("pkdecrypt_failed")]
        if any(code.isdecimal() and int(code) & 0xFFFF in _OF_THE_AGENT for code in codes):
            raise NotDecrypted("engine", f"gpg-agent cannot use the key: {self._words()}", temporary=True)
        if self._values("NO_SECKEY") and not self._values("DECRYPTION_KEY") and not codes:
            raise NotDecrypted("not_for_this_key", "it is encrypted to other OpenPGP keys only")
        raise NotDecrypted("undecryptable", f"gpg does not decrypt it: {self._words()}")

    def signature(self, fingerprints: Collection[str]) -> tuple[str, str]:
        """The result and reason for the signatures in the message; ``fingerprints`` are those that count."""
        if not self._values("NEWSIG"):
            return "none", ""
        for key, found in (("BADSIG", ("fail", "changed")), *_NO_LONGER):
            if self._values(key):
                return found
        valid = [value.split() for value in self._values("VALIDSIG")]
        ours = [words for words in valid if len(words) > _PRIMARY and words[_PRIMARY] in fingerprints]
        if not ours or not self._values("GOODSIG"):
            return "neutral", "no_certificate"
        return ("policy", "weak_digest") if any(words[_HASH] in _WEAK for words in ours) else ("pass", "")

    def _is_verified(self, *, may_fail: bool) -> bool:
        once = all(
            len(self._values(key)) == 1 for key in ("BEGIN_DECRYPTION", "DECRYPTION_OKAY", "GOODMDC", "PLAINTEXT")
        )
        bad = any(self._values(key) for key in ("DECRYPTION_FAILED", "BADMDC", "NODATA", "UNEXPECTED"))
        return (may_fail or self.returncode == 0) and once and not bad

    def _values(self, key: str) -> list[str]:
        return [value for name, value in self._lines if name == key]

    def _words(self) -> str:
        """gpg's own words; the last of them say what failed."""
        said = [line for line in self.stderr.splitlines() if line.startswith("gpg: ")]
        return "; ".join(said[-2:])[-300:] or "without a word"
