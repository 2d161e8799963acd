"""Changes Postfix's configuration through postconf, and remembers how to take that back.

Promises: a parameter, service or option that is not named stays as it is.  Whatever postconf refuses raises
PostfixUnclear, and then later changes are not made.
"""

from __future__ import annotations

import hashlib
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, groupby
from pathlib import Path

from smilla.adapters import new_file
from smilla.adapters.new_file import PUBLIC
from smilla.adapters.postfix import Postfix

_FILES = ("main.cf", "master.cf")
_HEAD = """\
#!/bin/sh
# Takes back what smilla init --apply has changed in Postfix.  What somebody has changed since is left alone.
# Then: postfix reload.  With mixed = stage, sealed messages may still be queued, and only the stage can deliver them:
# let them leave before (smilla seal list; THE STAGE in smilla(8)).
failed=
edit() { postconf -c "$folder" "$@" || { failed=yes && false; }; }
kept() { echo "left alone, since it was changed: $1"; }

trap 'echo "now: postfix -c $folder reload"' EXIT

# restore FILE SUM SAVED SUM: the file as it was, octet for octet, if smilla init left it so and the saved one is whole
restore() {
    [ "$(sha256sum <"$1")" = "$2  -" ] && [ "$(sha256sum <"$3")" = "$4  -" ] || return 1
    cp -p "$1" "$1.smilla-undo" && cat "$3" >"$1.smilla-undo" && mv -f "$1.smilla-undo" "$1"
}

# back NAME NOW WORDS...: takes one change back with these words for postconf, if NAME still has the value NOW
back() {
    name=$1 now=$2
    shift 2
    case $name in
    */*) found=$(edit -Ph "$name" 2>/dev/null) ;;
    *) found=$(edit -h "$name" 2>/dev/null) ;;
    esac
    if [ "$found" = "$now" ]; then edit "$@"; else kept "$name"; fi
}

# dropped NAME SUM: takes a service away, if it is still as smilla init left it
dropped() {
    if [ "$(edit -M "$1" | sha256sum)" = "$2  -" ]; then edit -MX "$1"; else kept "$1"; fi
}

# regain TABLE SUM SAVED SUM: a table that was there before is as it was
regain() { restore "$@" || kept "$1"; }

# a table goes, unless somebody has changed it or still names it
gone() {
    ! grep -qsF "$1" "$folder/main.cf" "$folder/master.cf" || return 0
    [ ! -e "$1" ] || [ "$(sha256sum <"$1")" != "$2  -" ] || rm "$1"
}
"""
_TAIL = """
# All is taken back: this script is done, and a later smilla init --apply begins a new one.
if [ "$failed" ]; then
    echo "postconf failed, so not all is taken back; run $0 again" >&2
    exit 1
fi
case $0 in
*smilla-undo.sh)
    n=1
    while [ -e "${0%.sh}.done-$n.sh" ]; do n=$((n + 1)); done
    mv "$0" "${0%.sh}.done-$n.sh"
    ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Change:
    """One change.  ``kind`` is main (a parameter of main.cf), service (a line of master.cf, named NAME/TYPE), option
    (an -o of one, NAME/TYPE/PARAMETER) or table (a file).  ``before`` is the earlier value, None if there was none."""

    kind: str
    name: str
    value: str
    before: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """What makes the change, for postconf."""
        if self.kind == "main":
            return "-e", f"{self.name} = {self.value}"
        return ("-M" if self.kind == "service" else "-P"), f"{self.name}={self.value}"

    @property
    def words_back(self) -> tuple[str, ...]:
        """What takes it back, for postconf."""
        if self.before is None:
            return {"main": "-X", "service": "-MX", "option": "-PX"}[self.kind], self.name
        return Change(self.kind, self.name, self.before).words


def shell(changes: Sequence[Change], folder: str) -> Iterator[str]:
    """What makes these changes, as lines for a shell; ``folder`` is "" for Postfix's usual one."""
    postconf = ["postconf", *(["-c", folder] if folder else [])]
    for kind, group in groupby(changes, lambda change: change.kind):
        if kind == "table":
            yield from (f"cat >{shlex.quote(change.name)} <<'END'\n{change.value}END" for change in group)
        else:
            words = [change.words for change in group]
            named = (shlex.quote(word) for _, word in words)
            yield " \\\n    ".join([shlex.join([*postconf, words[0][0]]), *named])


