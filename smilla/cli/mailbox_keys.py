"""The private keys that ``smilla mailbox decrypt`` is given: files, and gpg's agent."""

from __future__ import annotations

import argparse
import getpass
import importlib
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from smilla.adapters.gnupg_open import GnuPGOpener
from smilla.cli import UsageError
from smilla.cli.material import read_password
from smilla.decrypt import held_key
from smilla.decrypt.held_key import HeldKey
from smilla.errors import EngineMissing, ParseError
from smilla.mailbox.decrypting import Decryptor
from smilla.ports import OpenPGPOpener

Keys = TypeVar("Keys")

_ARMOUR = b"-----BEGIN PGP "
_MOST = 4 << 20  # octets of a file with keys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The keys."""
    parser.add_argument(
        "--key",
        metavar="FILE",
        action="append",
        default=[],
        help="a private key with its certificate (PKCS #12, PEM), or an OpenPGP secret key; may be repeated",
    )
    parser.add_argument("--key-password-file", metavar="FILE", help="a file whose first line is the keys' password")
    parser.add_argument("--gpg", action="store_true", help="use the OpenPGP keys of this user's gpg and its agent")
    parser.add_argument("--gpg-home", metavar="DIR", default="", help="with --gpg: its folder, if not the usual one")


def decryptor(options: argparse.Namespace) -> Decryptor:
    """With all keys.  Raises UsageError or EngineMissing."""
    if not options.key and not options.gpg:
        raise UsageError("give --key FILE, or --gpg")
    if options.gpg_home and not options.gpg:
        raise UsageError("--gpg-home goes with --gpg")
    held: list[HeldKey] = []
    openers: list[OpenPGPOpener] = []
    for name in options.key:
        raw = _read(name)
        if _is_openpgp(raw):
            openers.append(_with_password(name, options, partial(_opener, raw)))
        else:
            held += _with_password(name, options, partial(held_key.read, raw))
    if options.gpg:
        openers.append(GnuPGOpener(options.gpg_home))
    return Decryptor(held, openers)


def _is_openpgp(raw: bytes) -> bool:
    """Armour, or a packet header (RFC 9580 section 4.2); PKCS #12 is a SEQUENCE, and PEM is text."""
    return _ARMOUR in raw[:4096] or (raw[:1] >= b"\x80" and not raw.startswith(b"\xef\xbb\xbf"))


def _opener(raw: bytes, password: bytes | None) -> OpenPGPOpener:
    if find_spec("pysequoia") is None:
        raise EngineMissing("a file with an OpenPGP key needs pysequoia; or import the key into gpg, and give --gpg")
    sequoia_open = importlib.import_module("smilla.adapters.sequoia_open")
    text = password.decode("utf-8", "surrogateescape") if password is not None else None
    found: OpenPGPOpener = sequoia_open.SequoiaOpener(raw, text)
    return found


def _with_password(name: str, options: argparse.Namespace, read: Callable[[bytes | None], Keys]) -> Keys:
    """What ``read`` makes of the file: without a password, with the one of the file, or with one that is typed in."""
    try:
        return read(None)
    except ParseError as error:
        password = _password(name, options)
        if password is None:
            raise UsageError(f"{name}: {error}") from error
    try:
        return read(password)
    except ParseError as error:
        raise UsageError(f"{name}: {error}") from error


def _password(name: str, options: argparse.Namespace) -> bytes | None:
    if options.key_password_file:
        return read_password(options.key_password_file)
    return getpass.getpass(f"Password of {name}: ").encode() if sys.stdin.isatty() else None


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            raw = file.read(_MOST + 1)
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from error
    if len(raw) > _MOST:
        raise UsageError(f"{name}: has more than {_MOST} octets")
    return raw
