"""The directory source: files named after addresses, put there by the administrator.

``ADDRESS.crt``, ``.cer``, ``.der`` or ``.pem`` come before ``ADDRESS.asc``, ``.pgp`` or ``.gpg``.  Names are compared
like addresses: the domain without regard to case and in A-labels, the local part exactly.  If no file has the exact
local part, we look for its lower-case form (``keys.try_lowercase``), then for the part before its tag
(``keys.subaddress``).  Every key in a file is a candidate.
"""

from __future__ import annotations

from collections.abc import Iterator

from smilla.address import EmailAddress, parse
from smilla.errors import AddressError, SmillaError
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
PRIVATE = "holds a private key, which smilla never needs: move it to where only its owner can read it"
TOO_MANY = f"holds more than {key_file.MOST} keys, so none of them is used"
_PRIVATE_SUFFIXES = (".p12", ".pfx", ".key")
_MOST_READ = 5000  # files; in a larger folder the rest are not checked at each start


class CaseDiffersError(Exception):
    """The only file for an address has its local part in another case, and nothing says that these are one mailbox."""


class TooManyKeysError(Exception):
    """A file holds more keys than we read, so nobody can tell whether the right one is among them."""


def candidates(
    address: EmailAddress, folder: KeyFolder, *, try_lowercase: bool = False, subaddress: str = ""
) -> tuple[Candidate, ...]:
    """All keys in the files of this address, in the order of the files.  Raises SmillaError if one cannot be read,
    CaseDiffersError and TooManyKeysError."""
    differs = False
    for local in local_parts(address.local_part, subaddress):
        names = folder.names(f"{local.lower()}@{address.domain}")
        exact, lower = ([name for name in names if _local_part(name) == form] for form in (local, local.lower()))
        differs = differs or bool(names and not exact)
        chosen = exact or ((lower or names) if try_lowercase else [])
        if chosen:
            return tuple(found for name in sorted(chosen, key=_rank) for found in _in_file(name, folder))
    if differs:
        raise CaseDiffersError
    return ()


def local_parts(local_part: str, subaddress: str) -> tuple[str, ...]:
    """The local part, and the part before its tag, if it has one.  A local part that begins with the separator has no
    tag."""
    base = local_part.partition(subaddress)[0] if subaddress else local_part
    return (local_part, base) if base and base != local_part else (local_part,)


def address_of(file_name: str) -> EmailAddress | None:
    """Whose keys a file of this name holds, None if no address can ever have that name."""
    stem, dot, suffix = file_name.rpartition(".")
    if f"{dot}{suffix}".lower() not in SUFFIXES or stem.startswith("."):
        return None
    try:
        return parse(stem)
    except AddressError:
        return _quoted(stem)


def _quoted(stem: str) -> EmailAddress | None:
    """A file's name has no quotes around a local part with a blank, say."""
    local, at, domain = stem.rpartition("@")
    escaped = local.replace("\\", "\\\\").replace('"', '\\"')
    try:
        return parse(f'"{escaped}"@{domain}') if at and local else None
    except AddressError:
        return None


def problems(folder: KeyFolder) -> Iterator[tuple[str, str]]:
    """The files that no address can ever use and those that hold a private key: name and what is wrong.  Raises
    SmillaError if the folder cannot be read."""
    addresses: dict[str, str] = {}
    for number, name in enumerate(folder.all_names()):
        address = address_of(name)
        try:
            raw = folder.read(name) if number < _MOST_READ else b""
        except SmillaError as error:
            if is_private_by_name(name):
                yield name, f"by its name {PRIVATE}"
            elif address is not None:
                yield name, str(error)
            continue
        if raw is None:
            yield name, "links to a file that does not exist"
            continue
        contents = key_file.contents(raw, Format.SMIME)
        if contents.has_more:
            yield name, TOO_MANY
        if contents.has_private:
            yield name, PRIVATE
        if address is None:
            if not contents.has_private and _looks_like_a_key(name, raw):
                yield name, f"fits no address: name it ADDRESS{', ADDRESS'.join(SUFFIXES)}"
            continue
        if not set("@,;").isdisjoint(address.local_part):
            yield name, f"is for one mailbox, {address.local_part!r} in {address.domain}: write a file for each address"
        other = addresses.setdefault(f"{address.folded}{_rank(name)[0]}", name)
        if other != name:
            yield name, f"is for the same address as {other}, apart from upper and lower case"


def holds_private(folder: KeyFolder, name: str) -> bool:
    """Is there a private key in a file?  If it cannot be read, its name says so, or nobody can tell: False."""
    try:
        return key_file.contents(folder.read(name) or b"", Format.SMIME).has_private
    except SmillaError:
        return is_private_by_name(name)


def is_private_by_name(name: str) -> bool:
    """Do files with such a name hold private keys?"""
    return name.lower().endswith(_PRIVATE_SUFFIXES)


def _looks_like_a_key(name: str, raw: bytes) -> bool:
    """Not a README: its name or its first octets are those of a key."""
    suffix = f".{name.rpartition('.')[2]}".lower()
    return suffix in (*SUFFIXES, ".p7b", ".p7c", *_PRIVATE_SUFFIXES) or b"-----BEGIN " in raw or raw[:1] == b"\x30"


def _local_part(file_name: str) -> str:
    address = address_of(file_name)
    return address.local_part if address else ""


def _rank(file_name: str) -> tuple[int, str]:
    return _ORDER.index(f".{file_name.rpartition('.')[2]}".lower()), file_name


def _in_file(name: str, folder: KeyFolder) -> Iterator[Candidate]:
    """The keys in a file of the folder.  A dangling link is not absence: somebody put it there."""
    raw = folder.read(name)
    if raw is None:
        raise SmillaError(f"{name}: cannot be read: it links to a file that does not exist, or was just removed")
    contents = key_file.contents(raw, SUFFIXES[f".{name.rpartition('.')[2]}".lower()])
    if contents.has_more:
        raise TooManyKeysError(f"{name} {TOO_MANY}")
    for form, key in contents.keys:
        yield Candidate("directory", name, form, key)
