"""The OpenPGP engine "gnupg": gpg through python-gnupg, one process a message.  The only importer of gnupg.

Promises: no keyring is read or written and no agent is started; keys reach gpg as files in a folder of this message
(mode 0700, removed when gpg has ended); the plaintext goes through a pipe, never into a file or an argument; a run
takes at most ``timeout_s``; no block leaves before gpg has ended well.  Nothing is shared between threads or processes.

The folder is gpg's home, too.  Homes of one message are known to leak agents and to fail in their removal; without an
agent nobody but the one gpg ever looks into it, and nothing is left to clean up when a worker ends.

python-gnupg cannot say --recipient-file, so arguments go through the path that all of its commands share.  It feeds gpg
from a thread and keeps an error of that thread; that the content was read to its end is checked here nevertheless.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gnupg

from smilla.errors import EncryptionError, EngineMissing
from smilla.formats.openpgp import PUBLIC_KEY, PUBLIC_SUBKEY, packets
from smilla.formats.openpgp_keys import X25519, parse_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from subprocess import Popen

    from smilla.model import PGPKey

_MIN_VERSION = (2, 2)
_BUFFER = 64 * 1024
_OPTIONS = (
    # The user's configuration, keyring, agent and network stay out of it.
    *("--no-keyring", "--no-autostart", "--disable-dirmngr", "--no-auto-key-locate"),
    # Nothing is written, so nothing is locked.
    *("--lock-never", "--no-random-seed-file", "--no-auto-check-trustdb"),
    # The gate has judged the keys already.
    *("--trust-model", "always"),
    *("--no-encrypt-to", "--no-throw-keyids"),
    *("--cipher-algo", "AES256", "--compress-algo", "none", "--no-textmode", "--set-filename", ""),
    *("--no-emit-version", "--no-comments", "--armor"),
)


class GnuPGEngine:
    """smilla.ports.OpenPGPEngine by gpg.  Raises EngineMissing where there is none that will do."""

    name = "gnupg"

    def __init__(self, program: str = "gpg", timeout_s: float = 120.0) -> None:
        # It logs a broken pipe as an error with a traceback; the failure reaches us as an exception anyway.
        logging.getLogger("gnupg").setLevel(logging.CRITICAL)
        self._timeout_s = timeout_s
        try:
            self._gpg = _Program(program, options=["--no-options"])
        except (OSError, ValueError) as error:
            raise EngineMissing(f"gpg cannot be run ({error}); install GnuPG 2.2 or later (Debian: gpg)") from error
        if (self._gpg.version or (0,)) < _MIN_VERSION:
            raise EngineMissing(f"gpg is of version {self._gpg.version}; install GnuPG 2.2 or later")

    @staticmethod
    def supports(key: PGPKey) -> bool:
        """Whether this engine can encrypt to such a key: no version of gpg takes what came with RFC 9580."""
        keys = [parse_key(p) for p in packets(key.raw_for_engine) if p.tag in (PUBLIC_KEY, PUBLIC_SUBKEY)]
        return all(found.version == 4 and found.algorithm < X25519 for found in keys)

    def encrypt(self, content: Iterable[bytes], keys: Sequence[PGPKey]) -> Iterator[bytes]:
        """One armoured message for all ``keys``, CRLF, in blocks.  Raises EncryptionError."""
        source = _Source(content)
        try:
            with tempfile.TemporaryDirectory(prefix="smilla-gnupg-", ignore_cleanup_errors=True) as home:
                message = self._run(Path(home), _key_files(Path(home), keys), source)
        except OSError as error:
            raise EncryptionError(f"gpg: {error}") from error
        return (block.replace(b"\n", b"\r\n") for block in message)

    def _run(self, home: Path, key_files: list[str], source: _Source) -> list[bytes]:
        gpg = copy.copy(self._gpg)
        gpg.gnupghome = str(home)
        message: list[bytes] = []
        gpg.on_data = lambda block: _keep(block, message)
        watch = _Watch(self._timeout_s)
        gpg.on_start = watch.started
        arguments = [argument for name in key_files for argument in ("--recipient-file", name)]
        result = gpg.result_map["crypt"](gpg)
        try:
            gpg._handle_io([*_OPTIONS, *arguments, "--encrypt"], source, result, binary=True)
        except Exception as error:
            raise _failure(watch, result, error) from error
        finally:
            watch.stop()
        if result.returncode != 0 or not result.ok or not source.is_exhausted or watch.has_fired:
            raise _failure(watch, result, None)
        return message


class _Program(gnupg.GPG):  # type: ignore[misc]
    """python-gnupg's wrapper, which also tells what it started."""

    buffer_size = _BUFFER

    on_start: Callable[[Popen[bytes]], None] | None = None

    def _open_subprocess(self, args: list[str], passphrase: bool = False) -> Any:
        process = super()._open_subprocess(args, passphrase)
        if self.on_start:
            self.on_start(process)
        return process


def _keep(block: bytes, blocks: list[bytes]) -> bool:
    """False tells python-gnupg not to collect the block itself."""
    blocks.append(block)
    return False


class _Watch:
    """Kills our own child, and nothing else, when its time is over."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.has_fired = False
        self._timer: threading.Timer | None = None

    def started(self, process: Popen[bytes]) -> None:
        self._timer = threading.Timer(self.timeout_s, self._fire, (process,))
        self._timer.daemon = True
        self._timer.start()

    def _fire(self, process: Popen[bytes]) -> None:
        if process.poll() is None:
            self.has_fired = True
            process.kill()

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()


class _Source:
    """Content in blocks as the file that python-gnupg reads from."""

    def __init__(self, content: Iterable[bytes]) -> None:
        self._blocks = iter(content)
        self.is_exhausted = False

    def read(self, size: int) -> bytes:
        """The next block, whatever its size; empty at the end only."""
        for block in self._blocks:
            if block:
                return block
        self.is_exhausted = True
        return b""


def _key_files(folder: Path, keys: Sequence[PGPKey]) -> list[str]:
    names = []
    for number, key in enumerate(keys):
        path = folder / f"{number}.pgp"
        path.write_bytes(key.raw_for_engine)
        names.append(str(path))
    return names


def _failure(watch: _Watch, result: Any, error: Exception | None) -> EncryptionError:
    """gpg's own words, and only lines that it marks as its own: a wrapper in its place might repeat the content."""
    if watch.has_fired:
        return EncryptionError(f"gpg did not end within {watch.timeout_s:g} s")
    lines = str(getattr(result, "stderr", "")).splitlines()
    said = "; ".join(line for line in lines if line.startswith("gpg: "))[:500]
    return EncryptionError(f"gpg failed: {said or error or result.status or 'without a word'}")
