"""What the CMS encrypter writes: judged by asn1crypto, opened by cryptography."""

from __future__ import annotations

import os
import tracemalloc
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from asn1crypto import x509 as oracle_x509
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicNumbers
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st

from smilla.address import parse
from smilla.encrypt import cms
from smilla.errors import EncryptionError
from smilla.formats.cms import is_enveloped
from smilla.keys.validity.x509 import assess
from smilla.model import Candidate, Format, PGPKey, X509Key
from tests import cms_opener
from tests.certificates import NOW, make_certificate
from tests.cms_opener import content_encryption_key, loaded, recipient_infos

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

SIZES = [0, 1, 15, 16, 17, 65535, 65536, 65537, 200_000]
BODY = b"Content-Type: text/plain\r\n\r\nThe canary sings \x00\xff\r\n" * 3
CURVES = ["p256", "p384", "p521"]


@dataclass(frozen=True)
class Recipient:
    private: PrivateKeyTypes
    raw: bytes
    key: X509Key


@cache
def recipient(kind: str = "rsa2048", number: int = 0) -> Recipient:
    private, raw = make_certificate(kind, number=number, common_name=f"Hugh {number}")
    candidate = Candidate("directory", "x", Format.SMIME, raw)
    key = assess(candidate, parse("a@example.org"), NOW, require_address=False).key
    assert isinstance(key, X509Key)
    return Recipient(private, raw, key)


def encrypt(body: bytes, *to: Recipient, cipher: str = "aes256-cbc", rsa_padding: str = "pkcs1") -> bytes:
    pieces = [body[i : i + 1000] for i in range(0, len(body), 1000)]
    keys = [one.key for one in to]
    written = b"".join(cms.encrypt(pieces, len(body), keys, cipher=cipher, rsa_padding=rsa_padding))
    assert len(written) == cms.encrypted_size(len(body), keys, cipher=cipher, rsa_padding=rsa_padding)
    return written


def opened_by_cryptography(written: bytes, to: Recipient) -> bytes:
    assert isinstance(to.private, RSAPrivateKey)
    certificate = x509.load_der_x509_certificate(to.raw)
    return pkcs7.pkcs7_decrypt_der(written, certificate, to.private, [])


def opened(written: bytes, to: Recipient) -> bytes:
    return cms_opener.opened(written, to.raw, to.private)


# --- opened ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cipher", ["aes256-cbc", "aes128-cbc"])
def test_rsa_recipient_opens_every_octet_with_cryptography(size: int, cipher: str) -> None:
    body = os.urandom(size)
    assert opened_by_cryptography(encrypt(body, recipient(), cipher=cipher), recipient()) == body


@pytest.mark.parametrize("kind", ["rsa2048", *CURVES])
@pytest.mark.parametrize("cipher", ["aes256-cbc", "aes128-cbc", "aes256-gcm", "aes128-gcm"])
@pytest.mark.parametrize("size", [0, 16, 70_000])
def test_each_kind_of_key_and_cipher_opens_by_the_rfcs(kind: str, cipher: str, size: int) -> None:
    body = os.urandom(size)
    assert opened(encrypt(body, recipient(kind), cipher=cipher), recipient(kind)) == body


def test_each_of_several_recipients_opens_the_same_message() -> None:
    everybody = [recipient(), recipient("rsa2048", 1), *map(recipient, CURVES)]
    written = encrypt(BODY, *everybody)
    assert [opened(written, one) for one in everybody] == [BODY] * 5
    two = encrypt(BODY, *everybody[:2])
    assert [opened_by_cryptography(two, one) for one in everybody[:2]] == [BODY] * 2


def test_oaep_opens_with_sha256_for_both_digest_and_mask() -> None:
    assert opened(encrypt(BODY, recipient(), rsa_padding="oaep-sha256"), recipient()) == BODY


