"""CMS is opened for its reader, whatever was agreed on; and nothing shows why one cannot be opened."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from smilla.decrypt import cms
from smilla.decrypt.cms_recipients import content_key, mine
from smilla.errors import NotDecrypted
from smilla.formats import der
from smilla.model import Style
from tests.unit.decrypt.material import TEXT, Owner, owner, written

ENVELOPED, AUTH_ENVELOPED = "1.2.840.113549.1.7.3", "1.2.840.113549.1.9.16.1.23"
DATA = der.oid("1.2.840.113549.1.7.1")
CBC, GCM = "2.16.840.1.101.3.4.1.42", "2.16.840.1.101.3.4.1.46"
CHACHA = "1.2.840.113549.1.9.16.3.18"
ATTRIBUTE = der.sequence(der.oid("1.2.840.113549.1.9.3"), der.set_of(DATA))


def transport(cek: bytes, to: Owner, raw_key: bytes | None = None) -> bytes:
    """The SET with one KeyTransRecipientInfo; ``raw_key`` instead of the encrypted key."""
    assert isinstance(to.private, RSAPrivateKey)
    encrypted = to.private.public_key().encrypt(cek, padding.PKCS1v15()) if raw_key is None else raw_key
    algorithm = der.sequence(der.oid("1.2.840.113549.1.1.1"), der.null())
    name = to.key.raw_issuer_and_serial
    return der.set_of(der.sequence(der.integer(0), name, algorithm, der.octet_string(encrypted)))


def info(content_type: str, recipients: bytes, algorithm: bytes, ciphertext: bytes, *after: bytes) -> bytes:
    content = der.sequence(DATA, algorithm, der.tlv(0x80, ciphertext))
    data = der.sequence(der.integer(0), recipients, content, *after)
    return der.sequence(der.oid(content_type), der.context(0, data))


def in_cbc(padded: bytes, to: Owner, *, cek: bytes, iv: bytes = bytes(16), recipients: bytes = b"") -> bytes:
    encryptor = Cipher(algorithms.AES(cek), modes.CBC(iv)).encryptor()
    algorithm = der.sequence(der.oid(CBC), der.octet_string(iv))
    ciphertext = encryptor.update(padded) + encryptor.finalize()
    return info(ENVELOPED, recipients or transport(cek, to), algorithm, ciphertext)


def failure(raw: bytes, *keys: Owner) -> NotDecrypted:
    with pytest.raises(NotDecrypted) as caught:
        cms.opened(raw, [one.held for one in keys])
    return caught.value


# --- opened ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["rsa2048", "p256", "p384", "p521", "bp256", "x25519", "x448", "mlkem768", "mlkem1024"]
)
@pytest.mark.parametrize("cipher", ["aes256-cbc", "aes128-cbc", "aes256-gcm", "aes128-gcm"])
@pytest.mark.parametrize("size", [0, 16, 70_000])
def test_what_smilla_writes_for_each_kind_of_key_is_opened(kind: str, cipher: str, size: int) -> None:
    body = os.urandom(size)
    found = cms.opened(written(body, owner(kind), style=Style(cipher)), [owner(kind).held])
    assert found == cms.Opened(body, cipher.endswith("gcm"))


@pytest.mark.parametrize(
    "style", [Style(rsa_padding="oaep-sha256"), Style(ecdh_kdf="sha256"), Style("aes256-gcm", "oaep-sha256", "sha256")]
)
@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_each_padding_and_key_derivation_is_undone(kind: str, style: Style) -> None:
    assert cms.opened(written(TEXT, owner(kind), style=style), [owner(kind).held]).raw_content == TEXT


def test_each_of_several_recipients_opens_the_same_message() -> None:
    everybody = [owner(), owner("rsa2048", 1), owner("p256"), owner("x25519")]
    raw = written(TEXT, *everybody)
    assert [cms.opened(raw, [one.held]).raw_content for one in everybody] == [TEXT] * 4
    strangers = [owner("p384").held, owner("rsa2048", 1).held]
    assert cms.opened(raw, strangers).raw_content == TEXT


def test_triple_des_which_old_programs_write_is_opened() -> None:
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES

    cek, iv = os.urandom(24), os.urandom(8)
    encryptor = Cipher(TripleDES(cek), modes.CBC(iv)).encryptor()
    ciphertext = encryptor.update(b"eleven octe" + b"\5" * 5) + encryptor.finalize()
    algorithm = der.sequence(der.oid("1.2.840.113549.3.7"), der.octet_string(iv))
    raw = info(ENVELOPED, transport(cek, owner()), algorithm, ciphertext)
    assert cms.opened(raw, [owner().held]) == cms.Opened(b"eleven octe", authenticated=False)


def authenticated(cipher: str, *, covered: bytes, sent: bytes | None = None, octets: int = 16) -> bytes:
    cek, nonce = os.urandom(32), os.urandom(12)
    sealed = (AESGCM if cipher == GCM else ChaCha20Poly1305)(cek).encrypt(nonce, TEXT, covered)
    parameters = der.octet_string(nonce)
    if cipher == GCM:
        parameters = der.sequence(parameters, der.integer(octets)) if octets != 12 else der.sequence(parameters)
    tag = sealed[-16:][:octets]
    after = (der.tlv(0xA1, sent or b"") if sent is not None else b"", der.octet_string(tag))
    algorithm = der.sequence(der.oid(cipher), parameters)
    return info(AUTH_ENVELOPED, transport(cek, owner()), algorithm, sealed[:-16], *after)


@pytest.mark.parametrize("cipher", [GCM, CHACHA])
def test_attributes_are_covered_by_the_tag_as_a_set(cipher: str) -> None:
    covered = der.set_of(ATTRIBUTE)
    assert cms.opened(authenticated(cipher, covered=covered, sent=ATTRIBUTE), [owner().held]).authenticated
    for raw in (authenticated(cipher, covered=covered), authenticated(cipher, covered=b"", sent=ATTRIBUTE)):
        assert failure(raw, owner()).code == "undecryptable"


def test_a_tag_of_twelve_octets_is_the_default_and_a_shorter_one_is_malformed() -> None:
    assert cms.opened(authenticated(GCM, covered=b"", octets=12), [owner().held]).raw_content == TEXT
    assert failure(authenticated(GCM, covered=b"", octets=8), owner()).code == "malformed"


@pytest.mark.parametrize("segment", [1, 100, 1000])
def test_ber_with_indefinite_lengths_and_segments_is_opened(segment: int) -> None:
    """As Thunderbird and openssl -stream write it."""
    cek = os.urandom(32)
    padded = TEXT + bytes([16 - len(TEXT) % 16]) * (16 - len(TEXT) % 16)
    encryptor = Cipher(algorithms.AES(cek), modes.CBC(bytes(16))).encryptor()
    ciphertext = encryptor.update(padded) + encryptor.finalize()
    pieces = b"".join(der.octet_string(ciphertext[at : at + segment]) for at in range(0, len(ciphertext), segment))
    end = b"\0\0"
    algorithm = der.sequence(der.oid(CBC), der.octet_string(bytes(16)))
    content = b"\x30\x80" + DATA + algorithm + b"\xa0\x80" + pieces + end + end
    data = b"\x30\x80" + der.integer(0) + transport(cek, owner()) + content + end
    raw = b"\x30\x80" + der.oid(ENVELOPED) + b"\xa0\x80" + data + end + end
    assert cms.opened(raw + b"\r\n", [owner().held]).raw_content == TEXT


# --- not opened, and nothing learnt ------------------------------------------------------------------------


def padded_key(cek: bytes, to: Owner, kind: bytes) -> bytes:
    """An encrypted key with another padding than PKCS #1 v1.5 for encryption (RFC 8017 section 7.2.1)."""
    assert isinstance(to.private, RSAPrivateKey)
    numbers = to.private.public_key().public_numbers()
    block = kind + b"\xaa" * (256 - len(kind) - 1 - len(cek)) + b"\0" + cek
    return pow(int.from_bytes(block), numbers.e, numbers.n).to_bytes(256)


