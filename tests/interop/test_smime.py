"""What we write as S/MIME is opened, octet for octet, by OpenSSL, by NSS and by gpgsm.

What each of them can open at all was found out by running it: NSS 3.87 fails wherever a recipient is EC or OAEP,
gpgsm 2.2 opens RSA with PKCS #1 v1.5 only, and only OpenSSL reads AES-GCM.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from smilla.address import parse
from smilla.encrypt import cms
from smilla.formats import der
from smilla.formats.cms import EnvelopedCheck, is_enveloped
from smilla.formats.oaep import RSAES_OAEP
from smilla.keys.validity.x509 import assess
from smilla.model import Candidate, Format, Style, X509Key
from tests.certificates import make_certificate, to_pem, with_key_algorithm
from tests.interop.owners import Owner
from tests.interop.readers.smime_programs import import_into_gpgsm
from tests.lab.programs import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

pytestmark = pytest.mark.interop

SIZES = [0, 1, 15, 16, 17, 100_000, 5_000_000]
KINDS = ["rsa2048", "rsa4096", "p256", "p384", "p521"]


@dataclass(frozen=True)
class Recipient:
    private: PrivateKeyTypes
    raw: bytes
    key: X509Key


@cache
def recipient(kind: str, number: int = 0) -> Recipient:
    """Valid by the clock of the programs, which is the system's."""
    now = datetime.now(UTC)
    private, raw = make_certificate(
        kind,
        number=number,
        common_name=f"Hugh {kind} {number}",
        not_before=now - timedelta(days=1),
        not_after=now + timedelta(days=1),
        extensions=[(x509.SubjectKeyIdentifier(f"{kind} {number}".encode()), False)],
    )
    return passed(private, raw)


def passed(private: PrivateKeyTypes, raw: bytes) -> Recipient:
    candidate = Candidate("directory", "x", Format.SMIME, raw)
    key = assess(candidate, parse("hugh@example.org"), datetime.now(UTC), require_address=False).key
    assert isinstance(key, X509Key)
    return Recipient(private, raw, key)


def encrypted(body: bytes, *to: Recipient, **choices: Any) -> bytes:
    pieces = (body[i : i + 40_000] for i in range(0, len(body), 40_000))
    return b"".join(cms.encrypt(pieces, len(body), [one.key for one in to], Style(**choices)))


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout!r} {done.stderr!r}"


# --- OpenSSL -----------------------------------------------------------------------------------------------


def opened_by_openssl(written: bytes, to: Recipient, folder: Path) -> bytes:
    require("openssl")
    (folder / "key.pem").write_bytes(to.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "certificate.pem").write_bytes(to_pem(to.raw))
    (folder / "message.der").write_bytes(written)
    message: list[str | Path] = ["-inform", "DER", "-in", folder / "message.der", "-binary", "-out", folder / "plain"]
    pair: list[str | Path] = ["-recip", folder / "certificate.pem", "-inkey", folder / "key.pem"]
    run("openssl", "cms", "-decrypt", *message, *pair)
    return (folder / "plain").read_bytes()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_openssl_opens_each_kind_of_key_and_size(kind: str, size: int, tmp_path: Path) -> None:
    body = os.urandom(size)
    assert opened_by_openssl(encrypted(body, recipient(kind)), recipient(kind), tmp_path) == body


@pytest.mark.parametrize("kind", ["bp256", "bp384", "bp512"])
@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_openssl_opens_brainpool(kind: str, size: int, tmp_path: Path) -> None:
    body = os.urandom(size)
    assert opened_by_openssl(encrypted(body, recipient(kind)), recipient(kind), tmp_path) == body


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 1, 16, 100_000])
@pytest.mark.parametrize("cipher", ["aes256-gcm", "aes128-gcm"])
def test_openssl_opens_aes_gcm(kind: str, size: int, cipher: str, tmp_path: Path) -> None:
    body = os.urandom(size)
    written = encrypted(body, recipient(kind), cipher=cipher)
    assert opened_by_openssl(written, recipient(kind), tmp_path) == body


