"""``smilla init``: writes a configuration for this machine, and attaches smilla to its MTA."""

from __future__ import annotations

import argparse
import os
import re
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

from smilla import config, log
from smilla.adapters import new_file, postfix, postfix_edit
from smilla.adapters.postfix import Settings
from smilla.adapters.postfix_edit import Change
from smilla.cli import (
    EX_NO,
    EX_OK,
    UsageError,
    init_look,
    init_next,
    init_plan,
    init_postfix,
    init_start,
    say,
    with_postfix,
)
from smilla.cli import config as config_command
from smilla.config import DEFAULT_PATH, Config
from smilla.doctor import finding, postfix_settings
from smilla.doctor.attached import Attached
from smilla.errors import ConfigError, EngineMissing, ServiceFailed, SmillaError
from smilla.server.runtime import make_ports

_TELLING = ("mode", "local_domain", "socket", "mixed", "observe", "set")  # what only a file that is written has
_READ_S, _AGAIN_S = 20.0, 0.5  # how long Postfix may take to read its files, and how often we look
_MODES = {
    "outbound": "mail to others",
    "inbound": "mail to your own users, as it is stored",
    "auto": "both, each in its direction",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla init`` takes."""
    parser.add_argument("--output", metavar="FILE", default=DEFAULT_PATH, help=f"what to write ({DEFAULT_PATH})")
    parser.add_argument("--force", action="store_true", help="write FILE anew, and keep the old one as FILE.bak")
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    parser.add_argument("--mta", choices=("postfix", "sendmail"), help="the MTA, if it is not the one found here")
    parser.add_argument("--mode", choices=tuple(_MODES), help="what to encrypt")
    parser.add_argument("--local-domain", metavar="NAME", action="append", help="a domain of yours; may be repeated")
    parser.add_argument("--socket", help="where the MTA connects, in libmilter's notation: unix:PATH or inet:PORT@HOST")
    parser.add_argument(
        "--mixed",
        choices=("stage", "reinject", "defer", "refuse"),
        help="what becomes of recipients who need different forms of a message",
    )
    parser.add_argument(
        "--secure-hop",
        action="store_true",
        help="whom nobody can encrypt to gets mail over a verified hop only (DANE, MTA-STS), or none",
    )
    parser.add_argument(
        "--observe",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="decide and log, but change nothing (the default); --no-observe: encrypt from now on",
    )
    parser.add_argument(
        "--set", metavar="TABLE.OPTION=VALUE", action="append", default=[], help="a further option; may be repeated"
    )
    parser.add_argument(
        "--apply",
        action="store_true",
        help="start the filter, change Postfix's files, reload it, and write how to take that back",
    )
    with_postfix(parser)


def run(options: argparse.Namespace) -> int:
    """Exit 0: all is written and in order; 1: the check names what is missing; 78: the options make no valid
    configuration, or the file that is there is none."""
    log.silence()
    plan, asked = _look(options)
    known = asked.settings(init_look.NAMES) if asked is not None else None
    main = known.main if known is not None else {}
    kept = _kept(options)
    settings = (kept or _written(plan, options, known)).behind(plan.mta)
    if asked is not None and known is not None and options.apply:
        return _attach(options, settings, asked, known, is_written=kept is None)
    changes = _changes(settings, asked, known) if asked is not None and known is not None else []
    if known is not None and not (site := Attached(settings, known)).filtered():
        config_command.report(postfix_settings.past_smilla(site))  # the check says so once the filter is attached
    try:
        return _check(options, steps_follow=known is not None)
    finally:  # last, so that it does not scroll away
        init_next.tell(options, settings, changes, main)


def _asks(options: argparse.Namespace) -> bool:
    return not options.yes and sys.stdin.isatty() and sys.stdout.isatty()


# --- what is here, and what is wanted


def _look(options: argparse.Namespace) -> tuple[init_plan.Plan, postfix_edit.PostfixEditor | None]:
    """The plan with the MTA that is here, and Postfix if its programs can be asked."""
    if options.apply and os.geteuid() != 0:
        raise UsageError("--apply starts the filter and changes Postfix: run it as root")
    mta = options.mta or init_look.mta(options.postfix_config, has_postfix=postfix.is_installed())
    if options.apply and mta != "postfix":
        raise UsageError("--apply changes Postfix's files, and no Postfix is found here; set PATH or --postfix-config")
    plan = init_plan.Plan(mta)
    if mta != "postfix" or not (options.postfix_config or postfix.is_installed()):
        if not mta:
            say("warning", "neither Postfix nor Sendmail is found here; --mta says which one to write for")
        return plan, None
    return plan, postfix_edit.PostfixEditor(options.postfix_config or "")


def _decide(plan: init_plan.Plan, options: argparse.Namespace, main: Mapping[str, str], *, asks: bool) -> None:
    """Puts into the plan what flags, answers and the MTA's own settings say, in this order."""
    for text in options.set:
        try:
            plan.put(*init_plan.given(text), "as smilla init was told")
        except ValueError as error:
            raise UsageError(str(error)) from error
    found = init_look.domains(main)
    for name in found.tables if options.local_domain is None else ():
        say("hint", f"{name} of Postfix is a table; name the domains in it that are yours with --local-domain")
    mode = options.mode or (_ask("What shall smilla encrypt", "outbound", _MODES) if asks else "outbound")
    domains = options.local_domain or list(found.local)
    if asks and options.local_domain is None:
        domains = _ask("Your own domains (mail to them stays here), separated by spaces", " ".join(domains)).split()
    observe = options.observe
    if observe is None:
        observe = not asks or _ask("Only watch and log at first", "yes", {"yes": "", "no": ""}) == "yes"
    plan.put("observe", observe, "decide and log, but change nothing; when you have read the log for some days: false")
    plan.put("mode", mode, f"encrypt {_MODES[mode]}")
    plan.put("local_domains", domains, "your own domains")
    _decide_names(plan, main, mode, domains)
    _decide_sockets(plan, options, main)
    if options.secure_hop:
        _decide_hop(plan, mode)
    if mode == "auto":
        plan.relayed = found.relayed


def _decide_names(plan: init_plan.Plan, main: Mapping[str, str], mode: str, domains: Sequence[str]) -> None:
    if networks := init_look.networks(main):
        plan.put("internal_networks", networks, "your own clients (mynetworks of Postfix)")
    if (origin := init_look.origin(main)) and (not domains or origin != domains[0]):
        plan.put("append_origin", origin, "what Postfix appends to a bare name (myorigin)")
    if appended := init_look.appended(main):
        plan.put("append_domain", appended, "what Postfix appends to a single label (append_dot_mydomain)")


def _decide_sockets(plan: init_plan.Plan, options: argparse.Namespace, main: Mapping[str, str]) -> None:
    queue = main.get("queue_directory", "/var/spool/postfix")
    usual = f"unix:{queue}/smilla/smilla.sock" if plan.mta == "postfix" else "unix:/run/smilla/smilla.sock"
    plan.put("milter.socket", options.socket or usual, "where the MTA can reach it, also from its chroot")
    if plan.mta == "sendmail":
        plan.put("milter.mta", "sendmail", "it need not be found out from the first connection")
    if options.mixed:
        plan.put("policy.mixed", options.mixed, "recipients who need different forms of a message")
    if plan.mta == "postfix":
        plan.put("stage.socket", f"unix:{queue}/smilla/stage.sock", "where Postfix hands over what is to be split")


def _decide_hop(plan: init_plan.Plan, mode: str) -> None:
    if mode == "inbound" or plan.mta == "sendmail":
        what = "mode inbound sends nothing" if mode == "inbound" else "nothing can hold Sendmail to a verified hop"
        raise UsageError(f"--secure-hop is for outbound mail behind Postfix, and {what}")
    if mode == "auto":
        plan.binds_outbound = True
    else:
        plan.put("policy.no_key", "secure-hop", "whoever publishes no key: over a verified hop, or not at all")
    if plan.mta == "postfix":
        plan.put("hop.socket", plan.beside("stage.socket", "tls.sock"), "where Postfix asks how to verify a hop")


def _ask(question: str, default: str, choices: dict[str, str] | None = None) -> str:
    """One question on the terminal; an empty answer means the default.  Raises UsageError at its end."""
    for word, text in (choices or {}).items():
        if text:
            print(f"  {word}: {text}")
    while True:
        try:
            answer = input(f"{question} [{default}]? ").strip() or default
        except EOFError as error:
            raise UsageError("no answer; smilla init --yes asks nothing") from error
        if not choices or answer in choices:
            return answer
        print(f"one of {', '.join(choices)}")


def _choose_resolver(plan: init_plan.Plan) -> None:
    """If nothing on loopback validates, smilla may do so itself.  If it cannot either, the check says so."""
    settings = _read(plan)
    if "directory" in settings.keys.sources and len(settings.keys.sources) == 1:
        return
    problem = init_look.resolver_problem(settings)
    if problem and not plan.has("dns") and (servers := init_look.other_resolver()) is not None:
        plan.put("dns.dnssec", "validate", "no resolver on loopback validates, so smilla does (libunbound)")
        plan.put("dns.nameservers", servers, "what it asks; an empty list means the authoritative servers")


def _read(plan: init_plan.Plan) -> Config:
    """The plan as a configuration, in which no engine is missing.  Raises ConfigError."""
    settings = _parsed(plan)
    try:
        make_ports(settings)
    except EngineMissing as error:
        if plan.has("keys") or plan.has("dns"):
            raise
        say("warning", f"{error}; so the configuration has S/MIME alone")
        plan.put("keys.sources", ["smimea"], "there is no engine for OpenPGP here (apt: gnupg, pip: pysequoia)")
        return _parsed(plan)
    return settings


def _parsed(plan: init_plan.Plan) -> Config:
    """Nobody has seen the file yet, so a fault of what was asked for has no line.  Raises ConfigError."""
    try:
        return config.parse(plan.text())
    except ConfigError as error:
        raise ConfigError([re.sub(r"^configuration:(\d+:)? ", "", fault) for fault in error.faults]) from None


# --- the file


def _kept(options: argparse.Namespace) -> Config | None:
    """The configuration that is there and stays, None if one is to be written: there is none, or the package's as it
    is, or --force is given.  Raises ConfigError."""
    path = Path(options.output)
    before = _before(path)
    if options.force or not before or init_look.is_shipped(before):
        return None
    settings = config.load(path)
    told = [f"--{name.replace('_', '-')}" for name in _TELLING if getattr(options, name) not in (None, [])]
    told += ["--secure-hop"] if options.secure_hop else []
    print(f"{path}: is there already, and stays as it is")
    if told:
        say("warning", f"{', '.join(told)} changed nothing in it; --force writes it anew and keeps it as {path}.bak")
    return settings


def _written(plan: init_plan.Plan, options: argparse.Namespace, known: Settings | None) -> Config:
    """The configuration that is written now."""
    _decide(plan, options, known.main if known is not None else {}, asks=_asks(options))
    if known is not None:
        plan.put("reinject.smtp", init_postfix.listener_for(known.services), "copies go there (master.cf)")
        if options.secure_hop:
            place = init_postfix.secure_listener_for(known.services)
            plan.put("reinject.secure_smtp", place, "copies that may leave over a verified hop only go there")
    _choose_resolver(plan)
    settings = _read(plan)
    _write(Path(options.output), plan.text())
    return settings


def _before(path: Path) -> str:
    try:
        return path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""


def _write(path: Path, text: str) -> None:
    """Writes the file; an old one is kept, but for the package's own, if nobody has changed it: the package still has
    that."""
    before = _before(path)
    if before == text:
        print(f"{path}: is already so")
        return
    if before and not init_look.is_shipped(before):
        print(f"{_copied(path)}: the old one")
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new_file.replace(path, text.encode())
    print(f"{path}: written")


def _copied(path: Path) -> Path:
    """A copy as FILE.bak; if there is one already, which may be the administrator's own, as FILE.bak2 and so on."""
    names = (Path(f"{path}.bak{number if number > 1 else ''}") for number in count(1))
    copy = next(name for name in names if not name.exists())
    new_file.write(copy, new_file.read(path), stat.S_IMODE(path.stat().st_mode))
    return copy


# --- the MTA


def _changes(settings: Config, asked: postfix_edit.PostfixEditor, known: Settings) -> list[Change]:
    """What Postfix lacks, in the order in which to make it; warns of what nobody but the administrator can settle."""
    cleanup = known.service("cleanup")
    written = asked.written(init_postfix.PARAMETERS)
    lines = init_postfix.Lines(settings, known, written, asked.folder(), cleanup.chroot if cleanup else "-")
    changes = [change for change in lines.changes() if not _is_there(change)]
    queue = known.main["queue_directory"]
    if problem := init_postfix.unreachable(settings.milter.socket, queue, known.services):
        lines.warnings.append(f"[milter] socket: {problem}; put it below {queue}")
    for text in lines.warnings:
        say("warning", text)
    return changes


def _is_there(change: Change) -> bool:
    path = Path(change.name)
    return change.kind == "table" and path.is_file() and path.read_text("utf-8", "replace") == change.value


def _attach(
    options: argparse.Namespace,
    settings: Config,
    asked: postfix_edit.PostfixEditor,
    known: Settings,
    *,
    is_written: bool,
) -> int:
    """The filter first, then Postfix, which reads its files even if nothing was changed now: an earlier run may have
    ended in between.  What cannot be done here is printed.  Raises SmillaError."""
    main, changes = known.main, _changes(settings, asked, known)
    try:
        answers = init_start.filter_answers(options, settings, main, is_written=is_written)
    except ServiceFailed as failed:
        say("error", f"{failed}; so Postfix was left as it is")
        say("hint", "journalctl -n 20 -u smilla says why; once that is mended, smilla init --apply goes on")
        _check(options)
        return EX_NO
    _apply(changes, asked, options.output)
    if answers and init_start.reload(asked, options, main):
        code = _check(options, until_read=True)
        init_next.tell_attached(options, settings, main, is_well=code == EX_OK)
        return code
    if not answers:
        say("warning", f"{settings.milter.socket}: no filter with this configuration answers yet; see the steps below")
    try:
        return _check(options, steps_follow=True)
    finally:
        init_next.tell(options, settings, [], main)


def _apply(changes: Sequence[Change], asked: postfix_edit.PostfixEditor, output: str) -> None:
    """Makes the changes.  Raises SmillaError."""
    if not changes:
        print("postfix: has all lines already; nothing was changed")
        return
    script = Path(output).absolute().with_name("smilla-undo.sh")
    for change in changes:
        if change.kind == "table" and Path(change.name).exists():
            say("warning", f"{change.name}: is there and differs; it is replaced, and kept beside {script}")
    try:
        asked.make(changes, script)
    except (SmillaError, OSError):
        say("hint", f"some of the changes may have been made; {script} takes them back")
        raise
    print("\n".join(init_next.changed(changes)))
    print(f"{script}: lists these changes, and takes them back")


def _check(options: argparse.Namespace, *, steps_follow: bool = False, until_read: bool = False) -> int:
    """What ``smilla config check --probe`` says beside what is in order.  ``steps_follow``: what they mend is something
    to do.  ``until_read``: Postfix was told to read its files, which it does within a moment."""
    asked = argparse.Namespace(config=options.output, probe=True, postfix=False, postfix_config=options.postfix_config)
    give_up_at = time.monotonic() + _READ_S
    found = config_command.check(asked)
    while until_read and time.monotonic() < give_up_at and any(init_next.marked(each) is not each for each in found):
        time.sleep(_AGAIN_S)
        found = config_command.check(asked)
    told = finding.in_order(init_next.marked(each) for each in found) if steps_follow else found
    if fine := sum(not each.severity for each in told):
        print(f"smilla config check --probe: {fine} things are in order")
    config_command.report(each for each in told if each.severity)
    return EX_NO if any(each.severity == "error" for each in told) else EX_OK
