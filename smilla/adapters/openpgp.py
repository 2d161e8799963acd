"""Chooses the OpenPGP engine that the option openpgp.engine names.

Which version of encrypted data?  RFC 9580 section 10.3.2.1 ties version 1 to session keys of version 3, and version 2
to those of version 6, whatever the keys.  What others do: Sequoia writes version 2 if every certificate announces it,
otherwise version 1, even to version 6 keys.  gpg 2.2 writes version 1; gpg 2.4 writes its own OCB packet to keys that
announce it.  What we do: version 2 to version 6 keys only, because people often move a version 4 key that announces it
to a program that cannot read it.  With seipd2 = "announced" we do as Sequoia.  Through gpg always version 1, never its
own packet.  Recipients need not be separated for this: gpg 2.2, RNP 0.16, sq and sqop open a message that is also
encrypted to a version 6 key, even X448 or ML-KEM.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from smilla.config.options import FORMATS_OF
from smilla.errors import EncryptionError, EngineMissing
from smilla.model import Reason, Style

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from smilla.adapters.gnupg import GnuPGEngine
    from smilla.adapters.sequoia import SequoiaEngine
    from smilla.model import PGPKey
    from smilla.ports import OpenPGPEngine

ENGINES = ("auto", "sequoia", "gnupg")
# Larger messages go to gpg.  Sequoia would hold the GIL, and so all other messages of the worker, for 5 ms and more,
# and use some five times the message's size in memory.  gpg takes 5 ms to start, and is faster from 2 MiB on.
THRESHOLD = 1024 * 1024
_NOT_ASKED_FOR = "no OpenPGP engine was asked for, since no source and no rule has OpenPGP keys, by its name"
_DEFAULT = ("smimea", "openpgpkey")


def engine(name: str, folder: str = "", *, hides: bool = False, sources: Sequence[str] = _DEFAULT) -> OpenPGPEngine:
    """The engine of that name.  "auto" is Sequoia if installed, with gpg for large messages and for keys that only gpg
    can encrypt to; otherwise gpg alone.  ``folder`` holds ciphertext while gpg works; "" means the system's
    temporary folder.  ``hides``: the engine must be able to hide recipients.  ``sources`` are those of [keys], for the
    way out.  Raises EngineMissing, which names the option, what to install, and what to write instead."""
    try:
        if name == "sequoia":
            return _sequoia()
        if name == "gnupg":
            return _gnupg(folder)
    except EngineMissing as missing:
        told = f'[openpgp] engine = "{name}" cannot be had: {missing}'
        raise EngineMissing(f"{told}; or {_instead(name, folder, sources, hides=hides)}") from missing
    if name != "auto":
        raise EngineMissing(f"there is no OpenPGP engine {name!r}; there are {', '.join(ENGINES)}")
    return _auto(folder, sources, hides=hides)


class NoEngine:
    """Stands in if nothing names OpenPGP keys, so that no engine need be installed."""

    name = "none"

    def fault(self, key: PGPKey) -> Reason | None:
        """Takes no key: one may be in the file of a rule whose name says that it is a certificate."""
        return Reason("engine_refuses", _NOT_ASKED_FOR)

    def only_by(self, key: PGPKey) -> str:
        """There is no other engine."""
        return ""

    def encrypt(self, content: Iterable[bytes], size: int, keys: Sequence[PGPKey], style: Style) -> Iterator[bytes]:
        """Always raises EncryptionError."""
        raise EncryptionError(_NOT_ASKED_FOR)


def _sequoia() -> SequoiaEngine:
    try:
        from smilla.adapters.sequoia import SequoiaEngine  # noqa: PLC0415 - it need not be installed
    except ImportError as error:
        raise EngineMissing(
            f"pysequoia cannot be imported ({error}); pip install pysequoia (the Debian package has it)"
        ) from error
    return SequoiaEngine()


def _gnupg(folder: str) -> GnuPGEngine:
    try:
        from smilla.adapters.gnupg import GnuPGEngine  # noqa: PLC0415 - it need not be installed
    except ImportError as error:
        raise EngineMissing(
            f"python-gnupg cannot be imported ({error}); pip install python-gnupg (the Debian package has it)"
        ) from error
    return GnuPGEngine(folder=folder)


def _without(sources: Sequence[str]) -> str:
    """What to write to do without OpenPGP.  A folder may have keys of both formats, so it needs an engine."""
    left = [name for name in sources if "openpgp" not in FORMATS_OF[name]]
    line = f"in [keys], sources = {json.dumps(left or ['smimea'])}"
    if "directory" not in sources:
        return f"leave OpenPGP out: {line}"
    why = "a folder has keys of both formats, so an engine is needed as long as it is a source"
    return f"give up the folder and OpenPGP, so that S/MIME from DNS alone is left: {line} ({why})"


def _instead(name: str, folder: str, sources: Sequence[str], *, hides: bool) -> str:
    """The way out that installs nothing: the other engine, if that is here."""
    other = "gnupg" if name == "sequoia" else "sequoia"
    try:
        if hides and other == "sequoia":  # gpg alone can do that
            return _without(sources)
        _gnupg(folder) if other == "gnupg" else _sequoia()
    except EngineMissing:
        return _without(sources)
    return f'write engine = "{other}", which is here'


def _auto(folder: str, sources: Sequence[str], *, hides: bool) -> OpenPGPEngine:
    try:
        sequoia = _sequoia()
    except EngineMissing as no_sequoia:
        try:
            return _gnupg(folder)
        except EngineMissing as no_gnupg:
            told = f'no OpenPGP engine, and [openpgp] engine = "auto" needs one of two: {no_sequoia}; {no_gnupg}'
            raise EngineMissing(f"{told}; or {_without(sources)}") from no_gnupg
    try:
        return Either(sequoia, _gnupg(folder))
    except EngineMissing as no_gnupg:
        if hides:
            told = f"openpgp.hidden_recipients needs gpg: {no_gnupg}"
            raise EngineMissing(f"{told}; or take it out of [openpgp] and of the rules") from no_gnupg
        return sequoia


class Either:
    """Sequoia for small messages; gpg, which keeps nothing in memory, for more than ``threshold`` octets.  If only one
    engine can encrypt to a key, that one."""

    name = "auto"

    def __init__(self, sequoia: SequoiaEngine, gnupg: GnuPGEngine, threshold: int = THRESHOLD) -> None:
        self._small, self._large, self._threshold = sequoia, gnupg, threshold

    def fault(self, key: PGPKey) -> Reason | None:
        """Why neither can encrypt to this key.  Asks gpg only if Sequoia cannot, since gpg is slow to start."""
        refused = self._small.fault(key)
        also_refused = self._large.fault(key) if refused else None
        return Reason(refused.code, f"{refused.text}; {also_refused.text}") if refused and also_refused else None

    def only_by(self, key: PGPKey) -> str:
        """gpg for what Sequoia refuses, Sequoia for what RFC 9580 introduced."""
        if self._small.fault(key) is not None:
            return self._large.name
        return "" if self._large.supports(key, Style()) else self._small.name

    def encrypt(self, content: Iterable[bytes], size: int, keys: Sequence[PGPKey], style: Style) -> Iterator[bytes]:
        """Uses the first engine that can encrypt to all ``keys``.  Raises EncryptionError."""
        small, large = (self._small, self._large), (self._large, self._small)
        for candidate in small if size <= self._threshold else large:
            if all(candidate.supports(key, style) and candidate.fault(key) is None for key in keys):
                return candidate.encrypt(content, size, keys, style)
        hidden = ", with hidden recipients, which gpg alone can do" if style.hidden_recipients else ""
        raise EncryptionError(f"no OpenPGP engine can encrypt to all of these keys at once{hidden}")
