"""Private keys in the folder of public keys: what each file is, and the line that takes it away from there."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from smilla.adapters.folder import KeyDirectory
from smilla.errors import ParseError, SmillaError
from smilla.formats import der, key_file
from smilla.keys.discovery import directory
from smilla.model import Format

_AWAY = "/root"  # a folder that nobody but root may enter, on every machine
_PFX_VERSION = b"\x02\x01\x03"  # RFC 7292 section 4; PKCS #8, RSA and EC keys have other versions
_OPENPGP = "a secret OpenPGP key"
_PUBLIC: Mapping[str, str] = {  # what takes the public part out of it
    "PKCS #12": "openssl pkcs12 -in {file} -clcerts -nokeys -out {public}",
    "PEM with a certificate": "openssl x509 -in {file} -out {public}",
    _OPENPGP: "gpg --export ADDRESS > {public} (gpg --show-keys {file} names it)",
}


def kind_of(name: str, raw: bytes) -> str:
    """What sort of private key a file is, "" if that does not matter."""
    found = key_file.contents(raw, Format.SMIME)
    with suppress(ParseError):
        if raw[:1] == b"\x30" and next(iter(der.read(raw).children())).whole == _PFX_VERSION:
            return "PKCS #12"
    if any(form is Format.OPENPGP for form, _ in found.keys):
        return _OPENPGP
    if b"CERTIFICATE-----" in raw:
        return "PEM with a certificate"
    return "PKCS #12" if not raw and name.lower().endswith((".p12", ".pfx")) else ""


def mend(folder: str, name: str, public: str = "") -> tuple[str, str]:
    """The line that moves it away, and what leaves its public part in the file ``public``, in words (an address of the
    folder is to be chosen if that is ""); "" if it holds no private key."""
    files = KeyDirectory(folder, directory.address_of)
    if not directory.holds_private(files, name):
        return "", ""
    raw = b""
    with suppress(SmillaError):
        raw = files.read(name) or b""
    moved = f"{_AWAY}/{name}"
    line = f"mv {shlex.quote(str(Path(folder) / name))} {_AWAY}/ && chmod 600 {shlex.quote(moved)}"
    kind = kind_of(name, raw)
    place = public or f"{folder}/ADDRESS.{'gpg' if kind == _OPENPGP else 'crt'}"
    told = _PUBLIC.get(kind, "").format(file=shlex.quote(moved), public=shlex.quote(place))
    return line, f"once moved, it gives its public part: {told}" if told else ""
