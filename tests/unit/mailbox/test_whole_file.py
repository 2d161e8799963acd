"""An mbox is the old file or the new one, whoever is killed; and its messages are what they were, or changed."""

from __future__ import annotations

import fcntl
import io
import itertools
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from smilla.adapters.mbox import Mbox
from smilla.errors import MailboxError
from smilla.formats import mbox
from smilla.mailbox.change import Change, Fate
from smilla.mailbox.whole_file import WholeFile
from smilla.mailbox.work import Tally
from tests.unit.mailbox.boxes import MARK, changed, original

if TYPE_CHECKING:
    from collections.abc import Callable

FROM = b"From sam@sender.example Mon Jan  1 08:00:00 2024\n"
ONE = b"Status: RO\nX-UID: 7\nX-Keywords: work\nContent-Length: 13\nSubject: one\n\nfirst \xff here\n"
TWO = b"Subject: two\n\nsecond\n\n\n"
THREE = b"Subject: three\n\nthird, without an end"
WHOLE = FROM + ONE + b"\n" + FROM + TWO + b"\n" + FROM + THREE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make(tmp_path)


def make(folder: Path, raw: bytes = WHOLE) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / "mbox"
    path.write_bytes(raw)
    path.chmod(0o660)
    os.utime(path, ns=(1_700_000_000_000_000_001, 1_600_000_000_000_000_002))
    return path


def run(
    path: Path, keep: str = "", from_lines: str = "", change: Callable[..., Change] = changed, *, dry: bool = False
) -> WholeFile:
    told: list[Any] = []
    whole = WholeFile(change, from_lines, lambda *what: told.append(what), lambda *_: None, Tally("mbox"))
    box = Mbox(path)
    if dry:
        with path.open("rb") as looked_at:
            whole.look(looked_at, path.stat().st_size)
        return whole
    with box.locked() as file, box.replacement(file) as new:
        whole.run(file, path.stat().st_size, new, keep)
    return whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def messages(path: Path) -> list[bytes]:
    """Each with its line."""
    raw = path.read_bytes()
    return [raw[span.begin : span.end] for span in mbox.spans(io.BytesIO(raw))]


def changed_as(message: bytes) -> bytes:
    """What was changed, after the line and without the empty one at the end."""
    assert message.startswith(FROM + MARK)
    assert message.endswith(b"\n\n")
    return original(message[len(FROM) : -1])


def test_every_message_is_changed_and_line_mode_and_times_stay(path: Path) -> None:
    whole = run(path)
    assert whole.tally.fates == {(Fate.CHANGED, "changed"): 3}
    status = path.stat()
    one, two, three = map(changed_as, messages(path))
    assert one == ONE.replace(b"X-UID: 7\n", b"").replace(b"Content-Length: 13\n", b"")
    assert (two, three) == (TWO, THREE)
    assert (status.st_mode & 0o777, status.st_atime_ns, status.st_mtime_ns) == (
        0o660,
        1_700_000_000_000_000_001,
        1_600_000_000_000_000_002,
    )
    assert names(path.parent) == ["mbox"]
    before = path.read_bytes()
    assert run(path).tally.fates == {(Fate.NOTHING_TO_DO, "already"): 3}
    assert path.read_bytes() == before


def test_what_is_not_changed_stays_octet_for_octet(path: Path) -> None:
    run(path, change=lambda raw, dry: changed(raw, dry=dry) if b"two" in raw else Change(Fate.LEFT, "x", "y"))
    one, two, three = messages(path)
    assert (one, changed_as(two), three) == (FROM + ONE + b"\n", TWO, FROM + THREE)


def test_crlf_stays_crlf(tmp_path: Path) -> None:
    path = make(tmp_path, WHOLE.replace(b"\n", b"\r\n"))

    def with_crlf(raw: bytes, *, dry: bool) -> Change:
        return Change(Fate.CHANGED, "x", "y", b"Changed: 1\r\n\r\nbody")

    run(path, change=with_crlf)
    assert path.read_bytes() == (FROM.replace(b"\n", b"\r\n") + b"Changed: 1\r\n\r\nbody\r\n\r\n") * 3