@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_openssl_opens_aes_128(kind: str, tmp_path: Path) -> None:
    body = os.urandom(1000)
    assert opened_by_openssl(encrypted(body, recipient(kind), cipher="aes128-cbc"), recipient(kind), tmp_path) == body


@pytest.mark.parametrize("cipher", ["aes256-cbc", "aes256-gcm"])
def test_openssl_opens_oaep(cipher: str, tmp_path: Path) -> None:
    body = os.urandom(1000)
    written = encrypted(body, recipient("rsa2048"), cipher=cipher, rsa_padding="oaep-sha256")
    assert opened_by_openssl(written, recipient("rsa2048"), tmp_path) == body


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "bp256", "bp384", "bp512"])
@pytest.mark.parametrize("cipher", ["aes256-cbc", "aes128-gcm"])
def test_openssl_opens_the_sha256_kdf(kind: str, cipher: str, tmp_path: Path) -> None:
    body = os.urandom(1000)
    written = encrypted(body, recipient(kind), cipher=cipher, ecdh_kdf="sha256")
    assert opened_by_openssl(written, recipient(kind), tmp_path) == body


_SHA384 = der.sequence(der.oid("2.16.840.1.101.3.4.2.2"), der.null())
_SHA384_TWICE = der.sequence(
    der.context(0, _SHA384), der.context(1, der.sequence(der.oid("1.2.840.113549.1.1.8"), _SHA384))
)


@pytest.mark.parametrize("parameters", [(), (der.sequence(),), (_SHA384_TWICE,)], ids=["absent", "sha1", "sha384"])
def test_openssl_opens_what_is_for_a_certificate_for_oaep_only(parameters: tuple[bytes, ...], tmp_path: Path) -> None:
    private, raw = recipient("rsa2048").private, recipient("rsa2048").raw
    raw = with_key_algorithm(raw, der.sequence(der.oid(RSAES_OAEP), *parameters), private)
    to = passed(private, raw)
    body = os.urandom(1000)
    assert opened_by_openssl(encrypted(body, to), to, tmp_path) == body


@pytest.mark.parametrize("kind", KINDS)
def test_openssl_opens_one_message_with_the_key_of_each_recipient(kind: str, tmp_path: Path) -> None:
    body = os.urandom(1000)
    written = encrypted(body, *map(recipient, KINDS))
    assert opened_by_openssl(written, recipient(kind), tmp_path) == body


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "bp384"])
@pytest.mark.parametrize("cipher", ["aes256-cbc", "aes128-gcm"])
def test_openssl_does_not_open_with_a_strangers_key(kind: str, cipher: str, tmp_path: Path) -> None:
    """By the name in the certificate and, where a stranger's has the same name, by the key."""
    written = encrypted(b"canary", recipient(kind), cipher=cipher)
    for stranger in (recipient(kind, 1), replace(recipient(kind), private=recipient(kind, 1).private)):
        with pytest.raises(AssertionError):
            assert opened_by_openssl(written, stranger, tmp_path) == b"canary"


