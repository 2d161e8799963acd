"""The recipients of the matrix: each with a key as published, and its secret half for the readers."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pysequoia
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from smilla.formats import der
from smilla.formats.oaep import RSAES_OAEP
from tests.certificates import make_certificate, with_key_algorithm
from tests.lab.programs import require

# The key of a stranger, whom no message is for, of the kind of the readers' main key.
STRANGERS = {"smime": "rsa2048-stranger", "openpgp": "cv25519-stranger"}

_GNUPG = {
    "rsa3072": ("rsa3072", "rsa3072"),
    "cv25519": ("ed25519", "cv25519"),
    "cv25519-stranger": ("ed25519", "cv25519"),
    "nistp256": ("nistp256", "nistp256"),
    "nistp384": ("nistp384", "nistp384"),
    "nistp521": ("nistp521", "nistp521"),
    "brainpoolP256r1": ("brainpoolP256r1", "brainpoolP256r1"),
    "brainpoolP384r1": ("brainpoolP384r1", "brainpoolP384r1"),
    "brainpoolP512r1": ("brainpoolP512r1", "brainpoolP512r1"),
}
# pysequoia's keys announce SEIPDv2, those of version 4, too.
_SEQUOIA = {
    "v4-cv25519": "Cv25519",
    "v4-rsa": "RSA3k",
    "v6-cv25519": "Cv25519",
    "v6-cv448": "Cv448",
    "v6-p256": "P256",
    "v6-rsa": "RSA3k",
}


@dataclass(frozen=True)
class Owner:
    """``published``: a certificate in DER, or a transferable public key; ``secret``: PKCS #8, or a transferable secret
    key without a passphrase."""

    name: str
    format: str
    published: bytes
    secret: bytes

    @property
    def address(self) -> str:
        return f"{self.name}@r.test"


@cache
def owner(format_: str, name: str) -> Owner:
    """Somebody whose key is of the kind that the name says; the same one each time within a process."""
    if format_ == "smime":
        return _certified(name)
    return _from_sequoia(name) if name in _SEQUOIA else _from_gpg(name)


def publish(folder: Path, *owners: Owner) -> None:
    """Puts the keys where [keys] directory says."""
    for one in owners:
        suffix = "crt" if one.format == "smime" else "pgp"
        (folder / f"{one.address}.{suffix}").write_bytes(one.published)


def _certified(name: str) -> Owner:
    """Valid by the clock of the programs, which is the system's."""
    kind, _, other = name.partition("-")
    now = datetime.now(UTC)
    private, raw = make_certificate(
        kind,
        number=("", "stranger", "oaep").index(other),
        email=f"{name}@r.test",
        common_name=f"Owner {name}",
        not_before=now - timedelta(days=1),
        not_after=now + timedelta(days=2),
        extensions=[(x509.SubjectKeyIdentifier(name.encode()), False)],
    )
    if other == "oaep":
        raw = with_key_algorithm(raw, der.sequence(der.oid(RSAES_OAEP)), private)
    return Owner(name, "smime", raw, private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def _from_sequoia(name: str) -> Owner:
    suite = getattr(pysequoia.CipherSuite, _SEQUOIA[name])
    profile = pysequoia.Profile.RFC9580 if name.startswith("v6") else pysequoia.Profile.RFC4880
    tsk = pysequoia.Tsk.generate(user_id=f"<{name}@r.test>", profile=profile, cipher_suite=suite)
    return Owner(name, "openpgp", bytes(tsk.extract_certificate()), bytes(tsk))


def _from_gpg(name: str) -> Owner:
    require("gpg", "gpgconf")
    signing, encryption = _GNUPG[name]
    address = f"{name}@r.test"
    with gnupg_home() as home:
        gpg(home, "--quick-gen-key", address, signing, "sign", "1y")
        listing = gpg(home, "--list-keys", "--with-colons", address).decode()
        fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
        gpg(home, "--quick-add-key", fingerprint, encryption, "encr", "1y")
        return Owner(name, "openpgp", gpg(home, "--export", address), gpg(home, "--export-secret-keys", address))


@contextmanager
def gnupg_home() -> Iterator[Path]:
    """A home of gpg or gpgsm with a short path, since an agent listens within, and no agent left in the end."""
    home = Path(tempfile.mkdtemp(prefix="smilla-"))
    try:
        yield home
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], capture_output=True, timeout=60, check=False)
        shutil.rmtree(home, ignore_errors=True)


def gpg(home: Path, *arguments: str, stdin: bytes = b"", program: Sequence[str | Path] = ("gpg",)) -> bytes:
    command = [*program, "--homedir", home, "--batch", "--no-tty", "-q", "--pinentry-mode", "loopback"]
    done = subprocess.run(
        [*command, "--passphrase", "", *arguments], input=stdin, capture_output=True, timeout=120, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"gpg {' '.join(arguments)}: {done.stderr.decode('utf-8', 'replace')}")
    return done.stdout