def test_old_file_is_kept_under_another_name(path: Path) -> None:
    run(path, keep="before")
    assert (path.parent / "before").read_bytes() == WHOLE
    assert len(messages(path)) == 3
    again = make(path.parent)
    with pytest.raises(MailboxError, match="is there already"):
        run(again, keep="before")
    assert again.read_bytes() == WHOLE
    run(again, keep=str(path.parent / "elsewhere"))
    assert (path.parent / "elsewhere").read_bytes() == WHOLE


def test_dry_run_writes_nothing(path: Path) -> None:
    assert run(path, dry=True).tally.fates == {(Fate.CHANGED, "changed"): 3}
    assert path.read_bytes() == WHOLE
    assert names(path.parent) == ["mbox"]


# --- lines that begin with From


QUOTED = b"Subject: q\n\n>From here\n>>From there\n"
UNCLEAR = b"Subject: u\n\nwe came\n\nFrom there\n"
INTERNAL = b"X-IMAP: 1 2\nStatus: RO\nSubject: DON'T DELETE THIS MESSAGE\n\ndata\n"


def test_where_nobody_knows_whose_the_sign_is_the_message_stays(tmp_path: Path) -> None:
    path = make(tmp_path, FROM + QUOTED + b"\n" + FROM + UNCLEAR + b"\n" + FROM + TWO)
    whole = run(path)
    assert whole.tally.fates == {(Fate.LEFT, "from_line"): 2, (Fate.CHANGED, "changed"): 1}
    assert messages(path)[:2] == [FROM + QUOTED + b"\n", FROM + UNCLEAR + b"\n"]


@pytest.mark.parametrize(
    ("from_lines", "inside"), [("quoted", b"From here\n>From there\n"), ("plain", b">From here\n>>From there\n")]
)
def test_whoever_says_so_gets_the_lines_as_they_were_sent(tmp_path: Path, from_lines: str, inside: bytes) -> None:
    path = make(tmp_path, FROM + QUOTED)
    run(path, from_lines=from_lines)
    assert changed_as(messages(path)[0]) == b"Subject: q\n\n" + inside


def opened(raw: bytes, *, dry: bool) -> Change:
    return Change(Fate.CHANGED, "opened", "", b"Subject: x\n\nFrom here\n\nFrom a Mon Jan  1 08:00:00 2024\n>From\n")


def test_new_message_with_such_a_line_is_quoted_or_the_old_one_stays(tmp_path: Path) -> None:
    for from_lines in ("", "plain"):
        path = make(tmp_path, FROM + TWO)
        assert run(path, from_lines=from_lines, change=opened).tally.fates == {(Fate.LEFT, "from_line"): 1}
        assert path.read_bytes() == FROM + TWO
    run(path, from_lines="quoted", change=opened)
    (only,) = messages(path)
    assert only.endswith(b"\n\n>From here\n\n>From a Mon Jan  1 08:00:00 2024\n>From\n\n")


def test_what_a_program_notes_about_the_file_is_left_alone(tmp_path: Path) -> None:
    path = make(tmp_path, FROM + INTERNAL + b"\n" + FROM + TWO)
    assert run(path).tally.fates == {(Fate.NOTHING_TO_DO, "internal"): 1, (Fate.CHANGED, "changed"): 1}
    assert messages(path)[0] == FROM + INTERNAL + b"\n"


@pytest.mark.parametrize("raw", [b"no mbox\n", b"\n" + WHOLE])
def test_what_is_no_mbox_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = make(tmp_path, raw)
    with pytest.raises(MailboxError, match="is no mbox"):
        run(path)
    assert path.read_bytes() == raw


# --- others, and death


