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
from smilla.metrics.attention import Finding, findings, of_decrypt, of_file
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


def _decrypting(path: Path) -> tuple[Snapshot | None, tuple[Finding, ...]]:
    """What smilla decrypt says, if the configuration has a rule for it, and what of it needs attention."""
    try:
        settings = config.load(path)
    except ConfigError:
        return None, ()
    if not settings.decrypt_rule or not settings.decrypt_status:
        return None, ()
    try:
        found = status.ask(settings.decrypt_status)
    except SmillaError as error:
        return None, of_decrypt(None, str(error))
    return found, of_decrypt(found)


def _changed_at(path: Path) -> float:
    """When the file was written last; 0 if it cannot be seen."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def run(options: argparse.Namespace) -> int:
    """Exit 0: all is well; 1: something needs attention; 75: smilla does not run, or cannot be asked."""
    decrypting, of_decrypting = _decrypting(Path(options.config))
    try:
        found = asked(options)
    except SmillaError:
        if decrypting is not None and not options.json:
            print("\n".join(panel.decryption(decrypting)))
        raise
    problems = (*findings(found), *of_file(found, _changed_at(Path(options.config))), *of_decrypting)
    if options.json:
        shares = {
            "last_hour": share_protected(found.minutes, observed=found.observing),
            "last_day": share_protected(found.tens, observed=found.observing),
        }
        told = [{"cause": each.cause.value, "text": each.why, "hint": each.hint} for each in problems]
        shown = json.loads(decrypting.to_json()) if decrypting else None
        document = {"attention": told, "share_encrypted": shares, **json.loads(found.to_json()), "decrypt": shown}
        print(json.dumps(document, indent=2))
    else:
        coloured = panel.is_coloured(sys.stdout)
        print("\n".join(panel.lines(found, problems, coloured=coloured, decrypting=decrypting)))
    return EX_NO if problems else EX_OK
