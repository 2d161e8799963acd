"""What may another user read and write?  Asked of the kernel by a child process that has become that user."""

from __future__ import annotations

import grp
import json
import os
import pwd
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from smilla.errors import SmillaError

_ACL = "system.posix_acl_access"


@dataclass(frozen=True, slots=True)
class User:
    """Its name, and the groups (by number) that a service manager adds."""

    name: str
    further_groups: tuple[int, ...] = ()

    @property
    def is_me(self) -> bool:
        """Does this process run as that user?"""
        return name_of(os.geteuid()) == self.name

    @property
    def group(self) -> str:
        """The name of its own group.  Raises KeyError if there is no such user."""
        return group_of(pwd.getpwnam(self.name).pw_gid)


@dataclass(frozen=True, slots=True)
class Wish:
    """A path, and what somebody wants to do there: os.R_OK, os.W_OK and os.X_OK together."""

    path: str
    mode: int


def name_of(uid: int) -> str:
    """A user's name; its number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_of(gid: int) -> str:
    """A group's name; its number if it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def denials(user: User, wishes: Sequence[Wish]) -> list[str]:
    """For each wish the part of its path that stands in the way, "" if the user may, or if nothing is there.  Needs
    root, or to be that user.  Raises SmillaError."""
    if user.is_me:
        return [_denied(wish) for wish in wishes]
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            _become(user)
            _write(writing, json.dumps([_denied(wish) for wish in wishes]).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        raw = file.read()
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise SmillaError(f"this check cannot become {user.name}; run it as root or as {user.name}")
    found: list[str] = json.loads(raw)
    return found


def _become(user: User) -> None:
    entry = pwd.getpwnam(user.name)
    groups = os.getgrouplist(user.name, entry.pw_gid)
    os.setgroups([*groups, *user.further_groups])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def _write(descriptor: int, raw: bytes) -> None:
    while raw:
        raw = raw[os.write(descriptor, raw) :]


def _denied(wish: Wish) -> str:
    path = Path(wish.path)
    for place in _on_the_way(path):
        if os.path.lexists(place) and not os.access(place, os.X_OK):
            return str(place)
    return wish.path if path.exists() and not os.access(path, wish.mode) else ""


def denied_by_modes(user: User, wish: Wish) -> str | None:
    """The same for one wish, by owner, group and mode alone, for who is not root and cannot become that user; None if
    that cannot be told: a folder may not be looked into, or has further rights (acl(5)).  Raises KeyError if there is
    no such user."""
    entry = pwd.getpwnam(user.name)
    groups = {*os.getgrouplist(user.name, entry.pw_gid), *user.further_groups}
    path = Path(wish.path)
    wanted = [*((place, os.X_OK) for place in _on_the_way(path)), (path, wish.mode)]
    try:
        for place, mode in wanted:
            found = place.stat()
            if _ACL in os.listxattr(place):
                return None
            shift = 6 if found.st_uid == entry.pw_uid else 3 if found.st_gid in groups else 0
            if entry.pw_uid != 0 and mode & ~(found.st_mode >> shift):
                return str(place)
    except OSError:
        return None
    return ""


def _on_the_way(path: Path) -> Iterator[Path]:
    """The folders above it, from the root on, and those above the place where a link leads."""
    yield from reversed(path.parents)
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError):
        return
    if resolved != path:
        yield from reversed(resolved.parents)


def files_in(folder: str, most: int) -> list[str]:
    """The paths of the files in a folder, at most that many; none if it cannot be listed."""
    try:
        return sorted(_files(os.scandir(folder)))[:most]
    except OSError:
        return []


def _files(entries: Iterable[os.DirEntry[str]]) -> Iterator[str]:
    for entry in entries:
        try:
            if not entry.is_dir():
                yield entry.path
        except OSError:
            continue