def run_killed(path: Path, at: int) -> bool:
    """Runs in a child that kills itself before step number ``at``; whether it came to its end before."""
    child = os.fork()
    if child == 0:
        steps = 0

        def hear(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal steps
            if event in ("open", "os.rename", "os.remove", "os.link", "os.utime", "os.chmod", "fcntl.flock"):
                steps += str(path.parent) in str(arguments[0]) or isinstance(arguments[0], int)
                if steps == at:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hear)
            run(path, keep="before")
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    return status == 0


def test_kill_at_every_step_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    for at in itertools.count(1):
        path = make(tmp_path / str(at))
        ended = run_killed(path, at)
        raw = path.read_bytes()
        if raw != WHOLE:
            assert len([changed_as(message) for message in messages(path)]) == 3
            assert (path.parent / "before").read_bytes() == WHOLE
        run(path, keep="before")
        assert len([changed_as(message) for message in messages(path)]) == 3
        assert (path.parent / "before").read_bytes() == WHOLE
        assert names(path.parent) == ["before", "mbox"]
        if ended:
            break
    assert at > 12


@pytest.mark.parametrize("lock", ["flock", "lockf", "file", "stranger"])
def test_file_that_another_program_has_locked_is_not_touched(path: Path, lock: str) -> None:
    beside = path.with_name("mbox.lock")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # a lock of this process would not stop it
        file = path.open("r+b")
        if lock in ("flock", "lockf"):
            getattr(fcntl, lock)(file, fcntl.LOCK_EX)
        os.write(write, b"x")
        signal.pause()
    os.read(read, 1)
    try:
        if lock == "file":
            beside.write_text(f"{child} smilla\n")
        elif lock == "stranger":
            beside.write_text("1234567:host\n")
        with pytest.raises(MailboxError, match="another program"):
            run(path)
        assert beside.exists() is (lock in ("file", "stranger"))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert path.read_bytes() == WHOLE
    if lock != "stranger":
        run(path)
        assert not beside.exists()


@pytest.mark.parametrize("deed", ["append", "replace"])
def test_file_that_changed_meanwhile_in_spite_of_the_locks_is_not_replaced(path: Path, deed: str) -> None:
    def meddling(raw: bytes, *, dry: bool) -> Change:
        if b"three" in raw and deed == "append":
            with path.open("ab") as file:
                file.write(b"\n\n" + FROM + TWO)
        elif b"three" in raw:
            path.with_name("new").write_bytes(WHOLE + b"\n")
            path.with_name("new").rename(path)
        return changed(raw, dry=dry)

    with pytest.raises(MailboxError, match=r"changed it meanwhile|other messages"):
        run(path, change=meddling)
    assert path.read_bytes().startswith(WHOLE)
    assert names(path.parent) == ["mbox"]


def test_new_file_that_reads_back_otherwise_does_not_take_the_place(path: Path) -> None:
    class Altering:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def sync(self) -> None:
            self._inner.sync()
            self._inner.file.seek(len(FROM) + 3)
            self._inner.file.write(b"?")

    whole = WholeFile(changed, "", lambda *_: None, lambda *_: None, Tally("mbox"))
    box = Mbox(path)
    with (
        pytest.raises(MailboxError, match="read back with other messages"),
        box.locked() as file,
        box.replacement(file) as new,
    ):
        whole.run(file, path.stat().st_size, Altering(new), "")
    assert path.read_bytes() == WHOLE


def test_disk_without_room_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MailboxError, match="there is no room; the old file stays"):
        run(path)
    assert path.read_bytes() == WHOLE
    assert names(path.parent) == ["mbox"]


def test_root_does_not_work_on_the_file_of_another_user(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    if path.stat().st_uid == 0:
        os.chown(path, 65534, 65534)
    with pytest.raises(MailboxError, match="run this as the owner"):
        Mbox(path)
    with pytest.raises(MailboxError, match="is no file"):
        Mbox(path.parent)
