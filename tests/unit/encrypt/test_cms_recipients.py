"""How the content-encryption key reaches each kind of key: structure, the RFCs' own values, and opened."""

from __future__ import annotations

import base64
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from smilla.address import parse
from smilla.encrypt import cms, cms_recipients
from smilla.errors import EncryptionError
from smilla.formats import der, oaep
from smilla.formats.cms import is_enveloped
from smilla.keys.validity.x509 import assess
from smilla.model import Candidate, Format, X509Key
from smilla.model.style import Style
from tests import cms_opener
from tests.certificates import NOW, make_certificate, with_key_algorithm
from tests.cms_opener import loaded, recipient_infos

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

BODY = b"Content-Type: text/plain\r\n\r\nThe canary sings \x00\xff\r\n" * 3
EC = ["p256", "p384", "p521", "bp256", "bp384", "bp512"]
OTHERS = ["x25519", "x448", "mlkem768", "mlkem1024"]
CIPHERS = ["aes256-cbc", "aes128-cbc", "aes256-gcm", "aes128-gcm"]
AES_WRAPS = {"aes256": "2.16.840.1.101.3.4.1.45", "aes128": "2.16.840.1.101.3.4.1.5"}


@dataclass(frozen=True)
class Recipient:
    private: PrivateKeyTypes
    raw: bytes
    key: X509Key


def passed(private: PrivateKeyTypes, raw: bytes) -> Recipient:
    key = assess(Candidate("directory", "x", Format.SMIME, raw), parse("a@x.org"), NOW, require_address=False).key
    assert isinstance(key, X509Key)
    return Recipient(private, raw, key)


@cache
def recipient(kind: str = "rsa2048", number: int = 0) -> Recipient:
    return passed(*make_certificate(kind, number=number, common_name=f"Hugh {number}"))


def encrypt(*to: Recipient, body: bytes = BODY, **choices: str) -> bytes:
    written = b"".join(cms.encrypt([body], len(body), [one.key for one in to], **choices))
    assert len(written) == cms.encrypted_size(len(body), [one.key for one in to], **choices)
    assert is_enveloped([written]).encrypted
    return written


def opened(written: bytes, by: Recipient) -> bytes:
    return cms_opener.opened(written, by.raw, by.private)


def opens(written: bytes, by: Recipient) -> bool:
    """Whether it comes out right; with a wrong key RSA gives what is no key, the others fail."""
    with suppress(Exception):
        return opened(written, by) == BODY
    return False


@pytest.mark.parametrize("size", [0, 70_000])
@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("kind", [*OTHERS, "bp256"])
def test_each_kind_of_key_opens_each_cipher(kind: str, cipher: str, size: int) -> None:
    body = os.urandom(size)
    assert opened(encrypt(recipient(kind), body=body, cipher=cipher), recipient(kind)) == body


@pytest.mark.parametrize("kind", ["rsa2048", *EC, *OTHERS])
def test_nobody_opens_with_another_key_of_the_kind(kind: str) -> None:
    written = encrypt(recipient(kind))
    assert opens(written, recipient(kind))
    assert not opens(written, Recipient(recipient(kind, 1).private, recipient(kind).raw, recipient(kind).key))


def test_recipients_of_all_kinds_open_one_message() -> None:
    everybody = [recipient(kind) for kind in ("rsa2048", *EC, *OTHERS)]
    written = encrypt(*everybody, ecdh_kdf="sha256")
    assert [opened(written, one) for one in everybody] == [BODY] * len(everybody)


