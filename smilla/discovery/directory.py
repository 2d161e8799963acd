"""The directory source: files named after addresses, put there by the administrator.

``ADDRESS.crt``, ``.cer``, ``.der`` or ``.pem`` before ``ADDRESS.asc``, ``.pgp`` or ``.gpg``.  A name is compared as an
address is: the domain without regard to case and in A-labels, the local part exactly.  Where no file has the exact
local part, its lower-case form (``keys.try_lowercase``) and then what stands before its tag (``keys.subaddress``) are
looked for.  All that is in a file is a candidate.
"""

from __future__ import annotations

from collections.abc import Iterator

from smilla.address import EmailAddress, parse
from smilla.errors import AddressError
from smilla.formats import key_file
from smilla.model import Candidate, Format
from smilla.ports import KeyFolder

SUFFIXES = {
    ".crt": Format.SMIME,
    ".cer": Format.SMIME,
    ".der": Format.SMIME,
    ".pem": Format.SMIME,
    ".asc": Format.OPENPGP,
    ".pgp": Format.OPENPGP,
    ".gpg": Format.OPENPGP,
}
_ORDER = list(SUFFIXES)


class CaseDiffersError(Exception):
    """The only file for an address has its local part in another case, and nobody said that these are one mailbox."""


def candidates(
    address: EmailAddress, folder: KeyFolder, *, try_lowercase: bool = False, subaddress: str = ""
) -> tuple[Candidate, ...]:
    """All that stands in the files of this address, in the order of the files.  Raises SmillaError where one cannot be
    read, and CaseDiffersError."""
    differs = False
    for local in local_parts(address.local_part, subaddress):
        names = folder.names(f"{local.lower()}@{address.domain}")
        exact = [name for name in names if _local_part(name) == local]
        differs = differs or bool(names and not exact)
        chosen = exact or (names if try_lowercase else [])
        if chosen:
            return tuple(found for name in sorted(chosen, key=_rank) for found in _in_file(name, folder))
    if differs:
        raise CaseDiffersError
    return ()


def local_parts(local_part: str, subaddress: str) -> tuple[str, ...]:
    """The local part, and what stands before its tag where it has one; one that begins with the separator has none."""
    base = local_part.partition(subaddress)[0] if subaddress else local_part
    return (local_part, base) if base and base != local_part else (local_part,)


def address_of(file_name: str) -> EmailAddress | None:
    """Whose keys a file of this name holds, None where no address can ever have that name."""
    stem, dot, suffix = file_name.rpartition(".")
    if f"{dot}{suffix}".lower() not in SUFFIXES or stem.startswith("."):
        return None
    try:
        return parse(stem)
    except AddressError:
        return _quoted(stem)


def _quoted(stem: str) -> EmailAddress | None:
    """A local part with a blank, say, stands in a file's name without quotes."""
    local, at, domain = stem.rpartition("@")
    escaped = local.replace("\\", "\\\\").replace('"', '\\"')
    try:
        return parse(f'"{escaped}"@{domain}') if at and local else None
    except AddressError:
        return None


def _local_part(file_name: str) -> str:
    found = address_of(file_name)
    return found.local_part if found else ""


def _rank(file_name: str) -> tuple[int, str]:
    return _ORDER.index(f".{file_name.rpartition('.')[2]}".lower()), file_name


def _in_file(name: str, folder: KeyFolder) -> Iterator[Candidate]:
    raw = folder.read(name)
    if raw is not None:
        expected = SUFFIXES[f".{name.rpartition('.')[2]}".lower()]
        for form, key in key_file.contents(raw, expected).keys:
            yield Candidate("directory", name, form, key)
