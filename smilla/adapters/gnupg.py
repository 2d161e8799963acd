"""The OpenPGP engine "gnupg": gpg through python-gnupg, one process a message.  The only importer of gnupg.

Promises: no keyring is read or written, and no agent is started.  Keys reach gpg in memory (memfd_create(2)).  The
plaintext goes through a pipe, never into a file or an argument.  gpg writes the ciphertext into an unnamed file in
``folder``, which is read only after gpg has succeeded.  So memory is bounded whatever the size, and nothing is left to
clean up when a worker ends.  A run takes at most ``timeout_s``.  Threads and processes share nothing.

python-gnupg has no --recipient-file, so we pass arguments through the method that all of its commands share.  It would
keep the whole output in memory and feed gpg from a thread that may outlive gpg.  So here the output goes to a file, and
the calling thread feeds gpg.

gpg writes binary packets: 25 MB take it 95 ms, with its own armour 225 ms.
"""

from __future__ import annotations

import copy
import io
import logging
import os
import shutil
import tempfile
import threading
from contextlib import ExitStack, suppress
from fcntl import F_SETPIPE_SZ, fcntl
from functools import lru_cache
from signal import SIGKILL
from subprocess import PIPE, Popen
from typing import IO, TYPE_CHECKING, Any

import gnupg

from smilla.adapters.trials import Trials
from smilla.errors import EncryptionError, EngineMissing, KeyRefused
from smilla.formats.openpgp import PUBLIC_KEY, PUBLIC_SUBKEY, packets
from smilla.formats.openpgp_keys import X25519, parse_key
from smilla.model import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from smilla.model import PGPKey, Style

_MIN_VERSION = (2, 2)
_PIPE = 256 * 1024
_BLOCK = 128 * 1024
_MAX_WORDS = 64 * 1024
_TRIAL_S = 10.0  # for a short message; after that the trial tells nothing
_SYSTEM_ERROR = 0x8000  # the bit in gpg-error(1) that blames the system
_NO_HOME = "/nonexistent"  # gpg misses nothing there
_OPTIONS = (
    # No configuration, keyring, agent or network of the user.
    *("--no-keyring", "--no-autostart", "--disable-dirmngr", "--no-auto-key-locate"),
    # Nothing is written, so nothing is locked.
    *("--lock-never", "--no-random-seed-file", "--no-auto-check-trustdb"),
    # The gate has judged the keys already.
    *("--trust-model", "always"),
    *("--no-encrypt-to", "--no-throw-keyids"),
    *("--cipher-algo", "AES256", "--compress-algo", "none", "--no-textmode", "--set-filename", ""),
    *("--no-emit-version", "--no-comments", "--no-armor"),
)


class GnuPGEngine:
    """smilla.ports.OpenPGPEngine by gpg.  Raises EngineMissing if no suitable gpg is installed.

    ``folder`` holds the ciphertext while gpg works; "" means the system's temporary folder.
    """

    name = "gnupg"

    def __init__(self, program: str = "gpg", timeout_s: float = 120.0, folder: str = "") -> None:
        self._timeout_s = timeout_s
        self._folder = folder or None
        self._gpg = started(program)
        self._gpg.gnupghome = _NO_HOME
        self._trials = Trials(self._tried)

    @staticmethod
    def supports(key: PGPKey, style: Style) -> bool:
        """Whether this engine can encrypt to such a key: no version of gpg supports what RFC 9580 introduced."""
        return _knows(key.raw_for_engine)

    def fault(self, key: PGPKey) -> Reason | None:
        """Why it cannot encrypt to this key: gpg has its own rules for curves and numbers.  None if it can."""
        if not _knows(key.raw_for_engine):
            return Reason("engine_refuses", f"gpg does not know version {key.version} keys of {key.algorithm}")
        fault = ""
        with suppress(EncryptionError, OSError):
            fault = self._trials.fault(key.raw_for_engine)
        return Reason("engine_refuses", fault) if fault else None

    def _tried(self, raw: bytes) -> str:
        """What is wrong with the certificate, "" if a short message can be encrypted to it; costs 5 ms."""
        try:
            self._written((b"trial",), [raw], "--recipient-file", min(self._timeout_s, _TRIAL_S)).close()
        except KeyRefused as error:
            return str(error)
        return ""

    def only_by(self, key: PGPKey) -> str:
        """There is no other engine."""
        return ""

    def encrypt(self, content: Iterable[bytes], size: int, keys: Sequence[PGPKey], style: Style) -> Iterator[bytes]:
        """One message for all ``keys``, binary SEIPDv1, in blocks, whatever its ``size``.  Raises EncryptionError."""
        option = "--hidden-recipient-file" if style.hidden_recipients else "--recipient-file"
        try:
            with self._written(content, [key.raw_for_engine for key in keys], option, self._timeout_s) as output:
                while block := output.read(_BLOCK):
                    yield block
        except OSError as error:
            raise EncryptionError(f"gpg: {error}") from error

    def _written(self, content: Iterable[bytes], raw_keys: Sequence[bytes], option: str, timeout_s: float) -> IO[bytes]:
        """The whole ciphertext, in an unnamed file."""
        with ExitStack() as for_keys, ExitStack() as for_output:
            output = for_output.enter_context(_unnamed(self._folder))
            files = [for_keys.enter_context(in_memory(raw)) for raw in raw_keys]
            arguments = [argument for file in files for argument in (option, f"/dev/fd/{file.fileno()}")]
            self._run(content, arguments, files, output, timeout_s)
            output.seek(0)
            for_output.pop_all()
        return output

    def _run(
        self,
        content: Iterable[bytes],
        arguments: list[str],
        key_files: list[IO[bytes]],
        output: IO[bytes],
        timeout_s: float,
    ) -> None:
        gpg = copy.copy(self._gpg)
        gpg.output, gpg.inherited = output, [file.fileno() for file in key_files]
        result = gpg.result_map["crypt"](gpg)
        watch = Watch(timeout_s)
        gpg.run([*_OPTIONS, *arguments, "--encrypt"], content, result, watch)
        if result.returncode != 0 or not result.ok or watch.has_fired:
            raise _failure(watch, result)


