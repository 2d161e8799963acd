"""smilla seal: the keys told, made and removed.  What a real queue holds is in tests/live/test_seal_keys.py."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smilla.adapters.seal_keys import SealKeys
from smilla.errors import PostfixUnclear
from smilla.handover import seal
from smilla.log_line import Line
from smilla.message import parse
from smilla.ports import SealKey
from tests.unit.cli.conftest import CommandLine
from tests.unit.cli.test_open import FACTS, RAW

DAY = 86400


class Queue:
    """What the MTA tells of its queue, in place of smilla.adapters.postfix."""

    messages: dict[str, bytes] = {}  # noqa: RUF012 - the test's own
    unclear = ""

    def __init__(self, _folder: str) -> None:
        pass

    def headers_in_queue(self) -> Iterator[tuple[str, bytes]]:
        for queue_id, raw in self.messages.items():
            yield queue_id, raw.partition(b"\r\n\r\n")[0] + b"\r\n"
        if self.unclear:
            raise PostfixUnclear(self.unclear)

    def message(self, queue_id: str) -> bytes:
        return self.messages[queue_id]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    monkeypatch.setattr(Queue, "messages", {})
    monkeypatch.setattr(Queue, "unclear", "")
    monkeypatch.setattr("smilla.cli.seal.Postfix", Queue)
    return Queue("")


class Lines:
    """Where the log goes."""

    joins = True

    def __init__(self) -> None:
        self.raw = b""

    @staticmethod
    def framed(line: Line) -> bytes:
        return line.raw

    def write(self, raw: bytes) -> None:
        self.raw += raw

    def flush(self) -> None:
        pass


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Lines:
    lines = Lines()
    monkeypatch.setattr("smilla.cli.audit.log_target.opened", lambda _: lines)
    return lines


def with_keys(commands: CommandLine, *ages_days: float) -> tuple[Path, list[SealKey]]:
    """A configuration, and keys that were made so many days ago."""
    folder = commands.folder / "seal"
    folder.mkdir(0o700)
    now = time.time()
    keys = [SealKeys(str(folder), lambda at=now - age * DAY: at).make() for age in ages_days]  # type: ignore[misc]
    return commands.config(f'[stage]\nkeys = "{folder}"\n'), keys


def sealed(key: SealKey, *, mark: str | None = None) -> bytes:
    """A message in the queue; ``mark`` is what somebody has put in place of its X-Smilla-Stage field."""
    message = parse(RAW).message
    rewrite = seal.rewrite(message, FACTS, key)
    fields = [f"{name}: {value}\r\n" for name, value in rewrite.added]
    if mark is not None:
        fields = [field for field in fields if not field.startswith(seal.MARK)] + [mark]
    assert rewrite.body is not None
    return b"".join([b"Subject: x\r\n", "".join(fields).encode(), b"\r\n", *rewrite.body()])


def ids(commands: CommandLine) -> set[str]:
    return {path.stem for path in (commands.folder / "seal").glob("*.key")}


def test_list_tells_each_key_and_which_one_seals(commands: CommandLine) -> None:
    path, (old, new) = with_keys(commands, 100, 1)
    done = commands.run("seal", "list", "--config", path)
    first, second = done.out.decode().splitlines()
    assert first.startswith(f"{old.raw_id.hex()}  made 20") and first.endswith("  opens only")
    assert second.startswith(f"{new.raw_id.hex()}  made 20") and second.endswith("  seals")
    assert old.raw.hex() not in done.out.decode()
    told = commands.run("seal", "list", "--json", "--config", path).json
    assert [(key["id"], key["seals"]) for key in told] == [(old.raw_id.hex(), False), (new.raw_id.hex(), True)]


def test_rotate_makes_a_key_that_seals_and_the_old_one_stays(commands: CommandLine, logged: Lines) -> None:
    path, (old,) = with_keys(commands, 1)
    done = commands.run("seal", "rotate", "--config", path)
    assert done.code == 0
    assert "hint: add it to the backup" in done.err
    new = SealKeys(str(commands.folder / "seal")).current()
    assert done.out.decode() == f"{new.raw_id.hex()}  seals from now on\n"
    assert ids(commands) == {old.raw_id.hex(), new.raw_id.hex()}
    assert logged.raw.decode() == f"- seal-key-made key={new.raw_id.hex()} folder={commands.folder}/seal\n"


def test_rotate_gives_the_key_to_whom_the_folder_belongs(commands: CommandLine) -> None:
    """Where the service manager starts smilla as its user, [milter] user is empty, and root must not keep the key."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    path, _ = with_keys(commands, 1)
    folder = commands.folder / "seal"
    os.chown(folder, 65534, 65534)
    assert commands.run("seal", "rotate", "--config", path).code == 0
    found = SealKeys(str(folder)).all()[-1].path.stat()
    assert (found.st_uid, oct(found.st_mode)) == (65534, "0o100600")


