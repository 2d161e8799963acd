"""An OpenDKIM of its own in a folder: a milter that signs what passes, or verifies it.

It runs as an unprivileged user, on a UNIX socket.  Public keys come from a file, no name is looked up.
"""

from __future__ import annotations

import base64
import os
import pwd
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.lab.processes import LOOPBACK, Child, Server, socket_answers
from tests.lab.programs import as_nobody, find_program, program_environment

if TYPE_CHECKING:
    from pathlib import Path

AUTHSERV_ID = "mx.home.test"
_COMMON = """\
Syslog no
Background no
AutoRestart no
RequireSafeKeys no
UMask 000
Socket local:{folder}/opendkim.sock
TestPublicKeys {folder}/public
AuthservID {authserv_id}
"""
_SIGNING = """\
Mode s
Domain {domain}
Selector {selector}
KeyFile {folder}/private
Canonicalization {canonicalization}
InternalHosts csl:{host}
SignHeaders *,+MIME-Version,+Content-Type,+Content-Transfer-Encoding,+Content-Disposition
OversignHeaders From
"""
_VERIFYING = """\
Mode v
AlwaysAddARHeader yes
InternalHosts csl:192.0.2.1
"""


@dataclass(frozen=True)
class DKIMKey:
    """A domain's key for DKIM (RFC 6376) and the selector under which it is published."""

    domain: str
    selector: str
    private: rsa.RSAPrivateKey

    @property
    def raw_private(self) -> bytes:
        """The private key as PEM."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())

    @property
    def name(self) -> str:
        """The owner name of its record."""
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def record(self) -> str:
        """The text of its record (section 3.6.1)."""
        raw = self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"v=DKIM1; k=rsa; p={base64.b64encode(raw).decode()}"

    def answer(self, name: bytes, timeout: int = 5) -> bytes | None:
        """What dkimpy gets in place of DNS."""
        return self.record.encode() if name.decode().rstrip(".") == self.name else None


def make_dkim_key(domain: str, selector: str = "one") -> DKIMKey:
    """A new key, RSA-2048."""
    return DKIMKey(domain, selector, rsa.generate_private_key(public_exponent=65537, key_size=2048))


class OpenDKIM(Server):
    """Starts with ``with`` or start().  With a ``canonicalization`` it signs with the key, otherwise it verifies.
    ``more`` are further lines of its configuration."""

    def __init__(self, folder: Path, key: DKIMKey, canonicalization: str = "", more: str = "") -> None:
        self.folder = folder
        self._key = key
        self._canonicalization = canonicalization
        self._more = more

    @property
    def milter(self) -> str:
        """The socket as Postfix's smtpd_milters has it."""
        return f"unix:{self.folder}/opendkim.sock"

    def start(self) -> Self:
        """Raises MissingProgramError or ChildError."""
        program = find_program("opendkim")
        self.folder.mkdir(parents=True)
        if os.geteuid() == 0:
            os.chown(self.folder, pwd.getpwnam("nobody").pw_uid, -1)
        self._write()
        command = [*as_nobody(), str(program), "-f", "-x", str(self.folder / "opendkim.conf")]
        log = self.folder / "opendkim.log"
        self._child = Child("opendkim", command, log, environment=program_environment(program))
        self._child.start(ready=lambda: socket_answers(self.folder / "opendkim.sock"))
        return self

    def _write(self) -> None:
        text = _COMMON + (_SIGNING if self._canonicalization else _VERIFYING)
        key = self._key
        (self.folder / "opendkim.conf").write_text(
            text.format(
                folder=self.folder,
                authserv_id=AUTHSERV_ID,
                domain=key.domain,
                selector=key.selector,
                canonicalization=self._canonicalization,
                host=LOOPBACK,
            )
            + self._more
        )
        (self.folder / "public").write_text(f"{key.name} {key.record}\n")
        (self.folder / "private").write_bytes(key.raw_private)
