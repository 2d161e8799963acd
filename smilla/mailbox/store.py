"""What a mailbox and a journal must be able to do, so that a message in it can be replaced and never lost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from smilla.errors import MailboxRefused
from smilla.model.mailbox import Draft, Marks, Move, Stored, Wanted


class Folder(Protocol):
    """One folder.  A message has a name that no other one ever gets, and octets that never change.

    Every method raises MailboxError.  Several messages are asked for, written or removed at once: a server may have to
    look through its whole folder for each command.
    """

    name: str
    validity: str  # names of another validity mean nothing (IMAP: UIDVALIDITY)
    chooses_names: bool  # the name of a new message is our own choice, and not what a server tells

    def names(self, wanted: Wanted) -> Sequence[str]:
        """The messages that are asked for, the oldest first."""

    def sizes(self, names: Sequence[str]) -> Mapping[str, int]:
        """About how many octets each has."""

    def read(self, names: Sequence[str]) -> Mapping[str, Stored | None]:
        """The messages that are still there; None if the mailbox does not give one.  Nothing about them changes: they
        are not seen by that."""

    def marks(self, names: Sequence[str]) -> Mapping[str, Marks]:
        """The marks now, of those that are still there."""

    def reserve(self, old: str, raw: bytes) -> str:
        """The place of a new message with these octets, for Move.place."""

    def write(self, drafts: Sequence[Draft]) -> Sequence[str | MailboxRefused]:
        """Writes new messages, safe from a crash at return.  Gives the name of each, "" if the mailbox does not tell,
        or MailboxRefused if nothing was written of this one."""

    def written(self, places: Collection[str]) -> Mapping[str, Collection[str]]:
        """By place, the names of the messages that may have been written to it; half a message there is taken away."""

    def keeps(self, old: Marks, new: Marks) -> bool:
        """Has a new message all flags of the old one, and its date?"""

    def change_flags(self, name: str, added: frozenset[str], removed: frozenset[str]) -> None:
        """Changes the flags of a message."""

    def remove(self, messages: Mapping[str, Marks], keep: str) -> Collection[str]:
        """Removes messages for good, or to the folder ``keep`` if that is not "".  Gives those that are gone.  Any
        other is as it was: its flags may no longer be those that it was given with."""

    def is_being_removed(self, marks: Marks) -> bool:
        """Is among them a mark that ``remove`` may have set?"""

    def restore(self, name: str, marks: Marks) -> None:
        """Takes such a mark away, if ``marks`` do not have it."""


class Journal(Protocol):
    """Where it is noted how far each message has come.  What a method has noted is on the disk when it returns.  Raises
    FileProblem."""

    def validity(self, folder: str) -> str | None:
        """The validity of the names that are noted for this folder; None if none are."""

    def begin(self, folder: str, validity: str) -> None:
        """Notes the validity of the folder's names, and forgets those of another."""

    def pending(self, folder: str) -> Sequence[Move]:
        """What is on its way."""

    def put(self, moves: Iterable[Move]) -> None:
        """Notes a step of each, in place of the step before."""

    def drop(self, moves: Iterable[Move]) -> None:
        """They are not on their way any more: the old messages stay."""

    def done(self, moves: Iterable[Move]) -> None:
        """The new messages have taken the place of the old ones."""

    def know(self, folder: str, names: Iterable[str]) -> None:
        """Nothing is to be done about these messages."""

    def known(self, folder: str) -> frozenset[str]:
        """The messages about which nothing is to be done, those that are done among them."""
