"""What may another user do, and whom can it ask?  Found out by a child process that has become that user."""

from __future__ import annotations

import grp
import json
import os
import pwd
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smilla.errors import SmillaError

_ACL = "system.posix_acl_access"
_LOOK_S = 60.0  # a folder on a network may be slow


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
    try:
        found: list[str] = answer(user, lambda: [_denied(wish) for wish in wishes], _LOOK_S)
    except SmillaError as error:
        raise SmillaError(f"this check cannot become {user.name}; run it as root or as {user.name}") from error
    return found


def answer(user: User, ask: Callable[[], object], timeout_s: float) -> Any:
    """What ``ask`` gives (as JSON has it), in a child process that has become that user, which is killed after
    ``timeout_s``; here, if this process is that user.  Raises SmillaError, also where ``ask`` raises in the child."""
    if user.is_me:
        return ask()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            _become(user)
            _write(writing, json.dumps(ask()).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    try:
        raw = _read_until(reading, time.monotonic() + timeout_s)
    finally:
        os.close(reading)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # it has said all, or is late
        os.waitpid(pid, 0)
    if raw is None:
        raise SmillaError(f"nothing was heard within {timeout_s:g} s from the process that became {user.name}")
    try:
        return json.loads(raw)
    except ValueError as error:
        raise SmillaError(f"this check cannot become {user.name}, or failed as that user") from error


def _read_until(descriptor: int, deadline: float) -> bytes | None:
    """Until the end; None if that does not come in time."""
    raw = b""
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        block = os.read(descriptor, 65536)
        if not block:
            return raw
        raw += block
    return None


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