def test_rotate_without_a_folder_says_who_makes_it(commands: CommandLine) -> None:
    path = commands.config('[stage]\nkeys = "/nonexistent/seal"\n')
    done = commands.run("seal", "rotate", "--config", path)
    assert done.code == 75
    assert "start smilla once, which makes it" in done.err


def test_prune_removes_what_no_queued_message_needs(commands: CommandLine, queue: Queue, logged: Lines) -> None:
    path, (older, old, new) = with_keys(commands, 200, 100, 1)
    queue.messages |= {"Q1": sealed(old), "Q2": sealed(old), "Q3": b"Subject: plain\r\n\r\nx\r\n"}
    done = commands.run("seal", "prune", "--config", path)
    assert done.code == 0
    assert done.out.decode().splitlines() == [
        f"{older.raw_id.hex()}  removed",
        f"{old.raw_id.hex()}  kept: 2 queued messages need it",
        f"{new.raw_id.hex()}  kept: the newest; no queued message needs it",
    ]
    assert logged.raw.decode() == f"- seal-key-removed key={older.raw_id.hex()} folder={commands.folder}/seal\n"
    assert ids(commands) == {old.raw_id.hex(), new.raw_id.hex()}


def test_prune_never_removes_the_key_that_seals(commands: CommandLine, queue: Queue) -> None:
    path, (key,) = with_keys(commands, 1000)
    done = commands.run("seal", "prune", "--config", path)
    assert (done.code, done.out.decode()) == (0, f"{key.raw_id.hex()}  kept: the newest; no queued message needs it\n")
    queue.messages["Q1"] = sealed(key)
    assert b"kept: the newest; 1 queued message needs it" in commands.run("seal", "prune", "--config", path).out
    assert ids(commands) == {key.raw_id.hex()}


def test_prune_keeps_a_key_that_sealed_within_the_last_hour(commands: CommandLine, queue: Queue) -> None:
    path, keys = with_keys(commands, 100, 0.03)
    done = commands.run("seal", "prune", "--config", path)
    assert b"kept: it sealed within the last hour" in done.out
    assert ids(commands) == {key.raw_id.hex() for key in keys}


def test_prune_removes_nothing_where_the_queue_cannot_be_told(commands: CommandLine, queue: Queue) -> None:
    path, keys = with_keys(commands, 200, 100, 1)
    queue.messages["Q1"] = sealed(keys[1])
    Queue.unclear = "postqueue did not answer in time"
    done = commands.run("seal", "prune", "--config", path)
    assert (done.code, done.out) == (75, b"")
    assert "error: postqueue did not answer in time" in done.err
    assert len(ids(commands)) == 3


def test_prune_reads_every_queue_before_it_removes(commands: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two instances that share the keys: the first one's queue is empty, the second one's cannot be read."""
    path, keys = with_keys(commands, 200, 100, 1)

    class Second(Queue):
        def __init__(self, folder: str) -> None:
            self.unclear = "it is down" if folder == "b" else ""

    monkeypatch.setattr("smilla.cli.seal.Postfix", Second)
    argv = ("seal", "prune", "--config", path, "--postfix-config", "a", "--postfix-config", "b")
    assert commands.run(*argv).code == 75
    assert len(ids(commands)) == len(keys)


def test_prune_finds_the_key_of_a_message_whose_mark_is_gone(commands: CommandLine, queue: Queue) -> None:
    path, (old, _) = with_keys(commands, 100, 1)
    queue.messages["Q1"] = sealed(old, mark="X-Other: 1\r\n")
    done = commands.run("seal", "prune", "--config", path)
    assert b"kept: 1 queued message needs it" in done.out
    assert len(ids(commands)) == 2


@pytest.mark.parametrize("what", ["a mark without a key", "cut off"])
def test_prune_removes_nothing_where_a_message_cannot_be_understood(
    commands: CommandLine, queue: Queue, what: str
) -> None:
    path, (old, _) = with_keys(commands, 100, 1)
    if what == "cut off":
        queue.messages["Q1"] = sealed(old, mark="")[:900]
    else:
        queue.messages["Q1"] = sealed(old, mark="X-Smilla-Stage: rubbish\r\n")
    done = commands.run("seal", "prune", "--config", path)
    assert done.code == 75
    assert "error: Q1: " in done.err
    assert len(ids(commands)) == 2


def test_prune_heeds_every_key_that_a_forged_second_mark_names(commands: CommandLine, queue: Queue) -> None:
    path, (older, old, _) = with_keys(commands, 200, 100, 1)
    second = f"X-Smilla-Stage: {'0' * 32}\r\n {older.raw_id.hex()}\r\nX-Smilla-Stage: {'0' * 32} {old.raw_id.hex()}\r\n"
    queue.messages["Q1"] = sealed(old, mark=second)
    done = commands.run("seal", "prune", "--config", path)
    assert done.out.count(b"kept: 1 queued message needs it") == 2
