"""No message is lost, whoever is killed at which step, and whatever another client does meanwhile."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from smilla.errors import MailboxError, MailboxRefused
from smilla.mailbox.change import Fate
from tests.unit.mailbox.boxes import LETTERS, MARK, Box, changed, original, run_killed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from smilla.adapters.maildir import MaildirFolder
    from smilla.model.mailbox import Draft

RAW = sorted(raw for _, _, raw, _ in LETTERS.values())
SIGNS = sorted((part, flags or "", mtime_ns, 0o640) for part, flags, _, mtime_ns in LETTERS.values())


def signs(box: Box) -> list[tuple[str, str, int, int]]:
    return sorted((file.part, file.flags, file.mtime_ns, file.mode) for file in box.files())


def check_whole(box: Box) -> None:
    """Every message is there at least once, as it was or changed."""
    kept = box.files(f".{box.keep}") if box.keep else []
    assert {original(file.raw) for file in [*box.files(), *kept]} == set(RAW)
    assert {original(file.raw) for file in box.files()} == set(RAW)


def check_done(box: Box) -> None:
    """Every message is there once, changed, with its marks; nothing else is."""
    assert all(file.raw.startswith(MARK) for file in box.files())
    assert sorted(original(file.raw) for file in box.files()) == RAW
    assert signs(box) == SIGNS
    assert list((box.root / "tmp").iterdir()) == []
    if box.keep:
        kept = box.files(f".{box.keep}")
        assert sorted(file.raw for file in kept) == RAW
        # $Label1 is the letter b there, and work has become c.
        assert sorted(file.flags for file in kept) == ["", "RSTbc", "S"]
        assert sorted(file.mtime_ns for file in kept) == sorted(mtime_ns for *_, mtime_ns in LETTERS.values())


@pytest.mark.parametrize("keep", ["", "Before"])
def test_every_message_is_replaced_once_and_keeps_flags_keywords_date_and_mode(tmp_path: Path, keep: str) -> None:
    box = Box(tmp_path, keep)
    work = box.work()
    assert work.tallies[0].count(Fate.CHANGED) == 3
    check_done(box)
    (sized,) = [path.name for path in (box.root / "cur").iterdir() if path.name.startswith("1700000001.")]
    octets = (box.root / "cur" / sized).read_bytes()
    lines = octets.count(b"\n")
    assert sized.endswith(f",S={len(octets)},W={len(octets) + lines}:2,S")
    again = box.work()
    assert (again.tallies[0].before, again.tallies[0].fates) == (3, {})


@pytest.mark.parametrize("keep", ["", "Before"])
def test_kill_at_every_step_loses_nothing_and_the_next_run_ends_it(tmp_path: Path, keep: str) -> None:
    for at in itertools.count(1):
        box = Box(tmp_path / str(at), keep)
        ended = run_killed(box, at)
        check_whole(box)
        (tally,) = box.work().tallies
        assert tally.before + tally.resumed + tally.fates.total() == len(LETTERS), "one is counted twice, or not at all"
        check_done(box)
        if ended:
            break
    assert at > 50


def test_kill_of_the_run_that_resumes_loses_nothing_either(tmp_path: Path) -> None:
    for first in range(4, 60, 5):
        for second in range(2, 30, 3):
            box = Box(tmp_path / f"{first}-{second}")
            run_killed(box, first)
            run_killed(box, second)
            check_whole(box)
            box.work()
            check_done(box)


class Meddled:
    """A folder in which somebody else does something, once, right before or after one of our steps."""

    def __init__(self, inner: MaildirFolder, before: str, deed: Callable[[], None]) -> None:
        self._inner, self._before, self._deed = inner, before, deed

    def __getattr__(self, name: str) -> Any:
        if name == self._before:
            self._before = ""
            self._deed()
        return getattr(self._inner, name)


def meddled(box: Box, before: str, deed: Callable[[], None]) -> Any:
    return box.work(folder=lambda inner: Meddled(inner, before, deed))


def first_of(box: Box, *, is_new: bool) -> Path:
    """The old file of the first message, or its new one."""
    found = [path for path in (box.root / "cur").iterdir() if path.name.startswith("1700000001.")]
    (path,) = [path for path in found if path.read_bytes().startswith(MARK) is is_new]
    return path


@pytest.mark.parametrize("before", ["write", "marks", "remove"])
def test_flags_that_another_client_changes_meanwhile_come_along(tmp_path: Path, before: str) -> None:
    box = Box(tmp_path)

    def deed() -> None:
        path = first_of(box, is_new=False)
        path.rename(path.with_name(path.name.replace(":2,S", ":2,FRb")))

    meddled(box, before, deed)
    assert sorted(file.flags for file in box.files()) == ["", "FRb", "RSTab"]
    assert sorted(original(file.raw) for file in box.files()) == RAW


def test_message_that_another_client_removes_leaves_the_new_one(tmp_path: Path) -> None:
    """Whoever saw both may have taken one for a duplicate."""
    box = Box(tmp_path)
    meddled(box, "marks", lambda: first_of(box, is_new=False).unlink())
    check_done(box)


def test_old_message_stays_where_another_client_removes_the_new_one(tmp_path: Path) -> None:
    box = Box(tmp_path)
    work = meddled(box, "marks", lambda: first_of(box, is_new=True).unlink())
    assert work.tallies[0].reasons(Fate.LATER) == {"new_one_gone": 1}
    check_whole(box)
    assert len(box.files()) == 3


def test_new_message_with_other_octets_is_taken_away_and_the_old_one_stays(tmp_path: Path) -> None:
    box = Box(tmp_path)

    class Altering(Meddled):
        def __getattr__(self, name: str) -> Any:
            if name == "read" and any(file.raw.startswith(MARK) for file in box.files()):
                path = first_of(box, is_new=True)
                path.write_bytes(path.read_bytes() + b"a footer\n")
            return getattr(self._inner, name)

    with pytest.raises(MailboxError, match="other octets"):
        box.work(folder=lambda inner: Altering(inner, "", lambda: None))
    assert sorted(file.raw for file in box.files()) == RAW
    assert signs(box) == SIGNS


class Mistaken(Meddled):
    """A server that tells the name of another message than the one that it has just taken."""

    chooses_names = False

    def write(self, drafts: list[Draft]) -> list[str]:
        self._inner.write(drafts)
        return ["1700000003.M3P3.host" for _ in drafts]


def test_server_that_names_another_message_as_the_new_one_does_not_make_us_remove_that(tmp_path: Path) -> None:
    box = Box(tmp_path)
    with pytest.raises(MailboxError, match=r"so does what the server calls the new ones \(1700000003\.M3P3\.host\)"):
        box.work(folder=lambda inner: Mistaken(inner, "", lambda: None))
    check_whole(box)
    assert [file.raw.startswith(MARK) for file in box.files()].count(False) == 3


class Full(Meddled):
    """There is room for so many messages."""

    def __init__(self, inner: MaildirFolder, room: int) -> None:
        super().__init__(inner, "", lambda: None)
        self._room = room

    def write(self, drafts: list[Draft]) -> list[Any]:
        taken = self._inner.write(drafts[: self._room])
        self._room -= len(taken)
        return [*taken, *(MailboxRefused("the quota is full", is_full=True) for _ in drafts[len(taken) :])]


def test_full_mailbox_keeps_the_old_messages_and_says_so(tmp_path: Path) -> None:
    box = Box(tmp_path)
    told = []
    work = box.work(folder=lambda inner: Full(inner, 1), tell=lambda _, name, change: told.append(change.code))
    assert work.tallies[0].reasons(Fate.LATER) == {"no_room": 2}
    assert told == ["no_room", "no_room"]
    check_whole(box)
    box.work()
    check_done(box)


def test_mailbox_that_stays_full_ends_the_run(tmp_path: Path) -> None:
    box = Box(tmp_path)
    for number in range(9):
        (box.root / "cur" / f"17{number}.more:2,").write_bytes(b"Subject: more\n\n%d\n" % number)
    with pytest.raises(MailboxError, match="no room 5 times"):
        box.work(folder=lambda inner: Full(inner, 0))
    assert not any(file.raw.startswith(MARK) for file in box.files())


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    from smilla.adapters.maildir import Maildir
    from smilla.mailbox.work import Work
    from smilla.model.mailbox import Wanted

    box = Box(tmp_path)
    work = Work(changed, None, Wanted(), "", lambda *_: None, lambda *_: None)
    work.run(Maildir(box.root).folder("INBOX"))
    assert work.tallies[0].reasons(Fate.CHANGED) == {"changed": 3}
    assert sorted(file.raw for file in box.files()) == RAW
    assert not box.journal_path.exists()