@pytest.mark.parametrize("stream", [(), ("-stream",)])
@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
@pytest.mark.parametrize(
    "options",
    [("-aes256",), ("-des3",), ("-aes-256-gcm",), ("-camellia256",), ("-keyid",), ("-pwri_password", "secret")],
)
def test_what_openssl_encrypts_is_taken_for_encrypted(
    stream: tuple[str, ...], kind: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    """With ``-stream`` the lengths are indefinite (BER)."""
    check = made_by_openssl(tmp_path, "-encrypt", *options, *stream, to=recipient(kind))
    assert (check.encrypted, check.code) == (True, "enveloped")


@pytest.mark.parametrize(
    "command", [("-data_create",), ("-digest_create",), ("-sign", "-nodetach"), ("-EncryptedData_encrypt",)]
)
def test_what_openssl_does_not_envelope_is_not_taken_for_encrypted(command: tuple[str, ...], tmp_path: Path) -> None:
    """EncryptedData has no recipients: its key is agreed on elsewhere, and mail has no use for it."""
    check = made_by_openssl(tmp_path, *command, to=recipient("rsa2048"))
    assert (check.encrypted, check.code) == (False, "not_enveloped")


def made_by_openssl(folder: Path, action: str, *options: str, to: Recipient) -> EnvelopedCheck:
    require("openssl")
    pem = to.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + to_pem(to.raw)
    (folder / "pair.pem").write_bytes(pem)
    (folder / "plain").write_bytes(b"Content-Type: text/plain\r\n\r\nThe canary sings.\r\n" * 2000)
    files: list[str | Path] = ["-in", folder / "plain", "-outform", "DER", "-out", folder / "message.der", "-binary"]
    more: dict[str, list[str | Path]] = {
        "-encrypt": [folder / "pair.pem"],
        "-sign": ["-signer", folder / "pair.pem"],
        "-EncryptedData_encrypt": ["-aes256", "-secretkey", "00" * 32],
    }
    run("openssl", "cms", action, *options, *files, *more.get(action, []))
    with (folder / "message.der").open("rb") as message:
        return is_enveloped(iter(lambda: message.read(1000), b""))


# --- NSS ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An NSS database with the key of the RSA recipient."""
    require("certutil", "pk12util", "cmsutil", "openssl")
    folder = tmp_path_factory.mktemp("nss")
    run("certutil", "-N", "--empty-password", "-d", f"sql:{folder}")
    run("pk12util", "-i", pkcs12(recipient("rsa2048"), folder), "-d", f"sql:{folder}", "-W", "secret")
    return folder


def pkcs12(of: Recipient, folder: Path) -> Path:
    """Made by openssl, under the password ``secret``."""
    (folder / "pair.pem").write_bytes(
        of.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + to_pem(of.raw)
    )
    pair = folder / "pair.p12"
    names = ["-name", "hugh", "-passout", "pass:secret"]
    run("openssl", "pkcs12", "-export", "-in", folder / "pair.pem", "-out", pair, *names)
    return pair


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cipher", ["aes256-cbc", "aes128-cbc"])
def test_nss_opens_rsa(size: int, cipher: str, nss: Path, tmp_path: Path) -> None:
    body = os.urandom(size)
    (tmp_path / "message.der").write_bytes(
        encrypted(body, recipient("rsa2048", 1), recipient("rsa2048"), cipher=cipher)
    )
    database = ["-d", f"sql:{nss}", "-p", ""]
    run("cmsutil", "-D", *database, "-i", tmp_path / "message.der", "-o", tmp_path / "plain")
    assert (tmp_path / "plain").read_bytes() == body


# --- gpgsm -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gpgsm() -> Iterator[list[str]]:
    """gpgsm with a home that holds the key of the RSA recipient; a short path, since an agent listens within."""
    require("gpgsm", "gpgconf", "openssl")
    home = Path(tempfile.mkdtemp(prefix="gpgsm-", dir="/tmp"))
    try:
        command = ["gpgsm", "--homedir", str(home), "--batch", "--no-tty", "--disable-crl-checks"]
        command += ["--disable-dirmngr", "--pinentry-mode", "loopback", "--passphrase-fd", "0"]
        to = recipient("rsa2048")
        secret = to.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        import_into_gpgsm(home, Owner("hugh", "smime", to.raw, secret))
        yield command
    finally:
        run("gpgconf", "--homedir", home, "--kill", "all")
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("others", [(), ("rsa4096",), ("p256",)])
def test_gpgsm_opens_rsa_also_beside_others(
    size: int, others: tuple[str, ...], gpgsm: list[str], tmp_path: Path
) -> None:
    body = os.urandom(size)
    (tmp_path / "message.der").write_bytes(encrypted(body, recipient("rsa2048"), *map(recipient, others)))
    command: list[str | Path] = [*gpgsm, "--output", tmp_path / "plain", "--decrypt", tmp_path / "message.der"]
    done = subprocess.run(command, input=b"secret\n", capture_output=True, timeout=60, check=False)
    assert (tmp_path / "plain").read_bytes() == body, done.stderr
