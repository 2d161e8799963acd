"""Programs that open OpenPGP."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.interop.owners import Owner, gpg
from tests.interop.readers.base import Command, Reader, Unopened, run, unwrapped
from tests.openpgp_maker import armoured


def armoured_secret(owner: Owner) -> bytes:
    """For programs that take a key in armour only."""
    return armoured(owner.secret, "PGP PRIVATE KEY BLOCK", end="\n")


class GnuPG(Reader):
    """A home for each owner."""

    name = "gpg"
    programs = ("gpg", "gpgconf")

    def version(self) -> str:
        return run([*self.program("gpg"), "--version"]).split()[2].decode()

    def open(self, message: bytes, owner: Owner) -> bytes:
        return self._gpg(self.home(owner), "--decrypt", stdin=unwrapped(message))

    def _prepare(self, home: Path, owner: Owner) -> None:
        self._gpg(home, "--import", stdin=owner.secret)

    def _gpg(self, home: Path, *arguments: str, stdin: bytes) -> bytes:
        try:
            return gpg(home, *arguments, stdin=stdin, program=self.program("gpg"))
        except RuntimeError as error:
            raise Unopened(str(error)) from error

    def close(self) -> None:
        for home in self._homes.values():
            command: Command = ["gpgconf", "--homedir", home, "--kill", "all"]
            subprocess.run(command, capture_output=True, timeout=60, check=False)


class _WithKeyFile(Reader):
    """Programs that take the secret key as a file with each message."""

    def _prepare(self, home: Path, owner: Owner) -> None:
        (home / "secret.asc").write_bytes(armoured_secret(owner))


class TheRNP(_WithKeyFile):
    """Debian's."""

    name = "rnp"
    programs = ("rnp",)

    def version(self) -> str:
        return next(word for word in run([*self.program("rnp"), "--version"]).decode().split() if word[:1].isdigit())

    def open(self, message: bytes, owner: Owner) -> bytes:
        home = self.home(owner)
        (home / "message.asc").write_bytes(unwrapped(message))
        command = [*self.program("rnp"), "--homedir", home, "--keyfile", home / "secret.asc", "--password="]
        return run([*command, "--decrypt", home / "message.asc", "--output", "-"])


class Sq(_WithKeyFile):
    """Sequoia's command line."""

    name = "sq"
    programs = ("sq",)

    def version(self) -> str:
        try:
            return run([*self.program("sq"), "version"], merged=True).split()[1].decode()
        except Unopened:  # before 1.0
            return run([*self.program("sq"), "--version"]).split()[1].decode()

    def open(self, message: bytes, owner: Owner) -> bytes:
        home = self.home(owner)
        (home / "message.asc").write_bytes(unwrapped(message))
        return run([*self.decrypting(), home / "secret.asc", home / "message.asc"])

    def decrypting(self) -> Command:
        """What goes before the file of the secret key."""
        takes_key = "--recipient-key" if self.version().startswith("0.") else "--recipient-file"
        return [*self.program("sq"), "decrypt", takes_key]


class Sqop(_WithKeyFile):
    """Sequoia as a stateless OpenPGP program."""

    name = "sqop"
    programs = ("sqop",)

    def version(self) -> str:
        return run([*self.program(self.programs[0]), "version"]).split()[-1].decode()

    def open(self, message: bytes, owner: Owner) -> bytes:
        return run([*self.program(self.programs[0]), "decrypt", self.home(owner) / "secret.asc"], unwrapped(message))


class GoSOP(Sqop):
    """Proton's GopenPGP as a stateless OpenPGP program, which prints whatever it decrypts as text."""

    name = "gosop"
    programs = ("gosop",)

    def version(self) -> str:
        return self.package_version("gosop").rpartition("~")[2]

    def shown(self, content: bytes) -> bytes:
        """With LF, and each run of octets that is not UTF-8 replaced."""
        text = content.replace(b"\r\n", b"\n").decode("utf-8", "surrogateescape")
        return re.sub("[\udc80-\udcff]+", "\N{REPLACEMENT CHARACTER}", text).encode()
