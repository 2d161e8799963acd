"""May the filter's user read and write what it must?  Tested as that user, since root may do everything.

The user is [milter] user, else the User= of the installed unit that runs this configuration, else who owns the socket
where a filter listens, else who owns the journal and the seal keys.  Who owns a folder proves nothing: it may be the
very fault.
"""

from __future__ import annotations

import grp
import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from smilla.adapters import as_user, unit_file
from smilla.adapters.as_user import User, Wish
from smilla.adapters.seal_keys import SealKeys
from smilla.config import DEFAULT_PATH, Config, database_url
from smilla.doctor import private_file
from smilla.doctor.finding import Finding, Kind, error, fine, hint
from smilla.errors import SmillaError
from smilla.keys.discovery import directory

_MOST_FILES, _MOST_NAMED = 5000, 3
_REACHED = "smilla makes its socket there, and the MTA must reach it"
_BY_GROUP = f"{_REACHED}: the group is the MTA's, here Postfix's"
_POSTFIX = "postfix"
_USUAL_USER, _JOURNAL = "smilla", "journal.sqlite3"
_NOBODY_KNOWS = "nothing tells which of them smilla runs as"
TELL = "name it in [milter] user, or in User= of the unit"
_READ, _ENTER, _KEEP = os.R_OK, os.R_OK | os.X_OK, os.R_OK | os.W_OK | os.X_OK
_DONE = {_READ: "read", _ENTER: "list", _KEEP: "write in", os.R_OK | os.W_OK: "read and write"}


@dataclass(frozen=True, slots=True)
class Service:
    """How the filter is started: as which user, and whether root opens its sockets first ([milter] user).  If nothing
    tells the user (``is_known`` is False), no line may give that user anything."""

    user: User
    drops_rights: bool
    run_folders: tuple[str, ...] = ()
    unit: str = ""
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class _Need:
    subject: str
    wish: Wish
    is_state: bool  # the filter's own, which it writes; otherwise the administrator's, which it reads
    why: str
    is_key: bool = False  # a file in the folder of keys, where private keys do not belong
    mend: str = ""  # the line for the path itself, where it is another one than for other folders


def service_of(config: Config, configuration: Path) -> Service:
    """Who runs the filter with this configuration."""
    unit = unit_file.unit_for(configuration, DEFAULT_PATH)
    if config.milter.user:
        return Service(User(config.milter.user), drops_rights=True)
    if unit is not None and unit.user.name:
        return Service(unit.user, drops_rights=False, run_folders=unit.run_folders, unit=unit.path)
    if owner := _owner_of_what_it_made(config):
        return Service(User(owner), drops_rights=False)
    try:
        owner = as_user.name_of(Path(config.reinject.spool).stat().st_uid)
    except OSError:
        me = os.geteuid()
        return Service(User(as_user.name_of(me)), drops_rights=False, is_known=me != 0)
    return Service(User(owner), drops_rights=False, is_known=owner == _USUAL_USER)


def _owner_of_what_it_made(config: Config) -> str:
    """Who owns the socket, or else all of the journal and the seal keys; "" if there is none, or they have several."""
    kind, _, path = config.milter.socket.partition(":")
    if kind in ("unix", "local"):
        with suppress(OSError):
            if stat.S_ISSOCK((found := Path(path).lstat()).st_mode):
                return as_user.name_of(found.st_uid)
    with suppress(OSError):
        own = [Path(config.reinject.spool, _JOURNAL), *sorted(Path(config.stage.keys).glob("*.key"))]
        owners = {as_user.name_of(file.lstat().st_uid) for file in own if os.path.lexists(file)}
        return owners.pop() if len(owners) == 1 else ""
    return ""


def of_state(subject: str, paths: Sequence[Path], service: Service) -> Iterator[Finding]:
    """What does not belong to the filter's user, of a folder of its state and the files in it.  If nothing tells who
    that is, their owners are named, and no line gives them to anybody.  Raises OSError."""
    owners = {path: as_user.name_of(path.stat().st_uid) for path in paths}
    user = service.user.name
    if not service.is_known:
        if len(set(owners.values())) > 1:
            first = {owner: path for path, owner in reversed(owners.items())}
            said = ", ".join(f"{path} belongs to {owner}" for owner, path in sorted(first.items()))
            yield error(Kind.RIGHTS, subject, said, TELL, _NOBODY_KNOWS)
        return
    if not (others := {path: owner for path, owner in owners.items() if owner != user}):
        return
    said = ", ".join(f"{path} belongs to {owner}" for path, owner in islice(others.items(), _MOST_NAMED))
    more = f" (and {len(others) - _MOST_NAMED} more)" if len(others) > _MOST_NAMED else ""
    yield error(Kind.RIGHTS, subject, f"{said}{more}, but smilla runs as {user}", f"chown -R {user} {paths[0]}")


def restart() -> str:
    """The line that starts smilla, or starts it anew if it runs; "" if no service manager is known here."""
    return "systemctl restart smilla" if unit_file.has_systemd() else ""


def folder_of_sockets(folder: Path, service: Service) -> tuple[str, str]:
    """The line that makes or mends a folder for sockets, and why."""
    user = service.user.name if service.is_known else _USUAL_USER
    group = _POSTFIX if _is_group(_POSTFIX) else user  # Sendmail reaches it as root
    made = shlex.join(["install", "-d", "-o", user, "-g", group, "-m", "2750", str(folder)])
    return made, _BY_GROUP if group == _POSTFIX else _REACHED


