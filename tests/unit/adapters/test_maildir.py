"""A Maildir as other programs write it: names, flags, folders; and what is no Maildir."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from smilla.adapters.maildir import Maildir
from smilla.errors import MailboxError, MailboxRefused
from smilla.model.mailbox import Draft, Marks, Wanted
from tests.unit.mailbox.boxes import make_folder

if TYPE_CHECKING:
    from pathlib import Path

ALL = Wanted()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "mail")


def put(root: Path, name: str, raw: bytes = b"Subject: x\n\n") -> Path:
    (root / name).write_bytes(raw)
    return root / name


def test_oldest_comes_first_and_what_is_no_message_is_not_there(root: Path) -> None:
    for name in ("cur/20.b:2,S", "cur/3.a:2,", "new/100.c", "cur/.hidden", "cur/odd", "tmp/1.x"):
        put(root, name)
    (root / "cur/9.folder").mkdir()
    (root / "cur/8.link").symlink_to(root / "cur/odd")
    assert Maildir(root).folder("INBOX").names(ALL) == ["odd", "3.a", "20.b", "100.c"]


def test_time_of_the_file_says_which_are_wanted(root: Path) -> None:
    for seconds in (1000, 2000, 3000):
        os.utime(put(root, f"cur/{seconds}.x:2,"), (seconds, seconds))
    folder = Maildir(root).folder("INBOX")

    def at(seconds: int) -> datetime:
        return datetime.fromtimestamp(seconds, UTC)

    assert folder.names(Wanted(since_at=at(2000))) == ["2000.x", "3000.x"]
    assert folder.names(Wanted(before_at=at(2000))) == ["1000.x"]
    assert folder.names(Wanted(since_at=at(1500), before_at=at(2500))) == ["2000.x"]


def test_message_is_found_again_though_its_file_has_another_name_now(root: Path) -> None:
    path = put(root, "new/1.a")
    folder = Maildir(root).folder("INBOX")
    assert folder.names(ALL) == ["1.a"]
    path.rename(root / "cur/1.a:2,FS")
    assert folder.sizes(["1.a", "none"]) == {"1.a": 12}
    stored = folder.read(["1.a"])["1.a"]
    assert stored is not None
    assert stored.marks == Marks(frozenset("FS"), str((root / "cur/1.a:2,FS").stat().st_mtime_ns))
    (root / "cur/1.a:2,FS").unlink()
    assert (folder.read(["1.a"]), folder.marks(["1.a"]), folder.sizes(["1.a"])) == ({}, {}, {})


def test_only_the_file_with_the_flags_that_were_seen_is_removed(root: Path) -> None:
    put(root, "cur/1.a:2,S")
    folder = Maildir(root).folder("INBOX")
    folder.names(ALL)
    put(root, "cur/2.b:2,F")
    marks = Marks(frozenset("F"), "0")
    assert folder.remove({"1.a": marks, "2.b": marks, "none": marks}, "") == {"2.b", "none"}
    assert (root / "cur/1.a:2,S").exists()
    assert not (root / "cur/2.b:2,F").exists()
    assert folder.remove({"1.a": Marks(frozenset("S"), "0")}, "") == {"1.a"}
    assert not (root / "cur/1.a:2,S").exists()


def test_what_cannot_be_written_leaves_nothing_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "cur/1.a:2,S")
    folder = Maildir(root).folder("INBOX")
    marks = Marks(frozenset("S"), "0")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        (refused,) = folder.write([Draft(b"x", marks, "1.new", "1.a")])
    assert isinstance(refused, MailboxRefused)
    assert "No space left" in str(refused)
    assert refused.is_full
    (refused,) = folder.write([Draft(b"x", marks, "1.new", "1.other")])
    assert "the old one is gone" in str(refused)
    assert list((root / "tmp").iterdir()) == []
    assert [path.name for path in (root / "cur").iterdir()] == ["1.a:2,S"]


def test_reserved_name_is_one_that_nobody_else_makes(root: Path) -> None:
    folder = Maildir(root).folder("INBOX")
    names = {folder.reserve("17.M5.host", b"a\nb\r\n") for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith("17.R") and ":" not in name and "," not in name for name in names)
    assert folder.reserve("17.M5.host,S=9,W=9", b"a\nb\r\n").endswith(",S=5,W=6")
    assert folder.reserve("odd", b"").partition(".")[0].isdecimal()


def test_folders_are_found_wherever_they_lie_and_links_are_not_followed(root: Path, tmp_path: Path) -> None:
    for name in (".Sent", ".Archive.2020", "plain/below"):
        make_folder(root / name)
    (root / "not-one").mkdir()
    (root / ".Link").symlink_to(make_folder(tmp_path / "elsewhere"))
    whole = Maildir(root)
    assert whole.folder_names() == ["INBOX", "Archive.2020", "Sent", "plain/below"]
    for name in ("Sent", ".Sent", "Archive.2020", "plain/below", "inbox"):
        assert whole.folder(name).name == name
    for name in ("", "..", "../elsewhere", "/tmp", "cur", "None"):
        with pytest.raises(MailboxError, match="there is no folder"):
            whole.folder(name)


def test_folder_is_made_once_with_the_mode_of_the_mailbox(root: Path) -> None:
    root.chmod(0o2770)
    whole = Maildir(root)
    whole.make("Old.2020")
    whole.make("Old.2020")
    assert (root / ".Old.2020/cur").stat().st_mode & 0o7777 == 0o2770
    assert (root / ".Old.2020/maildirfolder").exists()
    for name in ("a/b", ".x", "", ".."):
        with pytest.raises(MailboxError, match="cannot be the name"):
            whole.make(name)


def test_what_is_no_maildir_is_refused_and_root_does_not_work_on_another_users(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MailboxError, match="is no Maildir"):
        Maildir(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    if root.stat().st_uid == 0:
        os.chown(root, 65534, 65534)
    with pytest.raises(MailboxError, match="run this as the owner"):
        Maildir(root)


def test_another_message_of_that_name_in_the_folder_for_old_ones_is_not_written_over(root: Path) -> None:
    put(root, "cur/1.a:2,S")
    whole = Maildir(root)
    whole.make("Old")
    other = put(root, ".Old/cur/1.a:2,", b"another")
    folder = whole.folder("INBOX")
    with pytest.raises(MailboxError, match="is another message"):
        folder.remove({"1.a": Marks(frozenset("S"), "0")}, "Old")
    assert other.read_bytes() == b"another"
    assert (root / "cur/1.a:2,S").exists()


def test_keyword_without_room_or_a_list_that_cannot_be_read_stops_it(root: Path) -> None:
    put(root, "cur/1.a:2,a")
    (root / "dovecot-keywords").write_text("0 work\n")
    whole = Maildir(root)
    whole.make("Old")
    listed = root / ".Old/dovecot-keywords"
    folder, marks = whole.folder("INBOX"), Marks(frozenset("a"), "0")
    for text in ("".join(f"{number} k{number}\n" for number in range(26)), "x\n", "0 a\n0 b\n"):
        listed.write_text(text)
        with pytest.raises(MailboxError, match=r"has no room|cannot be understood"):
            folder.remove({"1.a": marks}, "Old")
        assert (root / "cur/1.a:2,a").exists()
    listed.write_text("3 work\n")
    assert folder.remove({"1.a": marks}, "Old")
    assert (root / ".Old/cur/1.a:2,d").exists()


@pytest.mark.parametrize("other", ["cur/1000.A.host:2,S~", "new/1000.A.host"])
def test_two_files_of_one_name_are_told_and_neither_is_touched(root: Path, other: str) -> None:
    """Whichever were taken for the message, the other one could go in its place."""
    put(root, "cur/1000.A.host:2,S", b"Subject: one\n\n")
    put(root, other, b"Subject: two\n\n")
    with pytest.raises(MailboxError, match=r"1000\.A\.host.* and .*1000\.A\.host.* have one name; rename one"):
        Maildir(root).folder("INBOX").names(ALL)
    assert sorted(path.read_bytes()[9:12] for path in root.glob("*/*")) == [b"one", b"two"]
