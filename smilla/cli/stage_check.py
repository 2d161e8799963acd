"""Checks what the stage itself needs, its keys and its socket, for ``smilla config check --probe``.

A finding is "error", "warning" or "" (in order), and a text that says how to fix it.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from smilla.adapters import smtp
from smilla.adapters.seal_keys import SealKeys
from smilla.config import Config
from smilla.errors import SmillaError
from smilla.server import listener

Found = tuple[str, str]


def keys(config: Config, owner_of: Callable[[Path], str]) -> Iterator[Found]:
    """May smilla read its keys, and nobody else?"""
    folder = Path(config.stage.keys)
    try:
        if not folder.exists():
            yield "", f"seal keys {folder}: made at the start of the filter"
            return
        found = SealKeys(config.stage.keys).all()
        owner = config.milter.user or owner_of(folder)
        problems = [
            problem for path in (folder, *(s.path for s in found)) if (problem := _problem(path, owner, owner_of))
        ]
    except (SmillaError, OSError) as error:
        yield "error", f"seal keys {error}"
        return
    yield from (("error", f"seal keys {problem}") for problem in problems)
    if not problems:
        yield "", f"seal keys {folder}: {len(found)}, of {owner}"


def _problem(path: Path, owner: str, owner_of: Callable[[Path], str]) -> str:
    if owner_of(path) != owner:
        return f"{path}: belongs to {owner_of(path)}, so smilla cannot read it; chown {owner} {path}"
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"{path}: others may read what it seals; chmod {'0700' if path.is_dir() else '0600'} {path}"
    return ""


def socket(config: Config) -> Iterator[Found]:
    """Does the stage answer, or may it be started?"""
    name = config.stage.socket
    folder = Path(name.partition(":")[2]).parent
    if listener.can_connect(name):
        problem = smtp.stage_problem(name, config.dns.timeout_s)
        yield ("error", f"stage {name}: {problem}") if problem else ("", f"stage {name}: answers")
    elif listener.UnixPath.fits(name) and not folder.is_dir():
        yield "error", f"stage {name}: no folder {folder}; install -d -o smilla -g postfix -m 2750 {folder}"
    else:
        yield "", f"stage {name}: nobody listens yet"


def size(config: Config) -> Iterator[Found]:
    """Does [stage] message_size_limit agree with the listener?"""
    named, said = config.stage.message_size_limit, smtp.size_limit(config.reinject.smtp, config.dns.timeout_s)
    if named and said and named > said:
        what = f"but the listener {config.reinject.smtp} takes {said}; larger mail is bounced"
        yield "warning", f"[stage] message_size_limit is {named}, {what}; write 0 or {said}"
    elif named or said:
        most = (named or said) * 10 // 14
        yield "", f"stage: messages of up to {most} octets, which have up to {named or said} once they are sealed"
    else:
        what = f"the listener {config.reinject.smtp} says no SIZE"
        yield "", f"stage: {what}; where it has a limit, [stage] message_size_limit names it"