def test_every_failure_of_a_key_and_of_a_content_looks_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    # A random key gives a right padding once in 256 times; what follows then is no entity, which test_message shows.
    monkeypatch.setattr("smilla.decrypt.cms_recipients.os.urandom", lambda octets: b"\1" * octets)
    cek, block = b"\7" * 32, TEXT[:48]
    good = block + b"\x10" * 16
    assert cms.opened(in_cbc(good, owner(), cek=cek), [owner().held]).raw_content == block

    def with_key(raw_key: bytes | None = None, inside: bytes = cek) -> bytes:
        return in_cbc(good, owner(), cek=cek, recipients=transport(inside, owner(), raw_key))

    wrong = {
        "padding of the content": in_cbc(block + b"\x10" * 15 + b"\x11", owner(), cek=cek),
        "a block of zeros": in_cbc(block + bytes(16), owner(), cek=cek),
        "padding of the key": with_key(padded_key(cek, owner(), b"\0\1")),
        "no key of that length": with_key(inside=cek[:16]),
        "too short for the modulus": with_key(b"\1" * 255),
        "above the modulus": with_key(b"\xff" * 256),
        "another key inside": with_key(inside=b"\2" * 32),
    }
    errors = [failure(raw, owner()) for raw in wrong.values()]
    told = {(error.code, str(error), error.temporary, repr(error.__cause__)) for error in errors}
    assert told == {("undecryptable", "it does not decrypt to one MIME entity", False, "None")}


