"""One run over the folders of a mailbox: each message is read, changed and moved, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from smilla.errors import MailboxError, MailboxLost, MailboxRefused, SmillaError, code_of
from smilla.mailbox.batches import batches
from smilla.mailbox.change import Change, Changer, Fate
from smilla.mailbox.mover import Mover, Result
from smilla.mailbox.store import Folder, Journal
from smilla.model.mailbox import Stored, Wanted

_MOST_FULL = 5  # messages, one after the other, for which there is no room
_UNREADABLE = Change(Fate.LATER, "not_readable", "the mailbox does not give it")
_NEW_ONE_GONE = Change(Fate.LATER, "new_one_gone", "somebody removed the new message before the old one went")

Changes = dict[str, tuple[Stored, Change]]


@dataclass
class Tally:
    """How many messages of one folder met which fate, and why; ``before`` counts those that an earlier run has settled,
    ``resumed`` those that it had begun."""

    folder: str
    fates: Counter[tuple[Fate, str]] = field(default_factory=Counter)
    before: int = 0
    resumed: int = 0
    seen: set[str] = field(default_factory=set)  # messages that are counted

    def count(self, fate: Fate) -> int:
        """All of one fate."""
        return sum(number for (met, _), number in self.fates.items() if met is fate)

    def reasons(self, fate: Fate) -> dict[str, int]:
        """Why, the most frequent reason first."""
        return {code: number for (met, code), number in self.fates.most_common() if met is fate}


@dataclass
class Work:
    """A run.  ``journal`` is None in a dry run, which writes nothing.  ``tell`` hears of each message that is left or
    deferred: its folder, its name and why.  ``step`` hears how many of how many messages of the folder were looked
    at."""

    change: Changer
    journal: Journal | None
    wanted: Wanted
    keep: str
    tell: Callable[[str, str, Change], None]
    step: Callable[[str, int, int], None]
    tallies: list[Tally] = field(default_factory=list)
    _full: int = 0
    _suspects: set[str] = field(default_factory=set)

    def run(self, folder: Folder) -> None:
        """Does one folder, or goes on with the one that was done last.  Raises MailboxError, or MailboxLost if it may
        go on over another connection, or FileProblem."""
        is_first = not self.tallies or self.tallies[-1].folder != folder.name
        if is_first:
            self.tallies.append(Tally(folder.name))
        tally = self.tallies[-1]
        before = frozenset[str]()
        if self.journal is not None:
            self._check_validity(folder)
            self.journal.begin(folder.name, folder.validity)
            before = self.journal.known(folder.name)
            results = Mover(folder, self.journal, self.keep).settle()
            tally.resumed += list(results.values()).count(Result.DONE)
        known = self.journal.known(folder.name) if self.journal is not None else frozenset[str]()
        names = folder.names(self.wanted)
        if is_first:
            tally.before = len(before.intersection(names))
        left = [name for name in names if name not in known and name not in tally.seen]
        done = len(names) - len(left)
        self.step(folder.name, done, len(names))
        for batch in batches(folder, left, self._suspects):
            self._batch(folder, batch, tally)
            done += len(batch)
            self.step(folder.name, done, len(names))

    def _batch(self, folder: Folder, names: Sequence[str], tally: Tally) -> None:
        changes: dict[str, tuple[Stored, Change]] = {}
        lasting = []
        for name, stored in self._read(folder, names, tally).items():  # without what somebody has removed meanwhile
            change = _UNREADABLE if stored is None else self._changed(stored)
            if stored is not None and change.fate is Fate.CHANGED and self.journal is not None:
                changes[name] = stored, change
            else:
                self._count(tally, name, change)
                if change.is_lasting:
                    lasting.append(name)
        if self.journal is not None:
            self.journal.know(folder.name, lasting)
            self._move(folder, changes, tally, self.journal)

    def _read(self, folder: Folder, names: Sequence[str], tally: Tally) -> Mapping[str, Stored | None]:
        """If the connection is lost with that, a message may be the reason: the next time each comes alone, and the one
        with which it is lost once more is left out."""
        try:
            return folder.read(names)
        except MailboxLost:
            self._suspects.update(names)
            if len(names) == 1:
                self._count(tally, names[0], _UNREADABLE)
            raise

    def _move(self, folder: Folder, changes: Changes, tally: Tally, journal: Journal) -> None:
        mover = Mover(folder, journal, self.keep)
        results = mover.replace([(name, stored, change.raw) for name, (stored, change) in changes.items()])
        for name, (stored, change) in changes.items():
            result = results[name]
            if isinstance(result, MailboxRefused) and result.is_full and len(changes) > 1:
                # By now the others have made room.
                result = mover.replace([(name, stored, change.raw)])[name]
            self._count(tally, name, self._in_the_end(result, change))

    def _in_the_end(self, result: Result | MailboxRefused, change: Change) -> Change:
        if not isinstance(result, MailboxRefused):
            self._full = 0
            return change if result is Result.DONE else _NEW_ONE_GONE
        self._full = self._full + 1 if result.is_full else 0
        if self._full >= _MOST_FULL:
            raise MailboxError(f"{result}; there was no room {self._full} times, so this is the end")
        return (
            Change(Fate.LATER, "no_room", str(result))
            if result.is_full
            else Change(Fate.LEFT, "not_taken", str(result))
        )

    def _changed(self, stored: Stored) -> Change:
        try:
            return self.change(stored.raw, dry=self.journal is None)
        except SmillaError as error:
            return Change(Fate.LATER, code_of(error), str(error))

    def _count(self, tally: Tally, name: str, change: Change) -> None:
        tally.seen.add(name)
        tally.fates[change.fate, change.code] += 1
        if change.fate in (Fate.LEFT, Fate.LATER):
            self.tell(tally.folder, name, change)

    def _check_validity(self, folder: Folder) -> None:
        """Raises MailboxError, once, if the journal speaks of other messages by the same names."""
        if self.journal is None or self.journal.validity(folder.name) in (None, folder.validity):
            return
        begun = len(self.journal.pending(folder.name))
        self.journal.begin(folder.name, folder.validity)
        raise MailboxError(
            f"{folder.name}: the server has numbered its messages anew (UIDVALIDITY), so what the journal says of them"
            f" is void and was forgotten; {begun} may now be there twice, none is lost; run it again"
        )
