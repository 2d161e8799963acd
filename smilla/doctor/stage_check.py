"""Checks what the stage itself needs, its keys and its socket, for ``smilla config check --probe``."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from smilla.adapters import smtp
from smilla.adapters.seal_keys import SealKeys
from smilla.config import Config
from smilla.doctor.finding import Finding, Kind, error, fine, warning
from smilla.errors import SmillaError
from smilla.server import listener


def keys(config: Config, owner_of: Callable[[Path], str]) -> Iterator[Finding]:
    """May smilla read its keys, and nobody else?"""
    folder = Path(config.stage.keys)
    subject = f"seal keys {folder}"
    try:
        if not folder.exists():
            yield fine(Kind.SEAL_KEYS, subject, "made at the start of the filter")
            return
        found = SealKeys(config.stage.keys).all()
        owner = config.milter.user or owner_of(folder)
        problems = [
            problem for path in (folder, *(s.path for s in found)) if (problem := _problem(path, owner, owner_of))
        ]
    except (SmillaError, OSError) as unreadable:
        yield error(Kind.SEAL_KEYS, "seal keys", str(unreadable))
        return
    yield from problems
    if not problems:
        yield fine(Kind.SEAL_KEYS, subject, f"{len(found)}, of {owner}")


def _problem(path: Path, owner: str, owner_of: Callable[[Path], str]) -> Finding | None:
    subject = f"seal keys {path}"
    if owner_of(path) != owner:
        what = f"belongs to {owner_of(path)}, so smilla cannot read it"
        return error(Kind.RIGHTS, subject, what, f"chown {owner} {path}")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mend = f"chmod {'0700' if path.is_dir() else '0600'} {path}"
        return error(Kind.RIGHTS_TOO_WIDE, subject, "others may read what it seals", mend)
    return None


def socket(config: Config) -> Iterator[Finding]:
    """Does the stage answer, or may it be started?"""
    name = config.stage.socket
    subject, folder = f"stage {name}", Path(name.partition(":")[2]).parent
    if listener.can_connect(name):
        problem = smtp.stage_problem(name, config.dns.timeout_s)
        yield error(Kind.STAGE, subject, problem) if problem else fine(Kind.STAGE, subject, "answers")
    elif listener.UnixPath.fits(name) and not folder.is_dir():
        yield error(
            Kind.SOCKET_FOLDER, subject, f"no folder {folder}", f"install -d -o smilla -g postfix -m 2750 {folder}"
        )
    else:
        yield fine(Kind.STAGE, subject, "nobody listens yet")


def size(config: Config) -> Iterator[Finding]:
    """Does [stage] message_size_limit agree with the listener?"""
    named, said = config.stage.message_size_limit, smtp.size_limit(config.reinject.smtp, config.dns.timeout_s)
    if named and said and named > said:
        what = f"but the listener {config.reinject.smtp} takes {said}; larger mail is bounced"
        yield warning(Kind.SIZE, "", f"[stage] message_size_limit is {named}, {what}", f"write 0 or {said}")
    elif named or said:
        most = (named or said) * 10 // 14
        text = f"messages of up to {most} octets, which have up to {named or said} once they are sealed"
        yield fine(Kind.SIZE, "stage", text)
    else:
        what = f"the listener {config.reinject.smtp} says no SIZE"
        yield fine(Kind.SIZE, "stage", f"{what}; where it has a limit, [stage] message_size_limit names it")
