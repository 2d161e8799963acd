"""``smilla encrypt``: the filter's pipeline on one message.

Promises: nothing is written before every copy is ready, so that a failure leaves stdout empty and no file behind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

from smilla.cli import EX_NO, EX_NOPERM, EX_OK, EX_TEMPFAIL, UsageError, say, transaction
from smilla.copies import rewrap
from smilla.errors import SmillaError
from smilla.message import ParsedMessage
from smilla.model import Action, Copy, Decision, Disposition, Outcome

_EXIT = {Disposition.DEFER: EX_TEMPFAIL, Disposition.REFUSE: EX_NOPERM, Disposition.HOLD: EX_TEMPFAIL}
_BARE = (Action.PLAIN, Action.SECURE_HOP)
_FATE = {Disposition.DEFER: "deferred", Disposition.REFUSE: "refused", Disposition.HOLD: "held"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla encrypt`` takes."""
    transaction.add_arguments(parser)
    parser.add_argument("--output-dir", metavar="DIR", help="write 1.eml, 2.eml … and envelopes.json there")
    parser.add_argument("--require", action="store_true", help="exit 1 unless it is encrypted for every recipient")


def run(options: argparse.Namespace) -> int:
    """Exit 0: done; 1: not encrypted despite --require; 75: deferred; 77: refused."""
    done = transaction.process(options)
    outcome = done.outcome
    if outcome.disposition in _EXIT:
        _complain(outcome)
        return _EXIT[outcome.disposition]
    plain = [decision for decision in outcome.decisions if decision.action in _BARE]
    for decision in plain:
        say("error" if options.require else "warning", f"{decision.recipient.shown}: not encrypted: {_why(decision)}")
    if plain and options.require:
        return EX_NO
    for copy in outcome.copies:
        _warn_of_headers(copy)
    if len(outcome.copies) > 1 and not options.output_dir:
        raise UsageError(f"the recipients need {len(outcome.copies)} different messages; give --output-dir DIR")
    rendered = [_render(copy, done.parsed) for copy in outcome.copies]
    if options.output_dir:
        _write_all(Path(options.output_dir), outcome.copies, rendered, done.session.sender)
    else:
        sys.stdout.buffer.write(rendered[0])
        sys.stdout.buffer.flush()
    return EX_OK


def _complain(outcome: Outcome) -> None:
    for decision in outcome.decisions:
        if decision.recipient in outcome.blocked_by:
            fate = _FATE[outcome.disposition]
            say("error", f"{decision.recipient.shown}: {fate}: {decision.reason.text} ({decision.rule})")


def _warn_of_headers(copy: Copy) -> None:
    """If hide was asked for and is impossible, the Subject stays readable: smilla always says so."""
    found = copy.protection
    if found.problem:
        what = "the Subject is not hidden" if found.asked == "hide" else "the header fields are not inside"
        for recipient in copy.recipients:
            say("warning", f"{recipient.shown}: {what}: {found.problem.text} (headers-bare, {found.problem.code})")


def _why(decision: Decision) -> str:
    over = f"; it may leave over a verified hop only ({decision.hop.way})" if decision.hop and decision.hop.way else ""
    return f"{decision.reason.text} ({decision.rule}){over}"


def _render(copy: Copy, parsed: ParsedMessage) -> bytes:
    """A copy as octets: as it came if the body stays, with CRLF if it was encrypted."""
    if copy.rewrite.body is None:
        return parsed.raw_unchanged(copy.rewrite.removed)
    return b"".join(rewrap.applied(parsed.message, copy.rewrite))


def _write_all(folder: Path, copies: tuple[Copy, ...], rendered: list[bytes], sender: str) -> None:
    """Writes 1.eml, 2.eml …, and last envelopes.json, which shows that all are there.  Only their owner can read
    them, and none stays behind if one cannot be written.  Raises SmillaError."""
    files: dict[Path, bytes] = {}
    envelopes = []
    for number, (copy, octets) in enumerate(zip(copies, rendered, strict=True), 1):
        recipients = [recipient.raw.strip("<>") for recipient in copy.recipients]
        envelope = {"file": f"{number}.eml", "mail_from": sender, "rcpt_to": recipients, "format": copy.form.value}
        envelopes.append(envelope)
        files[folder / f"{number}.eml"] = octets
    listing = json.dumps(envelopes, indent=2, ensure_ascii=False) + "\n"
    files[folder / "envelopes.json"] = listing.encode("utf-8", "surrogateescape")
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, octets in files.items():
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            written.append(temporary)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(octets)
        for path, temporary in zip(files, list(written), strict=True):
            written.append(path)
            temporary.replace(path)
    except OSError as error:
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        raise SmillaError(f"--output-dir {folder}: {error.strerror}") from error
