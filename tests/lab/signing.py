"""Senders who sign, with openssl and gpg, and readers who verify with the same programs.

An entity is MIME fields, an empty line and a body; signed forms are entities, too.  Line ends are CRLF.
"""

from __future__ import annotations

import base64
import re
import subprocess
from typing import TYPE_CHECKING

from tests.lab.keys import OpenPGPKey, SMIMEKey
from tests.lab.programs import find_program, program_environment

if TYPE_CHECKING:
    from pathlib import Path

_BOUNDARY = b"=_signed-by-the-sender"


class BadSignatureError(Exception):
    """The program does not take the signature for good, or there is none; the text is what it said."""


def smime_signed(key: SMIMEKey, entity: bytes) -> bytes:
    """multipart/signed (RFC 8551 section 3.5.3)."""
    signature = _openssl("-sign", "-binary", "-outform", "DER", *_signer(key), octets=entity)
    second = (
        b"Content-Type: application/pkcs7-signature; name=smime.p7s\r\nContent-Transfer-Encoding: base64\r\n"
        b"Content-Disposition: attachment; filename=smime.p7s\r\n\r\n" + _base64(signature)
    )
    return _multipart_signed(entity, second, b'protocol="application/pkcs7-signature"; micalg=sha-256')


def smime_opaque(key: SMIMEKey, entity: bytes) -> bytes:
    """application/pkcs7-mime with signed-data (RFC 8551 section 3.5.2)."""
    signed = _openssl("-sign", "-binary", "-nodetach", "-outform", "DER", *_signer(key), octets=entity)
    return (
        b"Content-Type: application/pkcs7-mime; smime-type=signed-data;\r\n\tname=smime.p7m\r\n"
        b"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=smime.p7m\r\n\r\n"
    ) + _base64(signed)


def smime_verified(key: SMIMEKey, signed: bytes, place: Path) -> bytes:
    """The entity that was signed.  Raises BadSignatureError."""
    file = place / "signed.eml"
    file.write_bytes(signed)
    trusted = ["-CAfile", str(key.certificate_file), "-purpose", "any"]
    return _openssl("-verify", "-inform", "SMIME", "-in", str(file), *trusted)


def openpgp_signed(key: OpenPGPKey, entity: bytes) -> bytes:
    """multipart/signed (RFC 3156 section 5)."""
    signature = _gpg(key, "--armor", "--detach-sign", octets=entity).replace(b"\n", b"\r\n")
    second = b"Content-Type: application/pgp-signature; name=signature.asc\r\n\r\n" + signature
    return _multipart_signed(entity, second, b'protocol="application/pgp-signature"; micalg=pgp-sha512')


def openpgp_verified(key: OpenPGPKey, signed: bytes, place: Path) -> bytes:
    """The entity that was signed.  Raises BadSignatureError."""
    found = re.search(rb'boundary="([^"]+)"', signed)
    parts = re.split(rb"\r\n--" + re.escape(found[1]) + rb"(?:--)?\r\n", signed) if found else []
    if len(parts) != 4:
        raise BadSignatureError(f"not multipart/signed: {signed[:300]!r}")
    content, signature = place / "content", place / "content.asc"
    content.write_bytes(parts[1])
    signature.write_bytes(parts[2].partition(b"\r\n\r\n")[2])
    _gpg(key, "--verify", str(signature), str(content))
    return parts[1]


def openpgp_opaque(key: OpenPGPKey, text: bytes, *, clear: bool = False) -> bytes:
    """A text as one armoured message that is signed and not encrypted; ``clear`` leaves it readable."""
    armour = _gpg(key, "--armor", "--clear-sign" if clear else "--sign", octets=text)
    return b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + armour.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def openpgp_opaque_verified(key: OpenPGPKey, entity: bytes) -> bytes:
    """The text that was signed.  Raises BadSignatureError."""
    return _gpg(key, "--decrypt", octets=entity.partition(b"\r\n\r\n")[2])


def _multipart_signed(entity: bytes, second: bytes, parameters: bytes) -> bytes:
    line = b"\r\n--" + _BOUNDARY
    head = b"Content-Type: multipart/signed; " + parameters + b';\r\n\tboundary="' + _BOUNDARY + b'"\r\n'
    return head + line + b"\r\n" + entity + line + b"\r\n" + second + line + b"--\r\n"


def _base64(octets: bytes) -> bytes:
    return base64.encodebytes(octets).replace(b"\n", b"\r\n")


def _signer(key: SMIMEKey) -> list[str]:
    return ["-signer", str(key.certificate_file), "-inkey", str(key.key_file)]


def _openssl(*options: str, octets: bytes = b"") -> bytes:
    return _run([str(find_program("openssl")), "cms", *options], octets)


def _gpg(key: OpenPGPKey, *options: str, octets: bytes = b"") -> bytes:
    quietly = ["--batch", "--no-tty", "--quiet", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""]
    return _run([str(find_program("gpg")), "--homedir", str(key.home), *quietly, *options], octets)


def _run(command: list[str], octets: bytes) -> bytes:
    environment = program_environment(find_program(command[0]))
    result = subprocess.run(command, input=octets, env=environment, check=False, capture_output=True)
    if result.returncode != 0:
        raise BadSignatureError(f"{command[0]}: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout
