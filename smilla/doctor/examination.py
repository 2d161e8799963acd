"""What ``smilla config check`` looks at: the configuration alone, or with ``--probe`` all that the filter will need."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from smilla import log
from smilla.adapters import as_user, port_holder, postfix, postfix_running, smtp, spool
from smilla.adapters.journal import SQLiteJournal
from smilla.adapters.seal_keys import SealKeys
from smilla.config import Config
from smilla.config.values import is_local
from smilla.doctor import (
    circle_check,
    decrypt_check,
    directory_check,
    idle,
    key_folder,
    milter_socket,
    postfix_actions,
    postfix_check,
    postfix_relay,
    postfix_settings,
    postfix_waiting,
    relay_certificate,
    relay_check,
    reloaded,
    resolver_check,
    rights,
    rule_key,
    sendmail_check,
    stage_check,
    store_check,
    strangers,
    transport_check,
    web_check,
)
from smilla.doctor.finding import Finding, Kind, error, fine, hint, warning
from smilla.errors import JournalError, PostfixUnclear, SmillaError, SpoolError
from smilla.ports import Ports
from smilla.server import listener

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
    "install pysequoia, beside smilla (the Debian package has it; where PyPI has no wheel of it for this machine, that "
    "needs Rust)"
)
_WEB = (
    "its packages belong beside smilla: pip install 'smilla[web]' (the Debian package has them), or take listen out of "
    "[web]"
)
_STILL_SERVED = (
    "[policy] mixed is {}, so nothing is sealed, but the stage still serves sealed mail; once no "
    "queued message needs a key (smilla seal prune), remove the folder and restart smilla"
)
_NO_STAGE = "has none of the lines for the stage"
_SET_UP = 'add the lines (contrib/postfix), or set [policy] mixed to "defer" or "refuse"'
_WAITS = "a message whose recipients need different forms gets 451 until they are there"
_NO_MTA = "not found here; if the MTA is another one or elsewhere, set [milter] mta"
_ADD_LISTENER = 'add it to the MTA (contrib/postfix, contrib/sendmail), or set [policy] mixed to "defer" or "refuse"'
_STRANGER = "stop it (ss -ltnp says what it is), or choose another port in [reinject] smtp and for the MTA's listener"
POSTFIX_S = 120.0


def of_file(settings: Config, ports: Ports, postfix_folder: str | None) -> Iterator[Finding]:
    """What can be seen without asking anybody but Postfix's programs."""
    yield from key_folder.problems(settings, ports)
    yield from rule_key.problems(settings, ports)
    yield from idle.problems(settings)
    yield from circle_check.problems(settings.circle, ports.clock.now())
    if settings.relay.next_hop:
        yield from relay_certificate.problems(settings.relay, ports.clock.now())
    if not is_local(settings.milter.socket):
        what = f"[milter] socket {settings.milter.socket} is open to other machines: {_OPEN}"
        yield warning(Kind.OPEN_SOCKET, "", what)
    if settings.mode == "auto" and not any(rule.encrypt == "never" for rule in settings.rule):
        yield hint(Kind.IDLE, "", _RELAYING)
    if (
        settings.policy.mixed == "reinject"
        and (settings.milter.mta or "postfix") == "postfix"
        and postfix.is_installed()
    ):
        yield warning(Kind.POLICY, "", _REINJECT)
        yield from postfix_actions.problems(postfix.Postfix(postfix_folder or "", POSTFIX_S))
    if settings.openpgp.engine == "auto" and ports.openpgp.name == "gnupg":
        yield hint(Kind.ENGINE, "", _GPG_ALONE)
    yield from _page(settings)


def _page(settings: Config) -> Iterator[Finding]:
    """The filter goes on without its page, and only its log says so."""
    if settings.web.listen:
        try:
            importlib.import_module("smilla.server.web")
        except ImportError as missing:
            what = f'[web] listen = "{settings.web.listen}", but the page cannot be served: {missing}'
            yield warning(Kind.ENGINE, "", what, _WEB)


