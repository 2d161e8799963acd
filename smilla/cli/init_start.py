"""What ``smilla init --apply`` starts: the filter, and once that answers, Postfix's reload."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path

from smilla.adapters import milter_client, postfix_running, service_manager, unit_file
from smilla.adapters.milter_client import Who
from smilla.adapters.postfix_edit import PostfixEditor
from smilla.cli import init_look
from smilla.config import DEFAULT_PATH, Config
from smilla.errors import ServiceFailed

_ANSWER_S = 5.0


def filter_answers(options: argparse.Namespace, settings: Config, main: Mapping[str, str], *, is_written: bool) -> bool:
    """Does a filter answer that has this configuration?  If systemd has a unit for it, and all that it needs is there,
    it is started; otherwise that is left to the administrator.  Raises ServiceFailed: it could not be started."""
    unit = unit_file.unit_for(Path(options.output), DEFAULT_PATH) if unit_file.has_systemd() else None
    user = settings.milter.user or (unit.user.name if unit else "") or init_look.USER
    is_ready = unit is not None and not any(init_look.missing(settings, user, init_look.group_of_postfix(main)))
    if unit is None or not is_ready:
        return not is_written and _answers(settings)
    if is_written or not _answers(settings):
        name = Path(unit.path).name
        service_manager.restart(name)
        print(f"{name}: started with this configuration")
        if not _answers(settings):
            raise ServiceFailed(f"{name} runs, but no filter answers on {settings.milter.socket}")
    return True


def _answers(settings: Config) -> bool:
    return milter_client.ask(settings.milter.socket, _ANSWER_S).who is Who.SMILLA


def reload(asked: PostfixEditor, options: argparse.Namespace, main: Mapping[str, str]) -> bool:
    """Has Postfix read its files, if it runs.  Raises PostfixUnclear."""
    if not postfix_running.runs(main.get("queue_directory", "")):
        return False
    asked.reload()
    folder = ["-c", options.postfix_config] if options.postfix_config else []
    print(f"{shlex.join(['postfix', *folder, 'reload'])}: done")
    return True
