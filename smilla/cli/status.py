"""``smilla status``: the running filter on one screen, and what needs attention."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from smilla import config
from smilla.adapters import status
from smilla.cli import EX_NO, EX_OK, panel, say, with_config
from smilla.config import Config
from smilla.errors import ConfigError, SmillaError
from smilla.metrics.attention import findings, of_file
from smilla.metrics.snapshot import Snapshot, share_protected


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla status`` takes."""
    with_config(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document")


def asked(options: argparse.Namespace) -> Snapshot:
    """What the running filter says.  While the file has a fault the filter goes on with the configuration before, and
    answers at the usual socket.  Raises SmillaError, or ConfigError where nobody answers there."""
    try:
        settings = config.load(Path(options.config))
    except ConfigError as fault:
        try:
            found = status.ask(Config().status_socket)
        except SmillaError:
            raise fault from None
        say("warning", f"{options.config} has a fault, which smilla config check names")
        return found
    return status.ask(settings.status_socket)


def _changed_at(path: Path) -> float:
    """When the file was written last; 0 if it cannot be seen."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def run(options: argparse.Namespace) -> int:
    """Exit 0: all is well; 1: something needs attention; 75: smilla does not run, or cannot be asked."""
    found = asked(options)
    problems = (*findings(found), *of_file(found, _changed_at(Path(options.config))))
    if options.json:
        shares = {
            "last_hour": share_protected(found.minutes, observed=found.observing),
            "last_day": share_protected(found.tens, observed=found.observing),
        }
        told = [{"cause": each.cause.value, "text": each.why, "hint": each.hint} for each in problems]
        print(json.dumps({"attention": told, "share_encrypted": shares, **json.loads(found.to_json())}, indent=2))
    else:
        print("\n".join(panel.lines(found, problems, coloured=panel.is_coloured(sys.stdout))))
    return EX_NO if problems else EX_OK
