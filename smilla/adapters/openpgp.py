"""Chooses the OpenPGP engine that the option openpgp.engine names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smilla.errors import EncryptionError, EngineMissing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from smilla.adapters.gnupg import GnuPGEngine
    from smilla.adapters.sequoia import SequoiaEngine
    from smilla.model import PGPKey
    from smilla.ports import OpenPGPEngine

ENGINES = ("auto", "sequoia", "gnupg")


def engine(name: str) -> OpenPGPEngine:
    """The engine of that name; "auto" is Sequoia where it is installed, with gpg beside it for keys that only gpg can
    encrypt to, or else gpg.  Raises EngineMissing, which says what to install."""
    if name == "sequoia":
        return _sequoia()
    if name == "gnupg":
        return _gnupg()
    if name != "auto":
        raise EngineMissing(f"there is no OpenPGP engine {name!r}; there are {', '.join(ENGINES)}")
    return _auto()


class NoEngine:
    """Where no source can name an OpenPGP key, none has to be installed."""

    name = "none"

    def encrypt(self, content: Iterable[bytes], keys: Sequence[PGPKey]) -> Iterator[bytes]:
        """Raises EncryptionError."""
        raise EncryptionError("no OpenPGP engine was asked for, since no source has OpenPGP keys")


def _sequoia() -> SequoiaEngine:
    try:
        from smilla.adapters.sequoia import SequoiaEngine  # noqa: PLC0415 - it need not be installed
    except ImportError as error:
        raise EngineMissing(f"pysequoia cannot be imported ({error}); pip install pysequoia") from error
    return SequoiaEngine()


def _gnupg() -> GnuPGEngine:
    try:
        from smilla.adapters.gnupg import GnuPGEngine  # noqa: PLC0415 - it need not be installed
    except ImportError as error:
        raise EngineMissing(f"python-gnupg cannot be imported ({error}); pip install python-gnupg") from error
    return GnuPGEngine()


def _auto() -> OpenPGPEngine:
    try:
        sequoia = _sequoia()
    except EngineMissing as no_sequoia:
        try:
            return _gnupg()
        except EngineMissing as no_gnupg:
            raise EngineMissing(f"no OpenPGP engine: {no_sequoia}; {no_gnupg}") from no_gnupg
    try:
        return _Either(sequoia, _gnupg())
    except EngineMissing:
        return sequoia


class _Either:
    """Sequoia, except for messages with a key that only gpg can encrypt to."""

    name = "auto"

    def __init__(self, sequoia: SequoiaEngine, gnupg: GnuPGEngine) -> None:
        self._engines = (sequoia, gnupg)

    def encrypt(self, content: Iterable[bytes], keys: Sequence[PGPKey]) -> Iterator[bytes]:
        """By the first engine that can encrypt to all ``keys``.  Raises EncryptionError."""
        for candidate in self._engines:
            if all(candidate.supports(key) for key in keys):
                return candidate.encrypt(content, keys)
        raise EncryptionError("no OpenPGP engine can encrypt to all of these keys at once")
