"""Checks what the stage itself needs, its keys and its socket, for ``smilla config check --probe``."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from smilla.adapters import as_user, smtp
from smilla.adapters.seal_keys import SealKeys
from smilla.config import Config
from smilla.doctor import rights
from smilla.doctor.finding import Finding, Kind, error, fine, warning
from smilla.doctor.rights import Service
from smilla.errors import SmillaError
from smilla.server import listener


def keys(config: Config, service: Service) -> Iterator[Finding]:
    """May smilla read its keys, and nobody else?"""
    folder = Path(config.stage.keys)
    subject = f"seal keys {folder}"
    try:
        if not folder.exists():
            yield fine(Kind.SEAL_KEYS, subject, "made at the start of the filter")
            return
        found = SealKeys(config.stage.keys).all()
        paths = [folder, *(stored.path for stored in found)]
        problems = [*rights.of_state(subject, paths, service), *_too_wide(paths)]
        owner = as_user.name_of(folder.stat().st_uid)
    except (SmillaError, OSError) as unreadable:
        yield error(Kind.SEAL_KEYS, "seal keys", str(unreadable))
        return
    yield from problems
    if not problems:
        yield fine(Kind.SEAL_KEYS, subject, f"{len(found)}, of {owner}")


def _too_wide(paths: Iterable[Path]) -> Iterator[Finding]:
    for path in paths:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            mend = f"chmod {'0700' if path.is_dir() else '0600'} {path}"
            yield error(Kind.RIGHTS_TOO_WIDE, f"seal keys {path}", "others may read what it seals", mend)


def socket(config: Config, service: Service) -> Iterator[Finding]:
    """Does the stage answer, or may it be started?"""
    name = config.stage.socket
    subject, folder = f"stage {name}", Path(name.partition(":")[2]).parent
    if listener.can_connect(name):
        problem = smtp.stage_problem(name, config.dns.timeout_s)
        yield error(Kind.STAGE, subject, problem) if problem else fine(Kind.STAGE, subject, "answers")
    elif listener.UnixPath.fits(name) and not folder.is_dir():
        yield error(Kind.SOCKET_FOLDER, subject, f"no folder {folder}", *rights.folder_of_sockets(folder, service))
    else:
        yield fine(Kind.STAGE, subject, "nobody listens yet")


def size(config: Config) -> Iterator[Finding]:
    """Does [stage] message_size_limit agree with the listener?"""
    named, said = config.stage.message_size_limit, smtp.size_limit(config.reinject.smtp, config.dns.timeout_s)
    if named and said and named > said:
        what = f"but the listener {config.reinject.smtp} takes {said}; larger mail is bounced"
        yield warning(Kind.SIZE, "", f"[stage] message_size_limit is {named}, {what}", f"write 0 or {said}")
    elif largest := named or said:
        text = f"messages of up to {largest * 10 // 14} octets, which have up to {largest} once they are sealed"
        yield fine(Kind.SIZE, "stage", text)
    elif said is not None:  # who does not answer is told of elsewhere
        what = f"the listener {config.reinject.smtp} says no SIZE"
        yield fine(Kind.SIZE, "stage", f"{what}; where it has a limit, [stage] message_size_limit names it")
