"""One run of ``smilla survey``: feeds the crew, and shows, keeps and adds up what comes back, in the order in which it
comes."""

from __future__ import annotations

import argparse
import importlib
import queue
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from smilla.adapters import new_file
from smilla.adapters.results import Results
from smilla.cli import EX_OK, EX_TEMPFAIL, printable, say
from smilla.cli.progress import Progress
from smilla.errors import SmillaError
from smilla.survey import words
from smilla.survey.crew import Crew
from smilla.survey.found import Found, Way, from_line, to_line
from smilla.survey.look import Asked, Survey
from smilla.survey.outside import Outside
from smilla.survey.reach import Reach, is_silent

_MOST_UNDER_WAY = 400  # domains
_ASKERS = 16  # threads that wait for DNS
_LOOK_S = 1.0  # how often to see whether the crew still works
_BEGINNING = '{"asked":"'  # of every line of the file for --resume


def run(options: argparse.Namespace, asked: Sequence[Asked], outside: Outside) -> int:
    """The exit code.  Raises FileProblem."""
    with ExitStack() as stack:
        kept = stack.enter_context(Results(Path(options.resume), from_line, _BEGINNING)) if options.resume else None
        known = {found.asked: found for found in kept.known} if kept else {}
        one = _Run(options, kept, len(asked))
        for each in asked:
            if each.text in known:
                one.show(known[each.text])
        try:
            is_whole = one.work([each for each in asked if each.text not in known], outside)
        except KeyboardInterrupt:
            is_whole = False
            one.progress.end()
            say("error", "interrupted" + ("; the same command goes on from there" if kept else ""))
        finally:
            one.progress.end()
    return one.end() if is_whole else EX_TEMPFAIL


class _Run:
    """``found`` is all that was shown."""

    def __init__(self, options: argparse.Namespace, kept: Results[Found] | None, whole: int) -> None:
        self.found: list[Found] = []
        self.progress = Progress(is_wanted=not options.quiet)
        self._options, self._kept, self._whole = options, kept, whole
        self._reach = Reach()
        self._held: list[Found] = []  # until it is known that connections reach anybody

    def work(self, asked: Sequence[Asked], outside: Outside) -> bool:
        """Is it done?  If not, an error says why."""
        came: queue.SimpleQueue[Found] = queue.SimpleQueue()
        crews = Crew(_ASKERS), Crew(self._options.parallel)
        survey = Survey(outside, *crews, came.put)
        begun = done = 0
        try:
            while done < len(asked):
                while begun < len(asked) and begun - done < _MOST_UNDER_WAY:
                    survey.begin(asked[begun])
                    begun += 1
                try:
                    self._take(came.get(timeout=_LOOK_S))
                    done += 1
                except queue.Empty:
                    if any(crew.has_failed for crew in crews):
                        raise SmillaError("an internal error ended the survey") from None
                if self._reach.is_hopeless:
                    self._say_blocked()
                    return False
        finally:
            for crew in crews:
                crew.end()
        return True

    def _take(self, found: Found) -> None:
        self._reach.learn(found)
        if is_silent(found) and not self._reach.is_proven:
            self._held.append(found)
        else:
            for one in (*self._held, found) if self._reach.is_proven else (found,):
                self._keep(one)
            if self._reach.is_proven:
                self._held.clear()
        self.progress.count(len(self.found) + len(self._held), self._whole)

    def _keep(self, found: Found) -> None:
        if self._kept is not None:
            self._kept.add(to_line(found))
        self.show(found)

    def show(self, found: Found) -> None:
        """On stdout."""
        self.found.append(found)
        if self._options.quiet:
            return
        self.progress.end()
        if self._options.json:
            print(to_line(found), flush=True)
        else:
            for text in words.in_full(found) if self._options.full else [words.line(found)]:
                print(printable(text), flush=True)

    def end(self) -> int:
        """What is still held, the sum, and the report; the exit code."""
        for one in self._held:
            self.show(one)
        if len(self.found) > 1 and not self._options.quiet and not self._options.json:
            print()
            for text in words.summary(self.found):
                print(text)
        if self._options.html:
            report = importlib.import_module("smilla.survey.report")  # with libraries that not everybody has
            new_file.replace(Path(self._options.html), report.html(self.found).encode("utf-8"))
        if self._reach.seems_blocked:
            self._say_blocked()
            return EX_TEMPFAIL
        if self._reach.is_in_doubt:
            say(
                "hint", f"if other domains are silent, too, port {self._options.port} is blocked on the way out of here"
            )
        return EX_TEMPFAIL if any(one.way is Way.UNKNOWN for one in self.found) else EX_OK

    def _say_blocked(self) -> None:
        self.progress.end()
        text = f"outgoing port {self._options.port} seems to be blocked: none of {self._reach.silent} addresses answers"
        say("error", text)
        kept = "; nothing of these servers is kept" if self._kept else ""
        say("hint", f"try from another network, or ask your provider to open it{kept}")
