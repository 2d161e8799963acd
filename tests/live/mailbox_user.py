"""A user of a Dovecot whose messages smilla changes, and a run over them that is killed at a given step."""

from __future__ import annotations

import base64
import hashlib
import imaplib
import itertools
import os
import signal
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from imapclient import IMAPClient

from smilla.adapters.imap import IMAPMailbox, Server
from smilla.adapters.moves import MoveJournal
from smilla.mailbox.change import Change
from smilla.mailbox.work import Work
from smilla.model.mailbox import Wanted
from tests.lab.dovecot import PASSWORD, Dovecot
from tests.lab.processes import LOOPBACK, session_members, wait_until
from tests.unit.mailbox import boxes
from tests.unit.mailbox.boxes import MARK, Watched

if TYPE_CHECKING:
    from collections.abc import Callable

_users = itertools.count(1)
FIRST, SECOND = b"Subject: one\r\n\r\nfirst letter\r\n", b"Subject: two\r\n\r\n" + b"second \xff letter\r\n" * 90
# As they are put in: octets, flags and keywords, and when they came in.
LETTERS = (
    (FIRST, (b"\\Seen", b"$Label1", b"Work"), datetime(2020, 2, 29, 23, 59, 58, tzinfo=timezone(timedelta(hours=5)))),
    (SECOND, (), datetime(2003, 12, 1, 0, 0, 1, tzinfo=UTC)),
    (FIRST, (b"\\Deleted", b"\\Flagged", b"\\Draft"), datetime(2026, 1, 1, 12, 0, tzinfo=UTC)),
)


def changed(raw: bytes, *, dry: bool = False) -> Change:
    """As boxes.changed, with CRLF; and two messages with the same octets have the same again, as after decryption."""
    found = boxes.changed(raw, dry=dry)
    new = MARK + b"\r\n\r\n" + base64.b64encode(raw) + b"\r\n"
    return replace(found, raw=new if found.raw else b"")


def original(raw: bytes) -> bytes:
    return boxes.original(raw.replace(b"\r\n", b"\n")) if raw.startswith(MARK) else raw


@dataclass(frozen=True)
class Message:
    raw: bytes
    flags: frozenset[bytes]
    came_at: datetime


@dataclass
class User:
    """One user of a Dovecot, and a folder for this test."""

    dovecot: Dovecot
    folder: Path
    name: str = field(default_factory=lambda: f"user{next(_users)}")

    def client(self) -> IMAPClient:
        client = IMAPClient(LOOPBACK, self.dovecot.port, ssl=False, timeout=60)
        client.login(self.name, PASSWORD)
        client.normalise_times = False
        return client

    def put(self, *letters: tuple[bytes, tuple[bytes, ...], datetime], folder: str = "INBOX") -> None:
        with self.client() as client:
            for raw, flags, came_at in letters:
                client.append(folder, raw, flags, came_at)

    def messages(self, folder: str = "INBOX") -> list[Message]:
        with self.client() as client:
            client.select_folder(folder, readonly=True)
            found = client.fetch(client.search("ALL"), ["BODY.PEEK[]", "FLAGS", "INTERNALDATE"])
        return [
            Message(one[b"BODY[]"], frozenset(one[b"FLAGS"]) - {b"\\Recent"}, one[b"INTERNALDATE"])
            for _, one in sorted(found.items())
        ]

    def server(self) -> Server:
        return Server(LOOPBACK, self.dovecot.port, self.name, PASSWORD, tls="none")

    @property
    def journal(self) -> Path:
        return self.folder / f"{self.name}.sqlite"

    def work(self, keep: str = "", wrap: Callable[[Any], Any] = lambda it: it, folder: str = "INBOX") -> Work:
        """A run in this process, in which ``wrap`` may meddle with the folder and the journal."""
        with IMAPMailbox(self.server()) as mailbox, MoveJournal(self.journal, "test") as journal:
            if keep:
                mailbox.make(keep)
            work = Work(changed, wrap(journal), Wanted(), keep, lambda *_: None, lambda *_: None)
            work.run(wrap(mailbox.folder(folder)))
            assert journal.pending(folder) == []
        return work


def expected(letters: tuple[Any, ...] = LETTERS) -> list[tuple[bytes, frozenset[bytes], datetime]]:
    return sorted(((raw, frozenset(flags), came_at) for raw, flags, came_at in letters), key=lambda one: one[2])


def check_done(user: User, keep: str = "", folder: str = "INBOX") -> None:
    """Every message is there once, changed, with flags, keywords and date; nothing else is."""
    found = user.messages(folder)
    assert all(message.raw.startswith(MARK) for message in found)
    assert sorted(((original(m.raw), m.flags, m.came_at) for m in found), key=lambda one: one[2]) == expected()
    if keep:
        kept = sorted(((m.raw, m.flags, m.came_at) for m in user.messages(keep)), key=lambda one: one[2])
        assert kept == expected()


def check_whole(user: User, keep: str = "") -> None:
    """Every message is there, as it was or changed."""
    found = {hashlib.sha256(original(message.raw)).digest() for message in user.messages()}
    assert found == {hashlib.sha256(raw).digest() for raw, *_ in LETTERS}
    dates = {message.came_at for message in user.messages()}
    assert dates == {came_at for *_, came_at in LETTERS}


def run_killed(user: User, at: int, keep: str) -> bool:
    """Runs in a child that kills itself at step number ``at``; whether it came to its end before.

    A step comes before and after each call of the folder and the journal, before and after whatever goes over the wire,
    and in the middle of a message.
    """
    child = os.fork()
    if child == 0:
        steps = 0

        def step(*_: object) -> None:
            nonlocal steps
            steps += 1
            if steps == at:
                os.kill(os.getpid(), signal.SIGKILL)

        send, readline = imaplib.IMAP4.send, imaplib.IMAP4.readline

        def send_in_steps(self: imaplib.IMAP4, data: bytes) -> None:
            step()
            if len(data) > 1000:
                send(self, data[:700])
                step()
                data = data[700:]
            send(self, data)
            step()

        def read_in_steps(self: imaplib.IMAP4) -> bytes:
            line = readline(self)
            step()
            return line

        try:
            imaplib.IMAP4.send, imaplib.IMAP4.readline = send_in_steps, read_in_steps  # type: ignore[method-assign, assignment]
            user.work(keep, lambda it: Watched(it, step))
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"the child failed: {status}"
    return status == 0


def without(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """The server cannot do this."""
    has = IMAPClient.has_capability
    monkeypatch.setattr(IMAPClient, "has_capability", lambda self, name: name != missing and has(self, name))


def wait_until_alone(user: User) -> None:
    """Until Dovecot has noticed that the killed client is gone: it may still have had a command to carry out.  Dovecot
    has a process for each client; its log may be late."""
    assert user.dovecot._child is not None
    session = os.getsid(user.dovecot._child.pid)

    def is_alone() -> bool:
        return not any(_command(pid).startswith(b"dovecot/imap") for pid in session_members(session))

    assert wait_until(is_alone, 30), user.dovecot.log[-2000:]


def _command(pid: int) -> bytes:
    """What a process calls itself, empty for one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
