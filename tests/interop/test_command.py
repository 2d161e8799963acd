"""What ``smilla encrypt`` prints is opened, octet for octet, by programs that we did not write.

message file -> smilla encrypt (keys from a folder) -> openssl | cmsutil | gpgsm     S/MIME, RSA and (openssl) EC
                                                   -> gpg | rnp | sq                OpenPGP
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.owners import owner, publish
from tests.interop.readers import Reader
from tests.interop.readers.pgp_programs import GnuPG, Sq, TheRNP
from tests.interop.readers.smime_programs import NSS, GpgSM, OpenSSL
from tests.interop.sending import inside
from tests.lab.programs import require_nothing_missing

pytestmark = pytest.mark.interop

MESSAGES = {
    "text without any MIME header": b"From: a@x.test\nTo: r@r.test\nSubject: hi\n\nhello\n",
    "8-bit octets without a charset": b"From: a@x.test\r\n\r\n\xe9\xe8 \xff\xfe\r\n",
    "folded Content-Type, 8bit": b"MIME-Version: 1.0\r\nContent-Type: text/plain;\r\n\tcharset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n" + "Grüße\r\n".encode() * 9,
    "no final line end": b"Subject: x\r\n\r\nlast line",
    "empty body": b"Subject: x\r\n\r\n",
    "no body at all": b"Subject: x\r\n",
    "NUL and control octets": b"Subject: x\r\n\r\na\x00b\x01\x1a\r\n",
    "a line of 5,000 octets": b"Subject: x\r\n\r\n" + b"0123456789" * 500 + b"\r\n",
    "a malformed header line": b"Subject: x\r\nthis is no header\r\nTo: y\r\n\r\nbody\r\n",
    "lines that look like boundaries and armour": b"Subject: x\n\n--smilla\n-----BEGIN PGP MESSAGE-----\n\n.\n..\n",
    "multipart": b"Content-Type: multipart/mixed; boundary=b\r\n"
    b"\r\n--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\nepilogue",
    "300 KB": b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    + bytes(range(1, 256)).replace(b"\n", b"").replace(b"\r", b"") * 1200
    + b"\r\n",
}


RECIPIENTS: dict[str, tuple[type[Reader], str, str]] = {
    "openssl RSA": (OpenSSL, "smime", "rsa2048"),
    "openssl EC": (OpenSSL, "smime", "p256"),
    "cmsutil": (NSS, "smime", "rsa2048"),
    "gpgsm": (GpgSM, "smime", "rsa2048"),
    "gpg": (GnuPG, "openpgp", "cv25519"),
    "rnp": (TheRNP, "openpgp", "cv25519"),
    "sq": (Sq, "openpgp", "cv25519"),
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Short, since gpg's sockets lie in it."""
    path = Path(tempfile.mkdtemp(prefix="smilla-"))
    (path / "keys").mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def readers(folder: Path) -> Iterator[dict[str, Reader]]:
    made: dict[str, Reader] = {}
    for name, (kind, format_, key) in RECIPIENTS.items():
        publish(folder / "keys", owner(format_, key))
        (folder / str(len(made))).mkdir(mode=0o700)
        made[name] = kind(folder / str(len(made)))
    yield made
    for reader in made.values():
        reader.close()


def encrypted(message: bytes, address: str, folder: Path, tmp_path: Path) -> bytes:
    """What the command prints."""
    settings = tmp_path / "smilla.toml"
    # pysequoia's keys announce SEIPDv2, which none of these readers knows.
    settings.write_text(f'[keys]\nsources = ["directory"]\ndirectory = "{folder}/keys"\n[openpgp]\nseipd2 = "v6"\n')
    command = [sys.executable, "-m", "smilla", "encrypt", "--config", str(settings), "--require"]
    command += ["--from", "a@x.test", "--to", address]
    done = subprocess.run(command, input=message, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert b"\n" not in done.stdout.replace(b"\r\n", b"")
    return done.stdout


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("reader", RECIPIENTS)
def test_any_message_opens_octet_for_octet(
    reader: str, name: str, readers: dict[str, Reader], folder: Path, tmp_path: Path
) -> None:
    kind, format_, key = RECIPIENTS[reader]
    require_nothing_missing(kind.missing())
    recipient = owner(format_, key)
    written = encrypted(MESSAGES[name], recipient.address, folder, tmp_path)
    assert readers[reader].open(written, recipient) == inside(MESSAGES[name])
