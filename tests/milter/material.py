"""What the tests of the milter put in and look for: keys, messages, and the canary."""

from __future__ import annotations

import base64
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.certificates import make_certificate
from tests.lab.keys import SMIMEKey, encrypted_part
from tests.lab.processes import processes_in
from tests.milter.client import Answer, Mail

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.relay import Relay
    from tests.lab.sink import Sink
    from tests.lab.smilla import Settings

CANARY = b"the-canary-sings-at-dawn-4711"
NOBODY = "127.0.0.1@9"  # a port where no name server listens


@dataclass(frozen=True)
class PGPPair:
    """An OpenPGP key made by Sequoia: the certificate, and what decrypts."""

    address: str
    raw: bytes
    decryptor: Any

    def open(self, message: Path) -> bytes:
        """What is inside a PGP/MIME message file, octet for octet."""
        import pysequoia

        opened = pysequoia.decrypt(encrypted_part(message.read_bytes()), decryptor=self.decryptor).bytes
        assert opened is not None
        return bytes(opened)


@dataclass(frozen=True)
class Keys:
    """alice has a certificate (RSA), erin one (P-256), bob an OpenPGP key; all are in the folder for the directory
    source, at r.test."""

    alice: SMIMEKey
    erin: SMIMEKey
    bob: PGPPair
    directory: Path


def fill_directory(directory: Path, *pairs: SMIMEKey | PGPPair) -> None:
    """Puts certificates into a folder for the directory source."""
    for pair in pairs:
        if isinstance(pair, SMIMEKey):
            (directory / f"{pair.address}.pem").write_bytes(pair.certificate_file.read_bytes())
        else:
            (directory / f"{pair.address}.pgp").write_bytes(pair.raw)


def make_pgp_pair(address: str) -> PGPPair:
    """An OpenPGP key, version 4, Curve25519."""
    import pysequoia

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        key = pysequoia.Cert.generate(f"Somebody <{address}>")
        assert key.secrets is not None
        return PGPPair(address, bytes(key), key.secrets.decryptor())


def make_certificate_for_anybody() -> bytes:
    """A certificate that names no address: from DNS it is accepted for whoever publishes it (RFC 8550 section 3)."""
    now = datetime.now(UTC)
    return make_certificate(not_before=now - timedelta(days=1), not_after=now + timedelta(days=9))[1]


def directory_settings(keys: Keys, **more: Any) -> Settings:
    """The usual settings of these tests: keys from the folder, and no re-injection, since there is no listener."""
    usual: dict[str, Any] = {
        "keys": {"sources": ["directory"], "directory": str(keys.directory), "try_lowercase": True},
        "policy": {"no_key": "plain", "mixed": "defer"},
    }
    joined = {**usual, **more}
    return {**joined, "policy": {"mixed": "defer", **joined["policy"]}}


def assert_without_canary(octets: bytes) -> None:
    """The canary stands there neither as it is nor in hex nor, whatever its place, in base64."""
    forms = [CANARY, CANARY.hex().encode(), CANARY[::-1]]
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + CANARY)
        forms.append(whole[4 if shift else 0 : -4])
    joined = octets.replace(b"\r\n", b"").replace(b"\n", b"")
    found = [form for form in forms if form.lower() in octets.lower() or form.lower() in joined.lower()]
    assert not found, f"the canary got out: {found}"


def assert_ended_well(relay: Relay, sink: Sink) -> None:
    """Ends both: nothing went wrong inside, the log has nothing of a message, and no process is left."""
    relay.stop()
    sink.close()
    assert_without_canary(relay.log.encode())
    assert "internal-error" not in relay.log
    assert processes_in(relay.folder) == []


def plain_mail(*extra: bytes, body: bytes = b"", to: str = "alice@r.test") -> Mail:
    """A message with the canary in its body; ``extra`` are whole header lines."""
    head = (b"From: sender@s.test", b"To: " + to.encode(), b"Subject: a letter", *extra)
    return Mail.of(b"\r\n".join(head) + b"\r\n\r\n" + (body or CANARY + b"\r\n"))


def edits_of(answer: Answer) -> str:
    """The commands of the edits, in order, for a look at their sequence."""
    return b"".join(edit.command for edit in answer.edits).decode()
