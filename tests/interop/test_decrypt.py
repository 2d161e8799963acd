"""What OpenSSL, NSS, gpgsm, gpg, sq and rnp encrypt is decrypted, octet for octet; and what
gpg writes without integrity protection is not."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
import threading
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pysequoia
import pytest
from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.serialization import Encoding

from smilla.adapters.gnupg_open import GnuPGOpener
from smilla.adapters.sequoia import detached
from smilla.adapters.sequoia_open import SequoiaOpener
from smilla.address import parse as parse_address
from smilla.decrypt import entity, held_key
from smilla.decrypt.message import decrypted
from smilla.decrypt.signature import Sender, verified
from smilla.errors import NotDecrypted
from smilla.formats.openpgp import PKESK, PUBLIC_SUBKEY, SEIPD, packets, read_header, read_length
from smilla.formats.openpgp_keys import parse_key
from smilla.message import parse
from smilla.model import Format
from tests.interop.owners import Owner, gnupg_home, gpg, owner
from tests.interop.readers.base import run
from tests.interop.readers.smime_programs import gpgsm, import_into_gpgsm, write_pem, write_pkcs12
from tests.lab.programs import require
from tests.openpgp_maker import armoured, mpi, packet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smilla.decrypt.held_key import HeldKey
    from smilla.ports import OpenPGPOpener, OpenPGPReader

pytestmark = pytest.mark.interop

LETTER = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + "Grüße vom Kanarienvogel\r\n".encode() * 40
LARGE = (
    b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + (b"QUFB" * 19 + b"\r\n") * 50_000
)
SMIME = b"MIME-Version: 1.0\r\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n"
SMIME += b"Content-Transfer-Encoding: base64\r\n\r\n"


# --- S/MIME ------------------------------------------------------------------------------------------------


def held(one: Owner, folder: Path) -> HeldKey:
    write_pem(folder, one)
    (found,) = held_key.read((folder / "key.pem").read_bytes() + (folder / "certificate.pem").read_bytes())
    return found


def smime(der: bytes) -> bytes:
    return SMIME + base64.encodebytes(der)


OPENSSL = {
    "defaults": ("rsa2048", ()),
    "AES-256": ("rsa3072", ("-aes256",)),
    "AES-192": ("rsa2048", ("-aes192",)),
    "triple DES": ("rsa2048", ("-des3",)),
    "key identifier": ("rsa2048", ("-keyid",)),
    "in one pass": ("rsa2048", ("-stream",)),
    "OAEP": ("rsa2048", ("-keyopt", "rsa_padding_mode:oaep")),
    "OAEP with SHA-256": ("rsa2048", ("-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256")),
    "P-256": ("p256", ("-aes256",)),
    "P-384": ("p384", ("-aes256", "-stream")),
    "P-521 by its identifier": ("p521", ("-keyid",)),
    "P-256 with SHA-256": ("p256", ("-keyopt", "ecdh_kdf_md:sha256")),
    "P-256 with key material": ("p256", ("-keyopt", "ecdh_cofactor_mode:1")),
    "AES-128 in GCM": ("rsa2048", ("-aes-128-gcm",)),
    "AES-256 in GCM, in one pass": ("rsa2048", ("-aes-256-gcm", "-stream")),
    "P-256 and GCM": ("p256", ("-aes-256-gcm",)),
}


@pytest.mark.parametrize(("kind", "options"), OPENSSL.values(), ids=OPENSSL.keys())
def test_openssl_message_is_decrypted(kind: str, options: tuple[str, ...], tmp_path: Path) -> None:
    require("openssl")
    key = held(owner("smime", kind), tmp_path)
    for content in (LETTER, LARGE):
        command = ["openssl", "cms", "-encrypt", "-binary", "-outform", "SMIME", *options]
        if "-keyopt" in options:
            before = options[: options.index("-keyopt")]
            keyopts = options[options.index("-keyopt") :]
            command = ["openssl", "cms", "-encrypt", "-binary", "-outform", "SMIME", *before]
            command += ["-recip", str(tmp_path / "certificate.pem"), *keyopts]
        else:
            command.append(str(tmp_path / "certificate.pem"))
        message = run(command, content)
        found = decrypted(parse(message).message, [key])
        assert found.entity.raw == content
        assert found.authenticated == any("gcm" in option for option in options)


def test_nss_message_is_decrypted(tmp_path: Path) -> None:
    """As Thunderbird writes it: in one pass, with indefinite lengths."""
    require("cmsutil", "certutil", "openssl")
    one = owner("smime", "rsa2048")
    key = held(one, tmp_path)
    database = ["-d", f"sql:{tmp_path}"]
    run(["certutil", "-N", "--empty-password", *database])
    run(["pk12util", "-i", write_pkcs12(tmp_path, one), *database, "-W", "secret"], merged=True)
    for content in (LETTER, LARGE):
        (tmp_path / "plain").write_bytes(content)
        run(["cmsutil", "-E", *database, "-r", one.address, "-i", tmp_path / "plain", "-o", tmp_path / "sealed"])
        sealed = (tmp_path / "sealed").read_bytes()
        assert decrypted(parse(smime(sealed)).message, [key]).entity.raw == content


def test_gpgsm_message_is_decrypted(tmp_path: Path) -> None:
    require("gpgsm", "openssl", "gpgconf")
    one = owner("smime", "rsa2048")
    key = held(one, tmp_path)
    with gnupg_home() as home:
        import_into_gpgsm(home, one)
        command = [*gpgsm(home, ["gpgsm"])[:-2], "--disable-trusted-cert-crl-check", "--encrypt", "-r", one.address]
        (home / "trustlist.txt").write_text(f"{fingerprint(one)} S relax\n")
        done = subprocess.run(command, input=LETTER, capture_output=True, timeout=120, check=False)
        assert done.stdout, done.stderr
        assert decrypted(parse(smime(done.stdout)).message, [key]).entity.raw == LETTER


def fingerprint(one: Owner) -> str:
    from cryptography.hazmat.primitives.hashes import SHA1

    certificate = x509.load_der_x509_certificate(one.published)
    assert certificate.public_bytes(Encoding.DER) == one.published
    return certificate.fingerprint(SHA1()).hex().upper()


def test_key_from_the_pkcs12_file_that_openssl_writes_decrypts(tmp_path: Path) -> None:
    require("openssl")
    one = owner("smime", "p256")
    (key,) = held_key.read(write_pkcs12(tmp_path, one).read_bytes(), b"secret")
    message = run(
        ["openssl", "cms", "-encrypt", "-binary", "-outform", "SMIME", str(tmp_path / "certificate.pem")], LETTER
    )
    assert decrypted(parse(message).message, [key]).entity.raw == LETTER


SIGNED = {
    "beside the content": ("rsa2048", ()),
    "around it": ("rsa2048", ("-nodetach",)),
    "around it, in one pass": ("rsa2048", ("-nodetach", "-stream")),
    "P-256": ("p256", ()),
    "P-384 and SHA-384": ("p384", ("-nodetach", "-md", "sha384")),
    "PSS": ("rsa2048", ("-keyopt", "rsa_padding_mode:pss")),
    "named by key identifier": ("rsa2048", ("-keyid", "-nodetach")),
    "without attributes": ("rsa2048", ("-noattr",)),
}


@pytest.mark.parametrize(("kind", "options"), SIGNED.values(), ids=SIGNED.keys())
def test_what_openssl_signed_passes_and_a_changed_octet_fails(
    kind: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    require("openssl")
    one = owner("smime", kind)
    write_pem(tmp_path, one)
    keys = ["-signer", str(tmp_path / "certificate.pem"), "-inkey", str(tmp_path / "key.pem")]
    message = run(["openssl", "cms", "-sign", "-outform", "SMIME", *keys, *options], LETTER)
    raw = re.sub(rb"\r?\n", b"\r\n", message).removeprefix(b"MIME-Version: 1.0\r\n")
    who = Sender(parse_address(one.address), (one.published,), None, datetime.now(UTC))
    verdict, inner = verified(entity.read(raw), who)
    assert (verdict.result, verdict.signer, verdict.detail) == ("pass", one.address, "")
    assert LETTER in inner.raw
    if b"Kanarienvogel" in raw:
        changed = raw.replace(b"Kanarienvogel", b"Kanarienvogen", 1)
        assert verified(entity.read(changed), who)[0].result == "fail"


# --- OpenPGP -----------------------------------------------------------------------------------------------


def pgp_mime(armour: bytes) -> bytes:
    head = b'MIME-Version: 1.0\r\nContent-Type: multipart/encrypted; boundary=b; protocol="application/pgp-encrypted"'
    parts = b"\r\n\r\n--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--b\r\n"
    return head + parts + b"Content-Type: application/octet-stream\r\n\r\n" + armour + b"\r\n--b--\r\n"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    require("gpg", "gpgconf")
    with gnupg_home() as folder:
        for name in ("cv25519", "rsa3072"):
            gpg(folder, "--import", stdin=owner("openpgp", name).secret)
        yield folder


@cache
def in_file(name: str) -> SequoiaOpener:
    return SequoiaOpener(owner("openpgp", name).secret)


def openers(home: Path, name: str) -> list[OpenPGPOpener]:
    return [GnuPGOpener(str(home)), in_file(name)]


def by_gpg(home: Path, content: bytes, *options: str) -> bytes:
    return gpg(home, "--trust-model", "always", "--armor", *options, stdin=content)


GPG = {
    "letter": ("-e",),
    "compressed": ("-z", "9", "-e"),
    "signed": ("-u", "rsa3072@r.test", "-s", "-e"),
    "text mode": ("--textmode", "-e"),
}


@pytest.mark.parametrize("options", GPG.values(), ids=GPG.keys())
@pytest.mark.parametrize("name", ["cv25519", "rsa3072"])
def test_gpg_message_is_decrypted_by_each_engine(home: Path, name: str, options: tuple[str, ...]) -> None:
    for content in (LETTER, LARGE):
        message = pgp_mime(by_gpg(home, content, "-r", f"{name}@r.test", *options))
        for engine in openers(home, name):
            found = decrypted(parse(message).message, (), engine)
            assert (found.form, found.entity.raw, found.authenticated) == (Format.OPENPGP, content, True)


@pytest.mark.parametrize("program", ["sq", "rnp", "pysequoia"])
def test_message_of_another_program_is_decrypted_by_each_engine(home: Path, tmp_path: Path, program: str) -> None:
    one = owner("openpgp", "cv25519")
    (tmp_path / "key").write_bytes(one.published)
    (tmp_path / "plain").write_bytes(LETTER)
    if program == "pysequoia":
        armour = bytes(pysequoia.encrypt(LETTER, [pysequoia.Cert.from_bytes(one.published)]))
    elif program == "sq":
        require("sq")
        armour = run(["sq", "encrypt", "--recipient-cert", tmp_path / "key", tmp_path / "plain"])
    else:
        require("rnp")
        command: list[str | Path] = [
            "rnp",
            "--homedir",
            tmp_path,
            "--keyfile",
            tmp_path / "key",
            "-r",
            one.address,
            "--armor",
            "--encrypt",
        ]
        armour = run([*command, tmp_path / "plain", "--output", "-"])
    for engine in openers(home, "cv25519"):
        assert decrypted(parse(pgp_mime(armour)).message, (), engine).entity.raw == LETTER


@pytest.mark.parametrize("name", ["v4-cv25519", "v6-cv25519", "v6-p256"])
def test_seipd2_message_is_decrypted_with_a_key_file(name: str) -> None:
    one = owner("openpgp", name)
    armour = bytes(pysequoia.encrypt(LETTER, [pysequoia.Cert.from_bytes(one.published)]))
    assert decrypted(parse(pgp_mime(armour)).message, (), in_file(name)).entity.raw == LETTER


def failure(message: bytes, engine: OpenPGPOpener) -> NotDecrypted:
    with pytest.raises(NotDecrypted) as caught:
        decrypted(parse(message).message, (), engine)
    return caught.value


def without_mdc(home: Path, recipient: str) -> bytes:
    """gpg's own, of the year 1998: packet 9."""
    armour = by_gpg(home, LETTER, "--rfc2440", "-r", recipient, "-e")
    assert b"PGP MESSAGE" in armour
    return armour


