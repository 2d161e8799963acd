"""One run of ``smilla mailbox``: shows how far it has come, what is left and why, and adds up."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smilla.adapters.mbox import Mbox
from smilla.cli import EX_NO, EX_OK, EX_TEMPFAIL, printable, say
from smilla.cli.mailbox_place import Place
from smilla.cli.progress import Estimate, Progress, in_words
from smilla.errors import MailboxLost, SmillaError
from smilla.mailbox.change import Change, Changer, Fate
from smilla.mailbox.store import Journal
from smilla.mailbox.whole_file import WholeFile
from smilla.mailbox.work import Tally, Work
from smilla.model.mailbox import Wanted

_MOST_TOLD = 20  # messages that are left, one line each
_WAITS_S = (1.0, 4.0, 15.0, 60.0)  # before a lost connection is made anew


def run(options: argparse.Namespace, change: Changer, journal: Journal | None, wanted: Wanted, place: Place) -> int:
    """The exit code.  What was done until something failed is told, too.  Raises SmillaError."""
    shown = _Shown(options, len(place.folder_names))
    work = Work(change, journal, wanted, options.keep_original, shown.tell, shown.step)
    try:
        for name in place.folder_names:
            _run_folder(work, place, name, shown)
            shown.is_at += 1
    except KeyboardInterrupt:
        shown.end(work.tallies)
        say("error", "interrupted; nothing is lost, and the same command goes on from there")
        return EX_TEMPFAIL
    except SmillaError:
        shown.end(work.tallies)
        raise
    shown.end(work.tallies)
    return _exit_code(work.tallies)


def run_file(options: argparse.Namespace, change: Changer) -> int:
    """The same for an mbox file."""
    shown = _Shown(options, 1)
    tally = Tally(options.mbox)
    whole = WholeFile(change, options.from_lines, shown.tell, shown.step, tally)
    box = Mbox(Path(options.mbox))
    try:
        if options.dry_run:
            with box.path.open("rb") as looked_at:
                whole.look(looked_at, box.path.stat().st_size)
        else:
            with box.locked() as file, box.replacement(file) as new:
                whole.run(file, box.path.stat().st_size, new, options.keep_original)
    except KeyboardInterrupt:
        shown.end([])
        say("error", "interrupted; nothing is lost")
        return EX_TEMPFAIL
    except SmillaError:
        shown.end([])
        raise
    shown.end([tally])
    return _exit_code([tally])


def _run_folder(work: Work, place: Place, name: str, shown: _Shown) -> None:
    """Goes on over another connection where one is lost, as long as something is done over each, or a few times."""
    lost, seen = 0, 0
    while True:
        try:
            work.run(place.folder(name))
            return
        except MailboxLost as error:
            now = len(work.tallies[-1].seen) + work.tallies[-1].resumed if work.tallies else 0
            lost = lost + 1 if now == seen else 1
            if not work.tallies or lost > len(_WAITS_S):
                raise
            seen = now
            place.mailbox.forget()
            shown.lost(str(error))
            time.sleep(_WAITS_S[lost - 1])


def _exit_code(tallies: list[Tally]) -> int:
    if any(tally.count(Fate.LATER) for tally in tallies):
        return EX_TEMPFAIL
    return EX_NO if any(tally.count(Fate.LEFT) for tally in tallies) else EX_OK


class _Shown:
    """What a person sees.  ``is_at`` counts the folders that are done."""

    def __init__(self, options: argparse.Namespace, folders: int) -> None:
        self.is_at = 0
        self._options, self._folders = options, folders
        self._progress = Progress(is_wanted=not options.quiet)
        self._estimate = Estimate(time.monotonic)
        self._told = 0

    def step(self, folder: str, done: int, whole: int) -> None:
        """See Work."""
        left_s = self._estimate.left_s(folder, done, whole) if done < whole else None
        place = f"{folder} ({self.is_at + 1} of {self._folders})" if self._folders > 1 else folder
        self._progress.count(done, whole, f" in {place}" + (f", {in_words(left_s)} left" if left_s is not None else ""))

    def lost(self, why: str) -> None:
        """The connection is made anew."""
        self._progress.end()
        say("warning", f"{why}; trying again")

    def tell(self, folder: str, name: str, change: Change) -> None:
        """See Work."""
        self._told += 1
        if self._options.quiet or self._told > _MOST_TOLD + 1:
            return
        self._progress.end()
        if self._told > _MOST_TOLD:
            say("warning", "and more")
        else:
            say("warning", f"{folder}: {name}: {change.fate}: {change.text} ({change.code})")

    def end(self, tallies: list[Tally]) -> None:
        """The sums."""
        self._progress.end()
        if self._options.json:
            found = [_as_json(tally) for tally in tallies]
            document = {"action": self._options.action, "dry_run": self._options.dry_run, "folders": found}
            print(json.dumps(document, indent=2, ensure_ascii=False))
        else:
            for tally in tallies:
                print(printable(f"{tally.folder}: {'; '.join(_in_words(tally, self._options))}"))


def _in_words(tally: Tally, options: argparse.Namespace) -> Iterator[str]:
    yield f"{tally.count(Fate.CHANGED) + tally.resumed} {'would be ' if options.dry_run else ''}{options.action}ed"
    if tally.before:
        yield f"{tally.before} known to be"
    for fate in (Fate.NOTHING_TO_DO, Fate.LEFT, Fate.LATER):
        if reasons := tally.reasons(fate):
            yield f"{fate.value}: " + ", ".join(f"{number} {code}" for code, number in reasons.items())


def _as_json(tally: Tally) -> dict[str, Any]:
    return {
        "folder": tally.folder,
        "changed": tally.count(Fate.CHANGED) + tally.resumed,
        "known": tally.before,
        "nothing_to_do": tally.reasons(Fate.NOTHING_TO_DO),
        "left": tally.reasons(Fate.LEFT),
        "deferred": tally.reasons(Fate.LATER),
    }
