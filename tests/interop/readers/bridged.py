"""Libraries in other languages, each in one process for many messages, since their start takes long.

A bridge (see bridges/) answers each line ``WHAT SECRET PUBLISHED MESSAGE``, base64 but for the first word, with a line
``+`` and what is inside in base64, or ``-`` and why it was not opened.  ``version`` alone asks for the version.
"""

from __future__ import annotations

import base64
import os
import selectors
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from tests.interop.owners import Owner
from tests.interop.readers.base import (
    ROOT,
    THUNDERBIRD,
    TIMEOUT_S,
    Reader,
    Unopened,
    unpacked,
    unwrapped,
)
from tests.interop.readers.smime_programs import thunderbird_version

_BRIDGES = Path(__file__).parent / "bridges"
_JARS = ("bcprov", "bcutil", "bcpkix", "bcmail", "bcpg", "sop-java", "pgpainless-core", "pgpainless-sop")
_FURTHER_JARS = ("*mail.jar", "*activation.jar", "slf4j-api.jar", "slf4j-nop.jar", "jsr305.jar")
_MODULES = ROOT / ".cache/npm/node_modules"


class _Bridged(Reader):
    """A reader behind a bridge; ``kind`` is what the bridge calls it."""

    kind: ClassVar[str]
    _process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def ask(self, *words: str) -> str:
        """The answer without its first character.  Raises Unopened for ``-``."""
        if self._process is None:
            log = (self.folder / "stderr").open("wb")
            with log:
                self._process = subprocess.Popen(
                    self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
                )
        assert self._process.stdin
        self._process.stdin.write(" ".join(words).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._line().decode()
        if answer.startswith("-"):
            raise Unopened(f"{self.name}: {answer[1:].strip()[:300]}")
        assert answer.startswith("+"), (answer, (self.folder / "stderr").read_text("utf-8", "replace"))
        return answer[1:].strip()

    def _line(self) -> bytes:
        """Read with a deadline: a bridge that hangs fails its test."""
        assert self._process
        assert self._process.stdout
        found = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not found.endswith(b"\n"):
                assert selector.select(TIMEOUT_S), f"{self.name} does not answer"
                octets = os.read(self._process.stdout.fileno(), 1 << 20)
                if not octets:
                    break
                found += octets
        return bytes(found)

    def version(self) -> str:
        return self.ask("version", self.kind)

    def open(self, message: bytes, owner: Owner) -> bytes:
        words = (base64.b64encode(octets).decode() for octets in (owner.secret, owner.published, self.given(message)))
        return base64.b64decode(self.ask(self.kind, *words), validate=True)

    def given(self, message: bytes) -> bytes:
        """What the bridge gets of the message."""
        return unwrapped(message)

    def close(self) -> None:
        if self._process:
            assert self._process.stdin
            assert self._process.stdout
            self._process.stdin.close()
            self._process.wait(timeout=TIMEOUT_S)
            self._process.stdout.close()


class _Java(_Bridged):
    programs = ("java", "javac")
    jars: ClassVar[Path] = Path("/usr/share/java")

    @classmethod
    def missing(cls) -> list[str]:
        return super().missing() + [name for name in _JARS if not (cls.jars / f"{name}.jar").exists()]

    def command(self) -> list[str]:
        jars = [self.jars / f"{name}.jar" for name in _JARS]
        jars += [jar for pattern in _FURTHER_JARS for jar in self.jars.glob(pattern)]
        options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        return ["java", *options, "-cp", ":".join(map(str, jars)), str(_BRIDGES / "Bridge.java")]

    def given(self, message: bytes) -> bytes:
        return message


class BouncyCastle(_Java):
    """With JavaMail for the MIME structure."""

    name = "BouncyCastle"
    kind = "cms"

    def version(self) -> str:
        return self.package_version("libbcprov-java")


class PGPainless(_Java):
    """With JavaMail for the MIME structure."""

    name = "PGPainless"
    kind = "pgpainless"

    def version(self) -> str:
        return self.package_version("libpgpainless-core-java")


class _Node(_Bridged):
    programs = ("node",)
    package: ClassVar[str]

    @classmethod
    def missing(cls) -> list[str]:
        return super().missing() + ([] if (_MODULES / cls.package).exists() else [f"{cls.package} (npm)"])

    def command(self) -> list[str]:
        return ["node", str(_BRIDGES / "bridge.mjs"), str(_MODULES)]


class OpenPGPjs(_Node):
    """openpgp.js, of Proton and Mailvelope."""

    name = "OpenPGP.js"
    kind = package = "openpgp"


class PKIjs(_Node):
    """PKI.js, on WebCrypto."""

    name = "PKI.js"
    kind = package = "pkijs"


def _thunderbird_rnp() -> Path | None:
    """Its own in Debian 12; Debian 13's Thunderbird loads the one of Debian."""
    libraries = [unpacked(THUNDERBIRD / "librnp.so"), *Path("/usr/lib").glob("*-linux-gnu*/librnp.so.0")]
    return next((library for library in libraries if library.exists()), None)


class ThunderbirdRNP(_Bridged):
    """The library that Thunderbird reads OpenPGP with."""

    name = "RNP of Thunderbird"
    kind = "rnp"

    @classmethod
    def missing(cls) -> list[str]:
        return [] if unpacked(THUNDERBIRD / "application.ini").exists() and _thunderbird_rnp() else ["thunderbird"]

    def command(self) -> list[str]:
        return [sys.executable, str(_BRIDGES / "rnp.py"), str(_thunderbird_rnp())]

    def version(self) -> str:
        return thunderbird_version()
