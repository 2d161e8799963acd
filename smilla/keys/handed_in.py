"""A key that somebody hands in for the folder of the directory source: which files it becomes, and what speaks against
it.

The gate judges the files alone, as the filter would, before one of them is written.  What is written is what was
judged: each certificate in PEM, each OpenPGP key armoured, and nothing of the text around them.  Pure: no I/O but what
the folder's port does.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from smilla.errors import AddressError, SmillaError
from smilla.formats import key_file
from smilla.formats.openpgp_write import armoured
from smilla.keys import lookup
from smilla.keys.discovery import directory
from smilla.keys.validity import whose
from smilla.model import Format, KeyLookup, Reason
from smilla.policy import rules
from smilla.value import value

if TYPE_CHECKING:
    from smilla.address import EmailAddress
    from smilla.config import Config
    from smilla.ports import KeyFolder, Ports

SUFFIX_OF = {Format.SMIME: ".crt", Format.OPENPGP: ".asc"}  # the first of each kind in the order of the folder
_LONGEST = 255  # octets of a file's name (NAME_MAX)
_LINE = 64  # RFC 7468 section 2
_NEVER_FORCED = ("secret_key", "too_many_candidates", "malformed")
_PRIVATE = Reason("secret_key", "it holds a private key, which nobody else should ever have: hand in the public part")
_MANY = Reason("too_many_candidates", f"it holds more than {key_file.MOST} keys")


@value
class HandedIn:
    """``files`` are the names and the content to write, ``stale`` the names of the address's earlier files of the same
    formats, which go.  ``found`` is the look-up in the new files alone, ``then`` that in the folder with them, and
    ``against`` what speaks against taking them."""

    address: EmailAddress
    files: tuple[tuple[str, bytes], ...]
    stale: tuple[str, ...]
    found: KeyLookup
    then: KeyLookup | None
    against: tuple[Reason, ...]

    @property
    def comes_first(self) -> bool:
        """Is this the key that mail to the address would be encrypted to, as far as the folder decides?"""
        key, other = self.found.key, self.then.key if self.then else None
        return key is not None and other is not None and key.fingerprint == other.fingerprint


def stem_of(address: EmailAddress) -> str:
    """The name of the address's files, without the suffix.  Raises AddressError if no file can have it."""
    escaped = address.local_part.replace("\\", "\\\\").replace('"', '\\"')
    for stem in (f"{address.local_part}@{address.domain}", f'"{escaped}"@{address.domain}'):
        suffixes = SUFFIX_OF.values()
        fits = "/" not in stem and all(len(f"{stem}{suffix}".encode()) <= _LONGEST for suffix in suffixes)
        named = directory.address_of(f"{stem}.crt") if fits else None
        if named is not None and (named.local_part, named.domain) == (address.local_part, address.domain):
            return stem
    raise AddressError(f"{address}: no file can have this name; write a [[rule]] with its key")


def files_of(address: EmailAddress, folder: KeyFolder, *formats: Format) -> tuple[str, ...]:
    """The names of the address's own files, of these formats or of all.  The local part is compared exactly.  Raises
    SmillaError."""
    found = []
    for name in folder.names(address.folded):
        named = directory.address_of(name)
        form = directory.SUFFIXES[f".{name.rpartition('.')[2]}".lower()]
        if named is not None and named.local_part == address.local_part and (not formats or form in formats):
            found.append(name)
    return tuple(found)


def examine(address: EmailAddress, raw: bytes, ports: Ports, config: Config, *, any_address: bool = False) -> HandedIn:
    """Judges the octets of a file.  ``any_address`` allows a key that names other addresses only.  Raises AddressError,
    or SmillaError if the folder cannot be read."""
    stem = stem_of(address)
    contents = key_file.contents(raw, Format.SMIME)
    keys = {form: [key for kind, key in contents.keys if kind is form] for form in Format}
    files = {f"{stem}{SUFFIX_OF[form]}": _written(form, those) for form, those in keys.items() if those}
    earlier = files_of(address, ports.folder, *(form for form, those in keys.items() if those))
    stale = tuple(name for name in earlier if name not in files)
    found = look_up(address, replace(ports, folder=_Folder(files)), config)
    against = list(_against(contents, found))
    if not any_address:
        against += _for_others(address, found)
    then = None if against else look_up(address, replace(ports, folder=_Folder(files, ports.folder, stale)), config)
    return HandedIn(address, tuple(files.items()), stale, found, then, tuple(against))


def look_up(address: EmailAddress, ports: Ports, config: Config) -> KeyLookup:
    """The look-up in the folder alone."""
    alone = replace(config, keys=replace(config.keys, sources=("directory",), trust=()))
    return lookup.finish(lookup.begin(address, ports, alone), 0.0, ports.clock.now(), ports)