def _is_group(name: str) -> bool:
    try:
        return bool(grp.getgrnam(name))
    except KeyError:
        return False


def problems(config: Config, configuration: Path, service: Service) -> Iterator[Finding]:
    """What the user may not do, with the part of the path at fault and the line that mends it."""
    for found in _judged(service, [*_needs(config, configuration, service)]):
        # Whoever owns the folder may be a stranger: nothing is given to them.
        yield found if service.is_known or not found.mend else replace(found, mend=TELL)


def as_whom(configuration: Path, service: Service) -> Iterator[Finding]:
    """Who is not root hears as whom all was tried, and how to try the rest."""
    if not service.is_known and service.user.name != "root":
        what = f"nothing tells as whom smilla runs; all was tried as {service.user.name}, whose the journal's folder is"
        yield hint(Kind.ASKS, "this check", what, TELL)
    me, user = as_user.name_of(os.geteuid()), service.user.name
    if os.geteuid() != 0:
        others = "Postfix's user" if me == user else f"{user}, whose filter it is, nor as Postfix's user"
        what = f"it ran as {me}: files, sockets and the resolver were tried as {me}, and nothing as {others}"
        yield hint(
            Kind.ASKS, "this check", what, f"for the rest: sudo smilla config check --probe --config {configuration}"
        )


def of_key_files(config: Config, configuration: Path, paths: Sequence[str]) -> Iterator[Finding]:
    """Which of these the filter's user may not read, though whoever asks may."""
    why = "it cannot tell whether there is a key, so mail to this address is deferred"
    needs = [_Need(f"keys {Path(path).parent}", Wish(path, _READ), False, why, is_key=True) for path in paths]
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
    is_state = place in states and not first.mend
    mend = f"chown -R {user} {place}" if is_state else _mend(first, place, user, group)
    yield error(Kind.RIGHTS, first.subject, what, mend, first.why)


def _each(user: str, group: str, needs: list[_Need]) -> Iterator[Finding]:
    more = f" (and {len(needs) - _MOST_NAMED} more)" if len(needs) > _MOST_NAMED else ""
    for need in needs[:_MOST_NAMED]:
        what = f"{user} may not {_DONE[need.wish.mode]} {_shown(need.wish.path)}{more}"
        path = Path(need.wish.path)
        away, public = private_file.mend(str(path.parent), path.name) if need.is_key else ("", "")
        mend = away or _mend(need, need.wish.path, user, group)
        yield error(Kind.RIGHTS, need.subject, what, mend, f"{need.why}; {public}" if public else need.why)


def _shown(place: str) -> str:
    try:
        found = Path(place).stat()
    except OSError:
        return place
    return f"{place} ({as_user.name_of(found.st_uid)}:{as_user.group_of(found.st_gid)} {found.st_mode & 0o7777:04o})"


def _mend(need: _Need, place: str, user: str, group: str) -> str:
    path = Path(need.wish.path)
    if need.mend and place == need.wish.path:
        return need.mend
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
    for number, rule in enumerate(config.rule, 1):
        if rule.key:
            why = "mail to everybody whom the rule matches is deferred"
            yield _Need(f"rule {number}: key {rule.key}", Wish(rule.key, _READ), False, why, is_key=True)
    anchor = config.dns.trust_anchor if config.dns.dnssec == "validate" else ""
    relay = config.relay
    of_relay = (relay.ca_file, relay.tls_certificate, relay.tls_key) if relay.next_hop else ()
    for path in dict.fromkeys(
        filter(None, (config.smime.ca_file, config.smime.crl_file, anchor, *of_servers(config), *of_relay))
    ):
        yield _Need(f"file {path}", Wish(path, _READ), False, when)
    for name, path in database_url.files(config.store.url):
        mend = f"chown {service.user.name} {path}" if name in database_url.SECRET else ""
        yield _Need(
            f"file {path}", Wish(path, _READ), False, "the database is not believed, or does not let it in", mend=mend
        )
    yield from _state(f"spool {config.spool.folder}", config.spool.folder, "mail with a large body is deferred")
    has_keys = SealKeys(config.stage.keys).exist()
    if config.may_split or has_keys:
        why = "mail for several recipients is deferred"
        yield from _state(f"journal {config.reinject.spool}", config.reinject.spool, why, has_files=True)
    if config.uses_learned and not config.store.url and not (config.may_split or has_keys):
        why = "no key is learned, and mail to whoever has no other key may be deferred"
        yield from _state(f"learned keys {config.reinject.spool}", config.reinject.spool, why, has_files=True)
    if config.may_seal or has_keys:
        why = "messages cannot be sealed or opened"
        yield from _state(f"seal keys {config.stage.keys}", config.stage.keys, why, has_files=True)
    if not service.drops_rights:
        for name in dict.fromkeys((config.milter.socket, config.stage.socket if config.may_seal else "")):
            kind, _, path = name.partition(":")
            if kind in ("unix", "local"):
                folder = str(Path(path).parent)
                made, why = folder_of_sockets(Path(folder), service)
                yield _Need(f"socket {name}", Wish(folder, _KEEP), True, why, mend=made)


def of_servers(config: Config) -> Iterator[str]:
    """The files, "" for the system's, of authorities that the servers of sources are verified with."""
    if "ldap" in config.keys.sources:
        yield config.ldap.ca_file
    if "wkd" in config.keys.sources:
        yield config.keys.wkd_ca_file


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