def started(program: str) -> Program:
    """The wrapper of a suitable gpg.  Raises EngineMissing."""
    # python-gnupg logs a broken pipe with a traceback; the failure reaches us as an exception anyway.
    logging.getLogger("gnupg").setLevel(logging.CRITICAL)
    try:
        # We look for the path once: until it runs gpg, a child counts as another worker in the sum of memory.
        gpg = Program(shutil.which(program) or program, options=["--no-options"])
    except (OSError, ValueError) as error:
        raise EngineMissing(f"gpg cannot be run ({error}); install GnuPG 2.2 or later (Debian: gpg)") from error
    if (gpg.version or (0,)) < _MIN_VERSION:
        raise EngineMissing(f"gpg is of version {gpg.version}; install GnuPG 2.2 or later")
    return gpg


@lru_cache(1000)
def _knows(raw: bytes) -> bool:
    keys = [parse_key(packet) for packet in packets(raw) if packet.tag in (PUBLIC_KEY, PUBLIC_SUBKEY)]
    return all(found.version == 4 and found.algorithm < X25519 for found in keys)


class Program(gnupg.GPG):  # type: ignore[misc]
    """python-gnupg's wrapper, but the output goes to a file and only the caller feeds the input."""

    output: IO[bytes] | None = None
    inherited: Sequence[int] = ()

    def _open_subprocess(self, args: list[str], passphrase: bool = False) -> Any:
        output = self.output if self.output is not None else PIPE
        command = self.make_args(args, passphrase)
        # A process group of its own: if "gpg" is a script around gpg, a time-out ends both.
        return Popen(
            command, stdin=PIPE, stdout=output, stderr=PIPE, pass_fds=self.inherited, env=self.env, process_group=0
        )

    def run(self, arguments: list[str], content: Iterable[bytes], result: Any, watch: Watch) -> None:
        """Runs gpg on the content until both have ended.  If ``content`` raises, kills gpg and raises on."""
        process = self._open_subprocess(arguments)
        words = threading.Thread(target=self._read_response, args=(_Words(process.stderr), result), daemon=True)
        words.start()
        watch.start(process)
        try:
            _feed(process.stdin, content)
        except BaseException:
            _kill(process)
            raise
        finally:
            with suppress(OSError):
                process.stdin.close()
            result.returncode = process.wait()
            watch.stop()
            words.join()
            process.stderr.close()


def _feed(stdin: IO[bytes], content: Iterable[bytes]) -> None:
    with suppress(OSError):
        fcntl(stdin, F_SETPIPE_SZ, _PIPE)
    for block in content:
        try:
            stdin.write(block)
        except BrokenPipeError:
            return  # gpg has ended and says why


def _unnamed(folder: str | None) -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="smilla-", dir=folder, buffering=0)


def in_memory(octets: bytes) -> IO[bytes]:
    """A file in memory, on no disk."""
    file = os.fdopen(os.memfd_create("smilla"), "wb", buffering=0)
    file.write(octets)
    return file


class _Words(io.TextIOWrapper):
    """gpg's messages, but no more of them than anybody will read."""

    def __init__(self, stderr: IO[bytes]) -> None:
        super().__init__(stderr, encoding="utf-8", errors="replace")
        self._left = _MAX_WORDS

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        """The next line; past the limit it reads on but keeps nothing."""
        while line := super().readline(4096):
            self._left -= len(line)
            if self._left > 0:
                return line
        return ""


def _kill(process: Popen[bytes]) -> None:
    """Kills the child, unless it has ended, and whatever it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, SIGKILL)


class Watch:
    """Kills our own child, and nothing else, when its time is up."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.has_fired = False
        self._timer: threading.Timer | None = None

    def start(self, process: Popen[bytes]) -> None:
        """The time begins."""
        self._timer = threading.Timer(self.timeout_s, self._fire, (process,))
        self._timer.daemon = True
        self._timer.start()

    def _fire(self, process: Popen[bytes]) -> None:
        if process.poll() is None:
            self.has_fired = True
            _kill(process)

    def stop(self) -> None:
        """The child has ended."""
        if self._timer:
            self._timer.cancel()


def _failure(watch: Watch, result: Any) -> EncryptionError:
    """gpg's own words, but only lines it marks as its own: a wrapper script might repeat the content."""
    if watch.has_fired:
        return EncryptionError(f"gpg did not end within {watch.timeout_s:g} s")
    lines = str(getattr(result, "stderr", "")).splitlines()
    said = "; ".join(line for line in lines if line.startswith("gpg: "))[:500]
    kind = KeyRefused if _blames_a_key(str(result.status), lines) else EncryptionError
    return kind(f"gpg failed: {said or result.status or 'without a word'}")


def _blames_a_key(status: str, lines: Iterable[str]) -> bool:
    """Whether gpg refuses its one key.  No if the system kept gpg from reading it."""
    codes = [line.split()[-1] for line in lines if line.startswith("[GNUPG:] FAILURE encrypt ")]
    if not status.startswith("invalid recipient") or not codes:
        return False
    return codes[-1].isdecimal() and not int(codes[-1]) & _SYSTEM_ERROR
