"""What is left to do, as ``smilla init`` prints it: lines to paste into a shell or into sendmail.mc."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from smilla.adapters import milter_client, postfix_running, smtp
from smilla.adapters.milter_client import Who
from smilla.adapters.postfix_edit import Change, shell
from smilla.cli import init_look, init_sendmail, say
from smilla.config import DEFAULT_PATH, Config
from smilla.doctor.finding import Finding, Kind

_TIMEOUT_S = 3.0
_TO_DO = "to do"
_RESTART = "systemctl enable smilla && systemctl restart smilla"  # it may run already, with another configuration
_UNTIL_STARTED = " (until smilla runs: see the steps below)"
_UNTIL = " (until postfix reload: see the steps below)"


def tell(options: argparse.Namespace, settings: Config, changes: Sequence[Change], main: Mapping[str, str]) -> None:
    """Prints the next steps, in their order; ``main`` are Postfix's settings, empty if it is not here."""
    if settings.milter.mta == "sendmail":
        print("\nFor sendmail.mc, before the MAILER lines; then make sendmail.cf anew and restart Sendmail:\n")
        print("\n".join(init_sendmail.lines(settings)))
    print("\nNext:\n")
    print("\n".join(_steps(options, settings, changes, main)))
    print()
    if settings.observe:
        print(f"smilla only observes then: it logs what it would do, and changes no mail.\n{_encrypts_once(options)}\n")
    _tell_size(settings, main)


def tell_attached(options: argparse.Namespace, settings: Config, main: Mapping[str, str], *, is_well: bool) -> None:
    """All is done: what happens from now on."""
    _tell_size(settings, main)
    if is_well:
        print("\nThe filter runs, and Postfix asks it about each message.")
    else:
        print("\nThe filter runs.  Mend what stands above; smilla config check --probe says what is left.")
    if settings.observe:
        log = "journalctl -u smilla" if init_look.has_systemd() else "its log"
        print(f"It only observes: {log} shows what it would do, and no mail is changed.\n{_encrypts_once(options)}\n")


def _encrypts_once(options: argparse.Namespace) -> str:
    reload = "systemctl reload smilla" if init_look.has_systemd() else "kill -HUP its process"
    return f"When you have read its log for some days, set observe = false in {options.output}, and: {reload}"


def changed(changes: Sequence[Change]) -> Iterator[str]:
    """What was changed in Postfix, in few lines: the names alone."""
    for kind, what in (("main", "main.cf"), ("service", "master.cf"), ("table", "new files")):
        kinds = ("service", "option") if kind == "service" else (kind,)
        found = [change.name for change in changes if change.kind in kinds]
        names = [name.partition("/")[0] if kind == "service" else name for name in found]
        if names:
            yield f"postfix: {what}: {', '.join(dict.fromkeys(names))}"
    if any(change.kind == "table" for change in changes):
        yield "(all but smtpd_milters is for messages whose recipients need different forms: smilla-stage(7))"


def _tell_size(settings: Config, main: Mapping[str, str]) -> None:
    limit = main.get("message_size_limit", "")
    is_told = settings.policy.mixed == "stage" and smtp.size_limit(settings.reinject.smtp, _TIMEOUT_S)
    if limit.isdigit() and int(limit) and not is_told:
        fits = int(limit) * 10 // 14
        what = "a message is up to 1.4 times as large once it is encrypted"
        say("hint", f"{what}: of message_size_limit = {limit}, {fits} octets remain")


def marked(found: Finding) -> Finding:
    """A finding of the check that the steps below mend is something to do, and no error."""
    is_refused = found.kind is Kind.LISTENER and "refused" in found.text
    if found.kind is Kind.NOT_RELOADED:
        return replace(found, severity=_TO_DO, text=f"{found.text}{_UNTIL_STARTED}", mend="")
    if found.kind is Kind.NOT_RUNNING:
        return replace(found, severity=_TO_DO, text=f"{found.text}{_UNTIL_STARTED}", mend="", why="")
    if found.severity != "error" or not (is_refused or found.kind is Kind.POSTFIX_NOT_READ):
        return found
    return replace(found, severity=_TO_DO, text=f"{found.text}{_UNTIL}", mend="" if is_refused else found.mend)


def _steps(
    options: argparse.Namespace, settings: Config, changes: Sequence[Change], main: Mapping[str, str]
) -> Iterator[str]:
    user = settings.milter.user or init_look.USER
    file, folder = shlex.quote(str(Path(options.output).absolute())), options.postfix_config or ""
    yield from init_look.missing(settings, user, init_look.group_of_postfix(main) if main else user)
    start = [_RESTART] if init_look.has_systemd() else list(_by_hand(settings, user, file))
    asking = list(_postfix(changes, main, folder)) if main else []
    if milter_client.ask(settings.milter.socket, _TIMEOUT_S).who is Who.SMILLA:
        yield from asking
        yield "# the filter that runs reads its configuration anew"
        yield from start
    else:
        yield "# first the filter: until it answers, the MTA defers all mail"
        yield from start
        yield from asking
    if not main:
        return
    named = f" --config {file}" if options.output != DEFAULT_PATH else ""
    named += f" --postfix-config {shlex.quote(folder)}" if folder else ""
    yield "# is all in order?"
    yield f"smilla config check --probe{named}"


def _postfix(changes: Sequence[Change], main: Mapping[str, str], folder: str) -> Iterator[str]:
    """From now on Postfix asks the filter."""
    if changes:
        yield "# Postfix (smilla init --apply does the same, and says how to take it back)"
        yield from shell(changes, folder)
    verb = "reload" if postfix_running.runs(main.get("queue_directory", "")) else "start"
    yield shlex.join(["postfix", *(["-c", folder] if folder else []), verb])


def _by_hand(settings: Config, user: str, file: str) -> Iterator[str]:
    """Without systemd: one that runs is told to read its configuration again, since a second one could not listen."""
    answer = milter_client.ask(settings.milter.socket, _TIMEOUT_S)
    if answer.who is Who.SMILLA and answer.process_id:
        yield f"# a filter listens at {settings.milter.socket} already (started with another file? stop it first)"
        yield f"kill -HUP {answer.process_id}"
        return
    if answer.who in (Who.SMILLA, Who.FILTER, Who.OTHER):
        yield f"# another process listens at {settings.milter.socket} already: stop it first"
    # setpriv becomes smilla, so that a signal to its process is one to smilla; runuser would stay in between.
    rights = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if not settings.milter.user else []
    yield f"{shlex.join([*rights, 'smilla', 'milter', '--config'])} {file} &"
    yield "# to reload its configuration later: kill -HUP and the number that the shell printed"