class PostfixEditor(Postfix):
    """One instance of Postfix, to be changed.  Every method raises PostfixUnclear, FileProblem or
    OSError."""

    def written(self, names: Sequence[str]) -> dict[str, str]:
        """Those of these parameters that main.cf sets, as they are written there."""
        lines = self._run("postconf", "-n", *names).decode("utf-8", "surrogateescape").splitlines()
        pairs = (line.partition("=") for line in lines)
        return {name.strip(): value.strip() for name, _, value in pairs if name.strip() in names}

    def reload(self) -> None:
        """Has Postfix read its files anew.  It does so within a moment, and nobody waits for that here."""
        self._run("postfix", "reload")

    def make(self, changes: Sequence[Change], script: Path) -> None:
        """Makes these changes, and puts what takes them back into ``script``, before what is there already.  The script
        is written first: if a change fails, it takes back those before it.  Once it has run, it has another name."""
        folder = Path(self.folder())
        tables = [Path(change.name) for change in changes if change.kind == "table"]
        copies = _saved([*(folder / name for name in _FILES), *(path for path in tables if path.exists())], script)
        whole = new_file.read(script) if script.exists() else b""
        earlier = whole.removeprefix(_HEAD.encode()).removesuffix(_TAIL.encode())
        self._write(script, earlier, changes, _Before(copies))
        for change in changes:
            if change.kind == "table":
                new_file.replace(Path(change.name), change.value.encode(), PUBLIC)
            else:
                self._run("postconf", *change.words)
        services = [change.name for change in changes if change.kind == "service"]
        sums = {name: _sum(self._run("postconf", "-M", name)) for name in services}
        self._write(script, earlier, changes, _Before(copies, sums, is_over=True))

    def _write(self, script: Path, earlier: bytes, changes: Sequence[Change], before: _Before) -> None:
        folder = self.folder()
        text = "\n".join([_HEAD, f"folder={shlex.quote(folder)}", *_back(folder, changes, before), ""])
        new_file.replace(script, text.encode("utf-8", "surrogateescape") + earlier + _TAIL.encode(), 0o755)


@dataclass(frozen=True, slots=True)
class _Before:
    """What the script may go by: copies of files as they were; once all changes are made (``is_over``), also the
    checksum of each new service as postconf prints it."""

    copies: Mapping[Path, Path]
    services: Mapping[str, str] = field(default_factory=dict)
    is_over: bool = False

    def restore(self, path: Path, left: bytes) -> list[str]:
        """The words after ``restore`` for a file that holds ``left`` now."""
        copy = self.copies[path]
        return [str(path), _sum(left), str(copy), _sum(new_file.read(copy))]


def _saved(paths: Sequence[Path], script: Path) -> dict[Path, Path]:
    """Copies of the files as they are now, beside the script; no earlier copy is written over."""
    number = next(n for n in count(1) if not any(script.parent.glob(f"{script.stem}.{n}.*")))
    saved = {path: script.with_name(f"{script.stem}.{number}.{path.name}") for path in paths}
    for path, copy in saved.items():
        new_file.write(copy, new_file.read(path), stat.S_IMODE(path.stat().st_mode))
    return saved


def _back(folder: str, changes: Sequence[Change], before: _Before) -> Iterator[str]:
    """The lines that take these changes back, the last first."""
    for name in _FILES:
        path = Path(folder) / name
        ours = [c for c in reversed(changes) if c.kind != "table" and (c.kind == "main") == (name == "main.cf")]
        added = tuple(f"{change.name}/" for change in ours if change.kind == "service")
        if not ours:
            continue
        restore = ["restore", *before.restore(path, new_file.read(path))] if before.is_over else ["false"]
        yield f"{shlex.join(restore)} || {{"
        for change in ours:
            if change.kind == "service":
                known = before.services.get(change.name)
                yield "    " + shlex.join(["dropped", change.name, known] if known else ["edit", *change.words_back])
            elif not (change.kind == "option" and change.name.startswith(added)):
                yield "    " + shlex.join(["back", change.name, change.value, *change.words_back])
        yield "}"
    for change in changes:
        if change.kind == "table":
            left = change.value.encode()
            had = Path(change.name) in before.copies
            words = ["regain", *before.restore(Path(change.name), left)] if had else ["gone", change.name, _sum(left)]
            yield shlex.join(words)


def _sum(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
