"""What may strangers write?  Whoever writes the configuration, a key or the place of a socket decides who reads mail.

A stranger is everybody but root, the filter's user and who runs the check; a group is strange if it is not root's nor
one of the filter's user's own.  For a file, the folders on the way to it count too, as they do for sshd: whoever writes
there puts another file in its place.  In a folder with the sticky bit (/tmp) nobody can replace what is another's, but
anybody can add to it.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from smilla.adapters import as_user
from smilla.config import Config, database_url
from smilla.doctor.finding import Finding, Kind, error, warning
from smilla.doctor.rights import TELL, Service, of_servers
from smilla.keys.discovery import directory
from smilla.server.listener import UnixPath

_MOST_FILES, _MOST_NAMED = 5000, 3
_OF_MTAS = ("postfix", "smmsp", "smmta")  # the MTA has the mail anyway
_TURNS_OFF = "whoever writes it can turn encryption off at the next reload"
_READS = "whoever writes it can put a key of their own there, and reads what is encrypted from then on"
_TRUSTS = "whoever writes it decides which certificates smilla trusts"
_SHOWS = "whoever writes it decides as whom the relay shows itself to its clients"
_LISTENS = "whoever writes it can listen there in smilla's place, and gets the mail in plaintext"
_ASKS = "whoever writes it decides which database smilla believes"
_KEEPS = "whoever writes it can read or remove what smilla keeps there"


@dataclass(frozen=True, slots=True)
class _Place:
    """``is_addable``: it is a fault if strangers can add a file to this folder, though not replace one."""

    subject: str
    path: str
    why: str
    is_addable: bool = False
    owner: str = "root"  # "": nothing tells who it should be
    is_on_the_way: bool = False  # a folder above


@dataclass(frozen=True, slots=True)
class _Known:
    """Users and groups, by number, that are no strangers."""

    users: frozenset[int]
    groups: frozenset[int]

    def strangers(self, gid: int) -> list[str] | None:
        """The members of a group who are strangers; None if all of its members are known, or it is."""
        if gid in self.groups:
            return None
        with suppress(KeyError):
            named = set(grp.getgrgid(gid).gr_mem)
            members = [each for each in pwd.getpwall() if each.pw_gid == gid or each.pw_name in named]
            found = sorted(each.pw_name for each in members if each.pw_uid not in self.users)
            return None if members and not found else found
        return []


def problems(config: Config, configuration: Path, service: Service) -> Iterator[Finding]:
    """Each place that strangers may write, once, with the line that mends it."""
    known = _known(service)
    seen: set[Path] = set()
    for place in _places(config, configuration, service):
        path = Path(os.path.realpath(place.path))
        if path not in seen:
            seen.add(path)
            yield from _of(place, path, known)
        for folder in (*path.parents, *Path(place.path).absolute().parents):  # also of a symbolic link
            if folder not in seen:
                seen.add(folder)
                yield from _of(_Place(place.subject, str(folder), place.why, is_on_the_way=True), folder, known)
    yield from _of_keys(config, known)


def _known(service: Service) -> _Known:
    users, groups = {0, os.geteuid()}, {0, *service.user.further_groups}
    with suppress(KeyError):
        if service.is_known:
            entry = pwd.getpwnam(service.user.name)
            users.add(entry.pw_uid)
            groups |= {*os.getgrouplist(entry.pw_name, entry.pw_gid)}
    return _Known(frozenset(users), frozenset(groups))


def _places(config: Config, configuration: Path, service: Service) -> Iterator[_Place]:
    yield _Place(f"configuration {configuration}", str(configuration.absolute()), _TURNS_OFF)
    if "directory" in config.keys.sources:
        yield _Place(f"keys {config.keys.directory}", config.keys.directory, _READS, is_addable=True)
    for number, rule in enumerate(config.rule, 1):
        if rule.key:
            yield _Place(f"rule {number}: key {rule.key}", rule.key, _READS)
    anchor = config.dns.trust_anchor if config.dns.dnssec == "validate" else ""
    for path in filter(None, (config.smime.ca_file, config.smime.crl_file, anchor, *of_servers(config))):
        yield _Place(f"file {path}", path, _TRUSTS)
    if config.relay.next_hop:
        if config.relay.ca_file:
            yield _Place(f"file {config.relay.ca_file}", config.relay.ca_file, _TRUSTS)
        for path in filter(None, (config.relay.tls_certificate, config.relay.tls_key)):
            yield _Place(f"file {path}", path, _SHOWS)
    for _, path in database_url.files(config.store.url):
        yield _Place(f"file {path}", path, _ASKS)
    user = service.user.name if service.is_known else ""
    for name in dict.fromkeys((config.milter.socket, config.stage.socket if config.may_seal else "")):
        if UnixPath.fits(name):
            folder = str(Path(name.partition(":")[2]).absolute().parent)
            yield _Place(f"socket {name}", folder, _LISTENS, is_addable=True, owner=user)
    for what, path in (("journal", config.reinject.spool), ("seal keys", config.stage.keys)):
        yield _Place(f"{what} {path}", path, _KEEPS, is_addable=True, owner=user)


def _of_keys(config: Config, known: _Known) -> Iterator[Finding]:
    if "directory" not in config.keys.sources:
        return
    folder = config.keys.directory
    told = 0
    for path in as_user.files_in(folder, _MOST_FILES):
        if told < _MOST_NAMED and directory.address_of(Path(path).name) is not None:
            for each in _of(_Place(f"keys {folder}", path, _READS), Path(os.path.realpath(path)), known):
                told += 1
                yield each


def _of(place: _Place, path: Path, known: _Known) -> Iterator[Finding]:
    with suppress(OSError):
        found = path.stat()
        quoted = shlex.quote(str(path))
        is_kept = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX and not place.is_addable
        if found.st_uid not in known.users:
            what = f"{path} belongs to {as_user.name_of(found.st_uid)}, who may write it"
            if place.owner:
                yield error(Kind.RIGHTS_TOO_WIDE, place.subject, what, f"chown {place.owner} {quoted}", place.why)
            else:
                yield warning(Kind.RIGHTS_TOO_WIDE, place.subject, f"{what}; does smilla run as that user?", TELL)
        if found.st_mode & stat.S_IWGRP and not is_kept:
            yield from _of_group(place, path, found.st_gid, known)
        if found.st_mode & stat.S_IWOTH and not is_kept:
            what = f"everybody may write {path}"
            yield error(Kind.RIGHTS_TOO_WIDE, place.subject, what, f"chmod o-w {quoted}", place.why)


def _of_group(place: _Place, path: Path, gid: int, known: _Known) -> Iterator[Finding]:
    """A group without members is no matter above, as that of /usr/local in Debian."""
    members, group = known.strangers(gid), as_user.group_of(gid)
    if members is None or (not members and place.is_on_the_way) or (place.why == _LISTENS and group in _OF_MTAS):
        return
    shown = ", ".join(members[:_MOST_NAMED]) + (
        f" and {len(members) - _MOST_NAMED} more" * (len(members) > _MOST_NAMED)
    )
    what = f"the group {group} ({shown or 'nobody is in it now'}) may write {path}"
    yield warning(Kind.RIGHTS_TOO_WIDE, place.subject, what, f"chmod g-w {shlex.quote(str(path))}", place.why)
