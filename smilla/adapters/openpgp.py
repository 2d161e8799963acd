"""Chooses the OpenPGP engine that the option openpgp.engine names.

Which version of the encrypted data?  RFC 9580 section 10.3.2.1 ties version 1 to session keys of version 3, and version
2 to those of version 6, whatever the keys.  Others: Sequoia writes version 2 where every certificate announces it, else
version 1, to version 6 keys also; gpg 2.2 writes version 1, gpg 2.4 an OCB packet of its own to who announces that.
What we do: version 2 to version 6 keys alone, since a version 4 key that announces it is often taken to a program that
does not read it; with seipd2 = "announced" as Sequoia; through gpg version 1 always, and its own packet never.  Nobody
is kept apart for it: gpg 2.2, RNP 0.16, sq and sqop open a message that is for a version 6 key, too, be it X448 or
ML-KEM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smilla.errors import EncryptionError, EngineMissing
from smilla.model import Reason
from smilla.model.style import Style

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from smilla.adapters.gnupg import GnuPGEngine
    from smilla.adapters.sequoia import SequoiaEngine
    from smilla.model import PGPKey
    from smilla.ports import OpenPGPEngine

ENGINES = ("auto", "sequoia", "gnupg")
# Past so many octets gpg is asked.  Sequoia would hold the GIL, and so all other messages of the worker, for 5 ms and
# more, and some five times the message in memory; gpg costs 5 ms to start, and is the faster from 2 MiB on.
THRESHOLD = 1024 * 1024


def engine(name: str, folder: str = "", *, hides: bool = False) -> OpenPGPEngine:
    """The engine of that name; "auto" is Sequoia where it is installed, with gpg beside it for large messages and for
    keys that only gpg can encrypt to, or else gpg.  ``folder`` is where ciphertext may be put down while gpg works, ""
    for the system's temporary one.  ``hides``: it must be able to hide recipients.  Raises EngineMissing, which says
    what to install."""
    if name == "sequoia":
        return _sequoia()
    if name == "gnupg":
        return _gnupg(folder)
    if name != "auto":
        raise EngineMissing(f"there is no OpenPGP engine {name!r}; there are {', '.join(ENGINES)}")
    return _auto(folder, hides=hides)


class NoEngine:
    """Where no source can name an OpenPGP key, none has to be installed."""

    name = "none"

    def fault(self, key: PGPKey) -> Reason | None:
        """Nothing is known of any key."""
        return None

    def only_by(self, key: PGPKey) -> str:
        """There is no other one."""
        return ""

    def encrypt(self, content: Iterable[bytes], size: int, keys: Sequence[PGPKey], style: Style) -> Iterator[bytes]:
        """Raises EncryptionError."""
        raise EncryptionError("no OpenPGP engine was asked for, since no source has OpenPGP keys")


def _sequoia() -> SequoiaEngine:
    try:
        from smilla.adapters.sequoia import SequoiaEngine  # noqa: PLC0415 - it need not be installed
    except ImportError as error:
        raise EngineMissing(f"pysequoia cannot be imported ({error}); pip install pysequoia") from error
    return SequoiaEngine()


def _gnupg(folder: str) -> GnuPGEngine:
    try:
        from smilla.adapters.gnupg import GnuPGEngine  # noqa: PLC0415 - it need not be installed
    except ImportError as error:
        raise EngineMissing(f"python-gnupg cannot be imported ({error}); pip install python-gnupg") from error
    return GnuPGEngine(folder=folder)


def _auto(folder: str, *, hides: bool) -> OpenPGPEngine:
    try:
        sequoia = _sequoia()
    except EngineMissing as no_sequoia:
        try:
            return _gnupg(folder)
        except EngineMissing as no_gnupg:
            raise EngineMissing(f"no OpenPGP engine: {no_sequoia}; {no_gnupg}") from no_gnupg
    try:
        return Either(sequoia, _gnupg(folder))
    except EngineMissing as no_gnupg:
        if hides:
            raise EngineMissing(f"openpgp.hidden_recipients needs gpg: {no_gnupg}") from no_gnupg
        return sequoia


class Either:
    """Sequoia for a letter; gpg, which holds nothing in memory, for a message of more than ``threshold`` octets; and
    whichever can for keys that the other cannot encrypt to."""

    name = "auto"

    def __init__(self, sequoia: SequoiaEngine, gnupg: GnuPGEngine, threshold: int = THRESHOLD) -> None:
        self._small, self._large, self._threshold = sequoia, gnupg, threshold

    def fault(self, key: PGPKey) -> Reason | None:
        """Why neither can encrypt to this key.  gpg, which is slow to start, is asked only where Sequoia cannot."""
        refused = self._small.fault(key)
        also_refused = self._large.fault(key) if refused else None
        return Reason(refused.code, f"{refused.text}; {also_refused.text}") if refused and also_refused else None

    def only_by(self, key: PGPKey) -> str:
        """gpg for what Sequoia refuses, Sequoia for what came with RFC 9580."""
        if self._small.fault(key) is not None:
            return self._large.name
        return "" if self._large.supports(key, Style()) else self._small.name

    def encrypt(self, content: Iterable[bytes], size: int, keys: Sequence[PGPKey], style: Style) -> Iterator[bytes]:
        """By the first engine that can encrypt to all ``keys``.  Raises EncryptionError."""
        small, large = (self._small, self._large), (self._large, self._small)
        for candidate in small if size <= self._threshold else large:
            if all(candidate.supports(key, style) and candidate.fault(key) is None for key in keys):
                return candidate.encrypt(content, size, keys, style)
        hidden = ", with hidden recipients, which gpg alone can do" if style.hidden_recipients else ""
        raise EncryptionError(f"no OpenPGP engine can encrypt to all of these keys at once{hidden}")
