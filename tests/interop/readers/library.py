"""Python libraries that open S/MIME or OpenPGP in this process."""

from __future__ import annotations

from importlib.metadata import version

import pysequoia
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key, pkcs7

from tests.interop.owners import Owner
from tests.interop.readers.base import Reader, Unopened, unwrapped


class Cryptography(Reader):
    """pyca/cryptography; it parses the MIME header, too."""

    name = "cryptography"

    def version(self) -> str:
        return version("cryptography")

    def open(self, message: bytes, owner: Owner) -> bytes:
        certificate = x509.load_der_x509_certificate(owner.published)
        private = load_der_private_key(owner.secret, None)
        if not isinstance(private, rsa.RSAPrivateKey):
            raise Unopened("cryptography takes RSA keys only")
        try:
            return pkcs7.pkcs7_decrypt_smime(message, certificate, private, [])
        except Exception as error:
            raise Unopened(f"cryptography: {error}") from error


class Sequoia(Reader):
    """pysequoia, which is the engine "sequoia" as well: a judge of the engine "gnupg"."""

    name = "pysequoia"

    def version(self) -> str:
        return version("pysequoia")

    def open(self, message: bytes, owner: Owner) -> bytes:
        try:
            tsk = pysequoia.Tsk.from_bytes(owner.secret)
            opened = pysequoia.decrypt(unwrapped(message), decryptor=tsk.decryptor())
        except Exception as error:
            raise Unopened(f"pysequoia: {str(error).partition(chr(10))[0]}") from None
        assert opened.bytes is not None
        return bytes(opened.bytes)
