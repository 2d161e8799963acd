"""What ``smilla keygen`` makes opens in programs that we did not write, and what ``--minimal`` leaves is a key to them.

smilla keygen --> PKCS #12 -> openssl | gpgsm 2.4 | pk12util (NSS)
              --> OpenPGP  -> gpg | rnp | sq: import, encrypt, decrypt, sign, revoke
gpg (several user IDs and subkeys, somebody else's signature) -> smilla record --minimal -> gpg | rnp | sq
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from smilla.adapters import zone_line
from smilla.formats.openpgp import SIGNATURE, packets
from tests.interop.readers import Reader
from tests.interop.readers.base import run
from tests.interop.readers.newer import NSS13, RNP13, GnuPG13, GpgSM13, OpenSSL13, Sq13
from tests.interop.readers.pgp_programs import GnuPG, Sq, TheRNP
from tests.interop.readers.smime_programs import NSS, GpgSM, OpenSSL, ThunderbirdNSS
from tests.lab.programs import require_nothing_missing
from tests.openpgp_maker import armoured

pytestmark = pytest.mark.interop
ADDRESS, PASSWORD = "hugh@r.test", "correct horse"
ANYONE = ("--trust-model", "always", "--recipient")


def smilla(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "smilla", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Short, since gpg's sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="smilla-") as name:
        path = Path(name)
        (path / "password").touch(mode=0o600)
        (path / "password").write_text(PASSWORD)
        to = ("--output-dir", path, "--password-file", path / "password", "--name", "Hugh")
        smilla("keygen", ADDRESS, "--openpgp", *to)
        smilla("keygen", ADDRESS, *to)
        (path / "ec").mkdir()
        smilla("keygen", ADDRESS, "--ec", "P-256", *to, "--output-dir", path / "ec")
        yield path


@pytest.fixture
def home(folder: Path) -> Iterator[Path]:
    """For one program, with its agent ended afterwards."""
    with tempfile.TemporaryDirectory(prefix="h-", dir=folder) as name:
        path = Path(name)
        (path / "gpg-agent.conf").write_text("allow-loopback-pinentry\ndisable-scdaemon\ns2k-count 65536\n")
        yield path
        subprocess.run(["gpgconf", "--homedir", path, "--kill", "all"], capture_output=True, check=False)


def pfx(folder: Path, kind: str) -> Path:
    return folder / ("ec" if kind == "P-256" else ".") / f"{ADDRESS}.p12"


def here(reader: type[Reader], home: Path) -> Reader:
    require_nothing_missing(reader.missing())
    return reader(home)


KINDS = pytest.mark.parametrize("kind", ["RSA", "P-256"])


@KINDS
@pytest.mark.parametrize("reader", [OpenSSL, OpenSSL13])
def test_openssl_opens_the_pkcs12(reader: type[Reader], kind: str, folder: Path, home: Path) -> None:
    command = [*here(reader, home).program("openssl"), "pkcs12", "-in", pfx(folder, kind), "-nodes"]
    said = run([*command, "-passin", f"pass:{PASSWORD}"])
    assert b"BEGIN CERTIFICATE" in said
    assert b"PRIVATE KEY" in said


@KINDS
@pytest.mark.parametrize("reader", [NSS, NSS13, ThunderbirdNSS])
def test_nss_and_thunderbirds_own_open_the_pkcs12(reader: type[Reader], kind: str, folder: Path, home: Path) -> None:
    tools = here(reader, home)
    assert isinstance(tools, NSS)
    run([*tools.program("certutil"), "-N", "--empty-password", "-d", f"sql:{home}"], env=tools.env)
    pair: list[str | Path] = ["-i", pfx(folder, kind), "-W", PASSWORD]
    run([*tools.program("pk12util"), "-d", f"sql:{home}", *pair], env=tools.env, merged=True)
    assert b"Hugh" in run([*tools.program("certutil"), "-K", "-d", f"sql:{home}"], env=tools.env)


def _gpgsm(reader: Reader, home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    loopback = ("--pinentry-mode", "loopback", "--passphrase-fd", "0", "--batch", "--no-tty", "--disable-dirmngr")
    command = [*reader.program("gpgsm"), "--homedir", home, *loopback, *arguments]
    return subprocess.run(command, input=f"{PASSWORD}\n".encode(), capture_output=True, check=False)


def _version(reader: Reader) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", reader.version())[:2]))


@KINDS
@pytest.mark.parametrize("reader", [GpgSM, GpgSM13])
def test_gpgsm_opens_the_pkcs12_from_2_4_on(reader: type[Reader], kind: str, folder: Path, home: Path) -> None:
    """As smilla-keygen(8) says: 2.2 knows no PBES2 with SHA-256."""
    program = here(reader, home)
    done = _gpgsm(program, home, "--import", pfx(folder, kind))
    listed = _gpgsm(program, home, "--list-secret-keys").stdout
    assert (b"CN=Hugh" in listed) == (_version(program) >= (2, 4)), done.stderr


# --- OpenPGP


def gpg(reader: Reader, home: Path, *arguments: str | Path, stdin: bytes = b"") -> bytes:
    loopback = ("--pinentry-mode", "loopback", "--passphrase", PASSWORD, "--batch", "--no-tty")
    return run([*reader.program("gpg"), "--homedir", home, *loopback, *arguments], stdin)


@pytest.mark.parametrize("reader", [GnuPG, GnuPG13])
def test_gpg_imports_encrypts_decrypts_signs_and_revokes(reader: type[Reader], folder: Path, home: Path) -> None:
    program = here(reader, home)
    gpg(program, home, "--import", folder / f"{ADDRESS}.secret.asc")
    message = gpg(program, home, *ANYONE, ADDRESS, "--encrypt", stdin=b"hello")
    assert gpg(program, home, "--decrypt", stdin=message) == b"hello"
    (home / "signed").write_bytes(gpg(program, home, "--sign", stdin=b"hello"))
    gpg(program, home, "--verify", home / "signed")
    gpg(program, home, "--import", folder / f"{ADDRESS}.revocation.asc")
    assert b"\npub:r:" in b"\n" + gpg(program, home, "--with-colons", "--list-keys")


def _encrypted(home: Path, key: Path) -> Path:
    """By gpg, from the file of a public key."""
    message = home / "message.asc"
    message.write_bytes(run(["gpg", "--homedir", home, "--batch", "--armor", "-f", key, "--encrypt"], b"hello"))
    return message


@pytest.mark.parametrize("reader", [TheRNP, RNP13])
def test_rnp_which_is_thunderbirds_decrypts(reader: type[Reader], folder: Path, home: Path) -> None:
    program = here(reader, home)
    message = _encrypted(home, folder / f"{ADDRESS}.asc")
    key = folder / f"{ADDRESS}.secret.asc"
    command = [*program.program("rnp"), "--homedir", home, "--keyfile", key, f"--password={PASSWORD}"]
    assert run([*command, "--decrypt", message, "--output", "-"]) == b"hello"


@pytest.mark.parametrize("reader", [Sq, Sq13])
def test_sq_reads_the_key_with_its_end_and_its_uses(reader: type[Reader], folder: Path, home: Path) -> None:
    said = run([*here(reader, home).program("sq"), "inspect", folder / f"{ADDRESS}.secret.asc"], merged=True)
    assert said.count(b"P730D") + said.count(b"2y") >= 2 or said.count(b"Expiration time: ") == 2
    assert b"Hugh <hugh@r.test>" in said
    assert b"Invalid" not in said


# --- minimal keys


@pytest.fixture(scope="module")
def minimal(folder: Path) -> Iterator[tuple[bytes, bytes]]:
    """A key that has seen life, made by gpg, and what smilla leaves of it."""
    require_nothing_missing(GnuPG.missing())
    home = folder / "g"
    home.mkdir(mode=0o700)
    program = GnuPG(folder)

    def do(*arguments: str | Path) -> bytes:
        return gpg(program, home, *arguments)

    do("--quick-generate-key", "Alice <alice@r.test>", "ed25519", "default", "2y")
    fingerprint = re.findall(rb"^fpr:+([0-9A-F]+):", do("--with-colons", "--list-keys"), re.MULTILINE)[0].decode()
    do("--quick-add-key", fingerprint, "cv25519", "encrypt", "2y")
    do("--quick-add-key", fingerprint, "ed25519", "sign", "2y")
    do("--quick-add-uid", fingerprint, "Alice <alice@work.test>")
    do("--quick-generate-key", "Bob <bob@r.test>", "ed25519", "default", "2y")
    do("--local-user", "bob@r.test", "--quick-sign-key", fingerprint)
    whole = do("--export", fingerprint)
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], capture_output=True, check=False)
    path = folder / "alice.pgp"
    path.write_bytes(whole)
    _, _, small = zone_line.read(smilla("record", "alice@r.test", "--key", path, "--minimal"))
    yield whole, small


def _file(folder: Path, raw: bytes) -> Path:
    path = folder / "small.asc"
    path.write_bytes(armoured(raw, "PGP PUBLIC KEY BLOCK", end="\n"))
    return path


def test_minimal_key_is_smaller_and_has_one_user_id(minimal: tuple[bytes, bytes]) -> None:
    whole, small = minimal
    assert len(small) < len(whole)
    assert b"alice@work.test" in whole
    assert b"alice@work.test" not in small
    signatures = [sum(packet.tag == SIGNATURE for packet in packets(raw)) for raw in (whole, small)]
    assert signatures == [6, 3]  # Bob's on both user IDs went, and that of the user ID that went


@pytest.mark.parametrize("reader", [GnuPG, GnuPG13])
def test_gpg_takes_the_minimal_key(
    reader: type[Reader], minimal: tuple[bytes, bytes], folder: Path, home: Path
) -> None:
    program = here(reader, home)
    gpg(program, home, "--import", _file(folder, minimal[1]))
    listed = gpg(program, home, "--with-colons", "--check-signatures")
    assert listed.count(b"\nuid:") == 1
    assert b"\nsig:%" not in listed
    assert gpg(program, home, *ANYONE, "alice@r.test", "--encrypt", stdin=b"hello")


@pytest.mark.parametrize("reader", [TheRNP, RNP13])
def test_rnp_takes_the_minimal_key(
    reader: type[Reader], minimal: tuple[bytes, bytes], folder: Path, home: Path
) -> None:
    program = here(reader, home)
    run([*program.program("rnpkeys"), "--homedir", home, "--import-key", _file(folder, minimal[1])], merged=True)
    (home / "plain").write_bytes(b"hello")
    to: Sequence[str | Path] = ["--encrypt", home / "plain", "--output", home / "message.pgp", "--overwrite"]
    run([*program.program("rnp"), "--homedir", home, "--recipient", "alice@r.test", *to], merged=True)
    assert os.stat(home / "message.pgp").st_size > 100  # noqa: PTH116


@pytest.mark.parametrize("reader", [Sq, Sq13])
def test_sq_takes_the_minimal_key(reader: type[Reader], minimal: tuple[bytes, bytes], folder: Path, home: Path) -> None:
    program = here(reader, home)
    path = _file(folder, minimal[1])
    is_old = program.version().startswith("0.")
    to: list[str | Path] = ["--recipient-cert", path] if is_old else ["--for-file", path, "--without-signature"]
    assert b"PGP MESSAGE" in run([*program.program("sq"), "encrypt", *to], b"hello")
