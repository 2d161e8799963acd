"""Recipients' keys, and the programs with which they open what arrives: openssl and gpg.

The private halves live in the folder that the caller names; gpg's agent is ended by ``OpenPGPKey.close``.
"""

from __future__ import annotations

import email
import email.policy
import itertools
import shlex
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.certificates import make_certificate, to_pem
from tests.lab.processes import Closing
from tests.lab.programs import find_program, program_environment

if TYPE_CHECKING:
    from collections.abc import Sequence


_NUMBERS = itertools.count(1000)  # each key is another


class NotOpenedError(Exception):
    """The program could not open the message; the text is what it said."""


@dataclass(frozen=True)
class SMIMEKey:
    """A certificate and its private key, as DER and as PEM files."""

    address: str
    raw_certificate: bytes
    certificate_file: Path
    key_file: Path

    def command(self, message: Path | str) -> list[str]:
        """The openssl command that opens a message file, written to stdout."""
        openssl = str(find_program("openssl"))
        keys = ["-recip", str(self.certificate_file), "-inkey", str(self.key_file)]
        return [openssl, "cms", "-decrypt", "-in", str(message), *keys]

    def open(self, message: Path) -> bytes:
        """What is inside an S/MIME message file (header included), octet for octet.  Raises NotOpenedError."""
        return _run(self.command(message))


def make_smime_key(
    folder: Path,
    address: str,
    *,
    algorithm: str = "rsa2048",
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> SMIMEKey:
    """A self-signed certificate for S/MIME (RFC 8550); ``algorithm`` is rsaBITS, p256, p384 or p521."""
    now = datetime.now(UTC)
    key, raw = make_certificate(
        algorithm,
        number=next(_NUMBERS),
        email=address,
        common_name=address.partition("@")[0].capitalize(),
        usages=("digital_signature", "key_encipherment" if algorithm.startswith("rsa") else "key_agreement"),
        extended=(ExtendedKeyUsageOID.EMAIL_PROTECTION,),
        not_before=not_before or now - timedelta(days=1),
        not_after=not_after or now + timedelta(days=30),
    )
    stem = f"{address}-{algorithm}"
    certificate_file, key_file = folder / f"{stem}.pem", folder / f"{stem}.key"
    certificate_file.write_bytes(to_pem(raw))
    key_file.touch(mode=0o600)
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return SMIMEKey(address, raw, certificate_file, key_file)


@dataclass(frozen=True)
class OpenPGPKey(Closing):
    """An OpenPGP certificate (binary), and the gpg home that has its secret keys."""

    address: str
    raw: bytes
    home: Path

    def command(self, message: Path | str) -> list[str]:
        """The gpg command that opens an encrypted part, written to stdout."""
        return [*_gpg(self.home), "--decrypt", str(message)]

    def open(self, message: Path) -> bytes:
        """What is inside a PGP/MIME message file (RFC 3156 section 4), octet for octet.  Raises NotOpenedError."""
        part = message.with_suffix(".asc")
        part.write_bytes(encrypted_part(message.read_bytes()))
        return _run(self.command(part))

    def armoured_secret_key(self) -> str:
        """The secret key, without a passphrase, as another program imports it."""
        unlocked = ["--pinentry-mode", "loopback", "--passphrase", ""]
        return _run([*_gpg(self.home), *unlocked, "--armor", "--export-secret-keys", self.address]).decode()

    def close(self) -> None:
        """Ends the agent that gpg started for this home.  Safe to repeat."""
        gpgconf = find_program("gpgconf")
        if self.home.is_dir():
            subprocess.run([gpgconf, "--homedir", self.home, "--kill", "all"], check=False, capture_output=True)


def make_openpgp_key(
    folder: Path, address: str, *, algorithm: str = "future-default", expires: str = "never"
) -> OpenPGPKey:
    """A key made by gpg in a home of its own below the folder; ``algorithm`` and ``expires`` as gpg takes them."""
    home = folder / f"gnupg-{address}"
    home.mkdir(mode=0o700)
    key = OpenPGPKey(address, b"", home)
    try:
        name = f"{address.partition('@')[0].capitalize()} <{address}>"
        unlocked = ["--pinentry-mode", "loopback", "--passphrase", ""]
        _run([*_gpg(home), *unlocked, "--quick-generate-key", name, algorithm, "default", expires])
        return OpenPGPKey(address, _run([*_gpg(home), "--export", address]), home)
    except BaseException:
        key.close()
        raise


def encrypt_openpgp(key: OpenPGPKey, plaintext: bytes) -> bytes:
    """An armoured message to the key, made by gpg: stands for a sender who encrypts on his own."""
    return _run(
        [*_gpg(key.home), "--armor", "--trust-model", "always", "--recipient", key.address, "--encrypt"], plaintext
    )


def encrypted_part(message: bytes) -> bytes:
    """The second part of a multipart/encrypted message.  Raises NotOpenedError where it is not one."""
    parsed = email.message_from_bytes(message, policy=email.policy.SMTP)
    parts = list(parsed.iter_parts()) if parsed.get_content_type() == "multipart/encrypted" else []
    if [part.get_content_type() for part in parts] != ["application/pgp-encrypted", "application/octet-stream"]:
        raise NotOpenedError(f"not PGP/MIME but {parsed.get_content_type()}")
    payload = parts[1].get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def shown(command: Sequence[str]) -> str:
    """A command as a person would type it."""
    return shlex.join([Path(command[0]).name, *command[1:]])


def _gpg(home: Path) -> list[str]:
    return [str(find_program("gpg")), "--homedir", str(home), "--batch", "--no-tty", "--quiet", "--yes"]


def _run(command: Sequence[str], octets: bytes = b"") -> bytes:
    environment = program_environment(Path(command[0]))
    result = subprocess.run(command, input=octets, env=environment, check=False, capture_output=True)
    if result.returncode != 0:
        raise NotOpenedError(f"{shown(command)}: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout
