"""Opens what the CMS encrypter writes, by the RFCs and with cryptography's primitives: the tests' own reader.

It shares nothing with the encrypter: asn1crypto parses, and what it does not know (RFC 5084, RFC 5753, RFC 9629) is
defined here.  Other people's programs read the same messages in tests/interop; for X25519, X448 and ML-KEM there is
no such program in Debian 12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asn1crypto import algos, core
from asn1crypto import cms as asn1
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, x448, x25519
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM1024PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from cryptography.hazmat.primitives.padding import PKCS7

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_WRAPS = {"2.16.840.1.101.3.4.1.5": 16, "2.16.840.1.101.3.4.1.45": 32}
_CIPHERS = {
    "2.16.840.1.101.3.4.1.2": ("cbc", 16),
    "2.16.840.1.101.3.4.1.42": ("cbc", 32),
    "2.16.840.1.101.3.4.1.6": ("gcm", 16),
    "2.16.840.1.101.3.4.1.46": ("gcm", 32),
}
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1,
    "sha224": hashes.SHA224,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_KEMS = {"2.16.840.1.101.3.4.4.2": MLKEM768PrivateKey, "2.16.840.1.101.3.4.4.3": MLKEM1024PrivateKey}


class GCMParameters(core.Sequence):  # type: ignore[misc]  # asn1crypto has no types
    """RFC 5084 section 3.2."""

    _fields = [("nonce", core.OctetString), ("icv_length", core.Integer, {"default": 12})]  # noqa: RUF012


class SharedInfo(core.Sequence):  # type: ignore[misc]
    """ECC-CMS-SharedInfo (RFC 5753 section 7.2)."""

    _fields = [  # noqa: RUF012
        ("key_info", core.Any),
        ("entity_u_info", core.OctetString, {"explicit": 0, "optional": True}),
        ("supp_pub_info", core.OctetString, {"explicit": 2}),
    ]


class KEMAlgorithm(core.Sequence):  # type: ignore[misc]
    """An AlgorithmIdentifier without parameters."""

    _fields = [("algorithm", core.ObjectIdentifier), ("parameters", core.Any, {"optional": True})]  # noqa: RUF012


class KEMRecipientInfo(core.Sequence):  # type: ignore[misc]
    """RFC 9629 section 3."""

    _fields = [  # noqa: RUF012
        ("version", core.Integer),
        ("rid", asn1.RecipientIdentifier),
        ("kem", KEMAlgorithm),
        ("kemct", core.OctetString),
        ("kdf", KEMAlgorithm),
        ("kek_length", core.Integer),
        ("ukm", core.OctetString, {"explicit": 0, "optional": True}),
        ("wrap", KEMAlgorithm),
        ("encrypted_key", core.OctetString),
    ]


class KEMOtherInfo(core.Sequence):  # type: ignore[misc]
    """CMSORIforKEMOtherInfo (RFC 9629 section 5)."""

    _fields = [  # noqa: RUF012
        ("wrap", KEMAlgorithm),
        ("kek_length", core.Integer),
        ("ukm", core.OctetString, {"explicit": 0, "optional": True}),
    ]


for _cipher in ("aes128_gcm", "aes256_gcm"):
    algos.EncryptionAlgorithm._oid_specs[_cipher] = GCMParameters
asn1.OtherRecipientInfo._oid_pair = ("ori_type", "ori_value")
asn1.OtherRecipientInfo._oid_specs = {"1.2.840.113549.1.9.16.13.3": KEMRecipientInfo}


def loaded(written: bytes) -> Any:
    """The EnvelopedData or AuthEnvelopedData, parsed wholly; encoded anew it has the same octets, so it is DER."""
    info = asn1.ContentInfo.load(written, strict=True)
    assert info.native
    assert info.dump(force=True) == written
    return info["content"]


def recipient_infos(written: bytes) -> list[Any]:
    """Each recipient's structure: KeyTransRecipientInfo, KeyAgreeRecipientInfo or KEMRecipientInfo."""
    return [_chosen(choice) for choice in loaded(written)["recipient_infos"]]


def _chosen(choice: Any) -> Any:
    if choice.name != "ori":
        return choice.chosen
    assert choice.chosen["ori_type"].native == "1.2.840.113549.1.9.16.13.3"
    return choice.chosen["ori_value"]


def serial_number(info: Any) -> int:
    """Whom a recipient info is for."""
    rid = info["rid"] if "rid" in info._field_map else info["recipient_encrypted_keys"][0]["rid"]
    serial: int = rid.chosen["serial_number"].native
    return serial


def opened(written: bytes, certificate: bytes, private: PrivateKeyTypes) -> bytes:
    """Opened with the one recipient info that names the certificate."""
    serial = asn1_x509.Certificate.load(certificate).serial_number
    (mine,) = (info for info in recipient_infos(written) if serial_number(info) == serial)
    return opened_with(written, content_encryption_key(mine, private))


def cipher(written: bytes) -> str:
    """The content cipher by asn1crypto's name."""
    name: str = _encrypted_content(loaded(written))["content_encryption_algorithm"]["algorithm"].native
    return name


def schemes(written: bytes) -> set[str]:
    """The object identifiers of what brings the content-encryption key to each recipient."""
    found = set()
    for info in recipient_infos(written):
        name = "kem" if "kem" in info._field_map else "key_encryption_algorithm"
        found.add(KEMAlgorithm.load(info[name].dump())["algorithm"].native)
    return found


