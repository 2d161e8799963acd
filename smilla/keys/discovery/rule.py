"""The source of a rule: the one file that the rule names, for every recipient whom it matches.

It is the administrator's word, as a file of the directory source is, and is read as such a file.  That it is not there
or cannot be read is no absence: somebody named it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from smilla.config.options import RULE
from smilla.errors import SmillaError
from smilla.formats import key_file
from smilla.keys.discovery import directory
from smilla.model import Candidate, Format

ReadKeyFile = Callable[[str], bytes | None]


def candidates(path: str, read: ReadKeyFile) -> tuple[Candidate, ...]:
    """All keys in the file.  Raises SmillaError if it cannot be read, directory.TooManyKeysError."""
    contents = _contents(path, read)
    if contents.has_more:
        raise directory.TooManyKeysError(f"{path} {directory.TOO_MANY}")
    return tuple(Candidate(RULE, path, form, raw) for form, raw in contents.keys)


def problems(path: str, read: ReadKeyFile) -> Iterator[str]:
    """What is wrong with the file as such; the gate judges the keys in it."""
    try:
        contents = _contents(path, read)
    except SmillaError as error:
        yield str(error).removeprefix(f"{path}: ")
        return
    if contents.has_private:
        yield directory.PRIVATE
    if contents.has_more:
        yield directory.TOO_MANY


def may_be_openpgp(path: str) -> bool:
    """May this file, by its name, hold an OpenPGP key?  Only a name of a certificate's file denies it."""
    return directory.SUFFIXES.get(Path(path).suffix.lower(), Format.OPENPGP) is Format.OPENPGP


def _contents(path: str, read: ReadKeyFile) -> key_file.Contents:
    """Raises SmillaError."""
    raw = read(path)
    if raw is None:
        raise SmillaError(f"{path}: there is no such file")
    return key_file.contents(raw, directory.SUFFIXES.get(Path(path).suffix.lower(), Format.SMIME))
