"""Reads the service manager's unit file for smilla (systemd.unit(5)): as which user does it start the filter?"""

from __future__ import annotations

import grp
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from smilla.adapters.as_user import User

FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit that starts the filter with a certain configuration: its file, its User=, and the folders below /run
    that it makes."""

    path: str
    user: User
    run_folders: tuple[str, ...]


def has_systemd() -> bool:
    """Does systemd run this machine?"""
    return os.path.isdir("/run/systemd/system")  # noqa: PTH112 - as sd_booted(3) does


def unit_for(configuration: Path, usual: str, folders: Sequence[str] | None = None) -> Unit | None:
    """The installed unit that runs ``smilla milter`` with this configuration, None if there is none.  ``usual`` is the
    configuration of a command without --config."""
    folders = FOLDERS if folders is None else folders
    for path in _units(folders):
        settings = _settings(path, folders)
        if any(_starts(line, configuration, usual) for line in settings.get("ExecStart", ())):
            words = " ".join(settings.get("RuntimeDirectory", ())).split()
            further = [*settings.get("Group", ())[-1:], *" ".join(settings.get("SupplementaryGroups", ())).split()]
            numbers = tuple(_group_ids(further))
            user = User((settings.get("User") or [""])[-1], numbers)
            return Unit(str(path), user, tuple(f"/run/{word.partition(':')[0]}" for word in words))
    return None


def _units(folders: Sequence[str]) -> Iterator[Path]:
    seen: set[str] = set()
    for folder in folders:
        for path in sorted(Path(folder).glob("smilla*.service")):
            if path.name not in seen:
                seen.add(path.name)
                yield path


def _settings(path: Path, folders: Sequence[str]) -> dict[str, list[str]]:
    """The values of each key, drop-ins included; an empty value forgets those before it."""
    drop_ins = {
        found.name: found for folder in reversed(folders) for found in Path(folder, f"{path.name}.d").glob("*.conf")
    }
    found: dict[str, list[str]] = {}
    for file in (path, *(drop_ins[name] for name in sorted(drop_ins))):
        try:
            text = file.read_text("utf-8", "replace").replace("\\\n", " ")
        except OSError:
            continue
        for line in text.splitlines():
            key, equals, value = line.partition("=")
            if equals and not line.lstrip().startswith(("#", ";")):
                found[key.strip()] = [*found.get(key.strip(), []), value.strip()] if value.strip() else []
    return found


def _starts(line: str, configuration: Path, usual: str) -> bool:
    try:
        words = shlex.split(line)
    except ValueError:
        return False
    if "milter" not in words:
        return False
    named = [words[n + 1] for n, word in enumerate(words[:-1]) if word == "--config"]
    named += [word.partition("=")[2] for word in words if word.startswith("--config=")]
    return Path(named[-1] if named else usual).resolve() == configuration.resolve()


def _group_ids(names: Sequence[str]) -> Iterator[int]:
    for name in names:
        try:
            yield int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
        except KeyError:
            continue
