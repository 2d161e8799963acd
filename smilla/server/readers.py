"""Reads the keys that [[decrypt_rule]] names: the one place that chooses what opens OpenPGP messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smilla.adapters import private_file
from smilla.adapters.html_cleaner import HTMLCleaner
from smilla.decrypt import harmless, held_key
from smilla.decrypt.several import Several
from smilla.decrypting import Reader
from smilla.errors import ConfigError, EngineMissing, FileProblem, ParseError
from smilla.formats import key_file
from smilla.model import Format

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smilla.config import Config
    from smilla.config.options import DecryptRule
    from smilla.decrypt.held_key import HeldKey
    from smilla.ports import OpenPGPReader


def readers(config: Config) -> tuple[Reader, ...]:
    """One for each rule.  Raises ConfigError, with every file that cannot be used, or EngineMissing."""
    found, faults = [], list[str]()
    if not config.decrypt_rule:
        faults.append("there is no [[decrypt_rule]], so nothing would ever be decrypted")
    cleaner(config)
    for number, rule in enumerate(config.decrypt_rule, 1):
        try:
            found.append(_reader(rule, config.decrypt.max_mib << 20))
        except FileProblem as problem:
            faults.append(f"decrypt_rule {number}: {problem}")
    if faults:
        raise ConfigError(faults)
    return tuple(found)


def _reader(rule: DecryptRule, most_octets: int) -> Reader:
    password = private_file.password(rule.password_file)
    keys: list[HeldKey] = []
    openers: list[OpenPGPReader] = []
    for path in rule.key_files:
        raw = private_file.read(path)
        try:
            if _is_openpgp(raw):
                openers.append(_in_file(raw, password, most_octets))
            else:
                keys += held_key.read(raw, password)
        except ParseError as error:
            raise FileProblem(f"{path}: {error}") from error
    if rule.gnupg_home:
        openers.append(_by_gpg(rule.gnupg_home, rule.fingerprints, most_octets))
    return Reader(rule.recipient, tuple(keys), Several(openers) if openers else None)


def cleaner(config: Config) -> Callable[[], Callable[[str], str | None]] | None:
    """What cleans the HTML of a message, if [decrypt] html asks for it.  Raises EngineMissing."""
    return HTMLCleaner().of_a_message if config.decrypt.html == harmless.STRIP else None


def detached() -> Callable[[bytes, bytes, Sequence[bytes]], tuple[str, str]] | None:
    """What checks an OpenPGP signature beside its content, None if nothing here can."""
    try:
        from smilla.adapters import sequoia  # noqa: PLC0415 - it need not be installed
    except ImportError:
        return None
    return sequoia.detached


def _is_openpgp(raw: bytes) -> bool:
    return any(form is Format.OPENPGP for form, _ in key_file.contents(raw, Format.SMIME).keys)


def _in_file(raw: bytes, password: bytes | None, most_octets: int) -> OpenPGPReader:
    try:
        from smilla.adapters.sequoia_open import SequoiaOpener  # noqa: PLC0415 - it need not be installed
    except ImportError as error:
        raise EngineMissing(
            "a file of OpenPGP keys needs pysequoia (pip install pysequoia; the Debian package has it), or import it "
            "into a gpg and name its gnupg_home"
        ) from error
    text = None if password is None else password.decode("utf-8", "surrogateescape")
    return SequoiaOpener(raw, text, most_octets=most_octets)


def _by_gpg(home: str, fingerprints: Sequence[str], most_octets: int) -> OpenPGPReader:
    from smilla.adapters.gnupg_open import GnuPGOpener  # noqa: PLC0415 - it need not be installed

    return GnuPGOpener(home, fingerprints, most_octets=most_octets)
