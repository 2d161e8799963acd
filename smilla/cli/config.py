"""``smilla config check | show | sample``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from smilla import config, log
from smilla.adapters import postfix, smtp, spool
from smilla.adapters.journal import SQLiteJournal
from smilla.adapters.postfix_lines import PostfixLines
from smilla.adapters.seal_keys import SealKeys
from smilla.cli import (
    EX_NO,
    EX_OK,
    idle,
    postfix_actions,
    postfix_check,
    postfix_read,
    postfix_size,
    say,
    sendmail_check,
    stage_check,
    with_config,
    with_postfix,
)
from smilla.config import Config
from smilla.config import text as config_text
from smilla.config.options import OUTSIDE_DNS
from smilla.config.values import is_local
from smilla.errors import JournalError, SmillaError, SpoolError
from smilla.keys import lookup
from smilla.keys.discovery import directory
from smilla.ports import Ports
from smilla.server import listener
from smilla.server.runtime import make_ports, make_resolver

_OPEN = (
    "mail comes to it in plaintext, and anybody who reaches it can send in anybody's name through [reinject] smtp; "
    "listen on loopback, with TLS in front (contrib/haproxy)"
)
_RELAYING = (
    "mode = auto: mail to a domain that is not in local_domains is outbound, whoever sends it; if the MTA relays for "
    'other domains (relay_domains of a backup MX), name them there or in a rule with encrypt = "never"'
)
_REINJECT = (
    "[policy] mixed = reinject behind Postfix: copies leave before Postfix has decided about the message, past HOLD, "
    "REDIRECT and later filters; leave mixed out, or write stage"
)
_GPG_ALONE = (
    "openpgp: pysequoia is not installed, so gpg is started for every message, which takes several times as long; pip "
    "install pysequoia, beside smilla (where PyPI has no wheel of it for this machine, that needs Rust)"
)
_STILL_SERVED = (
    "seal keys {}: [policy] mixed is {}, so nothing is sealed, but the stage still serves sealed mail; once no "
    "queued message needs a key (smilla seal prune), remove the folder and restart smilla"
)
_POSTFIX_S = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla config`` takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = with_config(actions.add_parser("check", help="name every fault"))
    check.add_argument(
        "--probe", action="store_true", help="also try resolver, socket, journal, re-injection listener and stage"
    )
    check.add_argument(
        "--postfix",
        action="store_true",
        help="check Postfix's lines for the stage, and leave the result where the filter reads it",
    )
    with_postfix(check)
    with_config(actions.add_parser("show", help="print the effective configuration"))
    actions.add_parser("sample", help="print a commented sample with every option")


def run(options: argparse.Namespace) -> int:
    """Exit 0: in order; 1: a probe fails; 78: a faulty configuration."""
    if options.action == "sample":
        print(config_text.sample(), end="")
        return EX_OK
    settings = config.load(Path(options.config))
    if options.action == "show":
        print(config_text.show(settings), end="")
        return EX_OK
    ports = make_ports(settings)
    print(f"{options.config}: no fault")
    behind = settings.behind("postfix" if options.postfix_config or postfix.is_installed() else "")
    if options.postfix:
        return _check_lines(behind, options.postfix_config)
    _check_keys(settings, ports)
    for severity, text in idle.problems(settings):
        say(severity, text)
    if not is_local(settings.milter.socket):
        say("warning", f"[milter] socket {settings.milter.socket} is open to other machines: {_OPEN}")
    if settings.mode == "auto" and not any(rule.encrypt == "never" for rule in settings.rule):
        say("hint", _RELAYING)
    if (
        settings.policy.mixed == "reinject"
        and (settings.milter.mta or "postfix") == "postfix"
        and postfix.is_installed()
    ):
        say("warning", _REINJECT)
        _report(postfix_actions.problems(postfix.Postfix(options.postfix_config or "", _POSTFIX_S)))
    if settings.openpgp.engine == "auto" and ports.openpgp.name == "gnupg":
        say("hint", _GPG_ALONE)
    return _probe(behind, options.postfix_config) if options.probe else EX_OK


def _check_lines(settings: Config, folder: str | None) -> int:
    """Prints which of Postfix's lines for the stage are missing, and keeps the result for the filter."""
    if settings.policy.mixed != "stage":
        if not settings.policy.mixed:
            say("error", "postfix: postconf is not found here; set [milter] mta, or PATH, or --postfix-config")
            return EX_NO
        print(f"postfix: not checked, because [policy] mixed is {settings.policy.mixed}")
        return EX_OK
    asked, lines = postfix.Postfix(folder or "", _POSTFIX_S), PostfixLines(settings.stage)
    try:
        instance = asked.folder()
        found = list(postfix_check.problems(settings, asked, in_doubt="error"))
        missing = _report(found)
        for text in missing:
            say("error", text)
        limit = postfix_size.limit(asked)
        stamps = {path: file.stamp for path, file in asked.files.items()}
        unseen = any(postfix_check.UNSEEN in text for text in missing)
        untold = any(postfix_read.UNTOLD in text for _, text in found)
        before = list(filter(postfix_read.is_of_processes, lines.findings(instance))) if untold else []
        for text in before:
            say("error", f"{text} (found by somebody who saw Postfix's processes; only they can say that it is mended)")
        lines.keep(instance, missing, stamps, in_doubt=unseen or bool(before), size_limit=limit)
        missing += before
    except SmillaError as error:
        say("error", f"postfix: {error}")
        return EX_NO
    for other, text in lines.others(instance):
        say("warning", f"postfix in {other}: {text}; check that one too: --postfix-config {other}")
    return EX_NO if missing else EX_OK


