"""``smilla keys add | check | list | remove``: the folder of the directory source, for a person, a script or a portal.

Promises: nothing is written that the gate did not judge.  A file appears as a whole or not at all, and while one takes
the place of another, the address always has one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smilla import address, config, log, log_keys
from smilla.adapters import new_file
from smilla.address import EmailAddress
from smilla.answer import describe
from smilla.cli import EX_NO, EX_OK, UsageError, audit, printable, say, with_config
from smilla.config import Config
from smilla.doctor import rights
from smilla.errors import AddressError, FileProblem
from smilla.keys import handed_in
from smilla.keys.discovery.directory import SUFFIXES
from smilla.keys.handed_in import HandedIn
from smilla.model import Format, KeyLookup
from smilla.ports import Ports
from smilla.server.runtime import make_ports

_MOST = 1 << 20  # octets on standard input, as of a file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla keys`` takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, summary in (("add", "put a key into the folder"), ("check", "say whether add would take it")):
        action = with_config(actions.add_parser(name, help=summary))
        action.add_argument("--any-address", action="store_true", help="also a key that names other addresses only")
        if name == "add":
            action.add_argument("--force", action="store_true", help="also a key that cannot be used today")
        action.add_argument("--json", action="store_true", help="one JSON document")
        action.add_argument("address", metavar="ADDR")
        action.add_argument("file", metavar="FILE", help='certificate or OpenPGP key; "-": standard input')
    listing = with_config(actions.add_parser("list", help="the addresses of the folder, and their keys"))
    listing.add_argument("--json", action="store_true", help="one JSON document")
    listing.add_argument("address", metavar="ADDR", nargs="*")
    removal = with_config(actions.add_parser("remove", help="take an address's keys out of the folder"))
    form = removal.add_mutually_exclusive_group()
    form.add_argument("--smime", action="store_true", help="only its certificates")
    form.add_argument("--openpgp", action="store_true", help="only its OpenPGP keys")
    removal.add_argument("--json", action="store_true", help="one JSON document")
    removal.add_argument("address", metavar="ADDR")


def run(options: argparse.Namespace) -> int:
    """Exit 0: done, or would be taken; 1: refused, or there is none; 75: the folder cannot be read now."""
    settings = config.load(Path(options.config))
    log.silence()
    if not settings.keys.directory:
        raise UsageError("there is no folder of keys: [keys] directory is empty")
    ports = make_ports(settings)
    if options.action == "list":
        return _list(options, settings, ports)
    asked = _address(options.address, settings)
    if options.action == "remove":
        return _remove(asked, options, settings, ports)
    return _add(asked, options, settings, ports)


def _address(text: str, settings: Config) -> EmailAddress:
    """Raises UsageError."""
    try:
        found = address.parse(text).completed(settings.append_domain)
    except AddressError as error:
        raise UsageError(str(error)) from error
    if found.ambiguous:
        raise UsageError(f"{found}: programs read this domain in two ways; write it as an A-label (xn--...)")
    return found


# --- add and check


@dataclass(frozen=True, slots=True)
class _Done:
    """What was made of a file: ``taken`` if nothing speaks against it or it was forced."""

    handed: HandedIn
    taken: bool
    remarks: tuple[tuple[str, str], ...]
    folder: Path

    @property
    def fingerprint(self) -> str:
        """That of the key, "" if it cannot be used."""
        return self.handed.found.key.fingerprint if self.handed.found.key else ""

    @property
    def paths(self) -> list[str]:
        """The files to write."""
        return [str(self.folder / name) for name, _ in self.handed.files]


def _add(asked: EmailAddress, options: argparse.Namespace, settings: Config, ports: Ports) -> int:
    raw, writes = _read(options.file), options.action == "add"
    try:
        handed = handed_in.examine(asked, raw, ports, settings, any_address=options.any_address)
    except AddressError as error:
        raise UsageError(str(error)) from error
    is_forced = writes and options.force and handed_in.may_be_forced(handed.against)
    taken = not handed.against or is_forced
    remarks = tuple(handed_in.remarks(handed, settings)) if taken else ()
    done = _Done(handed, taken, remarks, Path(settings.keys.directory))
    if taken and writes:
        _write(handed, done.folder)
        with audit.logged(settings):
            log_keys.added(str(asked), done.paths, done.fingerprint, "; ".join(r.text for r in handed.against))
        remarks += tuple(_unread(done, settings, Path(options.config)))
        done = _Done(handed, taken, remarks, done.folder)
    _tell(done, options, wrote=taken and writes)
    return EX_OK if taken else EX_NO


def _read(name: str) -> bytes:
    """Raises FileProblem."""
    if name != "-":
        return new_file.read(Path(name))
    raw = sys.stdin.buffer.read(_MOST + 1)
    if len(raw) > _MOST:
        raise FileProblem(f"standard input has more than {_MOST} octets")
    return raw


def _write(handed: HandedIn, folder: Path) -> None:
    """A new name takes mode and owner of the earlier file, to which it first links.  Raises FileProblem."""
    stale = [folder / name for name in handed.stale]
    try:
        for name, octets in handed.files:
            path, form = folder / name, SUFFIXES[Path(name).suffix]
            earlier = [old for old in stale if SUFFIXES[old.suffix.lower()] is form]
            if earlier and not path.exists():
                os.link(earlier[0], path, follow_symlinks=False)
            new_file.replace(path, octets)
        for old in stale:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise FileProblem(f"{error.filename}: cannot be changed: {error.strerror}") from error


def _unread(done: _Done, settings: Config, configuration: Path) -> Iterator[tuple[str, str]]:
    """Whether the filter's user may read it; nobody but root can tell."""
    if os.geteuid() == 0:
        for problem in rights.of_key_files(settings, configuration, done.paths):
            yield "warning", f"smilla itself may not read it: {problem.line}"