def of_surroundings(settings: Config, configuration: Path, postfix_folder: str | None) -> Iterator[Finding]:
    """Tries everything that the filter will need.  With a Postfix here, [policy] mixed is stage if it is not set; that
    nobody has set up the stage is no failure then, for mail that needs splitting waits.  With a next hop of the relay,
    what the filter alone needs counts only if it runs."""
    if settings.relay.next_hop and not listener.can_connect(settings.milter.socket):
        yield from _of_surroundings(settings.relaying(), configuration, postfix_folder, relays_only=True)
        return
    behind = settings.behind("postfix" if postfix_folder or postfix.is_installed() else "")
    if not settings.policy.mixed and behind.policy.mixed == "stage" and not _stage_is_begun(behind, postfix_folder):
        yield warning(Kind.STAGE_WAY, "postfix", _NO_STAGE, _SET_UP, _WAITS)
        behind = replace(behind, policy=replace(behind.policy, mixed="defer"))
        yield from _of_surroundings(behind, configuration, postfix_folder, lacks_stage=True)
        return
    yield from _of_surroundings(behind, configuration, postfix_folder)


def _stage_is_begun(behind: Config, postfix_folder: str | None) -> bool:
    try:
        return postfix_check.is_begun(behind, postfix.Postfix(postfix_folder or "", POSTFIX_S))
    except PostfixUnclear:
        return True


def _of_surroundings(
    settings: Config,
    configuration: Path,
    postfix_folder: str | None,
    *,
    relays_only: bool = False,
    lacks_stage: bool = False,
) -> Iterator[Finding]:
    log.silence()
    service = rights.service_of(settings, configuration)
    # Before anything starts a thread, since this forks.
    may = [
        *strangers.problems(settings, configuration, service),
        *rights.problems(settings, configuration, service),
    ]
    asked = [*directory_check.problems(settings, service), *web_check.problems(settings, service)]
    state = [*_spool(settings), *_journal(settings, service), *_stage(settings, service, lacks_lines=lacks_stage)]
    state += store_check.problems(settings, service)
    yield from rights.as_whom(configuration, service)
    yield from _without_repeats(may, state)
    yield from state
    yield from resolver_check.problems(settings)
    yield from asked
    if settings.relay.next_hop:
        yield from relay_check.problems(settings)
        if postfix_folder is not None or postfix.is_installed():
            yield from postfix_relay.problems(settings, postfix.Postfix(postfix_folder or "", POSTFIX_S))
    if relays_only:
        return
    yield from milter_socket.problems(settings, service)
    yield from reloaded.problems(settings, configuration, service)
    yield from _listener(settings, postfix_folder)
    yield from _mta(settings, postfix_folder)


def _without_repeats(may: Iterable[Finding], state: Iterable[Finding]) -> Iterator[Finding]:
    """Whose folder it is was said already, for the journal and the seal keys."""
    told = {found.subject for found in state if found.severity == "error"}
    yield from (found for found in may if found.subject not in told or not found.severity)


def _spool(settings: Config) -> Iterator[Finding]:
    try:
        spool.try_out(settings.spool.folder)
    except SpoolError as unwritable:
        yield error(Kind.SPOOL, "", f"spool {unwritable}")
        return
    yield fine(Kind.SPOOL, f"spool {settings.spool.folder}", "is writable")


def _journal(settings: Config, service: rights.Service) -> Iterator[Finding]:
    """Is it readable, and may the filter's user write it?  The user who runs the check may be another one."""
    if not _splits(settings):
        return
    folder = Path(settings.reinject.spool)
    subject = f"journal {folder}"
    try:
        with closing(SQLiteJournal(settings.reinject.spool, settings.reinject.remember_s)) as journal:
            unfinished = len(journal.summary().unfinished)
        if not folder.is_dir():
            yield fine(Kind.JOURNAL, subject, "made at the start of the filter")
            return
        if problem := list(_owner_problem(folder, service)):
            yield from problem
            return
    except (JournalError, OSError) as unreadable:
        yield error(Kind.JOURNAL, subject, str(unreadable))
        return
    yield fine(Kind.JOURNAL, subject, f"belongs to {_owner(folder)}, {unfinished} messages with copies owed")


def _splits(settings: Config) -> bool:
    """Do copies leave by the listener of [reinject]?  Copies of sealed mail do, whatever mixed says now."""
    return settings.may_split or SealKeys(settings.stage.keys).exist()


