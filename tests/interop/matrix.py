"""The matrix: what was written, which reader opens it, what was expected, and the table of it all."""

from __future__ import annotations

import fnmatch
import shutil
import tempfile
import tomllib
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from tests.interop.constructs import CONSTRUCTS, Construct
from tests.interop.owners import STRANGERS, owner, publish
from tests.interop.readers import OPENPGP, SMIME, Reader, Unopened
from tests.interop.readers.base import ROOT
from tests.interop.sending import LETTER, encrypt, inside, protected
from tests.lab.programs import require_nothing_missing

READERS = {"smime": SMIME, "openpgp": OPENPGP}
RESULTS = ROOT / ".cache/interop"  # 'make interop' prints what lies there


@dataclass(frozen=True)
class Refusal:
    """One [[no]] of expected.toml."""

    constructs: tuple[str, ...]
    readers: tuple[str, ...]
    why: str

    def covers(self, construct: str, reader: str) -> bool:
        return reader in self.readers and any(fnmatch.fnmatchcase(construct, pattern) for pattern in self.constructs)


def _expected() -> tuple[Refusal, ...]:
    document = tomllib.loads((Path(__file__).parent / "expected.toml").read_text("utf-8"))
    return tuple(Refusal(tuple(no["constructs"]), tuple(no["readers"]), no["why"]) for no in document["no"])


EXPECTED = _expected()


def refusal(construct: Construct, reader: type[Reader]) -> Refusal | None:
    """Why this cell is expected to be a no; None where it must be a yes."""
    return next((one for one in EXPECTED if one.covers(construct.name, reader.name)), None)


def cells(format_: str) -> list[tuple[Construct, type[Reader]]]:
    """Every construct of a format with every reader of it."""
    constructs = [construct for construct in CONSTRUCTS if construct.format == format_]
    return [(construct, reader) for construct in constructs for reader in READERS[format_]]


@dataclass
class Matrix:
    """One format: messages and readers, each made once, and the results."""

    format: str
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="smilla-")))
    results: dict[tuple[str, str], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _readers: dict[str, Reader] = field(default_factory=dict)
    _messages: dict[str, tuple[dict[str, bytes], bytes]] = field(default_factory=dict)

    def reader(self, kind: type[Reader]) -> Reader:
        """Skips the test, or fails it in continuous integration, where the reader is not installed."""
        require_nothing_missing(kind.missing())
        if kind.name not in self._readers:
            path = self.folder / f"r{len(self._readers)}"
            path.mkdir(mode=0o700)
            self._readers[kind.name] = kind(path)
        return self._readers[kind.name]

    def messages(self, construct: Construct) -> tuple[dict[str, bytes], bytes]:
        """The message for each address, and what has to be inside."""
        if construct.name not in self._messages:
            keys = self.folder / "keys"
            keys.mkdir(exist_ok=True)
            owners = [owner(construct.format, name) for name in construct.to]
            publish(keys, *owners)
            addresses = [one.address for one in owners]
            letter = LETTER.replace(b"r@r.test", ", ".join(addresses).encode())  # else each gets a copy of his own
            written = encrypt(letter, addresses, keys, construct.config)
            assert len(written) == 1, f"{construct.name} is one message for all"
            assert written[0].format == construct.format
            wanted = inside(letter) if construct.protect == "off" else protected(letter, construct.protect)
            assert (b"Subject: matrix" in written[0].octets) is (construct.protect != "hide")
            self._messages[construct.name] = dict.fromkeys(addresses, written[0].octets), wanted
        return self._messages[construct.name]

    def judge(self, construct: Construct, kind: type[Reader]) -> None:
        """Fails where a message does not open that ought to, or opens as anything but what was put in."""
        expected = refusal(construct, kind)
        cell = construct.name, kind.name
        self.results[cell] = "-"
        reader = self.reader(kind)
        self.results[cell] = "FAILED"
        messages, wanted = self.messages(construct)
        try:
            for name in construct.by or construct.to:
                one = owner(construct.format, name)
                found = reader.open(messages[one.address], one)
                assert found == reader.shown(wanted), f"{kind.name} shows something else"
        except Unopened as error:
            if expected is None:
                raise AssertionError(f"{construct.name} does not open in {kind.name}: {error}") from error
            self.results[cell] = "no"
            return
        self.results[cell] = "yes"
        if expected is not None:
            self.results[cell] = "YES"
            self.notes.append(
                f"{kind.name} {reader.version()} opens {construct.name}; expected.toml says: {expected.why}"
            )
            warnings.warn(self.notes[-1], stacklevel=2)

    def judge_strangers_key(self, kind: type[Reader]) -> None:
        """A message that the reader opens must not open with another key of the same kind."""
        reader = self.reader(kind)
        alike = (STRANGERS[self.format].removesuffix("-stranger"),)
        mine = [one for one, other in cells(self.format) if other is kind and one.to == alike]
        construct = next(one for one in mine if refusal(one, kind) is None)
        message = next(iter(self.messages(construct)[0].values()))
        try:
            found = reader.open(message, owner(self.format, STRANGERS[self.format]))
        except Unopened:
            return
        raise AssertionError(f"{kind.name} opens it with a stranger's key: {found!r}")

    def close(self) -> None:
        """Writes the table, and ends the readers."""
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{self.format}.txt").write_text(self.table(), "utf-8")
        for reader in self._readers.values():
            reader.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def table(self) -> str:
        """Construct by reader, and the reasons."""
        kinds = READERS[self.format]
        versions = {name: reader.version() for name, reader in self._readers.items()}
        rows = [["", *(kind.name.replace(" of ", "/") for kind in kinds)]]
        rows += [["", *(versions.get(kind.name, "-") for kind in kinds)]]
        for construct in CONSTRUCTS:
            if construct.format == self.format:
                name = ("* " if construct.default else "  ") + construct.name
                rows.append([name, *(self.results.get((construct.name, kind.name), "") for kind in kinds)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        counts = ", ".join(f"{n} {mark}" for mark in ("yes", "YES", "no", "FAILED", "-") if (n := self._count(mark)))
        lines += ["", f"{self.format}: {counts}  (* written by default; YES: better than expected; -: not installed)"]
        seen = {one: None for construct, kind in cells(self.format) if (one := refusal(construct, kind))}
        lines += [f"  no: {', '.join(one.readers)}: {' '.join(one.constructs)}: {one.why}" for one in seen]
        return "\n".join([*lines, *(f"  better than expected: {note}" for note in self.notes), ""]) + "\n"

    def _count(self, mark: str) -> int:
        return list(self.results.values()).count(mark)