def _encrypted_content(content: Any) -> Any:
    return content["auth_encrypted_content_info" if "mac" in content._field_map else "encrypted_content_info"]


def opened_with(written: bytes, cek: bytes) -> bytes:
    """Opened with the content-encryption key."""
    content = loaded(written)
    encrypted = _encrypted_content(content)
    algorithm = encrypted["content_encryption_algorithm"]
    mode, length = _CIPHERS[algorithm["algorithm"].dotted]
    ciphertext = encrypted["encrypted_content"].native or b""
    assert (len(cek), mode) == (length, "gcm" if "mac" in content._field_map else "cbc")
    if mode == "gcm":
        nonce, tag_length = algorithm["parameters"].native.values()
        assert (len(nonce), tag_length, len(content["mac"].native)) == (12, 16, 16)
        decryptor = Cipher(algorithms.AES(cek), modes.GCM(nonce, content["mac"].native)).decryptor()
        return decryptor.update(ciphertext) + decryptor.finalize()
    cbc = Cipher(algorithms.AES(cek), modes.CBC(algorithm["parameters"].native)).decryptor()
    unpadder = PKCS7(128).unpadder()
    return unpadder.update(cbc.update(ciphertext) + cbc.finalize()) + unpadder.finalize()


def content_encryption_key(info: Any, private: PrivateKeyTypes) -> bytes:
    """Undoes one recipient info."""
    if isinstance(private, RSAPrivateKey):
        return private.decrypt(info["encrypted_key"].native, _padding(info["key_encryption_algorithm"]))
    if isinstance(private, (MLKEM768PrivateKey, MLKEM1024PrivateKey)):
        return _decapsulated(info, private)
    scheme = info["key_encryption_algorithm"]
    wrap = KEMAlgorithm.load(scheme["parameters"].dump(), strict=True)
    assert wrap["parameters"].native is None
    length = _WRAPS[wrap["algorithm"].native]
    suffix = (length * 8).to_bytes(4, "big")
    shared_info = SharedInfo({"key_info": core.Any.load(wrap.dump()), "supp_pub_info": suffix}).dump()
    secret = _agreed(info["originator"].chosen, private)
    kek = _derived(scheme["algorithm"].dotted, secret, length, shared_info)
    return aes_key_unwrap(kek, info["recipient_encrypted_keys"][0]["encrypted_key"].native)


def _padding(algorithm: Any) -> padding.AsymmetricPadding:
    if algorithm["algorithm"].native != "rsaes_oaep":
        return padding.PKCS1v15()
    parameters = algorithm["parameters"]
    mask = parameters["mask_gen_algorithm"]
    assert mask["algorithm"].native == "mgf1"
    label = parameters["p_source_algorithm"]["parameters"].native
    mgf = padding.MGF1(_HASHES[mask["parameters"]["algorithm"].native]())
    return padding.OAEP(mgf, _HASHES[parameters["hash_algorithm"]["algorithm"].native](), label or None)


def _agreed(originator: Any, private: PrivateKeyTypes) -> bytes:
    """The shared secret of the private key and the originator's ephemeral one."""
    algorithm, point = originator["algorithm"], originator["public_key"].native
    assert algorithm["parameters"].native is None
    if isinstance(private, x25519.X25519PrivateKey):
        assert algorithm["algorithm"].dotted == "1.3.101.110"
        return private.exchange(x25519.X25519PublicKey.from_public_bytes(point))
    if isinstance(private, x448.X448PrivateKey):
        assert algorithm["algorithm"].dotted == "1.3.101.111"
        return private.exchange(x448.X448PublicKey.from_public_bytes(point))
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert algorithm["algorithm"].dotted == "1.2.840.10045.2.1"
    return private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(private.curve, point))


def _derived(scheme: str, secret: bytes, length: int, shared_info: bytes) -> bytes:
    """The key-encryption key, by the scheme's KDF (RFC 5753 section 7.1.4, RFC 8418 appendix A)."""
    if scheme in ("1.3.133.16.840.63.0.2", "1.3.132.1.11.1"):
        digest = hashes.SHA1() if scheme == "1.3.133.16.840.63.0.2" else hashes.SHA256()
        return X963KDF(digest, length, shared_info).derive(secret)
    assert scheme in ("1.2.840.113549.1.9.16.3.19", "1.2.840.113549.1.9.16.3.21")
    strong = hashes.SHA512() if scheme.endswith("21") else hashes.SHA256()
    return HKDF(strong, length, None, shared_info).derive(secret)


def _decapsulated(info: Any, private: MLKEM768PrivateKey | MLKEM1024PrivateKey) -> bytes:
    """RFC 9629 sections 3 to 5 with HKDF and SHA-256 (RFC 9936 section 2.2.1)."""
    assert (info["version"].native, info["kdf"]["algorithm"].native) == (0, "1.2.840.113549.1.9.16.3.28")
    assert all(info[field]["parameters"].native is None for field in ("kem", "kdf", "wrap"))
    assert isinstance(private, _KEMS[info["kem"]["algorithm"].native])
    length = _WRAPS[info["wrap"]["algorithm"].native]
    assert info["kek_length"].native == length
    other_info = KEMOtherInfo({"wrap": info["wrap"], "kek_length": length}).dump()
    kek = HKDF(hashes.SHA256(), length, None, other_info).derive(private.decapsulate(info["kemct"].native))
    return aes_key_unwrap(kek, info["encrypted_key"].native)
