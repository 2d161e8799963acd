"""``smilla wkd``: writes the keys of one's own users as a Web Key Directory, for a web server to serve."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from smilla.adapters import new_file
from smilla.adapters.web_folder import WebFolder
from smilla.cli import EX_NO, EX_OK, UsageError, address_list, printable, say
from smilla.errors import AddressError, FileProblem, ParseError
from smilla.keys.discovery.owner import not_asked
from smilla.records import web_directory
from smilla.records.web_directory import Entry, Held, State

_SUFFIXES = (".asc", ".pgp", ".gpg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla wkd`` takes."""
    parser.add_argument("folder", metavar="DIR", help="the folder that is served below /.well-known/openpgpkey/")
    parser.add_argument(
        "--keys",
        metavar="PATH",
        nargs="+",
        action="extend",
        required=True,
        help="OpenPGP public keys: files, or folders of *.asc, *.pgp and *.gpg",
    )
    parser.add_argument(
        "--domain", metavar="DOMAIN", action="append", required=True, help="whose addresses; may be repeated"
    )
    parser.add_argument(
        "--direct", action="store_true", help="for the direct method (DOMAIN itself), not for openpgpkey.DOMAIN"
    )
    parser.add_argument("--prune", action="store_true", help="remove the keys for which none was given that is usable")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(options: argparse.Namespace) -> int:
    """Exit 0: each address has its key; 1: a key that senders could not use, or a file that cannot be written; 2: a
    domain, or a file that cannot be published."""
    domains = [_domain(text) for text in dict.fromkeys(options.domain)]
    if options.direct and len(domains) > 1:
        raise UsageError("--direct has one folder for one domain; leave it out, or run the command for each domain")
    keys = [key for path in options.keys for key in _held(Path(path))]
    found = list(web_directory.entries(keys, domains, datetime.now(UTC)))
    _refuse_empty(found, domains)
    if foreign := sum(not web_directory.addresses(key, domains) for key in keys):
        say("hint", f"keys that name no address of {', '.join(domains)}, and go nowhere: {foreign}")
    folder = WebFolder(Path(options.folder), is_direct=options.direct, is_dry=options.dry_run)
    changed = list(_written(folder, found, domains))
    others = [(domain, name) for domain in domains for name in _others(folder, found, domain)]
    if options.prune:
        for domain, name in others:
            folder.remove(domain, name)
    files = [folder.shown(domain, name) for domain, name in others]
    if options.json:
        print(json.dumps(_as_json(found, changed, files, folder, options), indent=2, ensure_ascii=False))
    else:
        print("\n".join(_in_words(found, changed, files, options)))
    return EX_NO if any(entry.state is State.UNUSABLE for entry in found) else EX_OK


def _domain(text: str) -> str:
    """In A-labels.  Raises UsageError."""
    try:
        domain = address_list.postmaster(text).domain
    except AddressError as error:
        raise UsageError(f"--domain {text}: {error}") from error
    if (why := not_asked(domain)) or "/" in domain:
        raise UsageError(f"--domain {text}: {why.text if why else 'is no domain name'}")
    return domain


def _held(path: Path) -> Iterator[Held]:
    """The keys of a file, or of a folder's files.  Raises UsageError and FileProblem."""
    try:
        files = [path]
        if path.is_dir():
            files = sorted(one for one in path.iterdir() if one.suffix.lower() in _SUFFIXES and one.is_file())
    except OSError as error:
        raise FileProblem(f"{path}: cannot be read: {error.strerror}") from error
    for file in files:
        try:
            yield from web_directory.held(str(file), new_file.read(file))
        except ParseError as error:
            raise UsageError(f"{file}: {error}") from error


def _refuse_empty(found: Sequence[Entry], domains: Sequence[str]) -> None:
    """Somebody who names the wrong folder of keys must not lose all that is published."""
    for domain in domains:
        if not any(entry.domain == domain and entry.raw for entry in found):
            raise UsageError(f"no key that could be published names an address of {domain}; nothing was changed")


def _written(folder: WebFolder, found: Sequence[Entry], domains: Sequence[str]) -> Iterator[bool]:
    """Whether each entry's file was changed."""
    for domain in domains:
        folder.prepare(domain)
    for entry in found:
        yield bool(entry.raw) and folder.put(entry.domain, entry.name, entry.raw)


def _others(folder: WebFolder, found: Sequence[Entry], domain: str) -> list[str]:
    """The keys that are there besides those of the entries."""
    own = {entry.name for entry in found if entry.domain == domain and entry.raw}
    return [name for name in folder.names(domain) if name not in own]


def _in_words(
    found: Sequence[Entry], changed: Sequence[bool], others: Sequence[str], options: argparse.Namespace
) -> Iterator[str]:
    for entry, is_changed in zip(found, changed, strict=True):
        until = f", until {entry.ends_at:%Y-%m-%d}" if entry.ends_at else ""
        what = {
            State.PUBLISHED: f"{'written' if is_changed else 'unchanged'}, key {entry.fingerprint}{until}",
            State.REVOKED: f"{'written' if is_changed else 'unchanged'}, as revoked: {entry.text}",
            State.UNUSABLE: f"not published: {entry.text}",
        }[entry.state]
        yield printable(f"{entry.address}: {what}")
    for path in others:
        yield printable(f"{path}: {'removed' if options.prune else 'stays'}; no key that can be published is for it")
    if others and not options.prune:
        say("hint", "--prune removes such files")
    if options.dry_run:
        say("hint", "nothing was written")


def _as_json(
    found: Sequence[Entry],
    changed: Sequence[bool],
    others: Sequence[str],
    folder: WebFolder,
    options: argparse.Namespace,
) -> dict[str, Any]:
    return {
        "keys": [
            {
                "address": entry.address,
                "file": folder.shown(entry.domain, entry.name),
                "state": entry.state.value,
                "changed": is_changed,
                "fingerprint": entry.fingerprint or None,
                "ends_at": entry.ends_at.isoformat() if entry.ends_at else None,
                "text": entry.text,
            }
            for entry, is_changed in zip(found, changed, strict=True)
        ],
        "others": [{"file": path, "removed": bool(options.prune)} for path in others],
        "dry_run": bool(options.dry_run),
    }
