"""The directory source: files named after addresses, put there by the administrator.

``ADDRESS.crt`` or ``ADDRESS.pem`` before ``ADDRESS.asc`` or ``ADDRESS.pgp``.  The address is tried as it was given
(domain in A-labels) and with its local part in lower case.
"""

from __future__ import annotations

from smilla.address import EmailAddress
from smilla.model import Candidate, Format
from smilla.ports import KeyFolder

_SUFFIXES = ((".crt", Format.SMIME), (".pem", Format.SMIME), (".asc", Format.OPENPGP), (".pgp", Format.OPENPGP))


def candidates(address: EmailAddress, folder: KeyFolder) -> tuple[Candidate, ...]:
    """The files that are there, in order of preference.  Raises SmillaError where one cannot be read."""
    found: list[Candidate] = []
    for name in dict.fromkeys((address.local_part, address.local_part.lower())):
        if not _is_file_name(name):
            continue
        for suffix, form in _SUFFIXES:
            file_name = f"{name}@{address.domain}{suffix}"
            raw = folder.read(file_name)
            if raw is not None:
                found.append(Candidate("directory", file_name, form, raw))
        if found:
            break
    return tuple(found)


def _is_file_name(local_part: str) -> bool:
    """A local part may be any text; a slash or a leading dot would lead out of the folder or to a hidden file."""
    return "/" not in local_part and "\0" not in local_part and not local_part.startswith(".")