def _tell(done: _Done, options: argparse.Namespace, *, wrote: bool) -> None:
    handed = done.handed
    if options.json:
        print(json.dumps(_as_json(done, wrote=wrote), indent=2, ensure_ascii=False))
        return
    if options.action == "check":
        print("\n".join(describe.lookup_in_words(handed.found)))
    for name, _ in handed.files if done.taken else ():
        print(printable(f"{handed.address}: {done.folder / name} {'added' if wrote else 'would be added'}"))
    for name in handed.stale if done.taken else ():
        print(printable(f"{handed.address}: {done.folder / name} {'replaced' if wrote else 'would be replaced'}"))
    if done.taken and handed.found.key is not None:
        print(printable(f"  {handed.found.reason.text}{_until(handed.found)}"))
    for reason in handed.against:
        say("warning" if done.taken else "error", f"{handed.address}: {reason.text}")
    if not done.taken:
        _say_how(done, options)
    for severity, text in done.remarks:
        say(severity, text)


def _say_how(done: _Done, options: argparse.Namespace) -> None:
    """What would take it all the same, if anything does."""
    codes = {reason.code for reason in done.handed.against}
    if not handed_in.may_be_forced(done.handed.against):
        return
    options_needed = [
        *(["--any-address"] if "other_address" in codes and not options.any_address else []),
        *(["--force"] if done.handed.found.key is None else []),
    ]
    if options_needed:
        say("hint", f"smilla keys add {' '.join(options_needed)} takes it all the same")


def _until(found: KeyLookup) -> str:
    expires_at = found.key.expires_at if found.key else None
    return f", until {expires_at:%Y-%m-%d}" if expires_at else ""


def _as_json(done: _Done, *, wrote: bool) -> dict[str, Any]:
    handed = done.handed
    return {
        "address": str(handed.address),
        "taken": done.taken,
        "written": wrote,
        "files": done.paths,
        "replaced": [str(done.folder / name) for name in handed.stale],
        "against": [{"code": reason.code, "text": reason.text} for reason in handed.against],
        "comes_first": handed.comes_first,
        "remarks": [{"severity": severity, "text": text} for severity, text in done.remarks],
        "lookup": describe.lookup_as_json(handed.found),
    }


# --- list and remove


def _list(options: argparse.Namespace, settings: Config, ports: Ports) -> int:
    wanted = {_address(text, settings).folded for text in options.address}
    found = [one for one in handed_in.listed(ports, settings) if not wanted or one[0].folded in wanted]
    if options.json:
        listing = [{"files": list(files), **describe.lookup_as_json(known)} for _, files, known in found]
        print(json.dumps(listing, indent=2, ensure_ascii=False))
    else:
        for who, files, known in found:
            form = f"{known.key.format.value}: " if known.key else f"{known.verdict.value}: "
            print(printable(f"{who}: {form}{known.reason.text}{_until(known)} ({', '.join(files)})"))
    if wanted and not found:
        say("hint", f"{', '.join(options.address)}: nothing is in {settings.keys.directory}")
    return EX_OK if found or not wanted else EX_NO


def _remove(asked: EmailAddress, options: argparse.Namespace, settings: Config, ports: Ports) -> int:
    formats = ([Format.SMIME] if options.smime else []) + ([Format.OPENPGP] if options.openpgp else [])
    folder = Path(settings.keys.directory)
    names = handed_in.files_of(asked, ports.folder, *formats)
    if names:
        _unlink([folder / name for name in names])
        with audit.logged(settings):
            log_keys.removed(str(asked), [str(folder / name) for name in names])
    left = handed_in.look_up(asked, ports, settings)
    if options.json:
        document = {"address": str(asked), "removed": [str(folder / name) for name in names]}
        print(json.dumps({**document, "lookup": describe.lookup_as_json(left)}, indent=2, ensure_ascii=False))
        return EX_OK if names else EX_NO
    for name in names:
        print(printable(f"{asked}: {folder / name} removed"))
    if not names:
        say("error", f"{asked}: no such file is in {folder}")
        return EX_NO
    more = "" if left.key else "; the other sources and [policy] no_key decide about its mail"
    say("hint", f"what the folder has for {asked} now: {describe.VERDICTS[left.verdict]} ({left.reason.text}){more}")
    return EX_OK


def _unlink(paths: Sequence[Path]) -> None:
    """Raises FileProblem."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise FileProblem(f"{path}: cannot be removed: {error.strerror}") from error
