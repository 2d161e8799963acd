"""A Maildir with a few messages, a change that can be undone, and a process that is killed at a given step."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smilla.adapters.maildir import Maildir
from smilla.adapters.moves import MoveJournal
from smilla.mailbox.change import Change, Fate
from smilla.mailbox.work import Work
from smilla.model.mailbox import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = b"Changed: "
# What touches the disk; sqlite3 tells nothing, so the journal is watched by its methods.
_EVENTS = ("open", "os.rename", "os.remove", "os.link", "os.utime", "os.chmod", "os.scandir")
# Files of the mailbox as (part, flags of the name, octets, mtime in ns, mode).
LETTERS = {
    "1700000001.M1P1.host,S=40,W=43": ("cur", "S", b"Subject: one\n\nfirst \xff letter\n", 1_700_000_001_123_456_789),
    "1700000002.M2P2.host": ("new", None, b"Subject: two\r\n\r\nsecond\r\n", 1_700_000_002_000_000_001),
    "1700000003.M3P3.host": ("cur", "RSTab", b"Subject: three\n\nthird\n" * 50, 1_600_000_003_000_000_000),
}


def changed(raw: bytes, *, dry: bool = False) -> Change:
    """Other octets each time, from which the old ones can be had again."""
    if raw.startswith(MARK):
        return Change(Fate.NOTHING_TO_DO, "already", "it is", is_lasting=True)
    new = MARK + secrets.token_hex(8).encode() + b"\n\n" + base64.b64encode(raw) + b"\n"
    return Change(Fate.CHANGED, "changed", "it was not", b"" if dry else new)


def original(raw: bytes) -> bytes:
    return base64.b64decode(raw.partition(b"\n\n")[2]) if raw.startswith(MARK) else raw


def make_folder(path: Path) -> Path:
    for part in ("cur", "new", "tmp"):
        (path / part).mkdir(parents=True)
    return path


@dataclass(frozen=True)
class File:
    part: str
    flags: str
    raw: bytes
    mtime_ns: int
    mode: int


@dataclass
class Box:
    """A Maildir below ``folder``, and the journal beside it."""

    folder: Path
    keep: str = ""

    def __post_init__(self) -> None:
        self.root = make_folder(self.folder / "mail")
        (self.root / "dovecot-keywords").write_text("0 $Label1\n1 work\n")
        if self.keep:
            Maildir(self.root).make(self.keep)
            (self.root / f".{self.keep}" / "dovecot-keywords").write_text("0 other\n1 $Label1\n")
        for name, (part, flags, raw, mtime_ns) in LETTERS.items():
            path = self.root / part / (name if flags is None else f"{name}:2,{flags}")
            path.write_bytes(raw)
            path.chmod(0o640)
            os.utime(path, ns=(mtime_ns, mtime_ns))

    def files(self, folder: str = "") -> list[File]:
        """Of a folder, without those in tmp."""
        root = self.root / folder
        return [
            File(part, path.name.partition(":2,")[2], path.read_bytes(), status.st_mtime_ns, status.st_mode & 0o7777)
            for part in ("cur", "new")
            for path in sorted((root / part).iterdir())
            if (status := path.stat())
        ]

    @property
    def journal_path(self) -> Path:
        return self.folder / "journal.sqlite"

    def work(self, wrap: Callable[[MoveJournal], Any] = lambda journal: journal, **more: Any) -> Work:
        """One run over INBOX."""
        told = more.pop("tell", lambda *_: None)
        change = more.pop("change", changed)
        folder = Maildir(self.root).folder("INBOX")
        folder = more.pop("folder", lambda found: found)(folder)
        with MoveJournal(self.journal_path, "test") as journal:
            work = Work(change, wrap(journal), Wanted(), self.keep, told, lambda *_: None)
            work.run(folder)
            assert journal.pending("INBOX") == []
        return work


class Watched:
    """Counts before and after each call."""

    def __init__(self, inner: object, step: Callable[[], None]) -> None:
        self._inner, self._step = inner, step

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)

        def called(*arguments: Any) -> Any:
            self._step()
            result = found(*arguments)
            self._step()
            return result

        return called if callable(found) else found


def run_killed(box: Box, at: int) -> bool:
    """Runs in a child that kills itself at step number ``at``; whether it came to its end before."""
    child = os.fork()
    if child == 0:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1
            if steps == at:
                os.kill(os.getpid(), signal.SIGKILL)

        def hear(event: str, arguments: tuple[Any, ...]) -> None:
            if event in _EVENTS and str(box.folder) in str(arguments[0]):
                step()

        try:
            sys.addaudithook(hear)
            box.work(lambda journal: Watched(journal, step))
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"the child failed: {status}"
    return status == 0
