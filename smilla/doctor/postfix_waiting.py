"""Does Postfix ask a filter that does not run?  Then each of its listeners does what ``default_action`` says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from smilla.adapters import milter_client, status
from smilla.adapters.milter_client import Who
from smilla.adapters.postfix import Postfix
from smilla.config import Config
from smilla.doctor import attached
from smilla.doctor.attached import Attached
from smilla.doctor.finding import Finding, Kind, error
from smilla.doctor.rights import restart
from smilla.errors import PostfixUnclear, SmillaError

_PROBE_S = 2.0
_LOG = "if it does not stay up, its log says why (journalctl -u smilla)"
_BY_HAND = "start smilla, or restart it if it runs: a changed socket needs a restart"
_MEANWHILE = {
    "accept": "mail passes in plaintext",
    "reject": "mail is refused for good",
    "quarantine": "mail is held in plaintext",
}


def problems(config: Config, asked: Postfix) -> Iterator[Finding]:
    """One error for each thing that happens to mail meanwhile.  What listens there in smilla's place, and a folder that
    is missing, milter_socket.py has told."""
    answer = milter_client.ask(config.milter.socket, _PROBE_S)
    if answer.who is not Who.NOBODY:
        return
    try:
        site = Attached(config, asked.settings(attached.NAMES))
    except PostfixUnclear:
        return  # postfix_settings.py says so
    names: dict[str, list[str]] = {}
    for service in site.filtered():
        for action in dict.fromkeys(site.own_actions(service)):
            names.setdefault(_MEANWHILE.get(action, "mail is deferred"), []).append(service.name)
    for meanwhile, those in names.items():
        who = f"{', '.join(those)} of Postfix {'ask' if len(those) > 1 else 'asks'} it"
        nobody = f"nobody listens ({answer.text.lower() or 'no answer'})"
        what = f"smilla is not running, but {who}: {nobody}"
        why = f"until then {meanwhile}; {_LOG}"
        if _runs(config):
            what = f"smilla runs, but does not listen there, and {who}: {nobody}"
            why = f"until then {meanwhile}; a changed [milter] socket needs a restart, for a reload keeps the old one"
        yield error(Kind.NOT_RUNNING, f"socket {config.milter.socket}", what, restart() or _BY_HAND, why)


def _runs(config: Config) -> bool:
    """Does a filter answer at the status socket?  False, too, if this user may not ask it."""
    with suppress(SmillaError):
        status.ask(config.status_socket)
        return True
    return False
