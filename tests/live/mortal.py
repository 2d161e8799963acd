"""``smilla milter`` that can die: at the step that a file names, its worker is killed, or waits while somebody else is.

The file ``order`` in the folder MORTAL holds the step and whom it meets: "worker", or anybody else, in which case the
file ``reached`` appears and the worker waits for the file ``go``.  An order is carried out once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smilla import cli, filter
from smilla.adapters import journal, smtp
from smilla.answer.reply import Reply
from smilla.handover import in_place
from smilla.ports import MTA
from smilla.server import daemon, lmtp, milter, stage

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(os.environ.get("MORTAL", "."))
STEPS = (
    "before-journal", "before-owe", "after-owe", "before-copy-1", "committing-1", "settled-1", "before-copy-2",
    "committing-2", "settled-2", "before-reply",
)  # fmt: skip
# With the stage: those of the milter's worker, and those of the stage's, of which the last four are its replies.
SEALING_STEPS = ("before-sealing", "sealing", "sealed", "before-reply")
STAGE_STEPS = (
    "before-opening", "opened", "before-journal", "judged", *STEPS[1:-1], "reply-1", "reply-2", "reply-4", "replied",
)  # fmt: skip
# Where nobody can know whether the listener has a copy.
WINDOW_STEPS = ("dotted-1", "unrecorded-1", "dotted-2", "unrecorded-2")
_counts: Counter[str] = Counter()


def reached(step: str) -> None:
    """Carries the order out, where it is for this step."""
    try:
        wanted, _, whom = (FOLDER / "order").read_text().partition(" ")
    except FileNotFoundError:
        return
    if wanted != step:
        return
    (FOLDER / "order").unlink()
    if whom == "worker":
        os.kill(os.getpid(), signal.SIGKILL)
    (FOLDER / "reached").touch()
    while not (FOLDER / "go").exists():
        time.sleep(0.002)


def around(owner: Any, name: str, before: str = "", after: str = "", numbered: bool = False) -> None:
    """Makes a method tell when it is reached."""
    original = getattr(owner, name)

    def method(self: Any, *arguments: Any, **named: Any) -> Any:
        _counts[name] += 1
        number = f"-{_counts[name]}" if numbered else ""
        if before:
            reached(before + number)
        result = original(self, *arguments, **named)
        if after:
            reached(after + number)
        return result

    setattr(owner, name, method)


def main() -> int:
    """Runs the filter."""
    daemon._HEALTHY_S = 0  # type: ignore[attr-defined, unused-ignore]
    around(journal.SQLiteJournal, "open", "before-journal")
    around(journal.SQLiteJournalEntry, "owe", "before-owe", "after-owe")
    around(smtp.Connection, "send", "before-copy", numbered=True)
    around(journal.SQLiteJournalEntry, "committing", "", "committing", numbered=True)
    around(smtp.Connection, "_await_final_reply", "dotted", numbered=True)
    around(journal.SQLiteJournalEntry, "settle", "unrecorded", "settled", numbered=True)
    around(in_place, "seal_message", "before-sealing", "sealed")
    around(milter.Connection, "replace_body", after="sealing")
    around(stage, "_opened", "before-opening", "opened")
    around(stage._Stage, "_decisions", after="judged")
    end = filter.Filter.end

    def counted(self: filter.Filter, mta: MTA) -> Reply:
        _counts.clear()
        answer = end(self, mta)
        reached("before-reply")
        return answer

    filter.Filter.end = counted  # type: ignore[method-assign]
    deliver = stage.deliver

    def counted_there(*arguments: Any) -> tuple[Reply, ...]:
        _counts.clear()
        return deliver(*arguments)

    stage.deliver = counted_there  # type: ignore[assignment]
    answers_of = lmtp._Dialogue._answers

    def one_by_one(self: lmtp._Dialogue, transaction: lmtp._Transaction) -> Iterator[Reply]:
        for number, answer in enumerate(answers_of(self, transaction), 1):
            reached(f"reply-{number}")
            yield answer
        reached("replied")

    lmtp._Dialogue._answers = one_by_one  # type: ignore[method-assign, assignment]
    return int(cli.main(sys.argv[1:]) or 0)


if __name__ == "__main__":
    raise SystemExit(main())