def test_message_without_modification_detection_is_refused(home: Path) -> None:
    armour = without_mdc(home, "rsa3072@r.test")
    for engine in openers(home, "rsa3072"):
        assert failure(pgp_mime(armour), engine).code == "no_integrity"


def test_message_whose_detection_code_was_cut_off_is_refused_by_the_engines_too(home: Path) -> None:
    """Packet 18 turned into packet 9, or cut short: decrypt.whole refuses the first, so here the engines are asked
    themselves."""
    for raw in altered(by_gpg_binary(home, "-r", "rsa3072@r.test", "-e")):
        for engine in openers(home, "rsa3072"):
            with pytest.raises(NotDecrypted) as caught:
                engine.opened(raw)
            assert (caught.value.code, caught.value.temporary) == ("undecryptable", False)


def by_gpg_binary(home: Path, *options: str, content: bytes = LETTER) -> bytes:
    return gpg(home, "--trust-model", "always", "-z", "0", *options, stdin=content)


def split(raw: bytes) -> tuple[bytes, bytes]:
    """A session key packet, and the body of the data packet, its parts joined."""
    first = read_header(raw)
    assert first is not None
    assert (first.tag, first.partial) == (PKESK, False)
    end = first.size + (first.length or 0)
    part, body, at = read_header(raw[end:]), b"", end
    assert part is not None
    assert part.tag == SEIPD
    while True:
        assert part is not None
        at += part.size
        body += raw[at : at + (part.length or 0)]
        at += part.length or 0
        if not part.partial:
            assert at == len(raw)
            return raw[:end], body
        part = read_length(raw[at:])


