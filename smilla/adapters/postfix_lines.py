"""What ``smilla config check --postfix`` found about Postfix's lines for the stage, for the filter to read.

If they are missing, Postfix would deliver a sealed message to people as it is.  So nothing is sealed until a check has
found them.  A new check counts at once.  A finding no longer counts once a file it rests on has changed.  The findings
are one small file in the folder of the seal keys, written as a whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

from smilla.adapters import stamps
from smilla.config.options import StageOptions
from smilla.errors import SmillaError

NOT_ASKED, ATTACH = "Postfix does not ask smilla yet", "smilla init --apply"
_STAGE = "the stage"  # not an instance: what smilla itself found at its start
_LOOK = "smilla config check --postfix"
_NOBODY = f"nobody has looked yet whether Postfix has the lines for the stage; run {_LOOK}"
_NOT_READ = "postfix-not-read"  # also of findings in a file that has no kinds, by their words
_OF_PROCESSES = ("its queue manager does not run", "was not told to read", "goes on with what it read before")
_UNREADABLE = (OSError, ValueError, LookupError, AttributeError, TypeError)
_MOST = 350  # characters of a finding, so that the reply to the client has room for the count of the others


class PostfixLines:
    """The findings, by Postfix instance (its configuration folder)."""

    def __init__(self, options: StageOptions) -> None:
        self._path = Path(options.keys) / "postfix.json"
        self._is_asked = options.check
        self._known: tuple[str, str, dict[str, dict[str, str]], int] = ("", _NOBODY, {}, 0)  # replaced as a whole

    def problem(self) -> str:
        """Why nothing may be sealed now, and what to do; "" if sealing is allowed."""
        if not self._is_asked:
            return ""
        try:
            _, problem, files, _ = self._read()
        except FileNotFoundError:
            return _NOBODY
        except _UNREADABLE as error:
            return f"{self._path}: cannot be read ({error}); run {_LOOK}"
        return problem or _changed(files)

    def is_next_step(self) -> bool:
        """Is all that is missing the next step of setting up: attach smilla, have Postfix read its files, or look at
        files that somebody has changed?"""
        document = self._document()
        texts, kinds = _findings(document), _kinds(document)
        found = [each for name in texts for each in zip_longest(texts[name], kinds.get(name, []), fillvalue="")]
        begins = f"postfix: {NOT_ASKED}; {ATTACH}"
        if not found:
            return bool(texts) and bool(_changed(_files(document)))
        return all(text == begins or kind == _NOT_READ for text, kind in found)

    def size_limit(self) -> int:
        """The largest message that each instance takes, in octets, as the last check found it; 0: that is not known, or
        there is no limit."""
        if not self._is_asked:
            return 0
        try:
            _, _, files, limit = self._read()
        except _UNREADABLE:
            return 0
        return 0 if limit and _changed(files) else limit

    def _read(self) -> tuple[str, str, dict[str, dict[str, str]], int]:
        stamp, known = stamps.of(self._path.stat()), self._known
        if stamp != known[0]:
            document = json.loads(self._path.read_text("utf-8"))
            self._known = known = stamp, _first(document), _files(document), _limit(document)
        return known

    def findings(self, instance: str) -> list[str]:
        """What was found missing in one instance."""
        return _findings(self._document()).get(instance, [])

    def kinds(self, instance: str) -> list[str]:
        """The kind of each of these findings (smilla/doctor/finding.py)."""
        document = self._document()
        texts, kinds = _findings(document).get(instance, []), _kinds(document).get(instance, [])
        if len(kinds) != len(texts):  # an older smilla wrote it
            return [_NOT_READ if any(words in text for words in _OF_PROCESSES) else "" for text in texts]
        return kinds

    def instances(self) -> list[str]:
        """The configuration folders of Postfix that somebody has looked at."""
        return [name for name in _findings(self._document()) if name != _STAGE]

    def is_readable(self) -> bool:
        """May this user read the findings?  True also if there are none yet."""
        try:
            self._path.stat()
        except PermissionError:
            return False
        except OSError:
            return True
        return os.access(self._path, os.R_OK)

    def stage_began(self, problem: str) -> None:
        """Tells the workers whether the stage listens.  If this cannot be written, nothing is sealed either."""
        if self._is_asked:
            try:
                self.keep(_STAGE, [problem] if problem else [])
            except SmillaError:
                with suppress(OSError):
                    self._path.unlink()

    def keep(  # noqa: PLR0913 - one entry of the file
        self,
        instance: str,
        missing: Sequence[str],
        files: Mapping[str, str] | None = None,
        *,
        in_doubt: bool = False,
        kinds: Sequence[str] = (),
        size_limit: int = 0,
        began_at: float | None = None,
    ) -> None:
        """Writes the findings about one instance, the kind of each, and the stamps of the ``files`` they rest on.
        Forgets instances that are gone.  If nothing could be seen (``in_doubt``), keeps the earlier findings.
        ``size_limit`` is the largest message that the instance takes, in octets, 0 if that is not known.
        ``began_at`` is when the look began, in seconds since 1970; what a look found that began later stays.  Raises
        SmillaError."""
        folder = self._path.parent
        try:
            if not folder.is_dir():
                folder.mkdir(mode=0o700, parents=True)
                self._give(folder, folder.parent)
            with _locked(folder):
                document, now = self._document(), time.time()
                began = _began(document)
                if began_at is not None and began_at < began.get(instance, 0) <= now:
                    return
                known = {k: v for k, v in _findings(document).items() if k == _STAGE or (Path(k) / "main.cf").exists()}
                stamped = {k: v for k, v in _files(document).items() if k in known}
                kept = {k: v for k, v in _kinds(document).items() if k in known}
                if not in_doubt or instance not in known:
                    known[instance], stamped[instance] = list(missing), dict(files or {})
                    kept[instance], began[instance] = [str(kind) for kind in kinds], began_at or now
                limits = {k: v for k, v in _limits(document).items() if k in known} | {instance: size_limit}
                temporary = self._path.with_suffix(".new")
                document = {"looked_at": int(now), "instances": known, "files": stamped, "limits": limits}
                document |= {"kinds": kept, "began": {k: v for k, v in began.items() if k in known}}
                temporary.write_text(json.dumps(document), "utf-8")
                temporary.chmod(0o600)
                self._give(temporary, folder)
                temporary.rename(self._path)
        except OSError as error:
            raise SmillaError(
                f"{self._path}: cannot be written: {error}; do this as root or as smilla's user"
            ) from error

    def others(self, instance: str) -> list[tuple[str, str]]:
        """What keeps the filter from sealing besides this instance: where, and the first finding there."""
        document = self._document()
        found = [(name, texts[0]) for name, texts in _findings(document).items() if texts and name != instance]
        files = {name: stamped for name, stamped in _files(document).items() if name not in (instance, *dict(found))}
        return found + [(name, text) for name in files if (text := _changed({name: files[name]}))]

    def _document(self) -> dict[str, Any]:
        """The content of the file, empty if it cannot be understood."""
        with suppress(OSError, ValueError, LookupError, AttributeError, TypeError):
            document: dict[str, Any] = json.loads(self._path.read_text("utf-8"))
            _findings(document), _files(document), _kinds(document), _limits(document), _began(document)
            return document
        return {"instances": {}}

    @staticmethod
    def _give(path: Path, like: Path) -> None:
        """If we are root, gives the file to the owner of another."""
        if os.geteuid() == 0:
            owner = like.stat()
            os.chown(path, owner.st_uid, owner.st_gid)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One at a time: an administrator may look while smilla does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _findings(document: Mapping[str, Any]) -> dict[str, list[str]]:
    instances = document["instances"]
    if not all(isinstance(texts, list) for texts in instances.values()):
        raise TypeError("it does not have the expected form")
    return {name: [str(text) for text in texts] for name, texts in instances.items()}


def _files(document: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    return {
        instance: {path: str(stamp) for path, stamp in files.items()}
        for instance, files in document.get("files", {}).items()
    }


def _kinds(document: Mapping[str, Any]) -> dict[str, list[str]]:
    return {instance: [str(kind) for kind in kinds] for instance, kinds in document.get("kinds", {}).items()}


def _limits(document: Mapping[str, Any]) -> dict[str, int]:
    return {instance: int(limit) for instance, limit in document.get("limits", {}).items()}


def _began(document: Mapping[str, Any]) -> dict[str, float]:
    return {instance: float(began) for instance, began in document.get("began", {}).items()}


def _limit(document: Mapping[str, Any]) -> int:
    """The largest limit of all instances, 0 if one of them is not known."""
    limits = _limits(document)
    found = [limits.get(instance, 0) for instance in _findings(document) if instance != _STAGE]
    return max(found) if found and all(found) else 0


def _first(document: Mapping[str, Any]) -> str:
    """The first finding of any instance, and how many more there are.  The stage's own entry is not a check."""
    instances = _findings(document)
    problems = [text for texts in instances.values() for text in texts]
    if len(problems) > 1:
        return f"{textwrap.shorten(problems[0], _MOST, placeholder=' ...')} (and {len(problems) - 1} more: {_LOOK})"
    return problems[0] if problems else ("" if instances.keys() - {_STAGE} else _NOBODY)


def _changed(files: Mapping[str, Mapping[str, str]]) -> str:
    """The first file that has changed since the check, or may have.  Ignores files that we may not look at."""
    for instance, stamped in files.items():
        for path, before in stamped.items():
            if "" in (before, now := stamps.stamp(path)) or before == now:
                continue
            look = f"{_LOOK} --postfix-config {instance}"
            if not stamps.is_whole(before):
                return f"nobody can tell whether {path} was changed since an earlier version of smilla looked; {look}"
            done = "is gone" if now == stamps.GONE else "was changed"
            what = f"{path} {done} since somebody looked at Postfix's lines for the stage"
            return f"{what}; postfix -c {instance} reload, then {look}"
    return ""
