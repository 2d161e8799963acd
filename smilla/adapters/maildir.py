"""A Maildir and its folders, as files: cr.yp.to/proto/maildir.html, and for folders, keywords and sizes in names
doc.dovecot.org (Maildir++).

Promises: a message appears in its folder as a whole or not at all, and is on the disk by then; no file is written over;
a file is removed only under the very name, flags included, that was asked for.  The time of a file, by which IMAP
servers know when a message came, and its mode are those of the old message.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from smilla.adapters import maildir_keywords, synced_folder
from smilla.errors import MailboxError, MailboxRefused
from smilla.model.mailbox import Draft, Marks, Stored, Wanted

INBOX = "INBOX"
_PARTS = ("cur", "new", "tmp")
_IS_NEW = "new/"  # stands among the flags of a message that lies in new/
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SIZES = re.compile(r",(S|W)=(\d+)")


class Maildir:
    """The folders of one Maildir."""

    def __init__(self, root: Path) -> None:
        """Raises MailboxError."""
        self._root = root
        if not _is_folder(root):
            raise MailboxError(f"{root}: is no Maildir (it needs the folders cur, new and tmp)")
        owner = root.stat().st_uid
        if os.geteuid() == 0 and owner != 0:
            raise MailboxError(f"{root}: run this as the owner of the mailbox (user {owner}), not as root")

    def folder_names(self) -> list[str]:
        """All folders, INBOX first.  Links are not followed."""
        found = []
        with _problems(str(self._root)):
            for place, folders, _ in os.walk(self._root):
                if place != str(self._root) and _is_folder(Path(place)):
                    found.append(Path(place).relative_to(self._root).as_posix().removeprefix("."))
                folders[:] = sorted(name for name in folders if name not in _PARTS)
        return [INBOX, *sorted(found)]

    def folder(self, name: str, *, is_read_only: bool = False) -> MaildirFolder:
        """Raises MailboxError if there is no such folder."""
        path = self._path(name)
        if path is None:
            raise MailboxError(f"{self._root}: there is no folder {name}")
        return MaildirFolder(name, path, self)

    def make(self, name: str) -> None:
        """Makes a folder, if it is not there.  Raises MailboxError."""
        if self._path(name) is not None:
            return
        if "/" in name or name in ("", ".", "..") or name.startswith("."):
            raise MailboxError(f"{name!r} cannot be the name of a new folder here")
        path = self._root / f".{name}"
        with _problems(str(path)):
            for part in _PARTS:
                (path / part).mkdir(0o700, parents=True, exist_ok=True)
            (path / "maildirfolder").touch(0o600)
            mode = stat.S_IMODE(self._root.stat().st_mode)
            for place in (path, *(path / part for part in _PARTS)):
                place.chmod(mode)
                synced_folder.sync(place)
            synced_folder.sync(self._root)

    def forget(self) -> None:
        """There is no connection."""

    def _path(self, name: str) -> Path | None:
        if name.upper() == INBOX:
            return self._root
        if not name or ".." in Path(name).parts or name.startswith("/"):
            return None
        paths = (self._root / f".{name}", self._root / name)
        return next((path for path in paths if path != self._root and _is_folder(path)), None)


class MaildirFolder:
    """mailbox.store.Folder.  The name of a message is that of its file up to the colon; ``place`` is the same, of the
    new message."""

    validity = ""  # a name is never used again
    chooses_names = True

    def __init__(self, name: str, path: Path, whole: Maildir) -> None:
        self.name = name
        self._path, self._whole = path, whole
        self._files: dict[str, str] = {}  # by name: cur/FILE or new/FILE
        self._kept: MaildirFolder | None = None

    def names(self, wanted: Wanted) -> Sequence[str]:
        """See mailbox.store.Folder."""
        with self._problems():
            self._look()
            return [name for name in sorted(self._files, key=_by_time) if self._is_wanted(name, wanted)]

    def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """See mailbox.store.Folder."""
        found: dict[str, int] = {}
        with self._problems():
            for name in names:
                for file in self._found(name):
                    with suppress(FileNotFoundError):
                        found[name] = (self._path / file).lstat().st_size
                        break
        return found

    def read(self, names: Sequence[str]) -> dict[str, Stored | None]:
        """See mailbox.store.Folder."""
        found: dict[str, Stored | None] = {}
        for name in names:
            with self._problems():
                for file in self._found(name):
                    with suppress(FileNotFoundError), _opened(self._path / file) as descriptor:
                        status = os.fstat(descriptor)
                        with os.fdopen(os.dup(descriptor), "rb") as stream:
                            found[name] = Stored(stream.read(), Marks(_flags(file), str(status.st_mtime_ns)))
                        break
        return found

    def marks(self, names: Sequence[str]) -> dict[str, Marks]:
        """See mailbox.store.Folder."""
        found: dict[str, Marks] = {}
        for name in names:
            with self._problems():
                for file in self._found(name):
                    with suppress(FileNotFoundError):
                        found[name] = Marks(_flags(file), str((self._path / file).lstat().st_mtime_ns))
                        break
        return found

    def reserve(self, old: str, raw: bytes) -> str:
        """A name that nobody else makes, with the time of the old one, by which programs sort."""
        began = old.partition(".")[0]
        seconds = began if began.isdecimal() and len(began) <= 12 else str(int(time.time()))
        host = os.uname().nodename.replace("/", "\\057").replace(":", "\\072").replace(",", "\\054")
        sizes = {"S": len(raw), "W": len(raw) + raw.count(b"\n") - raw.count(b"\r\n")}
        told = "".join(f",{letter}={sizes[letter]}" for letter, _ in _SIZES.findall(old))
        return f"{seconds}.R{secrets.token_hex(8)}P{os.getpid()}.{host}{told}"

    def write(self, drafts: Sequence[Draft]) -> list[str | MailboxRefused]:
        """See mailbox.store.Folder."""
        answers = [self._prepared(draft) for draft in drafts]
        ready = [draft for draft, answer in zip(drafts, answers, strict=True) if isinstance(answer, str)]
        with self._problems():
            for draft in ready:
                file = _file(draft.place, draft.marks.flags)
                (self._path / "tmp" / draft.place).rename(self._path / file)
                self._files[draft.place] = file
            if ready:
                self._sync_both()
        return answers

    def _prepared(self, draft: Draft) -> str | MailboxRefused:
        """Its name, once it is in tmp/ as a whole and on the disk."""
        temporary = self._path / "tmp" / draft.place
        try:
            mode = next(stat.S_IMODE((self._path / file).lstat().st_mode) for file in self._found(draft.old))
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(draft.raw)
                stream.flush()
                os.fchmod(descriptor, mode)
                os.utime(descriptor, ns=(int(draft.marks.date), int(draft.marks.date)))
                os.fsync(descriptor)
        except (OSError, StopIteration) as error:
            temporary.unlink(missing_ok=True)
            told = error.strerror if isinstance(error, OSError) else "the old one is gone"
            is_full = isinstance(error, OSError) and error.errno in _FULL
            return MailboxRefused(f"{temporary}: a message cannot be written: {told}", is_full=is_full)
        return draft.place

    def written(self, places: Collection[str]) -> dict[str, list[str]]:
        """See mailbox.store.Folder."""
        with self._problems():
            for place in places:
                (self._path / "tmp" / place).unlink(missing_ok=True)
            self._look()
        return {place: [place] if place in self._files else [] for place in places}

    def keeps(self, old: Marks, new: Marks) -> bool:
        """See mailbox.store.Folder."""
        return old.flags - {_IS_NEW} <= new.flags and old.date == new.date

    def change_flags(self, name: str, added: frozenset[str], removed: frozenset[str]) -> None:
        """See mailbox.store.Folder."""
        with self._problems():
            for file in self._found(name):
                changed = _file(name, (_flags(file) | added) - removed)
                if changed != file:
                    with suppress(FileNotFoundError):
                        (self._path / file).rename(self._path / changed)
                        for part in {file[:3], changed[:3]}:
                            synced_folder.sync(self._path / part)
                        self._files[name] = changed
                return

    def remove(self, messages: Mapping[str, Marks], keep: str) -> set[str]:
        """See mailbox.store.Folder."""
        gone = set()
        with self._problems():
            for name, marks in messages.items():
                if self._removed(name, marks, keep):
                    gone.add(name)
            self._sync_both()
        return gone

    def _removed(self, name: str, marks: Marks, keep: str) -> bool:
        for file in self._found(name):
            if _flags(file) != marks.flags:
                return False
            if keep:
                self._keep(file, keep)
            with suppress(FileNotFoundError):
                (self._path / file).unlink()
                self._files.pop(name, None)
                return True
            return False
        return True

    def is_being_removed(self, marks: Marks) -> bool:
        """Never: nothing marks a message before it goes."""
        return False

    def restore(self, name: str, marks: Marks) -> None:
        """There is nothing to take away."""

    def _keep(self, file: str, keep: str) -> None:
        """The same file, under its name in the other folder; keywords are other letters there."""
        if self._kept is None or self._kept.name != keep:
            self._kept = self._whole.folder(keep)
            self._kept._look()
        target, name = self._kept._path, file[4:].partition(":")[0]
        if there := self._kept._files.get(name):
            if not (self._path / file).samefile(target / there):
                raise MailboxError(f"{target / there}: is there already, and is another message")
            return
        moved = _file(name, maildir_keywords.carried(_flags(file), self._path, target))
        os.link(self._path / file, target / moved)
        synced_folder.sync(target / moved[:3])

    def _sync_both(self) -> None:
        for part in ("cur", "new"):
            synced_folder.sync(self._path / part)

    def _found(self, name: str) -> Iterator[str]:
        """Where its file is: as remembered and, if whoever tries that finds nothing, after another look."""
        if name in self._files:
            yield self._files[name]
        self._look()
        if name in self._files:
            yield self._files[name]

    def _look(self) -> None:
        files: dict[str, str] = {}
        inodes: dict[str, int] = {}
        for part in ("new", "cur"):
            for entry in os.scandir(self._path / part):
                if entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
                    continue
                name = entry.name.partition(":")[0]
                if inodes.setdefault(name, entry.inode()) != entry.inode():  # a file that moves is seen twice
                    raise MailboxError(f"{self._path}: {files[name]} and {part}/{entry.name} have one name; rename one")
                files[name] = f"{part}/{entry.name}"
        self._files = files

    def _is_wanted(self, name: str, wanted: Wanted) -> bool:
        if wanted.since_at is None and wanted.before_at is None:
            return True
        marks = self.marks([name]).get(name)
        if marks is None:
            return False
        came = int(marks.date) / 1e9
        is_late = wanted.since_at is None or came >= wanted.since_at.timestamp()
        return is_late and (wanted.before_at is None or came < wanted.before_at.timestamp())

    @contextmanager
    def _problems(self) -> Iterator[None]:
        with _problems(str(self._path)):
            yield


def _flags(file: str) -> frozenset[str]:
    """The letters after ":2,"; a message in new/ has none."""
    part, _, name = file.partition("/")
    letters = frozenset(name.partition(":2,")[2])
    return letters | {_IS_NEW} if part == "new" else letters


def _file(name: str, flags: frozenset[str]) -> str:
    letters = "".join(sorted(flags - {_IS_NEW}))
    if _IS_NEW in flags:
        return f"new/{name}:2,{letters}" if letters else f"new/{name}"
    return f"cur/{name}:2,{letters}"


def _by_time(name: str) -> tuple[int, str]:
    seconds = name.partition(".")[0]
    return (int(seconds) if seconds.isdecimal() else 0, name)


def _is_folder(path: Path) -> bool:
    return all((path / part).is_dir() and not (path / part).is_symlink() for part in _PARTS)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _problems(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MailboxError(f"{error.filename or what}: {error.strerror}") from error
