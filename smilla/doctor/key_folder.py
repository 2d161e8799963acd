"""What is in the folder of the directory source, and what there is useless or dangerous."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from smilla.config import Config
from smilla.doctor import private_file
from smilla.doctor.finding import Finding, Kind, fine, warning
from smilla.errors import SmillaError
from smilla.keys import lookup
from smilla.keys.discovery import directory
from smilla.ports import Ports


def problems(settings: Config, ports: Ports) -> Iterator[Finding]:
    """Nothing if that is no source."""
    if "directory" not in settings.keys.sources:
        return
    folder, now = settings.keys.directory, ports.clock.now()
    subject = f"keys {folder}"
    try:
        names = ports.folder.all_names()
        addresses = {str(found): found for found in map(directory.address_of, names) if found is not None}
        alone = replace(settings, keys=replace(settings.keys, sources=("directory",), trust=()))
        usable = 0
        for address in addresses.values():
            found = lookup.finish(lookup.begin(address, ports, alone), 0.0, now, ports)
            usable += found.key is not None
            if found.key is None:
                yield warning(Kind.KEY_FILE, f"{subject}: {address}", _why(str(address), found.reason.text, ports))
        text = f"{len(names)} files, {usable} of {len(addresses)} addresses with a usable key"
        yield fine(Kind.KEY_FOLDER, subject, text)
        for name, problem in directory.problems(ports.folder):
            is_private = directory.holds_private(ports.folder, name)
            kind = Kind.PRIVATE_KEY if is_private else Kind.KEY_FILE
            mend, why = private_file.mend(folder, name) if is_private else ("", "")
            yield warning(kind, f"{subject}/{name}", problem, mend, why)
    except SmillaError as unreadable:
        yield warning(Kind.KEY_FOLDER, "", f"keys {unreadable}")


def _why(address: str, text: str, ports: Ports) -> str:
    """A private key alone is no malformed certificate."""
    files = [name for name in ports.folder.all_names() if str(directory.address_of(name)) == address]
    if any(directory.holds_private(ports.folder, name) for name in files):
        return "no usable key is in its file, but a private key"
    return text