def test_key_with_a_wrong_padding_becomes_a_random_one_of_the_right_length() -> None:
    """What OpenSSL gives for a wrong padding has any length; none of it may show."""
    cek = os.urandom(32)
    for raw_key in (padded_key(cek, owner(), b"\0\1"), padded_key(cek, owner(), b"\1\2"), b"", b"\xff" * 256):
        (found,) = mine(der.read(transport(cek, owner(), raw_key)), owner().held)
        keys = {content_key(found, owner().held, 32) for _ in range(2)}
        assert {len(key) for key in keys} == {32}
        assert cek not in keys


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "x25519", "mlkem768"])
@pytest.mark.parametrize("cipher", ["aes256-cbc", "aes256-gcm"])
def test_key_of_somebody_else_opens_nothing(kind: str, cipher: str) -> None:
    raw = written(TEXT, owner(kind), style=Style(cipher))
    assert failure(raw, owner(kind, 1)).code == "not_for_this_key"
    assert failure(raw, owner("p521")).code == "not_for_this_key"
    assert failure(raw).code == "not_for_this_key"


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "mlkem768"])
def test_name_of_our_certificate_on_a_key_for_another_opens_nothing(kind: str) -> None:
    raw = written(TEXT, owner(kind, 1), style=Style("aes256-gcm"))
    forged = raw.replace(owner(kind, 1).key.raw_issuer_and_serial, owner(kind).key.raw_issuer_and_serial)
    if len(forged) == len(raw):  # serial numbers differ in length now and then
        assert failure(forged, owner(kind)).code == "undecryptable"


@pytest.mark.parametrize("cipher", ["aes256-gcm", "aes128-gcm"])
def test_a_changed_octet_under_a_tag_opens_nothing(cipher: str) -> None:
    raw = bytearray(written(TEXT, owner(), style=Style(cipher)))
    for place in (-1, -30, -17 - len(TEXT)):
        changed = raw.copy()
        changed[place] ^= 1
        assert failure(bytes(changed), owner()).code == "undecryptable"


def test_unknown_ciphers_and_a_tag_less_gcm_are_unsupported() -> None:
    recipients = transport(os.urandom(32), owner())
    iv = der.octet_string(bytes(16))
    for content_type, cipher in ((ENVELOPED, "1.2.840.113549.3.2"), (ENVELOPED, GCM), (AUTH_ENVELOPED, CBC)):
        raw = info(content_type, recipients, der.sequence(der.oid(cipher), iv), bytes(32), der.octet_string(bytes(16)))
        assert failure(raw, owner()).code == "unsupported"


def test_what_is_no_cms_is_malformed() -> None:
    raw = written(TEXT, owner())
    for wrong in (b"", b"0", b"\x30\x80", raw[:-1], raw + b"x", der.sequence(der.oid("1.2.840.113549.1.7.1"))):
        assert failure(wrong, owner()).code == "malformed"


def test_one_who_is_named_a_hundred_times_is_not_tried_a_hundred_times() -> None:
    cek = os.urandom(32)
    one = der.read(transport(cek, owner(), os.urandom(256)))
    raw = in_cbc(TEXT[:48], owner(), cek=cek, recipients=der.tlv(der.SET, *([one.content] * 100)))
    assert failure(raw, owner()).code == "malformed"
