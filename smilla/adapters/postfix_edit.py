"""Changes Postfix's configuration through postconf, and remembers how to take that back.

Promises: a parameter, service or option that is not named stays as it is.  Whatever postconf refuses raises
PostfixUnclear, and then later changes are not made.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from smilla.adapters.postfix import Postfix

_FILES = ("main.cf", "master.cf")
_HEAD = """\
#!/bin/sh
# Takes back what smilla init --apply has changed in Postfix.  What somebody has changed since is left alone.
# Then: postfix reload.  With mixed = stage, sealed messages may still be queued, and only the stage can deliver them:
# let them leave before (smilla seal list; THE STAGE in smilla(8)).
edit() { postconf -c "$folder" "$@"; }

# restore FILE SAVED SUM: the file as it was, octet for octet, if it is still as smilla init left it
restore() { [ "$(sha256sum <"$1")" = "$3  -" ] && cat "$2" >"$1"; }

# back NAME NOW WORDS...: takes one change back with these words for postconf, if NAME still has the value NOW
back() {
    name=$1 now=$2
    shift 2
    case $name in
    */*) found=$(edit -Ph "$name" 2>/dev/null) ;;
    *) found=$(edit -h "$name" 2>/dev/null) ;;
    esac
    if [ "$found" = "$now" ]; then edit "$@"; else echo "left alone, since it was changed: $name"; fi
}

# a table goes, unless somebody has changed it or still names it
gone() {
    grep -qsF "$1" "$folder/main.cf" "$folder/master.cf" || { [ "$(sha256sum <"$1")" = "$2  -" ] && rm "$1"; }
}
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
    """One instance of Postfix, to be changed.  Every method raises PostfixUnclear or OSError."""

    def written(self, names: Sequence[str]) -> dict[str, str]:
        """Those of these parameters that main.cf sets, as they are written there."""
        lines = self._run("postconf", "-n", *names).decode("utf-8", "surrogateescape").splitlines()
        pairs = (line.partition("=") for line in lines)
        return {name.strip(): value.strip() for name, _, value in pairs if name.strip() in names}

    def make(self, changes: Sequence[Change], script: Path) -> None:
        """Makes these changes, and puts what takes them back into ``script``, before what is there already.  The script
        is written first: if a change fails, it takes back those before it."""
        folder = Path(self.folder())
        saved = self._saved(folder, script)
        earlier = script.read_text("utf-8").removeprefix(_HEAD) if script.exists() else ""
        self._write(script, earlier, changes, {})
        for change in changes:
            if change.kind == "table":
                Path(change.name).write_text(change.value, "utf-8")
                Path(change.name).chmod(0o644)
            else:
                self._run("postconf", *change.words)
        self._write(script, earlier, changes, saved)

    def _saved(self, folder: Path, script: Path) -> dict[Path, Path]:
        """Copies of both files as they are now, beside the script."""
        number = sum(1 for _ in script.parent.glob(f"{script.stem}.*.main.cf"))
        saved = {folder / name: script.with_name(f"{script.stem}.{number + 1}.{name}") for name in _FILES}
        for path, copy in saved.items():
            shutil.copy2(path, copy)
        return saved

    def _write(self, script: Path, earlier: str, changes: Sequence[Change], saved: dict[Path, Path]) -> None:
        folder = self.folder()
        text = "\n".join([f"\nfolder={shlex.quote(folder)}", *_back(folder, changes, saved)])
        script.write_text(f"{_HEAD}{text}\n{earlier}", "utf-8")
        script.chmod(0o755)


def _back(folder: str, changes: Sequence[Change], saved: dict[Path, Path]) -> Iterator[str]:
    """The lines that take these changes back, the last first."""
    for name in _FILES:
        path = Path(folder) / name
        ours = [c for c in reversed(changes) if c.kind != "table" and (c.kind == "main") == (name == "main.cf")]
        added = tuple(f"{change.name}/" for change in ours if change.kind == "service")
        if not ours:
            continue
        restore = ["restore", str(path), str(saved[path]), _sum(path.read_bytes())] if saved else ["false"]
        yield f"{shlex.join(restore)} || {{"
        for change in ours:
            if change.kind == "service":
                yield "    " + shlex.join(["edit", *change.words_back])
            elif not (change.kind == "option" and change.name.startswith(added)):
                yield "    " + shlex.join(["back", change.name, change.value, *change.words_back])
        yield "}"
    for change in changes:
        if change.kind == "table":
            yield shlex.join(["gone", change.name, _sum(change.value.encode())])


def _sum(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
