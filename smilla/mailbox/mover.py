"""Replaces messages of a mailbox by their new forms, in steps of which each may be the last.

    read      the old messages, their flags and dates; they are noted before anything is written
    WRITING   the digest of each new message, and the place where it will be found, are noted; then it is written
    WRITTEN   its name is noted; then it is read back and compared, octet for octet
    COMPARED  flags that somebody changed meanwhile are changed on the new message
    REMOVING  noted; then the old message is removed
    done      noted

Several messages take each step together.

Promises: at every moment, whoever is killed, the mailbox holds the old message or the new one, and the old one goes
only if the new one was read back with the right octets in this very run.  No third message is ever removed, whatever a
server says.  The flags of the old message are not read again once it may carry our own mark.  After a kill, ``settle``
brings everything to its end or back to its beginning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum
from itertools import chain

from smilla.errors import MailboxError, MailboxRefused
from smilla.mailbox.batches import batches
from smilla.mailbox.store import Folder, Journal
from smilla.model.mailbox import Draft, Move, State, Stored

_MOST_NAMED = 3
_MOST_TRIES = 20  # somebody changes the flags of one message again and again


class Result(Enum):
    """What became of one message."""

    DONE = "done"  # the new message is there, and the old one is gone
    BACK = "back"  # the old message stays, and there is no new one


Results = dict[str, Result | MailboxRefused]  # by the name of the old message
_Seen = tuple[int, bytes, str, frozenset[str]]  # of a message that was read back: size, digest, date, flags
New = tuple[str, Stored, bytes]  # the name of the old message, what it was when it was read, and the new octets


class Mover:
    """Moves the messages of one folder; ``keep`` is the folder that gets the old ones, "" for none."""

    def __init__(self, folder: Folder, journal: Journal, keep: str = "") -> None:
        self._folder, self._journal, self._keep = folder, journal, keep

    def settle(self) -> Results:
        """Brings to an end what a killed run has left.  Raises MailboxError or FileProblem."""
        pending = self._journal.pending(self._folder.name)
        by_state = {state: [move for move in pending if move.state is state] for state in State}
        results, removing = self._still_removing(by_state[State.REMOVING])
        found, not_found = self._found(by_state[State.WRITING], pending)
        self._journal.drop(not_found)
        results |= {move.old: Result.BACK for move in not_found}
        compared, more = self._compared([*found, *by_state[State.WRITTEN], *by_state[State.COMPARED]])
        return results | more | self._to_their_end([*compared, *removing])

    def replace(self, changes: Sequence[New]) -> Results:
        """Puts each new message in the place of the old one.  Raises MailboxError or FileProblem; every message is then
        still there, old or new."""
        results: Results = {}
        moves = [self._begun(*change) for change in changes]
        self._journal.put(moves)
        written: list[Move] = []
        untold: list[Move] = []
        refused: list[Move] = []
        drafts = [
            Draft(raw, stored.marks, move.place, old) for move, (old, stored, raw) in zip(moves, changes, strict=True)
        ]
        for move, new in zip(moves, self._folder.write(drafts), strict=True):
            if isinstance(new, MailboxRefused):
                results[move.old] = new
                refused.append(move)
            else:
                (written if new else untold).append(_written(move, new))
        self._journal.drop(refused)
        self._journal.put(written)
        found, not_found = self._found(untold, written)
        self._journal.drop(not_found)
        results |= {move.old: Result.BACK for move in not_found}
        compared, more = self._compared([*written, *found])
        self._check_kept(compared)
        return results | more | self._to_their_end(compared)

    # --- the steps

    def _begun(self, old: str, stored: Stored, raw: bytes) -> Move:
        digest = hashlib.sha256(raw).digest()
        place = self._folder.reserve(old, raw)
        return Move(self._folder.name, old, State.WRITING, place, len(raw), digest, stored.marks)

    def _found(self, moves: Sequence[Move], others: Iterable[Move]) -> tuple[list[Move], list[Move]]:
        """Those whose new message was written, though nobody told its name; and those whose was not."""
        if not moves:
            return [], []
        there = self._folder.written({move.place for move in moves})
        taken = {move.new for move in others} | self._journal.known(self._folder.name)
        free = [name for name in dict.fromkeys(chain(*there.values())) if name not in taken]
        seen: dict[str, _Seen] = {}
        for batch in batches(self._folder, free):
            seen |= {name: _seen(back) for name, back in self._folder.read(batch).items() if back is not None}
        names: dict[str, str] = {}  # of the new messages, by those of the old ones
        # Several new messages may have the same octets; then flags and date tell which is whose, as far as they differ.
        for fields in (4, 3, 2):
            alike: dict[tuple[object, ...], list[str]] = {}
            for name in (name for name in seen if name not in taken):
                alike.setdefault(seen[name][:fields], []).append(name)
            for move in (move for move in moves if move.old not in names):
                wanted = (move.size, move.raw_digest, move.marks.date, move.marks.flags)[:fields]
                of_it = (name for name in alike.get(wanted, ()) if name not in taken and name in there[move.place])
                if name := next(of_it, ""):
                    names[move.old] = name
                    taken.add(name)
        found = [_written(move, names[move.old]) for move in moves if move.old in names]
        self._journal.put(found)
        return found, [move for move in moves if move.old not in names]

    def _compared(self, moves: Sequence[Move]) -> tuple[list[Move], Results]:
        """Those whose new message was read back with the right octets.  Raises MailboxError if one has others."""
        if not moves:
            return [], {}
        back = self._folder.read([move.new for move in moves])
        wrong = [move for move in moves if move.new in back and not self._is_new(back[move.new], move)]
        if wrong:
            stays = self._discarded(moves, wrong)
            raise MailboxError(
                f"{self._folder.name}: {len(wrong)} of {len(moves)} messages were read back with other octets than were"
                f" written; the old ones stay{stays}"
            )
        gone = [move for move in moves if move.new not in back]
        compared = [replace(move, state=State.COMPARED) for move in moves if move.new in back]
        self._journal.drop(gone)
        self._journal.put(compared)
        return compared, {move.old: Result.BACK for move in gone}

    def _check_kept(self, moves: Sequence[Move]) -> None:
        """Raises MailboxError if the mailbox has not kept what it was given besides the octets."""
        now = self._folder.marks([move.new for move in moves]) if moves else {}
        if all(self._folder.keeps(move.marks, now[move.new]) for move in moves if move.new in now):
            return
        self._discarded(moves, [])
        raise MailboxError(
            f"{self._folder.name}: the mailbox does not keep the flags, the keywords or the date of a new message; the"
            " old ones stay"
        )

    def _still_removing(self, moves: Sequence[Move]) -> tuple[Results, list[Move]]:
        """Those whose old message is still there, after a kill, though it was to go: with the new message read back."""
        if not moves:
            return {}, []
        now = self._folder.marks([move.old for move in moves])
        done = [move for move in moves if move.old not in now]
        self._journal.done(done)
        results: Results = {move.old: Result.DONE for move in done}
        removing = []
        for move in (move for move in moves if move.old in now):
            if not self._is_new(self._folder.read([move.new]).get(move.new), move):
                self._take_back(move)
                results[move.old] = Result.BACK
            else:
                is_marked = self._folder.is_being_removed(now[move.old])
                removing.append(move if is_marked else replace(move, state=State.COMPARED))
        self._journal.put(removing)
        return results, removing

    def _to_their_end(self, moves: Sequence[Move]) -> Results:
        """From new messages that have just been read back and compared."""
        results: Results = {}
        for _ in range(_MOST_TRIES):
            ready, more = self._ready(moves) if moves else ([], {})
            results |= more
            if not ready:
                return results
            gone = self._folder.remove({move.old: move.marks for move in ready}, self._keep)
            done = [move for move in ready if move.old in gone]
            self._journal.done(done)
            results |= {move.old: Result.DONE for move in done}
            moves = [replace(move, state=State.COMPARED) for move in ready if move.old not in gone]
            self._journal.put(moves)
        raise MailboxError(f"{self._folder.name}: the flags of a message change all the time; run it again")

    def _ready(self, moves: Sequence[Move]) -> tuple[list[Move], Results]:
        """Those whose old message may go: the new one is there, with the flags of the old one."""
        results: Results = {}
        ready, done = [], []
        now = self._folder.marks([*(move.old for move in moves), *(move.new for move in moves)])
        for move in moves:
            old = now.get(move.old)
            if move.new not in now:  # somebody has removed it: then the old one is all there is
                self._take_back(move)
                results[move.old] = Result.BACK
            elif move.state is State.REMOVING:
                ready.append(move)
            elif old is None:  # whoever removed it may have seen both and taken one for a duplicate: so one stays
                done.append(move)
                results[move.old] = Result.DONE
            else:
                added, removed = old.flags - move.marks.flags, move.marks.flags - old.flags
                if added or removed:
                    self._folder.change_flags(move.new, added, removed)
                ready.append(replace(move, state=State.REMOVING, marks=old))
        self._journal.done(done)
        self._journal.put(ready)
        return ready, results

    def _take_back(self, move: Move) -> None:
        if move.state is State.REMOVING:
            self._folder.restore(move.old, move.marks)
        self._journal.drop([move])

    def _discarded(self, moves: Sequence[Move], wrong: Sequence[Move]) -> str:
        """Takes new messages away that are ours beyond doubt; says which stay.  A server that tells the name of another
        message than the new one must not make us remove that."""
        doubtful = set() if self._folder.chooses_names else {move.new for move in wrong}
        left = {move.new for move in moves} - doubtful
        for _ in range(_MOST_TRIES):
            marks = self._folder.marks(sorted(left))
            left = set(marks) - set(self._folder.remove(marks, "")) if marks else set()
            if not left:
                break
        self._journal.drop(moves)
        named = ", ".join(sorted(doubtful)[:_MOST_NAMED])
        return f", and so does what the server calls the new ones ({named}): look at them" if doubtful else ""

    @staticmethod
    def _is_new(back: Stored | None, move: Move) -> bool:
        """Has the message the octets that were written?"""
        return back is not None and _seen(back)[:2] == (move.size, move.raw_digest)


def _seen(back: Stored) -> _Seen:
    return len(back.raw), hashlib.sha256(back.raw).digest(), back.marks.date, back.marks.flags


def _written(move: Move, new: str) -> Move:
    return replace(move, state=State.WRITTEN, new=new) if new else move
