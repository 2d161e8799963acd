"""What ``smilla encrypt`` prints is opened, octet for octet, by programs that we did not write.

message file -> smilla encrypt (keys from a folder) -> openssl | cmsutil | gpgsm     S/MIME, RSA and (openssl) EC
                                                   -> gpg | rnp | sq                OpenPGP
"""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pysequoia
import pytest

from tests.programs import require

pytestmark = pytest.mark.interop

# What both gpgsm 2.2 and NSS take.
LEGACY = ["-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"]

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


@dataclass(frozen=True)
class Reader:
    """A recipient and a program that opens their mail: the file of the ciphertext to the plaintext."""

    address: str
    command: list[str]

    def opens(self, path: Path) -> bytes:
        require(self.command[0])
        command = [str(path) if word == "{}" else word for word in self.command]
        done = subprocess.run(command, input=b"secret\n", capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (command, done.stderr)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Short, since gpg's sockets lie in it."""
    path = Path(tempfile.mkdtemp(prefix="smilla-"))
    (path / "keys").mkdir()
    yield path
    for home in ("gnupg", "gpgsm"):
        subprocess.run(["gpgconf", "--homedir", path / home, "--kill", "all"], capture_output=True, check=False)
    shutil.rmtree(path)


def certificate(folder: Path, name: str, algorithm: list[str]) -> tuple[Path, Path]:
    require("openssl")
    key, crt = folder / f"{name}.key", folder / "keys" / f"{name}@r.test.crt"
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=email:{name}@r.test", "-days", "30", "-nodes"]
    run("openssl", "req", "-x509", "-newkey", *algorithm, *subject, "-keyout", key, "-out", crt)
    out = ["-name", name, "-passout", "pass:secret", "-out", str(folder / f"{name}.p12")]
    run("openssl", "pkcs12", "-export", *LEGACY, "-inkey", key, "-in", crt, *out)
    return key, crt


@pytest.fixture(scope="module")
def readers(folder: Path) -> dict[str, Reader]:
    """Each program with the secret key of one recipient."""
    require("openssl", "certutil", "pk12util", "cmsutil", "gpgsm", "gpg", "rnp", "sq")
    rsa_key, rsa = certificate(folder, "rsa", ["rsa:2048"])
    ec_key, ec = certificate(folder, "ec", ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
    nss, gpgsm, gnupg = folder / "nss", folder / "gpgsm", folder / "gnupg"
    for home in (nss, gpgsm, gnupg):
        home.mkdir(mode=0o700)
    run("certutil", "-N", "--empty-password", "-d", f"sql:{nss}")
    run("pk12util", "-i", folder / "rsa.p12", "-d", f"sql:{nss}", "-W", "secret")
    (gpgsm / "gpg-agent.conf").write_text("allow-loopback-pinentry\n")
    sm = ["gpgsm", "--homedir", str(gpgsm), "--batch", "--no-tty", "--disable-crl-checks", "--disable-dirmngr"]
    sm += ["--pinentry-mode", "loopback", "--passphrase-fd", "0"]
    done = subprocess.run([*sm, "--import", folder / "rsa.p12"], input=b"secret\n", capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    tsk = pysequoia.Tsk.generate(user_id="Pgp <pgp@r.test>", profile=pysequoia.Profile.RFC4880)
    (folder / "secret.asc").write_text(str(tsk))
    (folder / "keys" / "pgp@r.test.pgp").write_bytes(bytes(tsk.extract_certificate()))
    run("gpg", "--homedir", gnupg, "--batch", "--import", folder / "secret.asc")
    openssl = ["openssl", "cms", "-decrypt", "-inform", "DER", "-binary", "-in", "{}"]
    rnp = ["rnp", "--homedir", str(folder), "--keyfile", str(folder / "secret.asc"), "--password="]
    return {
        "openssl RSA": Reader("rsa@r.test", [*openssl, "-recip", str(rsa), "-inkey", str(rsa_key)]),
        "openssl EC": Reader("ec@r.test", [*openssl, "-recip", str(ec), "-inkey", str(ec_key)]),
        "cmsutil": Reader("rsa@r.test", ["cmsutil", "-D", "-d", f"sql:{nss}", "-i", "{}"]),
        "gpgsm": Reader("rsa@r.test", [*sm, "--decrypt", "{}"]),
        "gpg": Reader("pgp@r.test", ["gpg", "--homedir", str(gnupg), "--batch", "--decrypt", "{}"]),
        "rnp": Reader("pgp@r.test", [*rnp, "--decrypt", "{}", "--output", "-"]),
        "sq": Reader("pgp@r.test", ["sq", "decrypt", "--recipient-key", str(folder / "secret.asc"), "{}"]),
    }


def encrypted(message: bytes, address: str, folder: Path, tmp_path: Path) -> Path:
    """The ciphertext inside what the command prints: DER or armour."""
    settings = tmp_path / "smilla.toml"
    # pysequoia's keys announce SEIPDv2, which none of these readers knows.
    settings.write_text(f'[keys]\nsources = ["directory"]\ndirectory = "{folder}/keys"\n[openpgp]\nseipd2 = "v6"\n')
    command = [sys.executable, "-m", "smilla", "encrypt", "--config", str(settings), "--require"]
    command += ["--from", "a@x.test", "--to", address]
    done = subprocess.run(command, input=message, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert b"\n" not in done.stdout.replace(b"\r\n", b"")
    parsed = email.message_from_bytes(done.stdout)
    *_, last = parsed.walk()
    payload = last.get_payload(decode=True)
    assert isinstance(payload, bytes)
    path = tmp_path / "ciphertext"
    path.write_bytes(payload)
    return path


def inside(message: bytes) -> bytes:
    """What has to come out, worked out independently: the Content fields, an empty line, the body, all with CRLF."""
    lines = message.replace(b"\r\n", b"\n").split(b"\n")
    fields: list[bytes] = []
    while (
        lines
        and lines[0]
        and (b":" in lines[0] or lines[0][:1] in b" \t")
        and b" " not in lines[0].split(b":")[0].strip()
    ):
        line = lines.pop(0)
        fields = [*fields[:-1], fields[-1] + b"\n" + line] if line[:1] in b" \t" else [*fields, line]
    body = lines[1:] if lines and not lines[0] else lines
    content = [f for f in fields if f.lower().startswith(b"content-")] or [b"Content-Type: text/plain"]
    return b"\n".join([*content, b"", *(body or [b""])]).replace(b"\n", b"\r\n")


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("reader", ["openssl RSA", "openssl EC", "cmsutil", "gpgsm", "gpg", "rnp", "sq"])
def test_any_message_opens_octet_for_octet(
    reader: str, name: str, readers: dict[str, Reader], folder: Path, tmp_path: Path
) -> None:
    ciphertext = encrypted(MESSAGES[name], readers[reader].address, folder, tmp_path)
    assert readers[reader].opens(ciphertext) == inside(MESSAGES[name])