# --- ECDH --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EC)
@pytest.mark.parametrize(("kdf", "oid"), [("sha1", "1.3.133.16.840.63.0.2"), ("sha256", "1.3.132.1.11.1")])
def test_kdf_of_elliptic_curves_is_a_choice(kind: str, kdf: str, oid: str) -> None:
    written = encrypt(recipient(kind), ecdh_kdf=kdf)
    (info,) = recipient_infos(written)
    assert info["key_encryption_algorithm"]["algorithm"].dotted == oid
    assert opened(written, recipient(kind)) == BODY


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize(
    ("kind", "oid", "scheme", "octets"),
    [
        ("x25519", "1.3.101.110", "1.2.840.113549.1.9.16.3.19", 32),
        ("x448", "1.3.101.111", "1.2.840.113549.1.9.16.3.21", 56),
    ],
)
def test_x25519_and_x448_have_an_hkdf_of_their_own(kind: str, oid: str, scheme: str, octets: int, cipher: str) -> None:
    for kdf in ("sha1", "sha256"):
        (info,) = recipient_infos(encrypt(recipient(kind), cipher=cipher, ecdh_kdf=kdf))
        assert (info["version"].native, info["ukm"].native) == ("v3", None)
        assert info["originator"].name == "originator_key"
        originator = info["originator"].chosen
        assert originator["algorithm"].dump() == der.sequence(der.oid(oid))
        assert len(originator["public_key"].native) == octets
        wrap = der.sequence(der.oid(AES_WRAPS[cipher[:6]]))
        assert info["key_encryption_algorithm"].dump() == der.sequence(der.oid(scheme), wrap)


def test_each_message_has_an_ephemeral_key_of_its_own() -> None:
    for kind in ("x25519", "x448"):
        points = {
            info["originator"].chosen["public_key"].native
            for info in recipient_infos(encrypt(recipient(kind), recipient(kind, 1)))
        }
        assert len(points) == 2


# --- ML-KEM ------------------------------------------------------------------------------------------------


RFC_9936_SECRET = bytes.fromhex("7DF12D412AE299A24FDE6D7C3BB8E3194C80AD3C733DCF2775E09FE8BEDB86D8")
RFC_9936_CEK = bytes.fromhex("C5153005588269A0A59F3C01943FDD56")


@dataclass(frozen=True)
class Encapsulated:
    """A public key of ML-KEM whose encapsulation is known."""

    ciphertext: bytes

    def encapsulate(self) -> tuple[bytes, bytes]:
        return RFC_9936_SECRET, self.ciphertext


def test_example_of_rfc_9936_is_written_octet_for_octet() -> None:
    """ML-KEM-512 with AES-128 key wrap, which is the same code with other numbers."""
    lines = (Path(__file__).parent / "data" / "rfc9936-c1.pem").read_text("ascii").splitlines()
    message = base64.b64decode("".join(lines[1:-1]))
    (theirs,) = recipient_infos(message)
    named = replace(recipient().key, raw_issuer_and_serial=theirs["rid"].dump())
    task = cms_recipients._Task(RFC_9936_CEK, cms_recipients.AES128_WRAP, Style())
    write = cms_recipients._ml_kem(1, cms_recipients.AES128_WRAP)
    ours = write(Encapsulated(theirs["kemct"].native), named, task)
    assert len(ours) == 888
    assert message[32 : 32 + 888] == ours
    assert cms_opener.opened_with(message, RFC_9936_CEK) == b"Hello, world!"


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize(
    ("kind", "oid", "octets"),
    [("mlkem768", "2.16.840.1.101.3.4.4.2", 1088), ("mlkem1024", "2.16.840.1.101.3.4.4.3", 1568)],
)
def test_kem_recipient_info_has_the_form_of_rfc_9936(kind: str, oid: str, octets: int, cipher: str) -> None:
    (info,) = recipient_infos(encrypt(recipient(kind), cipher=cipher))
    assert info["version"].native == 0
    assert info["rid"].name == "issuer_and_serial_number"
    assert info["kem"].dump() == der.sequence(der.oid(oid))
    assert len(info["kemct"].native) == octets
    assert info["ukm"].native is None
    assert info["kek_length"].native == 32  # also for a content key of 128 bits
    assert info["wrap"].dump() == der.sequence(der.oid(AES_WRAPS["aes256"]))