def may_be_forced(reasons: Sequence[Reason]) -> bool:
    """May an administrator take the key all the same?"""
    return not any(reason.code in _NEVER_FORCED for reason in reasons)


def _written(form: Format, keys: Sequence[bytes]) -> bytes:
    if form is Format.OPENPGP:
        return b"".join(armoured("PGP PUBLIC KEY BLOCK", key) for key in keys)
    return b"".join(map(_pem, keys))


def _pem(raw: bytes) -> bytes:
    text = base64.b64encode(raw)
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    return b"\n".join((b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""))


def _against(contents: key_file.Contents, found: KeyLookup) -> Iterator[Reason]:
    if contents.has_private:
        yield _PRIVATE
    elif contents.has_more:
        yield _MANY
    elif found.key is None:
        yield Reason(found.reason.code, f"smilla cannot encrypt to it: {found.reason.text}")


def _for_others(address: EmailAddress, found: KeyLookup) -> Iterator[Reason]:
    """The key that would be used, or if none can be, every key, names others and not this address."""
    judged = [assessment for finding in found.findings for assessment in finding.assessments]
    used = [a for a in judged if found.key is not None and a.key == found.key] or judged
    if used and all(whose.named(a.candidate, address) == whose.ANOTHERS for a in used):
        yield Reason("other_address", f"it names other addresses, and not {address}")


def names_nobody(handed: HandedIn) -> bool:
    """Does the key that would be used name no address at all, so that only whoever handed it in vouches for it?"""
    judged = (assessment for finding in handed.found.findings for assessment in finding.assessments)
    used = [a for a in judged if handed.found.key is not None and a.key == handed.found.key]
    return bool(used) and all(whose.named(a.candidate, handed.address) == whose.NOBODYS for a in used)


def remarks(handed: HandedIn, config: Config) -> Iterator[tuple[str, str]]:
    """What the key will be used for, and what comes before it: severities and texts."""
    address, keys = handed.address, config.keys
    if "directory" not in keys.sources:
        yield "warning", '[keys] sources has no "directory": no file of the folder is used'
    for number, rule in rules.for_address(config.rule, address):
        if rule.key:
            when = "" if rules.is_unconditional(rule) else f" for mail that it matches ({rules.in_words(rule)})"
            yield "warning", f"rule {number} has a key of its own{when}, so this one is not used there"
    earlier = keys.sources[: keys.sources.index("directory")] if "directory" in keys.sources else ()
    if earlier:
        yield "hint", f"asked before the folder: {', '.join(earlier)}; a usable key there comes first"
    if handed.found.key is not None and not handed.comes_first and handed.then is not None:
        yield "hint", f"another key of the folder comes first: {handed.then.reason.text}"
    if names_nobody(handed):
        yield "hint", "the key names no address: that it is this one's is the word of whoever handed it in"
    is_local = rules.is_in(address.domain, config.local_domains)
    if config.mode == "outbound" and is_local:
        yield "hint", f'mode = "outbound", and {address.domain} is in local_domains: only a rule or a wish asks for it'
    if config.mode == "inbound" and not is_local:
        yield "hint", f'mode = "inbound", and {address.domain} is not in local_domains: only a rule asks for it'


class _Folder:
    """New files, before the rest of a folder less its stale files."""

    def __init__(self, files: Mapping[str, bytes], rest: KeyFolder | None = None, stale: Sequence[str] = ()) -> None:
        self._files, self._rest, self._gone = files, rest, {*stale, *files}

    def names(self, folded: str) -> Sequence[str]:
        """See ports.KeyFolder."""
        own = [name for name in self._files if (named := directory.address_of(name)) and named.folded == folded]
        others = self._rest.names(folded) if self._rest else ()
        return [*own, *(name for name in others if name not in self._gone)]

    def all_names(self) -> Sequence[str]:
        """See ports.KeyFolder."""
        raise SmillaError("nobody lists a folder that is not there yet")

    def read(self, name: str) -> bytes | None:
        """See ports.KeyFolder."""
        if name in self._files:
            return self._files[name]
        return self._rest.read(name) if self._rest else None


def listed(ports: Ports, config: Config) -> Iterator[tuple[EmailAddress, tuple[str, ...], KeyLookup]]:
    """Each address of the folder with its files and what they say.  Raises SmillaError."""
    addresses: dict[tuple[str, str], EmailAddress] = {}
    for name in ports.folder.all_names():
        if (address := directory.address_of(name)) is not None:
            addresses.setdefault((address.local_part, address.domain), address)
    for address in addresses.values():
        yield address, files_of(address, ports.folder), look_up(address, ports, config)
