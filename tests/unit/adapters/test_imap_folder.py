"""A folder over IMAP, before a client that answers as a server may: what is told unasked is not taken for an answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from smilla.adapters.imap_folder import Appends, IMAPFolder
from smilla.errors import MailboxError

CAME_AT = datetime(2020, 1, 1, tzinfo=UTC)
OWN = frozenset({"own"})


class Client:
    """Knows messages by UID, each with its sequence number, and counts what it is asked.  ``unasked``: flags of a
    sequence number, told once with the next answer; imapclient keeps them under that number."""

    def __init__(self, uids: list[int], unasked: dict[int, tuple[bytes, ...]] | None = None) -> None:
        self._numbers = {uid: number for number, uid in enumerate(uids, 1)}
        self._unasked = unasked or {}
        self.asked: list[list[int]] = []

    def select_folder(self, *_: object, **__: object) -> dict[bytes, Any]:
        return {b"UIDVALIDITY": 7, b"UIDNEXT": 100, b"EXISTS": len(self._numbers)}

    def fetch(self, uids: list[int], _: list[str]) -> dict[int, dict[bytes, Any]]:
        self.asked.append(uids)
        found: dict[int, dict[bytes, Any]] = {}
        for uid in uids:
            if uid in self._numbers:
                found[uid] = {b"SEQ": self._numbers[uid], b"FLAGS": (b"own",), b"INTERNALDATE": CAME_AT}
        for number, flags in self._unasked.items():
            found.setdefault(number, {}).update({b"SEQ": number, b"FLAGS": flags})
        self._unasked = {}
        return found

    def noop(self) -> None:
        pass


def folder(client: Client) -> IMAPFolder:
    return IMAPFolder("INBOX", client, Appends(), is_read_only=False)


def test_messages_whose_numbers_are_all_the_same_cost_one_more_look() -> None:
    client = Client([1, 2, 3, 4, 5])
    found = folder(client).marks(["1", "2", "3", "5"])
    assert {name: marks.flags for name, marks in found.items()} == dict.fromkeys(["1", "2", "3", "5"], OWN)
    assert client.asked == [[1, 2, 3, 5], [5]]


@pytest.mark.parametrize("told", [(3,), (2,), (2, 3)])
def test_change_of_another_message_that_is_told_unasked_is_not_taken_for_ours(told: tuple[int, ...]) -> None:
    client = Client([2, 3, 5], dict.fromkeys(told, (b"another's",)))
    found = folder(client).marks(["2", "3", "5"])
    assert {name: marks.flags for name, marks in found.items()} == dict.fromkeys(["2", "3", "5"], OWN)


def test_message_that_is_gone_is_not_there_because_its_number_was_told() -> None:
    client = Client([1, 4, 5, 6], {3: (b"another's",)})
    assert set(folder(client).marks(["1", "3"])) == {"1"}


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (b"[APPENDUID 7 5] Done", ["5"]),
        (b"done [appenduid 7 5:7,9] ok", ["5", "6", "7", "9"]),
        (b"[APPENDUID 7 7:5] Done", []),
        (b"[APPENDUID 7 5:] Done", []),
        (b"Done", []),
    ],
)
def test_numbers_of_new_messages_are_read_in_their_order(answer: bytes, names: list[str]) -> None:
    assert folder(Client([]))._told(answer) == names


def test_absurd_range_of_numbers_costs_nothing() -> None:
    assert len(folder(Client([]))._told(b"[APPENDUID 7 1:4294967295] Done")) == 10_000


def test_numbers_of_another_validity_end_the_run() -> None:
    with pytest.raises(MailboxError, match="UIDVALIDITY"):
        folder(Client([]))._told(b"[APPENDUID 8 5] Done")