def _check_keys(settings: Config, ports: Ports) -> None:
    """Prints what is in the folder of the directory source, and what there is useless."""
    if "directory" not in settings.keys.sources:
        return
    folder, now = settings.keys.directory, ports.clock.now()
    try:
        names = ports.folder.all_names()
        addresses = {str(found): found for found in map(directory.address_of, names) if found is not None}
        alone = replace(settings, keys=replace(settings.keys, sources=("directory",)))
        usable = 0
        for address in addresses.values():
            found = lookup.finish(lookup.begin(address, ports, alone), 0.0, now, ports)
            usable += found.key is not None
            if found.key is None:
                say("warning", f"keys {folder}: {address}: {found.reason.text}")
        print(f"keys {folder}: {len(names)} files, {usable} of {len(addresses)} addresses with a usable key")
        for name, problem in directory.problems(ports.folder):
            say("warning", f"keys {folder}/{name}: {problem}")
    except SmillaError as error:
        say("warning", f"keys {error}")


def _probe(settings: Config, postfix_folder: str | None) -> int:
    """Tries everything the filter will need; says what fails and what to do about it."""
    log.silence()
    problems = [*_resolver_problems(settings), *_socket_problems(settings)]
    problems += [*_spool_problems(settings), *_journal_problems(settings)]
    found = [*_listener_problems(settings), *_stage_problems(settings, postfix_folder)]
    if settings.policy.mixed == "reinject":
        found += sendmail_check.problems(settings.milter.socket)
    problems += _report(found)
    for problem in problems:
        say("error", problem)
    return EX_NO if problems else EX_OK


def _report(found: Iterable[tuple[str, str]]) -> list[str]:
    """Prints all findings except errors, which it returns."""
    errors = []
    for severity, text in found:
        if severity == "error":
            errors.append(text)
        elif severity:
            say(severity, text)
        else:
            print(text)
    return errors


def _resolver_problems(settings: Config) -> list[str]:
    if set(settings.keys.sources) <= set(OUTSIDE_DNS):
        print("resolver: not needed, because all keys come from the directory")
        return []
    problems = []
    for name, problem in make_resolver(settings).probe(settings.dns.timeout_s):
        if problem:
            problems.append(f"{problem}" if name in problem else f"{name}: {problem}")
        else:
            print(f"{name}: validates ({settings.dns.probe})")
    return problems