def altered(raw: bytes) -> list[bytes]:
    """The session key as it was, and the data downgraded, cut, and changed in three places."""
    key, body = split(raw)
    found = [key + packet(9, body[1:]), key + packet(18, body[:-22]), key + packet(18, body[:60])]
    for place in (1, len(body) // 2, -1):
        changed = bytearray(body)
        changed[place] ^= 1
        found.append(key + packet(18, bytes(changed)))
    return found


def sealed(inner: bytes, name: str = "rsa3072") -> bytes:
    """Whatever packets, in data with a right modification detection code (RFC 9580 section 5.13.1)."""
    public = next(p for p in packets(owner("openpgp", name).published) if p.tag == PUBLIC_SUBKEY)
    key = parse_key(public)
    session = os.urandom(32)
    encoded = b"\x09" + session + (sum(session) % 65536).to_bytes(2, "big")
    raw_key = rsa.RSAPublicNumbers(key.numbers[1], key.numbers[0]).public_key().encrypt(encoded, padding.PKCS1v15())
    body = b"\x03" + bytes.fromhex(key.key_id) + b"\x01" + mpi(raw_key)
    prefix = os.urandom(16)
    text = prefix + prefix[-2:] + inner + b"\xd3\x14"
    encryptor = Cipher(algorithms.AES(session), CFB(bytes(16))).encryptor()
    return packet(1, body) + packet(18, b"\x01" + encryptor.update(text + hashlib.sha1(text).digest()))


def literal(content: bytes) -> bytes:
    return packet(11, b"b\0" + bytes(4) + content)


def test_data_made_here_by_the_rfc_are_decrypted(home: Path) -> None:
    """Or the next tests would prove nothing."""
    message = pgp_mime(armoured(sealed(literal(LETTER))))
    for engine in openers(home, "rsa3072"):
        assert decrypted(parse(message).message, (), engine).entity.raw == LETTER


def test_two_texts_or_other_packets_inside_are_refused(home: Path) -> None:
    for inner in (literal(LETTER) + literal(b"more"), literal(LETTER) + packet(13, b"x"), packet(60, b"x"), b"words"):
        for engine in openers(home, "rsa3072"):
            assert failure(pgp_mime(armoured(sealed(inner))), engine).code == "undecryptable"


def test_encrypted_data_inside_encrypted_data_are_refused(home: Path) -> None:
    once = by_gpg_binary(home, "-r", "rsa3072@r.test", "-e")
    key, body = split(once)
    for inner in (once, key + packet(9, body[1:])):
        for engine in openers(home, "rsa3072"):
            assert failure(pgp_mime(armoured(sealed(inner))), engine).code == "undecryptable"


def test_data_beside_data_are_refused_before_any_engine(home: Path) -> None:
    once = by_gpg_binary(home, "-r", "rsa3072@r.test", "-e")
    key, body = split(once)
    for raw in (once + once, once + packet(18, body), key + packet(18, body) + literal(b"more")):
        for engine in openers(home, "rsa3072"):
            assert failure(pgp_mime(armoured(raw)), engine).code == "not_encrypted"


def test_message_for_somebody_else_is_not_for_this_key(home: Path) -> None:
    message = pgp_mime(by_gpg(home, LETTER, "-r", "cv25519@r.test", "-e"))
    with gnupg_home() as empty:
        assert failure(message, GnuPGOpener(str(empty))).code == "not_for_this_key"
    assert failure(message, in_file("rsa3072")).code == "not_for_this_key"
    listing = gpg(home, "--list-keys", "--with-colons", "rsa3072@r.test").decode()
    other = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
    assert failure(message, GnuPGOpener(str(home), [other])).code == "not_for_this_key"
    mine = pgp_mime(by_gpg(home, LETTER, "-r", "rsa3072@r.test", "-e"))
    assert decrypted(parse(mine).message, (), GnuPGOpener(str(home), [other])).entity.raw == LETTER


def test_key_without_its_passphrase_is_the_agents_fault_and_temporary(home: Path) -> None:
    with gnupg_home() as locked:
        options = ["--homedir", locked, "--batch", "--pinentry-mode", "loopback", "--passphrase", "secret"]
        subprocess.run(
            ["gpg", *map(str, options), "--quick-gen-key", "lock@r.test", "rsa2048", "encr,sign", "1y"], check=True
        )
        message = pgp_mime(by_gpg(locked, LETTER, "-r", "lock@r.test", "-e"))
        subprocess.run(["gpgconf", "--homedir", locked, "--kill", "all"], check=True)
        error = failure(message, GnuPGOpener(str(locked)))
        assert (error.code, error.temporary) == ("engine", True)


def test_more_than_the_limit_is_never_kept(home: Path) -> None:
    """A kilobyte that becomes gigabytes."""
    content = LETTER + b"a" * 5_000_000
    message = pgp_mime(by_gpg(home, content, "-r", "cv25519@r.test", "-z", "9", "-e"))
    assert len(message) < 100_000
    assert failure(message, GnuPGOpener(str(home), most_octets=1_000_000)).code == "undecryptable"
    limited = SequoiaOpener(owner("openpgp", "cv25519").secret, most_octets=1_000_000)
    assert failure(message, limited).code == "too_large"
    assert decrypted(parse(message).message, (), GnuPGOpener(str(home))).entity.raw == content


def test_no_memory_of_ours_is_taken_by_what_a_message_unfolds_to(home: Path) -> None:
    message = by_gpg_binary(home, "-r", "cv25519@r.test", "-z", "9", "-e", content=b"a" * (300 << 20))
    assert len(message) < 1 << 20
    limited = SequoiaOpener(owner("openpgp", "cv25519").secret, most_octets=1 << 20)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_kib()
    with pytest.raises(NotDecrypted) as caught:
        limited.opened(message)
    assert caught.value.code == "too_large"
    assert peak_kib() - before < 100 << 10


def peak_kib() -> int:
    (found,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found)


def test_process_that_takes_too_long_or_dies_is_temporary(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = by_gpg_binary(home, "-r", "cv25519@r.test", "-e")
    secret = owner("openpgp", "cv25519").secret
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(NotDecrypted) as died:
        SequoiaOpener(secret).opened(raw)
    monkeypatch.setattr(sys, "executable", str(home / "sleeps"))
    (home / "sleeps").write_text("#!/bin/sh\nexec sleep 600\n")
    (home / "sleeps").chmod(0o755)
    with pytest.raises(NotDecrypted) as late:
        SequoiaOpener(secret, timeout_s=0.3).opened(raw)
    assert [(one.value.code, one.value.temporary) for one in (died, late)] == [("engine", True)] * 2


def test_gpg_that_hangs_is_ended_and_temporary(tmp_path: Path) -> None:
    program = tmp_path / "gpg"
    program.write_text('#!/bin/sh\ncase "$*" in *--decrypt*) exec sleep 600;; esac\nexec gpg "$@"\n')
    program.chmod(0o755)
    with pytest.raises(NotDecrypted) as caught:
        GnuPGOpener(str(tmp_path), program=str(program), timeout_s=0.3).opened(os.urandom(100))
    assert (caught.value.code, caught.value.temporary) == ("engine", True)


def test_threads_share_an_engine(home: Path) -> None:
    raw = by_gpg_binary(home, "-r", "cv25519@r.test", "-e")
    found: list[bytes] = []
    for engine in openers(home, "cv25519"):
        threads = [threading.Thread(target=lambda one=engine: found.append(one.opened(raw))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [LETTER] * 16


# --- signatures of OpenPGP ---------------------------------------------------------------------------------


SIGNER = "rsa3072"  # signs with its own home; its reader is cv25519


def published(name: str) -> bytes:
    return owner("openpgp", name).published


def signed_by_gpg(home: Path, *options: str) -> bytes:
    return by_gpg_binary(home, "-u", f"{SIGNER}@r.test", "-r", "cv25519@r.test", *options, "-s", "-e")


@pytest.fixture(scope="module")
def readers() -> Iterator[list[OpenPGPReader]]:
    """A gpg that has the reader's key and nothing of the signer, and a key file."""
    with gnupg_home() as folder:
        gpg(folder, "--import", stdin=owner("openpgp", "cv25519").secret)
        yield [GnuPGOpener(str(folder)), in_file("cv25519")]


def test_signature_in_the_ciphertext_passes_with_the_signers_key_alone(
    home: Path, readers: list[OpenPGPReader]
) -> None:
    signed, unsigned = signed_by_gpg(home), by_gpg_binary(home, "-r", "cv25519@r.test", "-e")
    for reader in readers:
        assert reader.signature(signed, [published("nistp256"), published(SIGNER)]) == ("pass", "")
        for others in ([], [published("nistp256")], [published("cv25519")], [b"garbage"]):
            assert reader.signature(signed, others) == ("neutral", "no_certificate")
            assert reader.signature(unsigned, others) == ("none", "")
        assert reader.signature(unsigned, [published(SIGNER)]) == ("none", "")


def test_key_in_the_home_of_gpg_counts_for_nobody(home: Path) -> None:
    """It is beside the private key, for whatever reason; the folder of keys alone says whose a key is."""
    signed = signed_by_gpg(home)
    assert GnuPGOpener(str(home)).signature(signed, [published("nistp256")]) == ("neutral", "no_certificate")
    assert GnuPGOpener(str(home)).signature(signed, [published(SIGNER)]) == ("pass", "")


def test_sequoias_own_signature_passes_in_both(readers: list[OpenPGPReader]) -> None:
    sue = pysequoia.Tsk.generate("Sue <sue@r.test>")
    recipient = pysequoia.Cert.from_bytes(published("cv25519"))
    raw = bytes(pysequoia.encrypt(LETTER, [recipient], signer=sue.signer(), armor=False))
    for reader in readers:
        assert reader.signature(raw, [bytes(sue.extract_certificate())]) == ("pass", "")


def test_signature_of_a_revoked_key_and_a_weak_one_do_not_pass(home: Path, readers: list[OpenPGPReader]) -> None:
    sue = pysequoia.Tsk.generate("Sue <sue@r.test>")
    certificate = sue.extract_certificate()
    recipient = pysequoia.Cert.from_bytes(published("cv25519"))
    raw = bytes(pysequoia.encrypt(LETTER, [recipient], signer=sue.signer(), armor=False))
    with_revocation = bytes(certificate) + bytes(certificate.revoke(sue.certifier()))
    revoked = certificate.merge(pysequoia.Cert.from_bytes(with_revocation))
    for reader in readers:
        assert reader.signature(raw, [bytes(revoked)]) == ("policy", "revoked")
    weak = signed_by_gpg(home, "--digest-algo", "SHA1")
    assert [reader.signature(weak, [published(SIGNER)])[0] for reader in readers] == ["policy", "fail"]


def test_signature_of_a_message_for_somebody_else_is_not_asked_for(home: Path, readers: list[OpenPGPReader]) -> None:
    raw = by_gpg_binary(home, "-u", f"{SIGNER}@r.test", "-r", "rsa3072@r.test", "-s", "-e")
    for reader in readers:
        with pytest.raises(NotDecrypted):
            reader.signature(raw, [published(SIGNER)])


def test_detached_signature_of_gpg_passes_and_that_of_a_changed_content_fails(home: Path) -> None:
    signature = gpg(home, "--armor", "-u", f"{SIGNER}@r.test", "--detach-sign", stdin=LETTER)
    assert detached(LETTER, signature, [published(SIGNER)]) == ("pass", "")
    assert detached(LETTER + b" ", signature, [published(SIGNER)]) == ("fail", "changed")
    assert detached(LETTER, signature, [published("cv25519")]) == ("neutral", "no_certificate")
    assert detached(LETTER, b"garbage", [published(SIGNER)]) == ("neutral", "malformed")
