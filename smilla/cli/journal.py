"""``smilla journal``: the messages with copies owed, and how much the journal remembers."""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from smilla import config
from smilla.adapters.journal import SQLiteJournal, Summary, Unfinished
from smilla.cli import EX_NO, EX_OK, printable, with_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla journal`` takes."""
    with_config(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(options: argparse.Namespace) -> int:
    """Exit 0: nothing is owed; 1: something is; 75: the journal cannot be read."""
    settings = config.load(Path(options.config)).reinject
    with closing(SQLiteJournal(settings.spool, settings.remember_s)) as journal:
        found = journal.summary()
    print(json.dumps(_as_json(found), indent=2) if options.json else _in_words(found))
    return EX_NO if any(entry.owed or entry.committing for entry in found.unfinished) else EX_OK


def _as_json(found: Summary) -> dict[str, object]:
    """The instants in UTC (RFC 3339)."""
    whole = asdict(found)
    for entry in whole["unfinished"]:
        entry |= {
            name: _instant(entry[name]) for name in ("begun_at", "tried_at", "sealed_at") if entry[name] is not None
        }
    return whole


def _in_words(found: Summary) -> str:
    lines = [
        f"{printable(entry.queue_id)}: since {_instant(entry.begun_at)}, last tried {_instant(entry.tried_at)}: "
        f"{entry.owed} owed, {entry.committing} of unknown acceptance, {entry.accepted} accepted{_noted(entry)}"
        for entry in found.unfinished
    ]
    return "\n".join(
        [
            *lines,
            f"unfinished: {len(found.unfinished)}",
            f"finished and remembered: {found.remembered}",
            f"copies sent again because their acceptance was unknown: {found.unknown_windows}",
        ]
    )


def _noted(entry: Unfinished) -> str:
    if entry.sealed_at is None:
        return ""
    return f"; sealed {_instant(entry.sealed_at)} as {printable(str(entry.message_id))}, last answer {entry.answer}"


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