def _socket_problems(settings: Config) -> list[str]:
    socket = settings.milter.socket
    if listener.can_connect(socket):
        print(f"socket {socket}: a filter listens")
        return []
    if listener.UnixPath.fits(socket):
        folder = Path(socket.partition(":")[2]).parent
        if not folder.is_dir():
            return [
                f"socket {socket}: no folder {folder}; create it (the systemd unit makes /run/smilla when it starts)"
            ]
        path = Path(socket.partition(":")[2])
        if path.is_symlink() or (path.exists() and not path.is_socket()):
            return [f"socket {socket}: something other than a socket is there"]
    print(f"socket {socket}: nobody listens yet")
    return []


def _spool_problems(settings: Config) -> list[str]:
    try:
        spool.try_out(settings.spool.folder)
    except SpoolError as error:
        return [f"spool {error}"]
    print(f"spool {settings.spool.folder}: is writable")
    return []


def _journal_problems(settings: Config) -> list[str]:
    """Is it readable, and may the filter's user write it?  The user who runs the check may be another one."""
    if not _splits(settings):
        return []
    folder = Path(settings.reinject.spool)
    try:
        with closing(SQLiteJournal(settings.reinject.spool, settings.reinject.remember_s)) as journal:
            unfinished = len(journal.summary().unfinished)
        if not folder.is_dir():
            print(f"journal {folder}: made at the start of the filter")
            return []
        problem = _owner_problem(folder, settings.milter.user)
    except (JournalError, OSError) as error:
        problem = str(error)
    if problem:
        return [f"journal {folder}: {problem}"]
    print(f"journal {folder}: belongs to {_owner(folder)}, {unfinished} messages with copies owed")
    return []


def _splits(settings: Config) -> bool:
    """Do copies leave by the listener of [reinject]?  Copies of sealed mail do, whatever mixed says now."""
    return settings.may_split or SealKeys(settings.stage.keys).exist()


def _stage_problems(settings: Config, postfix_folder: str | None) -> list[tuple[str, str]]:
    if not settings.policy.mixed:
        return [("hint", "postfix: not found here; if the MTA is another one or elsewhere, set [milter] mta")]
    seals = settings.policy.mixed == "stage"
    if not seals and not SealKeys(settings.stage.keys).exist():
        return []
    found = [*stage_check.keys(settings, _owner), *stage_check.socket(settings)]
    if seals:
        found += stage_check.size(settings)
    else:
        return [*found, ("hint", _STILL_SERVED.format(settings.stage.keys, settings.policy.mixed))]
    if postfix_folder is None and not postfix.is_installed():
        return [*found, ("hint", "postfix: not found here, so its lines for the stage were not checked")]
    return [*found, *postfix_check.problems(settings, postfix.Postfix(postfix_folder or "", _POSTFIX_S))]


def _owner_problem(folder: Path, user: str) -> str:
    owner = _owner(folder)
    if user and owner != user:
        return f"belongs to {owner}, but [milter] user is {user}; chown -R {user} {folder}"
    if others := [path.name for path in sorted(folder.iterdir()) if _owner(path) != owner]:
        return f"{', '.join(others)} not of {owner}, whose the folder is; chown -R {owner} {folder}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"belongs to {owner}, and the user who runs this check cannot write there"
    return ""


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}"


def _listener_problems(settings: Config) -> list[tuple[str, str]]:
    if not _splits(settings):
        return []
    found = smtp.problems(settings.reinject.smtp, settings.dns.timeout_s)
    name = settings.reinject.smtp
    if not any(severity == "error" for severity, _ in found):
        print(f"re-injection listener {name}: answers")
        return [(severity, f"re-injection listener {name}: {text}") for severity, text in found]
    todo = 'add it to the MTA (contrib/postfix, contrib/sendmail), or set [policy] mixed to "defer" or "refuse"'
    reasons = [text.removeprefix(f"{name}: ") for _, text in found]
    return [("error", f"re-injection listener {name}: {reason}; {todo}") for reason in reasons]
