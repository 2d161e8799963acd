"""What is left to do, as ``smilla init`` prints it: lines to paste into a shell or into sendmail.mc."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from smilla.adapters import milter_client
from smilla.adapters.milter_client import Who
from smilla.adapters.postfix_edit import Change, shell
from smilla.cli import init_look, init_sendmail, say
from smilla.config import Config
from smilla.doctor.finding import Finding, Kind

_USER = "smilla"
_TIMEOUT_S = 3.0
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
        print("smilla only observes now. Once its log says what you expect, remove observe = true and reload it.\n")
    limit = main.get("message_size_limit", "")
    if limit.isdigit() and int(limit):
        fits = int(limit) * 10 // 14
        say("hint", f"encrypted mail is 1.37 times as large: of message_size_limit = {limit}, {fits} octets remain")


def marked(found: Finding) -> Finding:
    """A finding of the check that the steps below mend says so."""
    is_refused = found.kind is Kind.LISTENER and "refused" in found.text
    if found.kind is Kind.NOT_RUNNING:
        return replace(found, text=f"{found.text}{_UNTIL_STARTED}", mend="", why="")
    if found.severity != "error" or not (is_refused or found.kind is Kind.POSTFIX_NOT_READ):
        return found
    return replace(found, text=f"{found.text}{_UNTIL}", mend="" if is_refused else found.mend)


def _steps(
    options: argparse.Namespace, settings: Config, changes: Sequence[Change], main: Mapping[str, str]
) -> Iterator[str]:
    user = settings.milter.user or _USER
    file, folder = shlex.quote(str(Path(options.output).absolute())), options.postfix_config or ""
    yield from init_look.missing(settings, user, init_look.group_of_postfix(main) if main else user)
    yield "# first the filter: until it answers, the MTA defers all mail"
    if init_look.has_systemd():
        yield "systemctl enable --now smilla"
    else:
        yield from _by_hand(settings, user, file)
    if not main:
        return
    if changes:
        yield "# Postfix (smilla init --apply does the same, and says how to take it back)"
        yield from shell(changes, folder)
    yield shlex.join(["postfix", *(["-c", folder] if folder else []), "reload"])
    yield "# mail from sendmail(1) (cron, web applications) skips smilla and leaves in plaintext: smilla-postfix(7)"
    if settings.policy.mixed == "stage":
        yield "# tells the filter that Postfix has the lines of the stage"
        named = f" --postfix-config {shlex.quote(folder)}" if folder else ""
        yield f"smilla config check --postfix --config {file}{named}"


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
