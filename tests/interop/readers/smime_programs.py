"""Programs that open S/MIME."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from tests.certificates import to_pem
from tests.interop.owners import Owner
from tests.interop.readers.base import (
    THUNDERBIRD,
    TIMEOUT_S,
    Command,
    Reader,
    Unopened,
    last_words,
    run,
    unpacked,
    unwrapped,
)

# The only encryption of PKCS #12 that gpgsm 2.2 knows.
_LEGACY = ("-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1")
_ATTEMPTS = 12


def write_pem(folder: Path, owner: Owner) -> None:
    """key.pem and certificate.pem."""
    private = load_der_private_key(owner.secret, None, unsafe_skip_rsa_key_validation=True)
    (folder / "key.pem").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "certificate.pem").write_bytes(to_pem(owner.published))


def write_pkcs12(folder: Path, owner: Owner, *options: str) -> Path:
    """Made by openssl, under the password ``secret``."""
    write_pem(folder, owner)
    pair: Command = ["-inkey", folder / "key.pem", "-in", folder / "certificate.pem", "-name", owner.name]
    run(["openssl", "pkcs12", "-export", *pair, "-passout", "pass:secret", "-out", folder / "pair.p12", *options])
    return folder / "pair.p12"


class OpenSSL(Reader):
    """It parses the MIME header, too."""

    name = "OpenSSL"
    programs = ("openssl",)

    def version(self) -> str:
        return run([*self.program("openssl"), "version"]).split()[1].decode()

    def open(self, message: bytes, owner: Owner) -> bytes:
        home = self.home(owner)
        pair: Command = ["-recip", home / "certificate.pem", "-inkey", home / "key.pem"]
        return run([*self.program("openssl"), "cms", "-decrypt", "-binary", "-inform", "SMIME", *pair], message)

    def _prepare(self, home: Path, owner: Owner) -> None:
        write_pem(home, owner)


class NSS(Reader):
    """Debian's."""

    name = "NSS"
    programs = ("cmsutil", "certutil", "pk12util", "openssl")
    env: dict[str, str] | None = None

    def version(self) -> str:
        return self.package_version("libnss3")

    def open(self, message: bytes, owner: Owner) -> bytes:
        home = self.home(owner)
        (home / "message").write_bytes(unwrapped(message))
        files: Command = ["-i", home / "message", "-o", home / "plain"]
        command = [*self.program("cmsutil"), "-D", "-d", f"sql:{home}", "-p", "", *files]
        run(command, env=self.env)
        return (home / "plain").read_bytes()

    def _prepare(self, home: Path, owner: Owner) -> None:
        run([*self.program("certutil"), "-N", "--empty-password", "-d", f"sql:{home}"], env=self.env)
        pair = write_pkcs12(home, owner)
        run([*self.program("pk12util"), "-i", pair, "-d", f"sql:{home}", "-W", "secret"], env=self.env, merged=True)


class ThunderbirdNSS(NSS):
    """Debian's cmsutil with the libraries of Thunderbird."""

    name = "NSS of Thunderbird"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.env = {**os.environ, "LD_LIBRARY_PATH": str(unpacked(THUNDERBIRD))}

    @classmethod
    def missing(cls) -> list[str]:
        library = unpacked(THUNDERBIRD / "libsmime3.so")
        return super().missing() + ([] if library.exists() else ["thunderbird"])

    def version(self) -> str:
        return thunderbird_version()


def thunderbird_version() -> str:
    lines = unpacked(THUNDERBIRD / "application.ini").read_text("utf-8").splitlines()
    return next((line.partition("=")[2] for line in lines if line.startswith("Version=")), "?")


class GpgSM(Reader):
    """A home for each owner."""

    name = "gpgsm"
    programs = ("gpgsm", "gpgconf", "openssl")

    def version(self) -> str:
        return run([*self.program("gpgsm"), "--version"]).split()[2].decode()

    def open(self, message: bytes, owner: Owner) -> bytes:
        """Once in some thousand imports the agent of 2.4 cannot read the secret key that it has just stored: it gets
        another home then."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._opened(message, owner)
            except Unopened as error:
                if "Corrupted protection" not in str(error):
                    raise
                self._homes[f"{owner.name}, spoiled {len(self._homes)}"] = self._homes.pop(owner.name)
        return self._opened(message, owner)

    def _opened(self, message: bytes, owner: Owner) -> bytes:
        home = self.home(owner)
        (home / "plain").unlink(missing_ok=True)
        (home / "message").write_bytes(unwrapped(message))
        # Its exit code is a failure where it does not know the certificate of another recipient, too.
        status: Command = ["--status-fd", "1", "--output", home / "plain", "--decrypt", home / "message"]
        done = subprocess.run(
            [*gpgsm(home, self.program("gpgsm")), *status],
            input=b"secret\n",
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if b"[GNUPG:] DECRYPTION_OKAY" not in done.stdout.splitlines():
            raise Unopened(f"gpgsm: {last_words(done.stderr)}")
        return (home / "plain").read_bytes()

    def _prepare(self, home: Path, owner: Owner) -> None:
        import_into_gpgsm(home, owner, self.program("gpgsm"))

    def close(self) -> None:
        for home in self._homes.values():
            command: Command = ["gpgconf", "--homedir", home, "--kill", "all"]
            subprocess.run(command, capture_output=True, timeout=60, check=False)


def gpgsm(home: Path, program: Command) -> Command:
    command: Command = ["--homedir", home, "--batch", "--no-tty", "--disable-crl-checks", "--disable-dirmngr"]
    return [*program, *command, "--pinentry-mode", "loopback", "--passphrase-fd", "0"]


def import_into_gpgsm(home: Path, owner: Owner, program: Sequence[str | Path] = ("gpgsm",)) -> None:
    """Raises Unopened where gpgsm does not take the key.

    gpgsm 2.2 derives a wrong key from about one PKCS #12 file in 60: where a block of the derivation (RFC 7292
    appendix B.2) begins with a zero octet, that octet is lost, and "decryption failed; trying charset …" follows.  It
    depends on the salt, so the next file, with another salt, will do.
    """
    # Without s2k-count each agent measures for a while how fast the machine is.
    (home / "gpg-agent.conf").write_text("allow-loopback-pinentry\ndisable-scdaemon\ns2k-count 65536\n")
    for attempt in range(_ATTEMPTS):
        pair = write_pkcs12(home, owner, *_LEGACY)
        command = [*gpgsm(home, [*program]), "--import", pair]
        done = subprocess.run(command, input=b"secret\n", capture_output=True, timeout=TIMEOUT_S, check=False)
        # What it thinks of the signature in the certificate, which its exit code tells too, does not matter.
        if done.returncode == 0 or b"secret keys imported: 1" in done.stderr:
            return
        if attempt == _ATTEMPTS - 1 or b"error parsing or decrypting" not in done.stderr:
            raise Unopened(f"gpgsm: {last_words(done.stderr)}")
