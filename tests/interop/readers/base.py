"""What a reader is, and what most of them share."""

from __future__ import annotations

import email
import email.policy
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from email.errors import MisplacedEnvelopeHeaderDefect
from email.message import Message
from pathlib import Path
from typing import ClassVar

from tests.interop.owners import Owner

ROOT = Path(__file__).parents[3]
THUNDERBIRD = Path("usr/lib/thunderbird")
TIMEOUT_S = 120
Command = list[str | Path]


class Unopened(Exception):
    """The reader does not open the message; the text is its own word for why."""


class Reader(ABC):
    """One program; ``folder`` is its own, with a short path."""

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._homes: dict[str, Path] = {}
        self._refused: dict[str, Unopened] = {}

    @classmethod
    def missing(cls) -> list[str]:
        """What it needs and is not there."""
        return [program for program in cls.programs if shutil.which(program) is None]

    @staticmethod
    def program(name: str) -> Command:
        """How one of ``programs`` is run."""
        return [name]

    @staticmethod
    def package_version(package: str) -> str:
        """The upstream version of a package of Debian."""
        return upstream(run(["dpkg-query", "-W", "-f", "${Version}", package]).decode())

    @abstractmethod
    def version(self) -> str:
        """In a word."""

    @abstractmethod
    def open(self, message: bytes, owner: Owner) -> bytes:
        """What is inside a whole RFC 822 message, by the secret key of ``owner`` alone.  Raises Unopened."""

    def shown(self, content: bytes) -> bytes:
        """What a reader prints that cannot print octets."""
        return content

    def close(self) -> None:  # noqa: B027 - most start nothing that outlives a message
        """Ends what it has started."""

    def home(self, owner: Owner) -> Path:
        """A folder for what it keeps of this owner, prepared once by ``_prepare``."""
        if owner.name in self._refused:
            raise self._refused[owner.name]
        if owner.name not in self._homes:
            path = self.folder / str(len(self._homes))
            path.mkdir(mode=0o700)
            self._homes[owner.name] = path
            try:
                self._prepare(path, owner)
            except Unopened as error:
                self._refused[owner.name] = error
                raise
        return self._homes[owner.name]

    def _prepare(self, home: Path, owner: Owner) -> None:  # noqa: B027 - some keep nothing
        """Writes or imports the owner's keys.  Raises Unopened where the program does not take them."""


def run(
    command: Sequence[str | Path], stdin: bytes = b"", env: dict[str, str] | None = None, *, merged: bool = False
) -> bytes:
    """What a program prints.  Raises Unopened with its last words where it fails."""
    stderr = subprocess.STDOUT if merged else subprocess.PIPE
    try:
        done = subprocess.run(
            command, input=stdin, stdout=subprocess.PIPE, stderr=stderr, env=env, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"{command[0]} does not end") from error
    if done.returncode != 0:
        raise Unopened(f"{Path(command[0]).name}: {last_words(done.stdout if merged else done.stderr)}")
    return done.stdout


def upstream(version: str) -> str:
    """The version of a package without its epoch and Debian's part."""
    return version.rpartition(":")[2].rpartition("-")[0]


def last_words(raw: bytes) -> str:
    lines = [line.strip() for line in raw.decode("utf-8", "replace").splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-300:]


def unwrapped(message: bytes) -> bytes:
    """The DER or the armour, found as Python's email package finds it; what stands around it must be as the RFCs say
    (RFC 8551 section 3.2, RFC 3156 section 4)."""
    parsed = email.message_from_bytes(message, policy=email.policy.compat32)
    if parsed.get_content_type() == "multipart/encrypted":
        assert parsed.get_param("protocol") == "application/pgp-encrypted"
        control, data = _parts(parsed)
        assert control.get_content_type() == "application/pgp-encrypted"
        assert control.get_payload(decode=True) == b"Version: 1\r\n"
        assert data.get_content_type() == "application/octet-stream"
        return _decoded(data)
    assert parsed.get_content_type() == "application/pkcs7-mime"
    assert parsed.get_param("smime-type") in ("enveloped-data", "authEnveloped-data")
    assert parsed.get_param("name") == parsed.get_filename() == "smime.p7m"
    assert parsed["Content-Transfer-Encoding"] == "base64"
    return _decoded(parsed)


def _parts(message: Message) -> tuple[Message, Message]:
    parts = message.get_payload()
    assert isinstance(parts, list)
    control, data = parts
    assert isinstance(control, Message)
    assert isinstance(data, Message)
    # Of another's "From :" Python thinks that a mailbox begins there.
    assert all(isinstance(defect, MisplacedEnvelopeHeaderDefect) for defect in message.defects), message.defects
    return control, data


def _decoded(part: Message) -> bytes:
    octets = part.get_payload(decode=True)
    assert isinstance(octets, bytes)
    return octets


def unpacked(relative: Path | str) -> Path:
    """A file of a package that tests/setup/install unpacked, or that is installed."""
    beside = ROOT / ".cache/programs" / relative
    return beside if beside.exists() else Path("/") / relative
