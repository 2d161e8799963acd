"""PKCS #12 (RFC 7292): the certificates of a file; and a file for a mail program.

Only certificates leave a file that is read.  What we write: PBES2 with AES-256-CBC and PBKDF2-HMAC-SHA-256, and a MAC
with SHA-256.  That is what OpenSSL 3 writes by itself.  What others do: some programs still write RC2 and triple DES,
for readers that are older than 2016.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, pkcs12

from smilla.errors import ParseError
from smilla.formats import der

_ROUNDS = 100_000
_VERSION_3 = b"\x02\x01\x03"


def is_pkcs12(raw: bytes) -> bool:
    """Do the octets begin as a PFX does: a SEQUENCE whose first element is the version, 3?  BER is allowed here."""
    return raw[:1] == b"\x30" and raw[2 + (raw[1] & 0x7F if raw[1:2] > b"\x80" else 0) :][:3] == _VERSION_3


def certificates(raw: bytes, password: bytes | None) -> tuple[bytes, ...]:
    """The certificates in DER; that of the private key first.  Raises ParseError."""
    try:
        held = pkcs12.load_pkcs12(raw, password)
    except (ValueError, TypeError) as error:
        raise ParseError("it cannot be opened: the password is wrong, or it is no intact PKCS #12 file") from error
    except UnsupportedAlgorithm as error:
        raise ParseError(
            f"its encryption is not supported here ({error}); write it anew with openssl pkcs12"
        ) from error
    found = [held.cert, *held.additional_certs]
    return tuple(one.certificate.public_bytes(Encoding.DER) for one in found if one is not None)


def written(
    name: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, raw_certificate: bytes, password: bytes
) -> bytes:
    """The file for a mail program; ``name`` is what that program shows."""
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(SHA256())
        .build(password)
    )
    certificate = x509.load_der_x509_certificate(der.read(raw_certificate).whole)
    return pkcs12.serialize_key_and_certificates(name.encode(), key, certificate, None, encryption)
