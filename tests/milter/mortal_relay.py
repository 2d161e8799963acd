"""``smilla relay`` that can die: at the step that a file names, it is killed, or waits while somebody else is.

The orders are those of tests/live/mortal.py: the file ``order`` in the folder MORTAL.
"""

from __future__ import annotations

import sys
from typing import Any

from smilla import cli
from smilla.adapters import journal, smtp
from smilla.server import relay_dialogue, relayed
from tests.live.mortal import _counts, around, reached

STEPS = (
    "before-journal", "before-owe", "after-owe", "before-copy-1", "committing-1", "settled-1", "before-copy-2",
    "committing-2", "settled-2", "before-reply", "reply-1", "told-1", "before-finish", "finished",
)  # fmt: skip
BETWEEN_ANSWERS = ("reply-2", "told-2", "reply-3", "told-3")  # over LMTP
WINDOW_STEPS = ("dotted-1", "unrecorded-1", "dotted-2", "unrecorded-2")  # nobody can know who has the copy


def counted(owner: Any, name: str) -> None:
    """A message begins to be answered with this function, and ends before its answers."""
    original = getattr(owner, name)

    def function(*arguments: Any) -> Any:
        _counts.clear()
        result = original(*arguments)
        _counts["_answer"] = 0
        reached("before-reply")
        return result

    setattr(owner, name, function)


def main() -> int:
    """Runs the relay."""
    around(journal.SQLiteJournal, "open", "before-journal")
    around(journal.SQLiteJournalEntry, "owe", "before-owe", "after-owe")
    around(smtp.Connection, "send", "before-copy", numbered=True)
    around(journal.SQLiteJournalEntry, "committing", "", "committing", numbered=True)
    around(smtp.Connection, "_await_final_reply", "dotted", numbered=True)
    around(journal.SQLiteJournalEntry, "settle", "unrecorded", "settled", numbered=True)
    around(journal.SQLiteJournalEntry, "finish", "before-finish", "finished")
    around(relay_dialogue._Dialogue, "_answer", "reply", "told", numbered=True)
    counted(relayed, "handle")
    counted(relayed, "handle_each")
    return int(cli.main(sys.argv[1:]) or 0)


if __name__ == "__main__":
    raise SystemExit(main())
