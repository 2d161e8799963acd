"""Makes the keys of the vectors, once: `python -m tests.vectors.make_keys` (or only some certificates, by name).  For
tests only; they protect nothing.

What is made is checked in, so that a vector is the same octets on every machine; the dates are such that only a
vector's own clock (2026 unless it says otherwise) decides what is valid.  NAME.crt is a certificate and NAME.key its
private key (PEM); NAME.pgp is an OpenPGP key as it is published and NAME.secret its secret half, where a vector has
to open something with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from smilla.formats import der
from tests.certificates import capabilities, with_key_algorithm

KEYS = Path(__file__).parent / "keys"
FROM, UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey | mlkem.MLKEM768PrivateKey


@dataclass(frozen=True)
class Kind:
    """What a certificate says."""

    emails: tuple[str, ...]
    key: str = "rsa2048"
    not_before: datetime = FROM
    not_after: datetime = UNTIL
    usages: tuple[str, ...] = ("key_encipherment",)
    is_ca: bool = False
    issuer: str = ""
    algorithm: bytes = b""  # of the SubjectPublicKeyInfo, in place of the usual one
    capabilities: tuple[str, ...] = ()


_AES128_CBC, _AES256_GCM, _TRIPLE_DES = "2.16.840.1.101.3.4.1.2", "2.16.840.1.101.3.4.1.46", "1.2.840.113549.3.7"
_SHA384 = der.sequence(der.oid("2.16.840.1.101.3.4.2.2"), der.null())
_OAEP_SHA384 = der.sequence(
    der.oid("1.2.840.113549.1.1.7"),
    der.sequence(
        der.context(0, _SHA384),
        der.context(1, der.sequence(der.oid("1.2.840.113549.1.1.8"), _SHA384)),
    ),
)

# One RSA key serves all certificates that nothing is ever encrypted to.
CERTIFICATES = {
    "hugh": Kind(("hugh@example.org",), "rsa2048 hugh"),
    "dana": Kind(("dana@example.org",), "rsa2048 dana"),
    "eve": Kind(("eve@example.org",), "p256 eve", usages=("key_agreement",)),
    "any-usage": Kind(("hugh@example.org",), "rsa2048 hugh", usages=()),
    "capitals": Kind(("HUGH@EXAMPLE.ORG",), "rsa2048 hugh"),
    "idn": Kind(("hugh@xn--bcher-kva.example",), "rsa2048 hugh"),
    "nobody": Kind((), "rsa2048 hugh"),
    "expired": Kind(("hugh@example.org",), not_after=datetime(2022, 1, 1, tzinfo=UTC)),
    "future": Kind(("hugh@example.org",), not_before=datetime(2030, 1, 1, tzinfo=UTC)),
    "other-address": Kind(("mallory@example.org",)),
    "sign-only": Kind(("hugh@example.org",), usages=("digital_signature",)),
    "weak": Kind(("hugh@example.org",), "rsa1024"),
    "ca": Kind((), "p256 ca", usages=("key_cert_sign",), is_ca=True),
    "issued": Kind(("hugh@example.org",), "rsa2048 hugh", issuer="ca"),
    "xena": Kind(("xena@example.org",), "x25519 xena", usages=("key_agreement",)),
    "kim": Kind(("kim@example.org",), "mlkem768 kim"),
    "oaep": Kind(("hugh@example.org",), "rsa2048 hugh", algorithm=_OAEP_SHA384),
    "pss": Kind(("hugh@example.org",), "rsa2048 hugh", algorithm=der.sequence(der.oid("1.2.840.113549.1.1.10"))),
    "aes128": Kind(("hugh@example.org",), "rsa2048 hugh", capabilities=(_AES128_CBC, _TRIPLE_DES)),
    "gcm-only": Kind(("hugh@example.org",), "rsa2048 hugh", capabilities=(_AES256_GCM,)),
}
_WITH_PRIVATE_KEY = ("hugh", "dana", "eve", "xena", "kim")


def main(*names: str) -> None:
    """Writes all of them, or only the certificates named, to private keys that are there already."""
    KEYS.mkdir(exist_ok=True)
    private: dict[str, PrivateKey] = {}
    for name in names and _WITH_PRIVATE_KEY:
        if (KEYS / f"{name}.key").exists():
            private[CERTIFICATES[name].key] = cast("PrivateKey", load_pem_private_key(_read(f"{name}.key"), None))
    for name in names or CERTIFICATES:
        kind = CERTIFICATES[name]
        key = private.setdefault(kind.key, _private_key(kind.key.split()[0]))
        signer = private[CERTIFICATES[kind.issuer].key] if kind.issuer else key
        certificate = _certificate(name, kind, key, signer)
        if kind.algorithm:
            raw = with_key_algorithm(certificate.public_bytes(Encoding.DER), kind.algorithm, signer)
            certificate = x509.load_der_x509_certificate(raw)
        (KEYS / f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
        if name in _WITH_PRIVATE_KEY:
            raw = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (KEYS / f"{name}.key").write_bytes(raw)
    if not names:
        with tempfile.TemporaryDirectory() as folder:
            _openpgp_keys(_GnuPG(Path(folder)))


def _read(name: str) -> bytes:
    return (KEYS / name).read_bytes()


def _private_key(kind: str) -> PrivateKey:
    if kind == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "x25519":
        return x25519.X25519PrivateKey.generate()
    if kind == "mlkem768":
        return mlkem.MLKEM768PrivateKey.generate()
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa")))


def _certificate(name: str, kind: Kind, key: PrivateKey, signer: PrivateKey) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"smilla test {name}")])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"smilla test {kind.issuer or name}")])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(1 + list(CERTIFICATES).index(name))
    builder = builder.not_valid_before(kind.not_before).not_valid_after(kind.not_after)
    if kind.emails:
        names = x509.SubjectAlternativeName(map(x509.RFC822Name, kind.emails))
        builder = builder.add_extension(names, critical=False)
    if kind.usages:
        usage = x509.KeyUsage(**{bit: bit in kind.usages for bit in _USAGES})
        builder = builder.add_extension(usage, critical=True)
    if kind.is_ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if kind.capabilities:
        builder = builder.add_extension(*capabilities(*kind.capabilities))
    if not isinstance(signer, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):  # it cannot sign: anybody does
        signer = ec.generate_private_key(ec.SECP256R1())
    public = signer.public_key()
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
    builder = builder.add_extension(authority, critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(signer, hashes.SHA256())


class _GnuPG:
    """gpg with a folder of its own and a clock of 2020."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def run(self, *arguments: str, octets: bytes = b"") -> bytes:
        command = ["gpg", "--batch", "--quiet", "--faked-system-time", "20200101T000000", "--passphrase", ""]
        environment = {**os.environ, "GNUPGHOME": str(self._home)}
        done = subprocess.run(
            [*command, "--pinentry-mode", "loopback", *arguments],
            input=octets,
            capture_output=True,
            check=True,
            env=environment,
        )
        return done.stdout

    def new(self, user_id: str, usage: str, expires: str = "never") -> str:
        """The fingerprint of a new primary key."""
        self.run("--quick-generate-key", user_id, "ed25519", usage, expires)
        listing = self.run("--with-colons", "--list-keys", f"={user_id}").decode()
        return next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:"))

    def add(self, fingerprint: str, expires: str = "never") -> None:
        """An encryption subkey."""
        self.run("--quick-add-key", fingerprint, "cv25519", "encr", expires)

    def revoke(self, fingerprint: str) -> None:
        """By the revocation certificate that gpg made at once, behind a colon so that nobody imports it unawares."""
        made = (self._home / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text()
        self.run("--import", octets=made.replace(":-----BEGIN", "-----BEGIN").encode())

    def publish(self, name: str, fingerprint: str, *, secret: bool = False) -> None:
        """NAME.pgp, and NAME.secret where it is asked for."""
        raw = self.run("--export-options", "export-minimal", "--export", fingerprint)
        (KEYS / f"{name}.pgp").write_bytes(raw)
        if secret:
            (KEYS / f"{name}.secret").write_bytes(self.run("--export-secret-keys", fingerprint))


def _openpgp_keys(gpg: _GnuPG) -> None:
    for name, user_id in (("pia", "Pia <pia@example.org>"), ("quinn", "Quinn <quinn@example.org>")):
        fingerprint = gpg.new(user_id, "cert,sign")
        gpg.add(fingerprint)
        gpg.publish(name, fingerprint, secret=True)
    expired = gpg.new("Expired <pia@example.org>", "cert,sign", "20220101T000000")
    gpg.add(expired)
    gpg.publish("pgp-expired", expired)
    revoked = gpg.new("Revoked <pia@example.org>", "cert,sign")
    gpg.add(revoked)
    gpg.revoke(revoked)
    gpg.publish("pgp-revoked", revoked)
    other = gpg.new("Mallory <mallory@example.org>", "cert,sign")
    gpg.add(other)
    gpg.publish("pgp-other-address", other)
    gpg.publish("pgp-sign-only", gpg.new("Sign only <pia@example.org>", "cert,sign"))
    stale = gpg.new("Stale <pia@example.org>", "cert,sign")
    gpg.add(stale, "20220101T000000")
    gpg.publish("pgp-expired-subkey", stale)
    wildcard = gpg.new("*@example.org", "cert,sign")
    gpg.add(wildcard)
    gpg.publish("pgp-wildcard", wildcard, secret=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
