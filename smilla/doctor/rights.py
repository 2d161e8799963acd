"""May the filter's user read and write what it must?  Tested as that user, since root may do everything.

The user is [milter] user, else the User= of the installed unit that runs this configuration, else the owner of the
folder of the journal.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from smilla.adapters import as_user, unit_file
from smilla.adapters.as_user import User, Wish
from smilla.adapters.seal_keys import SealKeys
from smilla.config import DEFAULT_PATH, Config
from smilla.doctor import private_file
from smilla.doctor.finding import Finding, Kind, error, fine, hint
from smilla.errors import SmillaError
from smilla.keys.discovery import directory

_MOST_FILES, _MOST_NAMED = 5000, 3
_READ, _ENTER, _KEEP = os.R_OK, os.R_OK | os.X_OK, os.R_OK | os.W_OK | os.X_OK
_OFF = "whoever writes it can turn encryption off at the next reload"
_DONE = {_READ: "read", _ENTER: "list", _KEEP: "write in", os.R_OK | os.W_OK: "read and write"}


@dataclass(frozen=True, slots=True)
class Service:
    """How the filter is started: as which user, and whether root opens its sockets first ([milter] user)."""

    user: User
    drops_rights: bool
    run_folders: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True, slots=True)
class _Need:
    subject: str
    wish: Wish
    is_state: bool  # the filter's own, which it writes; otherwise the administrator's, which it reads
    why: str
    is_key: bool = False  # a file in the folder of keys, where private keys do not belong


def service_of(config: Config, configuration: Path) -> Service:
    """Who runs the filter with this configuration."""
    unit = unit_file.unit_for(configuration, DEFAULT_PATH)
    if config.milter.user:
        return Service(User(config.milter.user), drops_rights=True)
    if unit is not None and unit.user.name:
        return Service(unit.user, drops_rights=False, run_folders=unit.run_folders, unit=unit.path)
    folder = Path(config.reinject.spool)
    try:
        return Service(User(as_user.name_of(folder.stat().st_uid)), drops_rights=False)
    except OSError:
        return Service(User(as_user.name_of(os.geteuid())), drops_rights=False)


def problems(config: Config, configuration: Path, service: Service) -> Iterator[Finding]:
    """What the user may not do, with the part of the path at fault and the line that mends it."""
    yield from _judged(service, [*_needs(config, configuration, service)])


def as_whom(configuration: Path, service: Service) -> Iterator[Finding]:
    """Who is not root hears as whom all was tried, and how to try the rest."""
    me, user = as_user.name_of(os.geteuid()), service.user.name
    if os.geteuid() != 0:
        others = "Postfix's user" if me == user else f"{user}, whose filter it is, nor as Postfix's user"
        what = f"it ran as {me}: files, sockets and the resolver were tried as {me}, and nothing as {others}"
        yield hint(
            Kind.ASKS, "this check", what, f"for the rest: sudo smilla config check --probe --config {configuration}"
        )


def writable_by_all(configuration: Path) -> Iterator[Finding]:
    """Whoever may write the configuration can turn encryption off."""
    with suppress(OSError):
        if configuration.stat().st_mode & stat.S_IWOTH:
            mend = f"chmod o-w {configuration}"
            yield error(Kind.RIGHTS_TOO_WIDE, f"configuration {configuration}", "everybody may write it", mend, _OFF)


def of_key_files(config: Config, configuration: Path, paths: Sequence[str]) -> Iterator[Finding]:
    """Which of these the filter's user may not read, though whoever asks may."""
    why = "it cannot tell whether there is a key, so mail to this address is deferred"
    needs = [_Need(f"keys {config.keys.directory}", Wish(path, _READ), False, why, is_key=True) for path in paths]
    yield from (found for found in _judged(service_of(config, configuration), needs) if found.severity == "error")


def _judged(service: Service, needs: Sequence[_Need]) -> Iterator[Finding]:
    user = service.user
    if user.name == "root":
        return
    try:
        group = user.group
        denied = as_user.denials(user, [need.wish for need in needs])
    except KeyError:
        what = f"this machine has no user {user.name}"
        yield error(Kind.RIGHTS, service.unit or "smilla's user", what, f"useradd --system {user.name}")
        return
    except (SmillaError, OSError) as unclear:
        yield hint(Kind.ASKS, "rights", f"not tested as {user.name}, whose filter it is: {unclear}")
        return
    found: dict[tuple[str, str], list[_Need]] = {}
    for need, place in zip(needs, denied, strict=True):
        if place == need.wish.path:
            found.setdefault(("", need.subject), []).append(need)
        elif place:
            found.setdefault((place, ""), []).append(need)
    states = {need.wish.path for need in needs if need.is_state}
    for (place, _), those in found.items():
        yield from _kept_out(user.name, group, place, those, states) if place else _each(user.name, group, those)
    if not found:
        yield fine(Kind.RIGHTS, "rights", f"{user.name} may read and write what the filter needs")


