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
from typing import Any

from smilla import cli, daemon, filter, stage
from smilla.adapters import journal, smtp
from smilla.reply import Reply

FOLDER = Path(os.environ.get("MORTAL", "."))
STEPS = (
    "before-journal", "before-owe", "after-owe", "before-copy-1", "committing-1", "settled-1", "before-copy-2",
    "committing-2", "settled-2", "before-reply",
)  # fmt: skip
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
    around(journal.SQLiteJournalEntry, "settle", "unrecorded", "settled", numbered=True)
    end = filter.Filter.end

    def counted(self: filter.Filter, mta: filter.MTA) -> Reply:
        _counts.clear()
        answer = end(self, mta)
        reached("before-reply")
        return answer

    filter.Filter.end = counted  # type: ignore[method-assign]
    deliver = stage.deliver

    def counted_there(*arguments: Any) -> tuple[Reply, ...]:
        _counts.clear()
        answers = deliver(*arguments)
        reached("before-reply")
        return answers

    stage.deliver = counted_there  # type: ignore[assignment]
    return int(cli.main(sys.argv[1:]) or 0)


if __name__ == "__main__":
    raise SystemExit(main())