@given(st.lists(st.binary(max_size=300), max_size=30))
@settings(max_examples=50)
def test_pieces_of_any_length_give_the_whole(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    written = b"".join(cms.encrypt(pieces, len(body), [recipient().key]))
    assert opened_by_cryptography(written, recipient()) == body


def test_one_large_piece_gives_the_whole() -> None:
    body = os.urandom(300_001)
    for pieces in ([body], [body[:5], body[5:]], [body[:299_999], body[299_999:]]):
        written = b"".join(cms.encrypt(pieces, len(body), [recipient().key]))
        assert opened_by_cryptography(written, recipient()) == body


def test_the_classifier_takes_it_for_encrypted() -> None:
    for cipher in ("aes256-cbc", "aes128-cbc", "aes256-gcm", "aes128-gcm"):
        written = encrypt(BODY, recipient(), recipient("p256"), cipher=cipher)
        assert is_enveloped([written]).encrypted


# --- structure ---------------------------------------------------------------------------------------------


def test_structure_is_that_of_cryptographys_envelope_builder() -> None:
    builder = pkcs7.PKCS7EnvelopeBuilder().set_data(BODY)
    builder = builder.add_recipient(x509.load_der_x509_certificate(recipient().raw))
    builder = builder.set_content_encryption_algorithm(algorithms.AES256)
    theirs = loaded(builder.encrypt(Encoding.DER, [pkcs7.PKCS7Options.Binary]))
    ours = loaded(encrypt(BODY, recipient()))
    assert skeleton(ours) == skeleton(theirs)


def skeleton(content: Any) -> Any:
    (info,) = (choice.chosen for choice in content["recipient_infos"])
    encrypted = content["encrypted_content_info"]
    return (
        content["version"].native,
        info["version"].native,
        info["rid"].dump(),
        info["key_encryption_algorithm"].dump(),
        len(info["encrypted_key"].native),
        encrypted["content_type"].native,
        encrypted["content_encryption_algorithm"]["algorithm"].native,
        len(encrypted["encrypted_content"].dump()),
        content["unprotected_attrs"].native,
    )


def test_enveloped_data_is_of_version_0_for_rsa_and_2_with_key_agreement() -> None:
    assert loaded(encrypt(BODY, recipient()))["version"].native == "v0"
    assert loaded(encrypt(BODY, recipient(), recipient("p256")))["version"].native == "v2"


def test_key_transport_names_rsa_encryption_with_null_parameters() -> None:
    (info,) = recipient_infos(encrypt(BODY, recipient()))
    assert info["version"].native == "v0"
    assert info["key_encryption_algorithm"].dump().hex() == "300d06092a864886f70d0101010500"


def test_oaep_states_sha256_for_digest_and_mask_generation() -> None:
    (info,) = recipient_infos(encrypt(BODY, recipient(), rsa_padding="oaep-sha256"))
    algorithm = info["key_encryption_algorithm"]
    assert algorithm["algorithm"].native == "rsaes_oaep"
    parameters = algorithm["parameters"]
    assert parameters["hash_algorithm"]["algorithm"].native == "sha256"
    assert parameters["mask_gen_algorithm"]["algorithm"].native == "mgf1"
    assert parameters["mask_gen_algorithm"]["parameters"]["algorithm"].native == "sha256"


@pytest.mark.parametrize(
    ("cipher", "wrap"),
    [("aes256-cbc", "2.16.840.1.101.3.4.1.45"), ("aes128-cbc", "2.16.840.1.101.3.4.1.5")],
)
def test_key_agreement_has_an_ephemeral_key_sha1_kdf_and_no_ukm(cipher: str, wrap: str) -> None:
    (info,) = recipient_infos(encrypt(BODY, recipient("p256"), cipher=cipher))
    assert info["version"].native == "v3"
    assert info["originator"].name == "originator_key"
    assert info["ukm"].native is None
    algorithm = info["key_encryption_algorithm"]
    assert algorithm["algorithm"].dotted == "1.3.133.16.840.63.0.2"
    assert algorithm["parameters"].parsed[0].native == wrap


@pytest.mark.parametrize(
    ("cipher", "oid"), [("aes256-gcm", "2.16.840.1.101.3.4.1.46"), ("aes128-gcm", "2.16.840.1.101.3.4.1.6")]
)
def test_authenveloped_data_states_an_icv_of_16_octets(cipher: str, oid: str) -> None:
    content = loaded(encrypt(BODY, recipient("p256"), cipher=cipher))
    assert content["version"].native == "v0"
    assert len(content["mac"].native) == 16
    algorithm = content["auth_encrypted_content_info"]["content_encryption_algorithm"]
    assert algorithm["algorithm"].dotted == oid
    assert algorithm["parameters"]["icv_length"].native == 16


def test_recipient_infos_are_in_der_order() -> None:
    everybody = [recipient("p521"), recipient("rsa2048", 1), recipient("p256"), recipient()]
    encodings = [info.dump() for info in loaded(encrypt(BODY, *everybody))["recipient_infos"]]
    assert len(encodings) == 4
    assert encodings == sorted(encodings)


def test_a_certificate_named_twice_has_one_recipient_info() -> None:
    assert len(recipient_infos(encrypt(BODY, recipient(), recipient(), recipient("p256")))) == 2


def test_issuer_and_serial_are_those_of_the_certificate_octet_for_octet() -> None:
    tbs = oracle_x509.Certificate.load(recipient().raw)["tbs_certificate"]
    (info,) = recipient_infos(encrypt(BODY, recipient()))
    chosen = info["rid"].chosen
    assert (chosen["issuer"].dump(), chosen["serial_number"].dump()) == (
        tbs["issuer"].dump(),
        tbs["serial_number"].dump(),
    )


def test_every_message_has_a_key_and_iv_of_its_own() -> None:
    first, second = (encrypt(BODY, recipient()) for _ in range(2))
    keys = {content_encryption_key(recipient_infos(w)[0], recipient().private) for w in (first, second)}
    ivs = {
        loaded(w)["encrypted_content_info"]["content_encryption_algorithm"]["parameters"].native
        for w in (first, second)
    }
    points = {
        info["originator"].chosen["public_key"].native
        for info in recipient_infos(encrypt(BODY, recipient("p256"), recipient("p256", 1)))
    }
    assert (len(keys), len(ivs), len(points)) == (2, 2, 2)
    assert {len(key) for key in keys} == {32}


# --- failures ----------------------------------------------------------------------------------------------


def test_a_key_that_fails_is_an_error_at_once_and_named() -> None:
    """Padded so, a content-encryption key does not fit into 512 bits."""
    numbers = RSAPublicNumbers(65537, (1 << 511) + 1)
    short = replace(recipient("rsa2048", 1).key, public_key=numbers.public_key())
    with pytest.raises(EncryptionError, match=short.fingerprint):
        cms.encrypt([BODY], len(BODY), [recipient().key, short], rsa_padding="oaep-sha256")


def test_no_key_is_an_error_at_once() -> None:
    with pytest.raises(EncryptionError, match="no key"):
        cms.encrypt([BODY], len(BODY), [])


def test_what_did_not_pass_the_gate_is_an_error_at_once() -> None:
    openpgp = PGPKey(b"", "", "", 0, None, 4)
    for stranger in (openpgp, recipient().raw, None):
        with pytest.raises(EncryptionError, match="passed the gate"):
            cms.encrypt([BODY], len(BODY), [recipient().key, stranger])  # type: ignore[list-item]


@pytest.mark.parametrize(("cipher", "rsa_padding"), [("null", "pkcs1"), ("aes256-cbc", "none"), ("", "pkcs1")])
def test_an_unknown_cipher_or_padding_is_an_error_at_once(cipher: str, rsa_padding: str) -> None:
    with pytest.raises(EncryptionError, match="no such"):
        cms.encrypt([BODY], len(BODY), [recipient().key], cipher=cipher, rsa_padding=rsa_padding)


@pytest.mark.parametrize("kdf", ["", "sha384", "md5"])
def test_an_unknown_kdf_is_an_error_at_once(kdf: str) -> None:
    with pytest.raises(EncryptionError, match="no such"):
        cms.encrypt([BODY], len(BODY), [recipient().key], ecdh_kdf=kdf)


@pytest.mark.parametrize("size", [0, 1, 16, 64 * 1024, 200_000])
@pytest.mark.parametrize("off", [-1, 1, 16])
def test_content_of_another_length_raises_before_the_last_block(size: int, off: int) -> None:
    announced = max(size + off, 0)
    if announced == size:
        announced = size + 1
    got = bytearray()
    whole = cms.encrypted_size(announced, [recipient().key])
    with pytest.raises(EncryptionError, match="announced"):
        for block in cms.encrypt(iter([bytes(size)]), announced, [recipient().key]):
            got += block
    assert len(got) < whole
    assert not is_enveloped([bytes(got)]).encrypted


def test_a_negative_size_is_an_error() -> None:
    with pytest.raises(EncryptionError):
        cms.encrypt([], -1, [recipient().key])


def test_a_failing_source_fails_the_message() -> None:
    def source() -> Iterator[bytes]:
        yield BODY
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(cms.encrypt(source(), 2 * len(BODY), [recipient().key]))


def test_no_octet_of_the_content_is_in_what_is_written() -> None:
    for cipher in ("aes256-cbc", "aes128-cbc", "aes256-gcm", "aes128-gcm"):
        assert b"canary" not in encrypt(BODY, recipient(), cipher=cipher)


@pytest.mark.parametrize("keys", [["rsa2048"], ["p256"]])
def test_a_large_message_needs_little_memory(keys: Sequence[str]) -> None:
    block, count = bytes(50_000), 400
    written = cms.encrypt((block for _ in range(count)), count * len(block), [recipient(k).key for k in keys])
    tracemalloc.start()
    blocks = [len(block) for block in written]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(blocks) > count * len(block)
    assert peak < 1_000_000