def _kept_out(user: str, group: str, place: str, needs: list[_Need], states: set[str]) -> Iterator[Finding]:
    """One finding for a folder on the way, whatever lies behind it."""
    first = needs[0]
    said = [f"{_DONE[need.wish.mode]} {need.wish.path}" for need in needs]
    more = f" (and {len(said) - _MOST_NAMED} more)" if len(said) > _MOST_NAMED else ""
    what = f"{user} may not {' or '.join(said[:_MOST_NAMED])}{more}, because {_shown(place)} keeps it out"
    mend = f"chown -R {user} {place}" if place in states else _mend(first, place, user, group)
    yield error(Kind.RIGHTS, first.subject, what, mend, first.why)


def _each(user: str, group: str, needs: list[_Need]) -> Iterator[Finding]:
    more = f" (and {len(needs) - _MOST_NAMED} more)" if len(needs) > _MOST_NAMED else ""
    for need in needs[:_MOST_NAMED]:
        what = f"{user} may not {_DONE[need.wish.mode]} {_shown(need.wish.path)}{more}"
        yield error(Kind.RIGHTS, need.subject, what, _mend(need, need.wish.path, user, group), need.why)


def _shown(place: str) -> str:
    try:
        found = Path(place).stat()
    except OSError:
        return place
    return f"{place} ({as_user.name_of(found.st_uid)}:{as_user.group_of(found.st_gid)} {found.st_mode & 0o7777:04o})"


def _mend(need: _Need, place: str, user: str, group: str) -> str:
    path = Path(need.wish.path)
    if need.is_key and place == need.wish.path and (away := private_file.mend(str(path.parent), path.name)):
        return away
    if need.is_state and place == need.wish.path:
        return f"chown -R {user} {place}" if path.is_dir() else f"chown {user} {place}"
    if Path(place) not in (path, path.parent):
        return f"chmod o+x {place}"
    return f"chgrp {group} {place} && chmod g+r{'x' if Path(place).is_dir() else ''} {place}"


def _needs(config: Config, configuration: Path, service: Service) -> Iterator[_Need]:
    when = "smilla reads it again at each reload" if service.drops_rights else "without it smilla does not start"
    yield _Need(f"configuration {configuration}", Wish(str(configuration.absolute()), _READ), False, when)
    if "directory" in config.keys.sources:
        yield from _of_keys(config.keys.directory)
    anchor = config.dns.trust_anchor if config.dns.dnssec == "validate" else ""
    for path in filter(None, (config.smime.ca_file, config.smime.crl_file, anchor)):
        yield _Need(f"file {path}", Wish(path, _READ), False, when)
    yield from _state(f"spool {config.spool.folder}", config.spool.folder, "mail with a large body is deferred")
    has_keys = SealKeys(config.stage.keys).exist()
    if config.may_split or has_keys:
        why = "mail for several recipients is deferred"
        yield from _state(f"journal {config.reinject.spool}", config.reinject.spool, why, has_files=True)
    if config.may_seal or has_keys:
        why = "messages cannot be sealed or opened"
        yield from _state(f"seal keys {config.stage.keys}", config.stage.keys, why, has_files=True)
    if not service.drops_rights:
        for name in dict.fromkeys((config.milter.socket, config.stage.socket if config.may_seal else "")):
            kind, _, path = name.partition(":")
            if kind in ("unix", "local"):
                yield from _state(f"socket {name}", str(Path(path).parent), "smilla makes its socket there")


def _of_keys(folder: str) -> Iterator[_Need]:
    why = "smilla cannot tell whether there is a key, so mail to everybody is deferred"
    yield _Need(f"keys {folder}", Wish(folder, _ENTER), False, why)
    one = "mail to this address is deferred"
    for path in as_user.files_in(folder, _MOST_FILES):
        if directory.address_of(Path(path).name) is not None:  # nobody ever looks into the others
            yield _Need(f"keys {folder}", Wish(path, _READ), False, one, is_key=True)


def _state(subject: str, folder: str, why: str, *, has_files: bool = False) -> Iterator[_Need]:
    yield _Need(subject, Wish(folder, _KEEP), True, why)
    for path in as_user.files_in(folder, _MOST_FILES) if has_files else ():
        yield _Need(subject, Wish(path, os.R_OK | os.W_OK), True, why)