def _owner_problem(folder: Path, service: rights.Service) -> Iterator[Finding]:
    subject = f"journal {folder}"
    yield from (found := list(rights.of_state(subject, [folder, *sorted(folder.iterdir())], service)))
    if not found and not os.access(folder, os.W_OK | os.X_OK):
        what = f"belongs to {_owner(folder)}, and the user who runs this check cannot write there"
        yield error(Kind.RIGHTS, subject, what)


def _owner(path: Path) -> str:
    return as_user.name_of(path.stat().st_uid)


def _stage(settings: Config, service: rights.Service, *, lacks_lines: bool) -> Iterator[Finding]:
    seals = settings.policy.mixed == "stage"
    if not settings.policy.mixed or not (seals or SealKeys(settings.stage.keys).exist()):
        return
    yield from stage_check.keys(settings, service)
    yield from stage_check.socket(settings, service)
    if seals:
        yield from stage_check.size(settings)
    elif not lacks_lines:  # otherwise its lines are to come, or to come back
        text = _STILL_SERVED.format(settings.policy.mixed)
        yield hint(Kind.STAGE, f"seal keys {settings.stage.keys}", text)


def _listener(settings: Config, postfix_folder: str | None) -> Iterator[Finding]:
    if not _splits(settings):
        return
    name = settings.reinject.smtp
    subject, found = f"re-injection listener {name}", smtp.problems(name, settings.dns.timeout_s)
    if not any(severity == "error" for severity, _ in found):
        if settings.stage.check and (start := _start_of_postfix(settings, postfix_folder)):
            what = f"Postfix does not run, but {_who(name)} answers there, and would get the copies"
            yield error(Kind.LISTENER, subject, what, f"{_STRANGER}; then {start}")
            return
        yield fine(Kind.LISTENER, subject, "answers")
        yield from (Finding(Kind.LISTENER, severity, subject, text) for severity, text in found)
        return
    host, _, port = name.rpartition(":")
    is_taken = listener.can_connect(f"inet:{port}@{host.strip('[]')}")
    for _, text in found:
        said = text.removeprefix(f"{name}: ")
        if not is_taken and (start := _start_of_postfix(settings, postfix_folder)):
            yield error(Kind.LISTENER, subject, f"{said}: Postfix does not run", start)
        elif is_taken:
            what = f"what listens there is not the one for copies: {said}{_named(name)}"
            yield error(Kind.LISTENER, subject, what, _STRANGER)
        else:
            yield error(Kind.LISTENER, subject, said, _ADD_LISTENER)


def _who(place: str) -> str:
    return port_holder.holder(postfix.port_of(place)) or "something else"


def _named(place: str) -> str:
    who = port_holder.holder(postfix.port_of(place))
    return f"; it is {who}" if who else ""


def _start_of_postfix(settings: Config, postfix_folder: str | None) -> str:
    """The line that starts the Postfix of this machine, "" if it runs or is not here."""
    if settings.milter.mta == "sendmail" or not (postfix_folder is not None or postfix.is_installed()):
        return ""
    with suppress(SmillaError):
        if not postfix_running.runs(postfix.Postfix(postfix_folder or "", POSTFIX_S).value("queue_directory")):
            return f"postfix -c {postfix_folder} start" if postfix_folder else "postfix start"
    return ""


def _mta(settings: Config, postfix_folder: str | None) -> Iterator[Finding]:
    """Postfix's or Sendmail's own settings, where they are here."""
    mixed = settings.policy.mixed
    if not mixed:
        yield hint(Kind.NO_MTA, "postfix", _NO_MTA)
    if settings.milter.mta != "sendmail" and (postfix_folder is not None or postfix.is_installed()):
        asked = postfix.Postfix(postfix_folder or "", POSTFIX_S)
        yield from postfix_waiting.problems(settings, asked)
        yield from postfix_settings.problems(settings, asked)
        yield from transport_check.problems(settings, asked)
        yield from decrypt_check.problems(settings, asked)
        if mixed == "stage":
            yield from postfix_check.problems(settings, asked)
        return
    yield from transport_check.problems(settings, None)
    if mixed == "stage":
        yield hint(Kind.NO_MTA, "postfix", "not found here, so its lines for the stage were not checked")
    elif settings.milter.mta != "postfix":
        yield from sendmail_check.problems(settings)
    if mixed == "reinject":
        yield from sendmail_check.after(settings.milter.socket)