@pytest.mark.parametrize(
    ("kinds", "version"),
    [
        (["rsa2048"], "v0"),
        (["rsa2048", "x25519"], "v2"),
        (["mlkem768"], "v3"),
        (["rsa2048", "p256", "mlkem1024"], "v3"),
    ],
)
def test_version_of_enveloped_data_follows_its_recipients(kinds: list[str], version: str) -> None:
    assert loaded(encrypt(*map(recipient, kinds)))["version"].native == version
    assert loaded(encrypt(*map(recipient, kinds), cipher="aes128-gcm"))["version"].native == "v0"


# --- RSA for OAEP only -------------------------------------------------------------------------------------


def for_oaep(*fields: bytes, absent: bool = False) -> Recipient:
    """An RSA certificate whose SubjectPublicKeyInfo is id-RSAES-OAEP with these parameters."""
    ours = recipient()
    parameters = () if absent else (der.sequence(*fields),)
    algorithm = der.sequence(der.oid(oaep.RSAES_OAEP), *parameters)
    return passed(ours.private, with_key_algorithm(ours.raw, algorithm, ours.private))


def digest(number: int) -> bytes:
    return der.sequence(der.oid(f"2.16.840.1.101.3.4.2.{number}"), der.null())


def mask(inner: bytes) -> bytes:
    return der.context(1, der.sequence(der.oid("1.2.840.113549.1.1.8"), inner))


LABEL = der.context(2, der.sequence(der.oid("1.2.840.113549.1.1.9"), der.octet_string(b"smilla")))


@pytest.mark.parametrize("rsa_padding", ["pkcs1", "oaep-sha256"])
@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ((), "RSA-2048 for OAEP with sha1 and MGF1 with sha1"),
        ((der.context(0, digest(1)),), "RSA-2048 for OAEP with sha256 and MGF1 with sha1"),
        ((der.context(0, digest(2)), mask(digest(2))), "RSA-2048 for OAEP with sha384 and MGF1 with sha384"),
        ((der.context(0, digest(3)), mask(digest(1))), "RSA-2048 for OAEP with sha512 and MGF1 with sha256"),
        ((der.context(0, digest(4)), mask(digest(4)), LABEL), "RSA-2048 for OAEP with sha224 and MGF1 with sha224"),
    ],
)
def test_certificate_for_oaep_is_used_with_its_own_parameters(
    fields: tuple[bytes, ...], name: str, rsa_padding: str
) -> None:
    to = for_oaep(*fields)
    assert to.key.algorithm == name
    written = encrypt(to, rsa_padding=rsa_padding)
    (info,) = recipient_infos(written)
    assert info["version"].native == "v0"
    assert info["key_encryption_algorithm"].dump() == der.sequence(der.oid(oaep.RSAES_OAEP), der.sequence(*fields))
    assert opened(written, to) == BODY


def test_certificate_for_oaep_without_parameters_gets_sha256() -> None:
    to = for_oaep(absent=True)
    written = encrypt(to)
    assert recipient_infos(written)[0]["key_encryption_algorithm"].dump() == oaep.SHA256.raw_algorithm
    assert opened(written, to) == BODY


def test_certificate_for_oaep_shares_a_message_with_one_for_anything() -> None:
    written = encrypt(for_oaep(), recipient("rsa2048", 1))
    algorithms = {info["key_encryption_algorithm"]["algorithm"].native for info in recipient_infos(written)}
    assert algorithms == {"rsaes_oaep", "rsaes_pkcs1v15"}
    assert opened(written, recipient("rsa2048", 1)) == BODY


def test_key_that_nothing_is_known_about_is_an_error() -> None:
    key = recipient().key
    stranger = X509Key(
        key.raw,
        key.fingerprint,
        "?",
        128,
        key.expires_at,
        key.raw_issuer_and_serial,
        object(),  # type: ignore[arg-type]
    )
    with pytest.raises(EncryptionError, match=key.fingerprint):
        cms.encrypt([BODY], len(BODY), [recipient("p256").key, stranger])
